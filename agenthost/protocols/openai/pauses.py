"""What an agent asks, as calls that a client answers; and their answers, as replies to the paused run.

A question is a call of the function `ask_user`, whose arguments are the question; its output is the answer. Whether a
tool may run is, in responses, an approval request. The ids of both name the run and the question: the answer alone
finds what it is for, whatever else is sent with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agenthost.approvals import KIND
from agenthost.encoding import encode_json
from agenthost.errors import InvalidRequest
from agenthost.resuming import Reply
from agenthost.store import StoredInterrupt

FUNCTION = "ask_user"
"""The function that a question calls."""

CALL, APPROVAL = "call", "mcpr"

_ID = re.compile(rf"(?:{CALL}|{APPROVAL})_([0-9a-f]{{32}})_(.+)", re.DOTALL)
_SHOWN = ("question", "options", "fields", "metadata")


@dataclass(frozen=True, slots=True)
class Given:
    """An answer as it came: to which question of which run, and its text, or whether a tool call is approved."""

    run_id: str
    interrupt_id: str
    text: str = ""
    approved: bool | None = None
    reason: str | None = None


def call_id(run_id: str, asked: Mapping[str, Any], prefix: str = CALL) -> str:
    """The id of the call that asks, from the `interrupt` event."""
    return f"{prefix}_{run_id}_{asked['interrupt_id']}"


def question_of(call: str) -> tuple[str, str] | None:
    """The run and the question that an id names; None where it is none of ours."""
    found = _ID.fullmatch(call)
    return (found[1], found[2]) if found else None


def arguments(asked: Mapping[str, Any]) -> str:
    """What the call's arguments are: the question, its options and fields, and what the agent says about it."""
    return encode_json({name: asked[name] for name in _SHOWN if asked.get(name) is not None}).decode()


def is_tool_approval(asked: Mapping[str, Any]) -> bool:
    """Whether an `interrupt` event asks if a tool may run."""
    return (asked.get("metadata") or {}).get("kind") == KIND


def reply_to(given: Given, questions: Sequence[StoredInterrupt]) -> Reply:
    """The reply to a paused run; `questions` are those of its thread."""
    payload = next(
        (one.payload for one in questions if (one.run_id, one.interrupt_id) == (given.run_id, given.interrupt_id)), {}
    )
    if given.approved is not None:
        return Reply(given.interrupt_id, decision=_decision(given.approved, given.reason))
    response = _response(given.text, payload)
    if is_tool_approval(payload) and isinstance(response, Mapping):
        return Reply(given.interrupt_id, decision=response)
    return Reply(given.interrupt_id, response)


def _decision(approved: bool, reason: str | None) -> dict[str, Any]:
    decision: dict[str, Any] = {"verdict": "approved" if approved else "denied"}
    return decision if reason is None else {**decision, "message": reason}


def _response(text: str, payload: Mapping[str, Any]) -> Any:
    """The answer that a text is: one of the options, or JSON where more than text is asked for."""
    options, fields = payload.get("options") or (), payload.get("fields")
    if text in options or not (options or fields):
        return text
    try:
        return orjson.loads(text)
    except ValueError:
        if fields:
            raise InvalidRequest("output: the question has fields to fill in; answer with a JSON object") from None
        return text
