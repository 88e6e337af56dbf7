"""Asking a person whether a tool may run: one question and one answer, whatever framework the tool is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agenthost.agents import Answer
from agenthost.events import Interrupt, json_value

APPROVE, DENY = "approve", "deny"

KIND = "tool_approval"
"""`metadata.kind` of such a question, for clients that show it in a form of their own."""

MAX_SHOWN = 400
"""Characters of the arguments in the question itself; `metadata` has them whole."""

_VERDICTS = {APPROVE: True, "approved": True, DENY: False, "denied": False}


@dataclass(frozen=True, slots=True)
class Approval:
    """What the person said: `arguments` take the place of the model's, `message` is for the model to read."""

    approved: bool
    arguments: Mapping[str, Any] | None = None
    message: str | None = None


def ask_approval(
    tool: str,
    tool_call_id: str,
    arguments: Mapping[str, Any],
    *,
    state: Any = None,
    question: str | None = None,
) -> Interrupt:
    """Ask whether `tool` may run; `state` is what the agent needs to go on, and never leaves the host.

    It is answered by `response`, `"approve"` or `"deny"`, or by `decision`:
    `{"verdict": "approved" | "denied", "arguments"?: {…}, "message"?: "…"}`. The interrupt's id is the tool call's.
    """
    return Interrupt(
        question=question or f"Run {tool}({_shown(arguments)})?",
        options=[APPROVE, DENY],
        metadata={"kind": KIND, "tool": tool, "tool_call_id": tool_call_id, "arguments": dict(arguments)},
        interrupt_id=tool_call_id,
        state=state,
    )


def approval_of(answer: Answer) -> Approval:
    """Read the answer to `ask_approval`; raises `ValueError` for one that is none (the host has refused it before)."""
    if answer.decision is not None:
        problem = decision_problem(answer.decision)
        if problem is not None:
            raise ValueError(problem)
        return Approval(
            _VERDICTS[answer.decision["verdict"]], answer.decision.get("arguments"), answer.decision.get("message")
        )
    if answer.response not in (APPROVE, DENY):
        raise ValueError(f"response: neither '{APPROVE}' nor '{DENY}'")
    return Approval(answer.response == APPROVE)


def is_approval(interrupt: Interrupt) -> bool:
    """Whether it was asked by `ask_approval`."""
    return (interrupt.metadata or {}).get("kind") == KIND


def decision_problem(decision: Mapping[str, Any]) -> str | None:
    """What is wrong with the decision on a tool call, or None."""
    verdict, arguments, message = (decision.get(name) for name in ("verdict", "arguments", "message"))
    if not isinstance(verdict, str) or verdict not in _VERDICTS:
        return "decision.verdict: it is neither 'approved' nor 'denied'"
    if arguments is not None and not isinstance(arguments, Mapping):
        return "decision.arguments: it is no object"
    if message is not None and not isinstance(message, str):
        return "decision.message: it is no text"
    return None


def _shown(arguments: Mapping[str, Any]) -> str:
    shown = ", ".join(
        f"{name}={json.dumps(json_value(value), ensure_ascii=False)}" for name, value in arguments.items()
    )
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 1]}…"
