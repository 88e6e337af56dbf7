"""Events to bytes on the host's side: orjson where it is fast, `events.json_value` where something is to be decided."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from agenthost.events import (
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
    except TypeError as problem:
        if isinstance(problem.__cause__, NotJSON):
            raise problem.__cause__ from None
        json_value(value)  # names what orjson would not take
        raise NotJSON(type(value).__name__) from None
    except RecursionError:
        raise NotJSON("nested too deeply") from None


def _chunk(event: Any) -> str | None:
    return None if isinstance(event.content, str) else f"ModelChunk with content of {type(event.content).__name__}"


def _usage(event: Any) -> str | None:
    counts = (event.input_tokens, event.output_tokens, event.cached_tokens, event.reasoning_tokens)
    return None if all(isinstance(count, int) for count in counts) else "Usage with a count that is not an int"


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
    Interrupt: None,
    Usage: _usage,
    Artifact: None,
    Custom: None,
    Result: _result,
}
"""What agents may yield, and how each is checked beyond being JSON; `Done` and `Error` are not here."""


def encode_event(seq: int, event: Event | str) -> Entry:
    """Encode what an agent yielded as the log's entry `seq`; raises `BadEvent` naming only the type or the limit."""
    if type(event) is str:
        kind, payload = "model_chunk", {"type": "model_chunk", "content": event}
    else:
        event = _checked(event)
        payload = event.payload()
        kind = event.wire_type if isinstance(event, Custom) else event.kind
    try:
        data = one_line(encode_json(payload))
    except NotJSON as problem:
        raise bad_event(str(problem)) from None
    if len(data) > MAX_EVENT:
        raise bad_event(f"{kind} of more than {MAX_EVENT >> 20} MiB")
    return Entry(seq, kind, data, event)


def _checked(event: Any) -> Event:
    """Return the event, an interrupt with its id; raises `BadEvent` for what is not an agent's to say."""
    if type(event) not in _AGENT_EVENTS:
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
