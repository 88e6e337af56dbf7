"""A message as the store keeps it: role, run and time in columns, the rest as JSON."""

from __future__ import annotations

from typing import Any, cast

import orjson

from agenthost.threads import Message, Part, Role


def encode_message(message: Message) -> bytes:
    """Return what no column holds, as JSON; what is empty is left out. Raises `TypeError` for what is not JSON."""
    body: dict[str, Any] = {"content": [part.to_json() for part in message.content]}
    if message.tool_calls:
        body["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        body["name"] = message.name
    if message.metadata:
        body["metadata"] = message.metadata
    return orjson.dumps(body)


def decode_message(role: str, body: bytes, run_id: str, at: float, run_status: str | None) -> Message:
    """Rebuild a message from its row and its run's status."""
    raw = orjson.loads(body)
    return Message(
        cast("Role", role),
        tuple(map(Part.from_json, raw["content"])),
        tuple(raw.get("tool_calls", ())),
        raw.get("tool_call_id"),
        raw.get("name"),
        run_id,
        at,
        None if run_status == "completed" else run_status,
        raw.get("metadata") or {},
    )
