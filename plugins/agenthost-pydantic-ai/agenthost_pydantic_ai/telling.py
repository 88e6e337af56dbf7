"""What the framework's stream says, in the host's words."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pydantic_ai.messages import (
    BinaryContent,
    FilePart,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolReturnPart,
)
from pydantic_ai.usage import RunUsage
from pydantic_core import PydanticSerializationError, to_jsonable_python

from agenthost import Artifact, Custom, Event, ModelChunk, ToolComplete, ToolProgress, ToolStart, Usage

MAX_SHOWN = 256 << 10
"""Characters of a tool's result on the wire; the model gets it whole. One event of the host is at most 1 MiB."""

MAX_ARTIFACT = 700 << 10
"""Bytes of a file that the model made and an event can carry."""

NATIVE_CALL, NATIVE_RETURN = "builtin-tool-call", "builtin-tool-return"
"""Parts of tools that run where the model does."""


def arguments_of(call: Any) -> dict[str, Any]:
    """A call's arguments as JSON; what is no object, or longer than an event should be, is under a key of its own."""
    arguments = shown(call.args_as_dict())
    return arguments if isinstance(arguments, dict) else {"cut": arguments}


def chunk(delta: Any) -> str | ModelChunk | None:
    """A piece of text or of reasoning; None for any other delta. It is what is called most."""
    if type(delta) is TextPartDelta:
        return delta.content_delta
    if type(delta) is ThinkingPartDelta and delta.content_delta:
        return ModelChunk(reasoning=delta.content_delta)
    return None


def shown(value: Any) -> Any:
    """`value` as JSON, cut where it is longer than an event should be."""
    try:
        plain = to_jsonable_python(value, serialize_unknown=True)
    except (PydanticSerializationError, ValueError):
        plain = f"{type(value).__name__} that is not JSON"
    text = plain if isinstance(plain, str) else json.dumps(plain)
    return plain if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


class Story:
    """All that a stream tells but the deltas: parts as they begin and end, tool calls, what the user's code emits.

    `kind_of(tool)` is the framework's kind of a tool. A call that waits for a person is told when it goes on, since its
    run pauses before; `told` are the ids of those.
    """

    def __init__(self, kind_of: Callable[[str], str | None], told: Collection[str]) -> None:
        self._kind_of = kind_of
        self._told = set(told)
        self._held: dict[str, Any] = {}
        """Calls that may have to wait, by id."""

    def tell(self, event: Any) -> Iterator[Event | str]:
        """Say what an event says."""
        if isinstance(event, PartStartEvent):
            yield from self._begun(event.part)
        elif isinstance(event, FunctionToolCallEvent):
            if self._kind_of(event.part.tool_name) in {"external", "unapproved"}:
                self._held[event.part.tool_call_id] = event.part
            else:
                yield from self._called(event.part)
        elif isinstance(event, FunctionToolResultEvent):
            yield from self._called(self._held.get(event.part.tool_call_id, event.part))
            yield _completed(event.part)
        elif isinstance(event, PartEndEvent):
            if event.part.part_kind == NATIVE_CALL:
                yield from self._called(event.part)
        elif getattr(event, "event_kind", None) == "custom" and event.ui:
            yield _emitted(event)

    def _begun(self, part: Any) -> Iterator[Event | str]:
        if isinstance(part, TextPart):
            if part.content:
                yield part.content
        elif isinstance(part, ThinkingPart):
            if part.content:
                yield ModelChunk(reasoning=part.content)
        elif isinstance(part, FilePart):
            yield _file(part.content)
        elif part.part_kind == NATIVE_RETURN:
            yield ToolComplete(part.tool_name, part.tool_call_id, result=shown(part.content))

    def _called(self, part: Any) -> Iterator[ToolStart]:
        if part.tool_call_id not in self._told:
            self._told.add(part.tool_call_id)
            arguments = arguments_of(part) if hasattr(part, "args_as_dict") else {}
            yield ToolStart(part.tool_name, part.tool_call_id, arguments)


def _completed(part: Any) -> ToolComplete:
    name = part.tool_name or ""
    if not isinstance(part, ToolReturnPart):
        return ToolComplete(
            name, part.tool_call_id, error=shown(part.model_response())
        )  # how older releases say a retry
    if part.outcome == "success":
        return ToolComplete(name, part.tool_call_id, result=shown(part.content))
    text = part.model_response_str()
    return ToolComplete(name, part.tool_call_id, error=shown(text))


def _emitted(event: Any) -> Event:
    """What a tool says of its progress, or other code of the user's says, by an event class of its own."""
    data = {"name": event.name, "data": shown(event.to_payload())}
    if event.tool_call_id is not None:
        return ToolProgress(event.tool_call_id, data)
    return Custom(event.name, data["data"])


def _file(content: BinaryContent) -> Event:
    if len(content.data) > MAX_ARTIFACT:
        return Custom("file-too-large", {"media_type": content.media_type, "bytes": len(content.data)})
    name = f"{content.identifier}.{content.format}"
    return Artifact(name, content.media_type, data=base64.b64encode(content.data).decode())


class Spent:
    """A run's usage, told in the pieces it grows by: one a model request."""

    def __init__(self) -> None:
        self._told: Mapping[str, Any] = {}

    def more(self, usage: RunUsage, model: str | None) -> Iterator[Usage]:
        """What has come since the last time, if anything has."""
        now = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cache_read_tokens,
            "reasoning_tokens": _reasoning(usage),
            "cost_usd": float(getattr(usage, "cost", None) or 0.0),
        }
        more = {name: max(count - self._told.get(name, 0), 0) for name, count in now.items()}
        self._told = now
        if any(more.values()):
            yield Usage(model, **{**more, "cost_usd": more["cost_usd"] or None})


def _reasoning(usage: RunUsage) -> int:
    # older releases have it as a detail of the provider
    return int(getattr(usage, "output_reasoning_tokens", 0) or usage.details.get("reasoning_tokens", 0))
