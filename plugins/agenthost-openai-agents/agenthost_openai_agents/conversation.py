"""A thread as the input items of the SDK: its own items, kept in `ctx.state`, or else made of the host's messages."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter

from agenthost import Message, Part, RunContext

MAX_KEPT = 1_000_000
"""Bytes of items kept, encoded; the host takes 1 MiB of state, and some of it is for what else is there."""

Item = dict[str, Any]

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def plain(value: Any) -> Any:
    """A value as JSON has it: models and dataclasses are objects, what has no JSON form is its text."""
    return _ANYTHING.dump_python(value, mode="json", fallback=str)


def input_items(ctx: RunContext) -> list[Item]:
    """What the model is given: the conversation so far and the new message.

    The items kept by the last run that ended well are the SDK's own, with all that a `Message` has no place for
    (reasoning, hosted tools' results, ids). The calls it asked about follow: they may have run. What the thread has
    from later runs, which failed, comes after them.
    """
    kept, covered, history = ctx.state.get("items"), ctx.state.get("run"), ctx.history
    ours = max((place for place, said in enumerate(history) if said.run_id == covered), default=len(history) - 1)
    before = items_of(history[: ours + 1]) if kept is None else kept
    told = {item.get("call_id") for item in before}
    asked = [item for item in ctx.state.get("asked", ()) if item["call_id"] not in told]
    items = [*before, *asked, *items_of(history[ours + 1 :])]
    parts = list(ctx.content or ([Part(text=ctx.prompt)] if ctx.prompt or ctx.input is None else []))
    if ctx.input is not None:
        parts.append(Part(json=ctx.input))
    return [*items, {"role": "user", "content": _content(parts)}]


def keep(ctx: RunContext, items: Sequence[Any], *, asked: Sequence[Item] = ()) -> None:
    """Keep the items of a run for the next one on its thread; where they are too many, the messages must do.

    `asked` are the calls that wait for an answer, each with an output. They are kept now, since a run that makes them
    and fails after that keeps nothing, and the model would make them once more.
    """
    ctx.state["run"] = ctx.run_id
    room = MAX_KEPT
    for name, kept in (("asked", list(asked)), ("items", plain(whole(items)))):
        size = len(json.dumps(kept, ensure_ascii=False).encode())
        if size <= room:
            ctx.state[name] = kept
            room -= size
        else:
            ctx.state.pop(name, None)


def whole(items: Sequence[Any]) -> list[Item]:
    """The items without calls that have no output, outputs that have no call, and the reasoning for such a call alone.

    That is what an unanswered question leaves behind; model APIs refuse a conversation that has one.
    """
    made = {_asks(item) for item in items}
    done = {_answers(item) for item in items}
    kept: list[Item] = []
    for item in items:
        asks, answers = _asks(item), _answers(item)
        if (asks is None or asks in done) and (answers is None or answers in made):
            kept.append(item)
            continue
        while asks is not None and kept and kept[-1].get("type") == "reasoning":
            kept.pop()
    return kept


def unanswered(items: Sequence[Any]) -> list[Any]:
    """The calls among the items that have no output."""
    done = {_answers(item) for item in items}
    return [item for item in items if (asks := _asks(item)) is not None and asks not in done]


def _asks(item: Any) -> tuple[str, str] | None:
    """What must come with this item: the kind of answer, and to which call."""
    kind = str(item.get("type", ""))
    if kind == "mcp_approval_request":
        return "mcp_approval_response", str(item.get("id"))
    return (f"{kind}_output", str(item["call_id"])) if kind.endswith("_call") and item.get("call_id") else None


def _answers(item: Any) -> tuple[str, str] | None:
    kind = str(item.get("type", ""))
    if kind == "mcp_approval_response":
        return kind, str(item.get("approval_request_id"))
    return (kind, str(item.get("call_id"))) if kind.endswith("_call_output") else None


def items_of(messages: Sequence[Message]) -> list[Item]:
    """The host's messages as input items; tool calls that were never answered are left out."""
    return whole([item for message in messages for item in _items(message)])


def _items(message: Message) -> Iterator[Item]:
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.tool_call_id or "", "output": message.text}
        return
    if message.role == "assistant":
        if message.text:
            yield {"role": "assistant", "content": message.text}
    else:
        yield {"role": message.role, "content": _content(message.content)}
    for call in message.tool_calls:
        arguments = json.dumps(call["arguments"], ensure_ascii=False)
        yield {"type": "function_call", "call_id": call["id"], "name": call["name"], "arguments": arguments}


def _content(parts: Sequence[Part]) -> str | list[Item]:
    """A message's content: text alone is a plain string."""
    if len(parts) == 1 and parts[0].text is not None:
        return parts[0].text
    return [_content_part(part) for part in parts]


def _content_part(part: Part) -> Item:
    if part.text is not None:
        return {"type": "input_text", "text": part.text}
    if part.data is None and part.uri is None:
        return {"type": "input_text", "text": json.dumps(part.json, ensure_ascii=False)}
    media_type = part.media_type or "application/octet-stream"
    address = part.uri or f"data:{media_type};base64,{base64.b64encode(part.data or b'').decode()}"
    if media_type.startswith("image/"):
        return {"type": "input_image", "image_url": address, "detail": "auto"}
    if part.data is None:
        return {"type": "input_file", "file_url": address}
    return {
        "type": "input_file",
        "filename": f"file{mimetypes.guess_extension(media_type) or ''}",
        "file_data": address,
    }
