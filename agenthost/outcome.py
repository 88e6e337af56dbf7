"""The fold of a run's events: its message, usage, tool calls, result, and what goes into its thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from agenthost.encoding import encode_json
from agenthost.events import Entry, Event, Interrupt, ModelChunk, Result, ToolComplete, ToolStart, Usage, json_value
from agenthost.threads import Message

MAX_COUNT = (1 << 63) - 1
"""Tokens that a run's usage counts to: the largest number that every client can read."""

_COUNTED = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


class Outcome:
    """Everything that `/invoke` answers and a thread keeps, built while events come."""

    __slots__ = (
        "_answer",
        "_chunks",
        "interrupts",
        "last_word",
        "messages",
        "result",
        "tool_calls",
        "usage",
    )

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._answer = 0
        """How many chunks belong to messages that are written already."""
        self.messages: list[Message] = []
        self.result: Result | None = None
        self.last_word = False
        """Whether a `Result` or an `Interrupt` has come: what may follow is decided by the engine."""
        self.interrupts: list[Interrupt] = []
        self.tool_calls = 0
        self.usage: dict[str, Any] | None = None

    @property
    def say(self) -> Callable[[str], None]:
        """Takes a chunk of text: `add` for what agents say most."""
        return self._chunks.append

    def add(self, entry: Entry) -> None:
        """Fold one entry in; chunks are by far the most, so they come first."""
        kind = entry.type
        if kind == "model_chunk":
            self._chunks.append(_content(entry))
        elif kind in _FOLDED:
            event = entry.event if isinstance(entry.event, Event) else _decoded(entry)
            _FOLDED[kind](self, event)

    def _tool_start(self, event: ToolStart) -> None:
        call = {"id": str(event.tool_call_id), "name": str(event.tool), "arguments": json_value(event.arguments)}
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "assistant" and last.tool_calls and self._answer == len(self._chunks):
            self.messages[-1] = Message("assistant", last.content, tool_calls=(*last.tool_calls, call))
            return
        said = Message.of("assistant", "".join(self._chunks[self._answer :]))
        self.messages.append(Message("assistant", said.content if said.text else (), tool_calls=(call,)))
        self._answer = len(self._chunks)

    def _tool_complete(self, event: ToolComplete) -> None:
        self.tool_calls += 1
        result = event.result if event.error is None else event.error
        text = result if isinstance(result, str) else encode_json(result).decode()
        error = json_value(event.error)
        self.messages.append(
            Message.of(
                "tool",
                text,
                tool_call_id=str(event.tool_call_id),
                name=str(event.tool),
                metadata={} if error is None else {"error": error},
            )
        )

    def _usage(self, event: Usage) -> None:
        total = self.usage or dict.fromkeys(_COUNTED, 0)
        for name in _COUNTED:
            total[name] = min(total[name] + getattr(event, name), MAX_COUNT)
        if event.cost_usd is not None:
            total["cost_usd"] = total.get("cost_usd", 0.0) + event.cost_usd
        self.usage = total

    def _interrupt(self, event: Interrupt) -> None:
        self.interrupts.append(event)
        self.last_word = True

    def _result(self, event: Result) -> None:
        if event.output is not None:  # plain, and a copy: the agent may go on to change what it yielded
            event = replace(event, output=json_value(event.output))
        self.result = event
        self.last_word = True

    @property
    def message(self) -> str:
        """The result's message, else the chunks joined."""
        if self.result is not None and self.result.message is not None:
            return self.result.message
        return "".join(self._chunks)

    def final_messages(self) -> list[Message]:
        """What the thread gets: tool calls with their answers, then the assistant's last word, if a pause has one."""
        written = bool(self.result and self.result.message is not None)
        text = self.message if written else "".join(self._chunks[self._answer :])
        if text or not (self.messages or self.interrupts):
            return [*self.messages, Message.of("assistant", text)]
        return self.messages


_FOLDED: Mapping[str, Any] = {
    "tool_start": Outcome._tool_start,
    "tool_complete": Outcome._tool_complete,
    "usage": Outcome._usage,
    "interrupt": Outcome._interrupt,
    "result": Outcome._result,
}

_CLASSES: Mapping[str, type[Event]] = {kind.kind: kind for kind in (ToolStart, ToolComplete, Usage, Interrupt, Result)}


def _content(entry: Entry) -> str:
    event = entry.event
    if type(event) is str:
        return event
    if isinstance(event, ModelChunk):
        return event.content
    content: str = orjson.loads(entry.data)["content"]
    return content


def _decoded(entry: Entry) -> Event:
    """The event behind an entry that came as bytes (a worker's, or the store's)."""
    payload = orjson.loads(entry.data)
    del payload["type"]
    return _CLASSES[entry.type](**payload)
