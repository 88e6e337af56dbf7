"""A conversation in both spellings: agenthost's messages as LangChain's, and back."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from agenthost import Message, Part
from agenthost_langgraph.plain_values import plain

NOT_RUN = "Not run: the conversation went on without it."
"""What the model reads for a tool call that somebody was asked about and has not answered."""

STOPPED = "No result: it was stopped before it had one, and may have run."
"""What it reads for any other call without an answer."""

PAUSED = "No result: its run was paused at it, and did not get to one; whether it has run is not known."
"""What it reads for a call of a paused run in the host's thread: of answers that came to nothing, nothing is there."""

NO_ADDRESSES = "This agent takes no files by their address: send what is in them."


class NotTaken(Exception):
    """Something the user sent that this agent does not take; the text is for them."""


_ROLES = {"human": "user", "ai": "assistant", "tool": "tool", "system": "system"}


def to_langchain(messages: Sequence[Message], *, urls: bool = False) -> list[AnyMessage]:
    """The conversation as a model takes it: each tool call with its answer right behind it.

    A call that was never answered gets an answer that says so; an answer to no call is left out, as models refuse both.
    So is a message without anything in it, and without `urls` a file that is named by its address.
    """
    answers: dict[int, dict[str, Message]] = {}
    caller: dict[str | None, int] = {}
    for place, message in enumerate(messages):  # ids may come again: an answer is to the last call before it
        if message.role == "tool" and message.tool_call_id in caller:
            answers.setdefault(caller.pop(message.tool_call_id), {})[message.tool_call_id or ""] = message
        caller.update((call["id"], place) for call in message.tool_calls)
    return [
        one
        for place, message in enumerate(messages)
        if message.role != "tool"
        for one in _converted(message, answers.get(place, {}), urls=urls)
    ]


def _converted(message: Message, answers: Mapping[str, Message], *, urls: bool) -> Iterator[AnyMessage]:
    content = _content([part for part in message.content if urls or not _is_address(part.uri)])
    calls = message.tool_calls
    if message.role == "assistant" and (content or calls):
        made = [{"name": call["name"], "args": dict(call["arguments"]), "id": call["id"]} for call in calls]
        yield AIMessage(content, tool_calls=made, name=message.name)
    elif content and message.role == "user":
        yield HumanMessage(content)
    elif content and message.role == "system":
        yield SystemMessage(content)
    for call in calls:
        answer = answers.get(call["id"])
        if answer is None:
            yield _no_answer(call, PAUSED if message.status == "paused" else STOPPED)
            continue
        status = "error" if "error" in answer.metadata else "success"
        yield ToolMessage(_content(answer.content), tool_call_id=call["id"], name=call["name"], status=status)


def _no_answer(call: Mapping[str, Any], text: str) -> ToolMessage:
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")


def refuse_addresses(content: Sequence[Part] | None, given: Sequence[Any] = ()) -> None:
    """Raise `NotTaken` for a file of a new message that is named by its address, which a model's client would fetch.

    `given` are messages as a structured input may bring them: mappings whose content is text, or blocks.
    """
    blocks = [
        block
        for one in given
        if isinstance(one, Mapping) and isinstance(one.get("content"), list)
        for block in one["content"]
        if isinstance(block, Mapping) and block.get("type") != "text"
    ]
    if any(_is_address(part.uri) for part in content or ()) or any(_holds_address(block) for block in blocks):
        raise NotTaken(NO_ADDRESSES)


def _is_address(uri: str | None) -> bool:
    return uri is not None and not uri.startswith("data:")


def _holds_address(found: Any) -> bool:
    if isinstance(found, Mapping | list):
        return any(map(_holds_address, found.values() if isinstance(found, Mapping) else found))
    return isinstance(found, str) and re.match(r"\s*[a-zA-Z][\w+.-]*://", found) is not None


def _content(parts: Sequence[Part]) -> Any:
    """Text where it is text alone, else LangChain's content blocks."""
    if all(part.text is not None for part in parts):
        return "".join(part.text or "" for part in parts)
    return [_block(part) for part in parts]


def _block(part: Part) -> dict[str, Any]:
    if part.text is not None:
        return {"type": "text", "text": part.text}
    if part.data is None and part.uri is None:
        return {"type": "text", "text": json.dumps(part.json, ensure_ascii=False)}
    kind = (part.media_type or "").partition("/")[0]
    block: dict[str, Any] = {"type": kind if kind in {"image", "audio", "video"} else "file"}
    if part.media_type:
        block["mime_type"] = part.media_type
    if part.data is not None:
        return {**block, "base64": base64.b64encode(part.data).decode()}
    return {**block, "url": part.uri}


def from_langchain(messages: Sequence[Any]) -> list[Message]:
    """What a graph keeps, as the host shows it; what is no message, or one only LangGraph reads, is left out."""
    return [_message(message) for message in messages if getattr(message, "type", None) in _ROLES]


def _message(message: BaseMessage) -> Message:
    role: Any = _ROLES[message.type]
    text = str(message.text)
    calls = [
        {"id": call["id"], "name": call["name"], "arguments": call["args"]}
        for call in getattr(message, "tool_calls", ())
    ]
    failed = getattr(message, "status", None) == "error"
    return Message(
        role,
        (Part(text=text),) if text else (),
        tool_calls=calls,
        tool_call_id=getattr(message, "tool_call_id", None),
        name=message.name,
        metadata={"error": text} if role == "tool" and failed else {},
    )


def open_calls(messages: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The tool calls without answers that a kept conversation ends in: their run was paused, or stopped."""
    said = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    last = next((message for message in reversed(messages) if not isinstance(message, ToolMessage)), None)
    if not isinstance(last, AIMessage):
        return []
    return [call for call in last.tool_calls if call["id"] not in said]


def closing(calls: Sequence[Mapping[str, Any]], asked: Collection[str]) -> list[AnyMessage]:
    """Answers to open calls, so that the conversation can go on; `asked` are those that a person has not decided."""
    return [_no_answer(call, NOT_RUN if call["id"] in asked else STOPPED) for call in calls]


def tool_result(message: ToolMessage) -> Any:
    """What a tool said: text, or plain values where it is more than text."""
    content: Any = message.content
    if isinstance(content, str):
        return content
    if all(isinstance(block, str) or block.get("type") == "text" for block in content):
        return str(message.text)
    return plain(content)


def answer_text(messages: Sequence[Any]) -> str | None:
    """The text of the last message that the graph itself said, if it has said one since the person spoke."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return str(message.text) or None
        if isinstance(message, HumanMessage) and not message.name:  # agents sign what they say to one another
            return None
    return None


def reasoning_of(message: AIMessage) -> str:
    """What a piece of a message says of the model's reasoning."""
    aside: Any = message.additional_kwargs.get("reasoning_content")
    if isinstance(aside, str) and aside:
        return aside
    if isinstance(message.content, str):
        return ""
    return "".join(_reasoning(block) for block in message.content if isinstance(block, Mapping))


def _reasoning(block: Mapping[str, Any]) -> str:
    said = block.get(str(block.get("type"))) if block.get("type") in {"reasoning", "thinking"} else None
    if isinstance(said, str):
        return said
    summary = block.get("summary") if block.get("type") == "reasoning" else None
    return "".join(str(part.get("text", "")) for part in summary or () if isinstance(part, Mapping))
