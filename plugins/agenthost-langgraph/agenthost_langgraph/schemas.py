"""What a graph takes and gives, by its own schemas: how a prompt gets in, and which part of the state is output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import create_model

MESSAGES = "messages"
"""The key under which LangGraph's own agents, and nearly all others, have their conversation."""

Takes = Literal["messages", "list", "text", "input"]
"""What a prompt becomes: the state's `messages`, a list of messages alone, a text alone; or only `input` is taken."""


def taken(graph: Any) -> tuple[Takes, dict[str, Any] | None]:
    """How `graph` takes a prompt, and the JSON Schema of its structured input (None: it says nothing of it)."""
    schema = _schema(graph, "input")
    if schema is None:
        return "input", None
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        takes: Takes = "messages" if MESSAGES in properties else "input"
        return takes, _without_messages(schema, _checked_by(graph))
    kind = schema.get("type")
    if kind == "array":
        of_texts = isinstance(schema.get("items"), Mapping) and "type" in schema["items"]
        return ("input", schema) if of_texts and schema["items"]["type"] != "object" else ("list", None)
    if kind in {"integer", "number", "boolean", "object"}:
        return "input", schema
    return "text", None


def given(graph: Any) -> dict[str, Any] | None:
    """The JSON Schema of what `graph` gives besides messages, or None."""
    schema = _schema(graph, "output")
    if schema is None or not isinstance(schema.get("properties"), Mapping):
        return schema if schema and schema.get("type") not in {None, "string", "array"} else None
    return _without_messages(schema, required=False)


def _schema(graph: Any, side: str) -> dict[str, Any] | None:
    """LangGraph's own JSON Schema of a side, or one of as many keys as there is a word for."""
    builder = getattr(graph, "builder", None)
    try:
        found: dict[str, Any] = getattr(graph, f"get_{side}_jsonschema")()
    except Exception:  # noqa: BLE001 - pydantic's, or of a user's own type (`typing.TypedDict` on Python 3.11 is one)
        return None if builder is None else _by_key(builder, getattr(builder, f"{side}_schema"))
    return found


def _by_key(builder: Any, state: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "title": state.__name__, "properties": {}, "$defs": {}}
    for name in builder.schemas[state]:
        channel = builder.channels.get(name)
        if channel is None:
            continue  # LangGraph's own, such as the steps that are left
        fields: dict[str, Any] = {name: (channel.UpdateType, ...)}
        try:
            made = create_model("Key", **fields).model_json_schema()
        except Exception:  # noqa: BLE001 - as above
            made = {"properties": {name: {}}}
        schema["properties"] |= made["properties"]
        schema["$defs"] |= made.get("$defs", {})
    schema["required"] = [name for name in schema["properties"] if name in getattr(state, "__required_keys__", ())]
    return schema


def _checked_by(graph: Any) -> bool:
    """Whether a key that is required really is: LangGraph holds a typed dict for the whole state, not for its input."""
    builder = getattr(graph, "builder", None)
    if builder is None:
        return True
    separate = builder.input_schema is not builder.state_schema
    return separate or hasattr(builder.state_schema, "model_validate")


def _without_messages(schema: Mapping[str, Any], required: bool) -> dict[str, Any] | None:
    properties = {name: value for name, value in schema["properties"].items() if name != MESSAGES}
    if not properties:
        return None
    rest = {name: value for name, value in schema.items() if name not in {"properties", "required", "$defs"}}
    rest["properties"] = properties
    needed = [name for name in schema.get("required", ()) if name in properties]
    if needed and required:
        rest["required"] = needed
    if "$defs" in schema and '"$ref"' in json.dumps(properties):
        rest["$defs"] = schema["$defs"]
    return rest
