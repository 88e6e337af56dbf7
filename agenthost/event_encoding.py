"""What an agent yields becomes an entry of its run's log: checked, numbered and encoded, whatever writes the JSON."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from json.encoder import encode_basestring
from typing import Any

from agenthost.agents import MAX_STATE
from agenthost.errors import BadEvent
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
    encode_json,
    one_line,
)

Encode = Callable[[int, Event | str], Entry]
"""Makes the log's entry of that number of what an agent yielded; raises `BadEvent` naming only a type or a limit."""


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

_new = tuple.__new__  # a named tuple's own constructor costs twice as much, and chunks are most of what agents say


def event_encoder(
    to_json: Callable[[Any], bytes], quoted: Callable[[str], bytes], plain_result: Callable[[Result], bytes]
) -> Encode:
    """Make the function that encodes events with `to_json`, and texts with `quoted` (raises `ValueError`, `TypeError`).

    `plain_result` gives the bytes of a `Result` of nothing but ASCII text, in which there is nothing to refuse.
    """

    def encode_event(seq: int, event: Event | str) -> Entry:
        text: Any = event
        if type(event) is ModelChunk and event.reasoning is None:  # the same bytes, sooner
            text = event.content
        if type(text) is str:
            data = _encode_text(text, quoted)
            if len(data) > MAX_EVENT:
                raise _too_large("model_chunk")
            return _new(Entry, (seq, "model_chunk", data, event))
        event = _checked(event)
        if isinstance(event, Result) and _is_plain(event):
            return _new(Entry, (seq, "result", plain_result(event), event))
        kind = event.wire_type if isinstance(event, Custom) else event.kind
        try:
            # a copy: what orjson returns keeps the room that it did not need, 4 kB and more
            data = b"%b" % one_line(to_json(event.payload()))
        except NotJSON as problem:
            raise bad_event(str(problem)) from None
        if len(data) > MAX_EVENT:
            raise _too_large(kind)
        return Entry(seq, kind, data, event)

    return encode_event


def _is_plain(result: Result) -> bool:
    return result.output is None and f"{result.message or ''}{result.reason}".isascii()


def _encode_text(text: str, quoted: Callable[[str], bytes]) -> bytes:
    """`ModelChunk(text)`'s payload; the same bytes as by its dict."""
    try:
        data = quoted(text)
    except (TypeError, ValueError):
        raise bad_event("a str with a lone surrogate") from None
    if not text.isascii():
        data = one_line(data)
    return b'{"type":"model_chunk","content":%b}' % data


def _too_large(kind: str) -> Exception:
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


def encode_state(state: Any, to_json: Callable[[Any], bytes]) -> bytes:
    """What `ctx.state` holds at the end of a run, as it is kept; raises `BadEvent` where it cannot be."""
    if not isinstance(state, dict):
        raise BadEvent(f"ctx.state cannot be kept: {type(state).__name__}", hint="ctx.state is one JSON object")
    try:
        data = to_json(state)
    except NotJSON as problem:
        raise BadEvent(f"ctx.state cannot be kept: {problem}", hint="keep JSON values in ctx.state") from None
    if len(data) > MAX_STATE:
        raise BadEvent(f"ctx.state cannot be kept: more than {MAX_STATE >> 20} MiB")
    return data


def encode_question_state(asked: Interrupt, to_json: Callable[[Any], bytes]) -> bytes:
    """What an agent needs to go on once a question is answered, as it is kept; raises `BadEvent` where it cannot be."""
    try:
        data = to_json(asked.state)
    except NotJSON as problem:
        raise bad_event(f"Interrupt.state: {problem}") from None
    if len(data) > MAX_STATE:
        raise bad_event(f"Interrupt.state of more than {MAX_STATE >> 20} MiB")
    return data


def _quoted(text: str) -> bytes:
    return encode_basestring(text).encode()


def _plain_result(result: Result) -> bytes:
    if result.message is None:
        return b'{"type":"result","reason":%b}' % _quoted(result.reason)
    return b'{"type":"result","message":%b,"reason":%b}' % (_quoted(result.message), _quoted(result.reason))


encode_event_plainly = event_encoder(encode_json, _quoted, _plain_result)
"""`Encode` with the standard library alone, as in a worker: the same bytes, a `Result`'s too."""
