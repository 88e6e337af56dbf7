"""The response object: what a run is, in the words of OpenAI's Responses API, with every field of its open schema."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from agenthost.agents import RunStatus
from agenthost.ended_run import EndedRun
from agenthost.protocols.openai.chat_wire import JSON_TYPES
from agenthost.protocols.openai.starting import PROTOCOL, own_metadata
from agenthost.protocols.openai.usage import Tally, response_usage
from agenthost.run import Run
from agenthost.store import StoredRun

PREFIX = "resp_"

_AS_ASKED: Mapping[str, Any] = {
    "instructions": None,
    "previous_response_id": None,
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "truncation": "disabled",
    "text": {"format": {"type": "text"}},
    "user": None,
    "safety_identifier": None,
    "prompt_cache_key": None,
}
"""What a response says back of what was asked, and what it says where nothing was."""

STATUSES: Mapping[RunStatus, str] = {
    "queued": "queued",
    "running": "in_progress",
    "completed": "completed",
    "paused": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def response_id(run_id: str) -> str:
    """The id of a run's response."""
    return PREFIX + run_id


class Subject:
    """What a response is about: a run that goes, has ended, or waits to begin again."""

    def __init__(self, run: Run | EndedRun | StoredRun) -> None:
        self._run = run
        stored = run.stored if isinstance(run, EndedRun) else run
        if isinstance(stored, Run):
            self.agent, self.created, self.detached = stored.entry.name, stored.created, stored.request.detached
            self.metadata: Mapping[str, Any] = stored.request.metadata
        else:
            self.agent, self.created, self.detached = stored.agent, stored.created, stored.detached
            self.metadata = stored.input.get("metadata") or {}
        self.run_id = run.run_id if isinstance(run, StoredRun) else run.id
        asked = self.metadata.get(PROTOCOL)
        self.asked: Mapping[str, Any] = asked if isinstance(asked, Mapping) else {}

    @property
    def thread_id(self) -> str | None:
        """Its thread; a run that pauses gets one."""
        if isinstance(self._run, StoredRun):
            return self._run.thread_id
        return self._run.thread.thread_id if self._run.thread is not None else None

    @property
    def status(self) -> str:
        """How it stands, as a response's status."""
        return STATUSES[self._run.status]

    @property
    def wants_json(self) -> bool:
        """Whether the answer is to be the agent's structured output."""
        text = self.asked.get("text")
        form = text.get("format") if isinstance(text, Mapping) else None
        return isinstance(form, Mapping) and form.get("type") in JSON_TYPES

    def _ended(self) -> int | None:
        stored = self._run.stored if isinstance(self._run, EndedRun) else self._run
        return int((stored.ended if isinstance(stored, StoredRun) else None) or time.time())

    def resource(
        self, status: str, output: Sequence[Any], tally: Tally | None = None, error: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The response as it stands; `tally` once it has ended."""
        thread_id = self.thread_id
        reasoning = self.asked.get("reasoning")
        reasoning = reasoning if isinstance(reasoning, Mapping) else {}
        return {
            "id": response_id(self.run_id),
            "object": "response",
            "created_at": int(self.created),
            "completed_at": self._ended() if status == "completed" else None,
            "status": status,
            "background": self.detached,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self.agent,
            "output": output,
            "conversation": None if thread_id is None else {"id": thread_id},
            **{name: self.asked.get(name, default) for name, default in _AS_ASKED.items()},
            "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
            "tools": [],
            "tool_choice": "auto",
            "store": thread_id is not None or self.detached,
            "service_tier": "default",
            "usage": None if tally is None else response_usage(tally),
            "metadata": own_metadata(self.metadata),
        }
