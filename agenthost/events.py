"""What an agent may say while it runs: one vocabulary, in code and on the wire, and what JSON can carry.

The class name in snake case (`kind`) is `type` on the wire. Agents yield these, or a plain `str`, which is
`ModelChunk(str)`; `Done` and `Error` are written by the host only, and `Result` is never sent: it becomes the `Done`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from agenthost.errors import BadEvent

MAX_EVENT = 1 << 20
"""Bytes of one encoded event."""

MAX_DEPTH = 254
"""Levels of nesting in one JSON value: orjson's own limit, so that one look at a value is enough."""

SUCCESS_REASONS = frozenset({"complete", "confidence_met", "terminal_tool"})
"""The reasons of a `Done` that count as success (Locus 3.0.1's set); any other means the agent gave up by itself."""


def _given(type_: str, **values: Any) -> dict[str, Any]:
    """A payload without what is None."""
    return {"type": type_, **{name: value for name, value in values.items() if value is not None}}


class Event:
    """What every event can do; the subclasses are the vocabulary."""

    __slots__ = ()
    kind: ClassVar[str] = "event"

    def payload(self) -> dict[str, Any]:
        """Return the JSON object that is sent: `type` first, what is None left out unless clients count on it."""
        return {"type": self.kind}


@dataclass(frozen=True, slots=True)
class ModelChunk(Event):
    """A piece of the answer's text, or of the model's reasoning, as it comes."""

    kind: ClassVar[str] = "model_chunk"
    content: str = ""
    reasoning: str | None = None

    def payload(self) -> dict[str, Any]:
        if self.reasoning is None:
            return {"type": "model_chunk", "content": self.content}
        return {"type": "model_chunk", "content": self.content, "reasoning": self.reasoning}


@dataclass(frozen=True, slots=True)
class Think(Event):
    """A thought the agent shows, whole."""

    kind: ClassVar[str] = "think"
    content: str

    def payload(self) -> dict[str, Any]:
        return {"type": "think", "content": self.content}


@dataclass(frozen=True, slots=True)
class ToolStart(Event):
    """A tool is called with `arguments`."""

    kind: ClassVar[str] = "tool_start"
    tool: str
    tool_call_id: str
    arguments: Mapping[str, Any]

    def payload(self) -> dict[str, Any]:
        return {
            "type": "tool_start",
            "tool": self.tool,
            "tool_call_id": self.tool_call_id,
            "arguments": self.arguments,
        }


@dataclass(frozen=True, slots=True)
class ToolProgress(Event):
    """News of a tool call that is still going."""

    kind: ClassVar[str] = "tool_progress"
    tool_call_id: str
    data: Any

    def payload(self) -> dict[str, Any]:
        return {"type": "tool_progress", "tool_call_id": self.tool_call_id, "data": self.data}


