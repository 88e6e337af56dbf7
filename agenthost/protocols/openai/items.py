"""The items of a response's output, each as it begins and as it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agenthost.encoding import encode_json
from agenthost.protocols.openai.pauses import APPROVAL, FUNCTION, arguments, call_id

Item = dict[str, Any]


def message(item_id: str, status: str, content: Sequence[Any] = ()) -> Item:
    """Something that the assistant says."""
    return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": list(content)}


def output_text(text: str) -> Item:
    """The text of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def reasoning(item_id: str, status: str, text: str | None = None) -> Item:
    """A thought that the agent shows."""
    content = [] if text is None else [reasoning_text(text)]
    return {"type": "reasoning", "id": item_id, "status": status, "summary": [], "content": content}


def reasoning_text(text: str) -> Item:
    """The text of a thought."""
    return {"type": "reasoning_text", "text": text}


def tool_call(item_id: str, agent: str, told: Mapping[str, Any]) -> Item:
    """A tool that the agent calls itself: as a call that needs nothing of the client."""
    return {
        "type": "mcp_call",
        "id": item_id,
        "status": "in_progress",
        "server_label": agent,
        "name": str(told["tool"]),
        "arguments": encode_json(told["arguments"]).decode(),
        "output": None,
        "error": None,
        "approval_request_id": None,
    }


def answered(call: Item, told: Mapping[str, Any]) -> Item:
    """The same call with its result, or its error."""
    problem, result = told.get("error"), told.get("result")
    if problem is not None:
        content = [{"type": "text", "text": problem if isinstance(problem, str) else encode_json(problem).decode()}]
        return {**call, "status": "failed", "error": {"type": "mcp_tool_execution_error", "content": content}}
    return {
        **call,
        "status": "completed",
        "output": result if isinstance(result, str) else encode_json(result).decode(),
    }


def question(run_id: str, item_id: str, status: str, asked: Mapping[str, Any]) -> Item:
    """What an agent asks, as a call whose output is the answer; its arguments come once it is whole."""
    return {
        "type": "function_call",
        "id": item_id,
        "call_id": call_id(run_id, asked),
        "name": FUNCTION,
        "arguments": arguments(asked) if status == "completed" else "",
        "status": status,
    }


def approval(run_id: str, agent: str, asked: Mapping[str, Any]) -> Item:
    """Whether a tool may run."""
    about = asked.get("metadata") or {}
    return {
        "type": "mcp_approval_request",
        "id": call_id(run_id, asked, APPROVAL),
        "server_label": agent,
        "name": str(about.get("tool", "")),
        "arguments": encode_json(about.get("arguments") or {}).decode(),
    }
