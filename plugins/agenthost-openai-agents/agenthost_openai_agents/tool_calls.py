"""What the SDK's tool calls, of a dozen kinds, say of themselves: the tool, the id, the arguments, the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agenthost_openai_agents.conversation import plain

_RESULTS = {"result", "results", "output", "outputs", "error"}
_ARGUMENTS_OF_NONE = {"type", "id", "call_id", "name", "status", *_RESULTS}


def call_id_of(call: Any) -> str:
    """The id that its output names, or else the call's own."""
    return str(_field(call, "call_id") or _field(call, "id") or "")


def tool_of(call: Any) -> str:
    """The tool's name; one without is called by its kind (`web_search`)."""
    return str(_field(call, "name") or str(_field(call, "type") or "tool").removesuffix("_call"))


def arguments_of(call: Any) -> dict[str, Any]:
    """The arguments as an object; what is no JSON object, as a model may write it, stands as text under `input`."""
    given = _field(call, "arguments")
    if given is None:
        return {name: value for name, value in _fields(call).items() if name not in _ARGUMENTS_OF_NONE}
    try:
        found = json.loads(given or "{}") if isinstance(given, str) else given
    except ValueError:
        found = given
    return dict(plain(found)) if isinstance(found, Mapping) else {"input": found}


def is_hosted(call: Any) -> bool:
    """Whether the model's provider has run the tool already: its result is part of the call, and no output follows."""
    return not _field(call, "call_id")


def hosted_result(call: Any) -> dict[str, Any]:
    """What came of a tool that the model's provider ran."""
    return {name: value for name, value in _fields(call).items() if name in _RESULTS}


def _fields(call: Any) -> dict[str, Any]:
    return {name: value for name, value in plain(call).items() if value is not None}


def _field(call: Any, name: str) -> Any:
    return call.get(name) if isinstance(call, Mapping) else getattr(call, name, None)
