"""A conversation on the wire: the thread's messages, and the tool executions read out of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agenthost.agents import OwnThread
from agenthost.protocols.wire import without_none
from agenthost.store import StoredThread
from agenthost.threads import Message, ThreadKey


def wire_message(message: Message) -> dict[str, Any]:
    """Locus 3.0.1's message, then ours; an assistant that only called tools has `content: null`."""
    wire: dict[str, Any] = {
        "role": message.role,
        "content": message.text if message.content else None,
        "tool_calls": [dict(call) for call in message.tool_calls],
        "tool_call_id": message.tool_call_id,
        "name": message.name,
        "metadata": dict(message.metadata),
    }
    if any(part.text is None for part in message.content):
        wire["parts"] = [part.to_json() for part in message.content]
    return {**wire, **without_none({"run_id": message.run_id, "at": message.at, "status": message.status})}


def tool_executions(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Every tool call with its result or error, oldest first; one without an answer has neither.

    What a pause has held, the run that goes on calls again, or only answers: that is one execution, within one turn.
    """
    executions: list[dict[str, Any]] = []
    unanswered: dict[str, dict[str, Any]] = {}

    def called(call_id: str, name: str | None, arguments: Any) -> dict[str, Any]:
        execution = {"tool_name": name, "tool_call_id": call_id, "arguments": arguments, "result": None, "error": None}
        executions.append(execution)
        return execution

    for message in messages:
        if message.role == "user":
            unanswered = {}
        for call in message.tool_calls:
            call_id = str(call["id"])
            if call_id not in unanswered:
                unanswered[call_id] = called(call["id"], call["name"], call["arguments"])
        if message.role == "tool" and message.tool_call_id is not None:
            failed = "error" in message.metadata
            execution = unanswered.pop(message.tool_call_id, None) or called(message.tool_call_id, message.name, None)
            execution["error" if failed else "result"] = message.text
    return executions


def read_own(thread: OwnThread | None) -> tuple[Sequence[Message] | None, Mapping[str, Any]]:
    """The messages of a thread that an agent keeps itself, and what else it shows of it."""
    return (thread["messages"], thread) if isinstance(thread, Mapping) else (thread, {})


def wire_thread(
    key: ThreadKey, messages: Sequence[Message], stored: StoredThread | None, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A thread, whole; `iteration` counts the assistant's messages, where the agent does not say it of its own."""
    thread = _wire_thread(key, messages, stored)
    return {**thread, **{name: own[name] for name in _SHOWN_BY_AGENTS if own and own.get(name) is not None}}


_SHOWN_BY_AGENTS = ("iteration", "tool_executions", "metadata")


def _wire_thread(key: ThreadKey, messages: Sequence[Message], stored: StoredThread | None) -> dict[str, Any]:
    return {
        "thread_id": key.thread_id,
        "iteration": sum(message.role == "assistant" for message in messages),
        "messages": [wire_message(message) for message in messages],
        "tool_executions": tool_executions(messages),
        "runs": [_wire_run(run) for run in stored.runs] if stored else [],
        "metadata": stored.metadata if stored else {},
    }


def _wire_run(run: Any) -> dict[str, Any]:
    return without_none(
        {
            "run_id": run.run_id,
            "status": run.status,
            "stop_reason": run.stop_reason,
            "created": run.created,
            "ended": run.ended,
        }
    )
