"""A conversation on the wire: the thread's messages, and the tool executions read out of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agenthost.protocols.wire import without_none
from agenthost.store import StoredThread
from agenthost.threads import Message, ThreadKey


def wire_message(message: Message) -> dict[str, Any]:
    """Locus 3.0.1's message, then ours; an assistant that only called tools has `content: null`."""
    wire: dict[str, Any] = {
        "role": message.role,
        "content": message.text if message.content else None,
        "tool_calls": [dict(call) for call in message.tool_calls],
        "tool_call_id": message.tool_call_id,
        "name": message.name,
        "metadata": dict(message.metadata),
    }
    if any(part.text is None for part in message.content):
        wire["parts"] = [part.to_json() for part in message.content]
    return {**wire, **without_none({"run_id": message.run_id, "at": message.at, "status": message.status})}


def tool_executions(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Every tool call with its result or error, oldest first; one without an answer has neither."""
    executions: dict[tuple[str | None, str], dict[str, Any]] = {}
    for message in messages:
        for call in message.tool_calls:
            executions[message.run_id, str(call["id"])] = {
                "tool_name": call["name"],
                "tool_call_id": call["id"],
                "arguments": call["arguments"],
                "result": None,
                "error": None,
            }
        if message.role == "tool" and message.tool_call_id is not None:
            failed = "error" in message.metadata
            execution = executions.setdefault(
                (message.run_id, message.tool_call_id),
                {"tool_name": message.name, "tool_call_id": message.tool_call_id, "arguments": None},
            )
            execution.update(result=None if failed else message.text, error=message.text if failed else None)
    return list(executions.values())


def wire_thread(key: ThreadKey, messages: Sequence[Message], stored: StoredThread | None) -> dict[str, Any]:
    """A thread, whole; `iteration` counts the assistant's messages."""
    return {
        "thread_id": key.thread_id,
        "iteration": sum(message.role == "assistant" for message in messages),
        "messages": [wire_message(message) for message in messages],
        "tool_executions": tool_executions(messages),
        "runs": [_wire_run(run) for run in stored.runs] if stored else [],
        "metadata": stored.metadata if stored else {},
    }


def _wire_run(run: Any) -> dict[str, Any]:
    return without_none(
        {
            "run_id": run.run_id,
            "status": run.status,
            "stop_reason": run.stop_reason,
            "created": run.created,
            "ended": run.ended,
        }
    )
