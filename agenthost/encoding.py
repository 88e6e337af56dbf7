"""Events to bytes on the host's side: orjson where it is fast, `events.json_value` where something is to be decided."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from agenthost.errors import BadEvent
from agenthost.events import (
    MAX_DEPTH,
    MAX_EVENT,
    Artifact,
    Custom,
    Entry,
    Event,
    Interrupt,
    ModelChunk,
    NotJSON,
    Result,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
    bad_event,
    json_value,
    one_line,
)

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def encode_json(value: Any) -> bytes:
    """Encode by the rules of `events.json_value`; raises `NotJSON`."""
    try:
        return orjson.dumps(value, default=json_value, option=_OPTIONS)
    except TypeError:
        return _decided(value)


def _decided(value: Any) -> bytes:
    """What orjson would not take, by way of plain values; raises `NotJSON` naming what it is."""
    try:
        return orjson.dumps(json_value(value))
    except (RecursionError, TypeError):
        raise NotJSON(f"more than {MAX_DEPTH} levels deep") from None


def _chunk(event: Any) -> str | None:
    return None if isinstance(event.content, str) else f"ModelChunk with content of {type(event.content).__name__}"


def _usage(event: Any) -> str | None:
    counts = (event.input_tokens, event.output_tokens, event.cached_tokens, event.reasoning_tokens)
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return "Usage with a count that is not an int from 0 up"
    if not isinstance(event.cost_usd, int | float | None):
        return f"Usage with a cost_usd of {type(event.cost_usd).__name__}"
    return None


def _interrupt(event: Any) -> str | None:
    if isinstance(event.question, str) and isinstance(event.interrupt_id, str | None):
        return None
    return "Interrupt whose question or interrupt_id is not a str"


def _result(event: Any) -> str | None:
    if isinstance(event.message, str | None) and isinstance(event.reason, str):
        return None
    return "Result whose message or reason is not a str"


_AGENT_EVENTS: dict[type[Event], Callable[[Any], str | None] | None] = {
    ModelChunk: _chunk,
    Think: None,
    ToolStart: None,
    ToolProgress: None,
    ToolComplete: None,
    Interrupt: _interrupt,
    Usage: _usage,
    Artifact: None,
    Custom: None,
    Result: _result,
}
"""What agents may yield, and how each is checked beyond being JSON; `Done` and `Error` are not here."""


def encode_event(seq: int, event: Event | str) -> Entry:
    """Encode what an agent yielded as the log's entry `seq`; raises `BadEvent` naming only the type or the limit."""
    if type(event) is str:
        data = _encode_text(event)
        if len(data) > MAX_EVENT:
            raise _too_large("model_chunk")
        return _new(Entry, (seq, "model_chunk", data, event))
    event = _checked(event)
    if isinstance(event, Result) and event.output is None and f"{event.message or ''}{event.reason}".isascii():
        return _new(Entry, (seq, "result", b"", event))  # it is not logged, and there is nothing in it to refuse
    kind = event.wire_type if isinstance(event, Custom) else event.kind
    try:
        # a copy: what orjson returns keeps the room that it did not need, 4 kB and more
        data = b"%b" % one_line(encode_json(event.payload()))
    except NotJSON as problem:
        raise bad_event(str(problem)) from None
    if len(data) > MAX_EVENT:
        raise _too_large(kind)
    return Entry(seq, kind, data, event)


_new = tuple.__new__  # a named tuple's own constructor costs twice as much, and chunks are most of what agents say


def _encode_text(text: str) -> bytes:
    """`ModelChunk(text)`'s payload; the same bytes as by its dict."""
    try:
        data = orjson.dumps(text)
    except TypeError:
        raise bad_event("a str with a lone surrogate") from None
    if not text.isascii():
        data = one_line(data)
    return b'{"type":"model_chunk","content":%b}' % data


def _too_large(kind: str) -> BadEvent:
    return bad_event(f"{kind} of more than {MAX_EVENT >> 20} MiB")


def _checked(event: Any) -> Event:
    """Return the event, an interrupt with its id; raises `BadEvent` for what is not an agent's to say."""
    if type(event) not in _AGENT_EVENTS:
        if isinstance(event, str):  # a subclass of it
            return ModelChunk(str.__str__(event))
        raise bad_event(type(event).__name__)
    check = _AGENT_EVENTS[type(event)]
    problem = check(event) if check else None
    if problem:
        raise bad_event(problem)
    if isinstance(event, Interrupt) and event.interrupt_id is None:
        return replace(event, interrupt_id=f"int_{secrets.token_hex(8)}")
    found: Event = event
    return found


def encode_host_event(seq: int, event: Event) -> Entry:
    """Encode the host's own last word (`Done`, `Error`), whose values have passed `encode_json` before."""
    return Entry(seq, event.kind, one_line(encode_json(event.payload())), event)
