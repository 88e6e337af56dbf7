"""Events to bytes on the host's side: orjson where it is fast, `events.json_value` where something is to be decided."""

from __future__ import annotations

from typing import Any

import orjson

from agenthost.event_encoding import event_encoder
from agenthost.events import MAX_DEPTH, Entry, Event, NotJSON, json_value, one_line

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


encode_event = event_encoder(encode_json, orjson.dumps, lambda _result: b"")  # it is not logged
"""Encode what an agent yielded as the log's entry `seq`; raises `BadEvent` naming only the type or the limit."""


def encode_host_event(seq: int, event: Event) -> Entry:
    """Encode the host's own last word (`Done`, `Error`), whose values have passed `encode_json` before."""
    return Entry(seq, event.kind, one_line(encode_json(event.payload())), event)