@dataclass(frozen=True, slots=True)
class ToolComplete(Event):
    """A tool call ended, with a `result` or an `error`; both keys are always sent."""

    kind: ClassVar[str] = "tool_complete"
    tool: str
    tool_call_id: str
    result: Any = None
    error: str | None = None

    def payload(self) -> dict[str, Any]:
        return {
            "type": "tool_complete",
            "tool": self.tool,
            "tool_call_id": self.tool_call_id,
            "result": self.result,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Interrupt(Event):
    """A question only a person can answer: the run pauses here.

    `options` are the answers to choose from, `fields` a JSON Schema of what to fill in. Without an `interrupt_id` the
    host gives one. `state` is what the agent needs to go on; it never leaves the host.
    """

    kind: ClassVar[str] = "interrupt"
    question: str
    options: Sequence[Any] | None = None
    fields: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    interrupt_id: str | None = None
    state: Any = None

    def payload(self) -> dict[str, Any]:
        return _given(
            "interrupt",
            question=self.question,
            options=self.options,
            fields=self.fields,
            metadata=self.metadata,
            interrupt_id=self.interrupt_id,
        )


@dataclass(frozen=True, slots=True)
class Usage(Event):
    """What a model call took, in tokens and US dollars; a run's usage is the sum of these."""

    kind: ClassVar[str] = "usage"
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None

    def payload(self) -> dict[str, Any]:
        return _given(
            "usage",
            model=self.model,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
            cost_usd=self.cost_usd,
        )


@dataclass(frozen=True, slots=True)
class Artifact(Event):
    """Something made: exactly one of `text`, `data` (base64) or `uri`."""

    kind: ClassVar[str] = "artifact"
    name: str
    media_type: str
    text: str | None = None
    data: str | None = None
    uri: str | None = None

    def payload(self) -> dict[str, Any]:
        return _given(
            "artifact", name=self.name, media_type=self.media_type, text=self.text, data=self.data, uri=self.uri
        )


_OURS = frozenset(
    {"model_chunk", "think", "tool_start", "tool_progress", "tool_complete", "interrupt", "usage", "artifact"}
    | {"result", "done", "error"}
)


@dataclass(frozen=True, slots=True)
class Custom(Event):
    """Anything else. On the wire its type is `x-` and the name; `type` keeps a framework's own wire name instead.

    Raises `ValueError` if `type` is a word of the host's own vocabulary: no agent can spell a `done` or an
    `interrupt` that the host did not see as one. Without a `type`, `data` stands under the key `data`; with one,
    a mapping's keys stand beside `type`, as the framework sent them.
    """

    kind: ClassVar[str] = "custom"
    name: str
    data: Any = None
    type: str | None = None

    def __post_init__(self) -> None:
        wire = self.wire_type
        if not wire or wire in _OURS or not wire.isprintable() or not wire.isascii() or len(wire) > 100:
            raise ValueError(f"a custom event cannot be called {wire[:100]!r}")

    @property
    def wire_type(self) -> str:
        """`type` as it is sent."""
        if self.type is not None:
            return self.type
        return self.name if self.name.startswith("x-") else f"x-{self.name}"

    def payload(self) -> dict[str, Any]:
        if self.type is not None and isinstance(self.data, Mapping):
            return {**self.data, "type": self.type}
        return {"type": self.wire_type, "name": self.name, "data": self.data}


@dataclass(frozen=True, slots=True)
class Result(Event):
    """How the run ended, at most once and last; without a `message` it is the chunks joined.

    `output` is structured (see the agent's `output_schema`); `reason` other than one of `SUCCESS_REASONS` says that
    the agent gave up.
    """

    kind: ClassVar[str] = "result"
    message: str | None = None
    output: Any = None
    reason: str = "complete"

    def payload(self) -> dict[str, Any]:
        return _given("result", message=self.message, output=self.output, reason=self.reason)


@dataclass(frozen=True, slots=True)
class Done(Event):
    """The run completed. Written by the host only."""

    kind: ClassVar[str] = "done"
    message: str
    reason: str
    usage: Mapping[str, Any] | None = None
    output: Any = None

    def payload(self) -> dict[str, Any]:
        return _given("done", message=self.message, reason=self.reason, usage=self.usage, output=self.output)


@dataclass(frozen=True, slots=True)
class Error(Event):
    """The run ended without completing. Written by the host only; `error` is never the agent's own text."""

    kind: ClassVar[str] = "error"
    error: str
    code: str
    correlation_id: str
    run_id: str

    def payload(self) -> dict[str, Any]:
        return {
            "type": "error",
            "error": self.error,
            "code": self.code,
            "correlation_id": self.correlation_id,
            "run_id": self.run_id,
        }


class Entry(NamedTuple):
    """One event in a run's log: its place (from 1, without gaps), its type, and the JSON bytes every reader gets.

    `event` is the object (or the bare `str`) behind the bytes, where it is at hand; it is not stored.
    """

    seq: int
    type: str
    data: bytes
    event: Event | str | None = None


class NotJSON(ValueError):
    """A value that JSON cannot carry; the message is its type's name, or which limit it breaks, and never the value."""


def json_value(value: Any, depth: int = 0) -> Any:
    """Return `value` as plain JSON values; the one place that decides what an event may hold.

    None, bool, int of 64 bits (signed, or unsigned), str without surrogates, list, tuple and dict with str keys stay;
    a float that is not finite becomes None; date, datetime, time, UUID and Decimal become str, an Enum its value.
    Raises `NotJSON` for all else, and for more than `MAX_DEPTH` levels (so a cycle ends).
    """
    scalar = _SCALARS.get(type(value))
    if scalar is not None:
        return scalar(value)
    container = isinstance(value, dict | list | tuple)
    if container and depth >= MAX_DEPTH:
        raise NotJSON(f"more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        if any(type(key) is not str for key in value):
            raise NotJSON("a dict with a key that is not a str")
        return {_text(key): json_value(item, depth + 1) for key, item in value.items()}
    if container:
        return [json_value(item, depth + 1) for item in value]
    for kind, convert in _CONVERTED:
        if isinstance(value, kind):
            return json_value(convert(value), depth)
    raise NotJSON(type(value).__name__)


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise NotJSON("a str with a lone surrogate") from None
    return value


def _integer(value: int) -> int:
    if not -(1 << 63) <= value < (1 << 64):
        raise NotJSON("an int over 64 bits")
    return value


_SCALARS: dict[type, Callable[[Any], Any]] = {
    str: _text,
    type(None): lambda value: value,
    bool: lambda value: value,
    int: _integer,
    float: lambda value: value if math.isfinite(value) else None,
}
_CONVERTED: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    ((date, time), lambda value: value.isoformat()),
    ((UUID, Decimal), str),
    (str, str.__str__),  # subclasses of the plain types: a tagged str, numpy's float64
    (int, int.__int__),
    (float, float.__float__),
)


def encode_json(payload: Any) -> bytes:
    """Encode with the standard library alone (a worker has no other); raises `NotJSON`."""
    return _dumps(json_value(payload)).encode()


_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode


def one_line(data: bytes) -> bytes:
    """Escape what some readers of lines take for a line's end though JSON and SSE do not: U+2028, U+2029, U+0085."""
    if b"\xe2\x80" in data:
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2\x85" in data:
        data = data.replace(b"\xc2\x85", b"\\u0085")
    return data


def bad_event(problem: str) -> BadEvent:
    """The error that fails a run whose agent yielded `problem` (a type's name, or the limit broken)."""
    return BadEvent(
        f"the agent yielded what cannot be sent: {problem}",
        hint="yield str or an event from agenthost.events whose values are JSON, at most 1 MiB each",
    )
