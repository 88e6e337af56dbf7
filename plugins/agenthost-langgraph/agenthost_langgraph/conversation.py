"""A conversation in both spellings: agenthost's messages as LangChain's, and back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from agenthost import Message, Part
from agenthost_langgraph.plain_values import plain

NOT_RUN = "Not run: the conversation went on without it."
"""What the model reads for a tool call that was never answered, where the graph keeps the call itself."""

_ROLES = {"human": "user", "ai": "assistant", "tool": "tool", "system": "system"}


def to_langchain(messages: Sequence[Message]) -> list[AnyMessage]:
    """The conversation as a model takes it: each tool call with its answer right behind it.

    A call that was never answered (its run was paused, and a new one began) is left out, and so is an answer to none:
    models refuse both. So is a message without anything in it.
    """
    answers = {message.tool_call_id: message for message in messages if message.role == "tool"}
    return [one for message in messages if message.role != "tool" for one in _converted(message, answers)]


def _converted(message: Message, answers: Mapping[str | None, Message]) -> Iterator[AnyMessage]:
    content = _content(message.content)
    calls = [call for call in message.tool_calls if call["id"] in answers]
    if message.role == "assistant" and (content or calls):
        made = [{"name": call["name"], "args": dict(call["arguments"]), "id": call["id"]} for call in calls]
        yield AIMessage(content, tool_calls=made)
    elif content and message.role == "user":
        yield HumanMessage(content)
    elif content and message.role == "system":
        yield SystemMessage(content)
    for call in calls:
        answer = answers[call["id"]]
        status = "error" if "error" in answer.metadata else "success"
        yield ToolMessage(_content(answer.content), tool_call_id=call["id"], name=call["name"], status=status)


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


def unanswered(messages: Sequence[Any]) -> list[AnyMessage]:
    """Answers to the tool calls that a kept conversation ends in (a run was cancelled, say), so that it can go on."""
    said = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    last = next((message for message in reversed(messages) if not isinstance(message, ToolMessage)), None)
    if not isinstance(last, AIMessage):
        return []
    return [
        ToolMessage(NOT_RUN, tool_call_id=call["id"], name=call["name"], status="error")
        for call in last.tool_calls
        if call["id"] not in said
    ]


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
