"""What a paused graph asks, as `Interrupt`s a person can answer, and the answers as what `interrupt()` returns.

Four spellings of an `interrupt(value)` are known, everything else is a question of its own:

| value | asked as | returned |
|---|---|---|
| `{"tool", "arguments", "tool_call_id"?}` | tool approval | `{"approved", "arguments", "message"}` |
| `{"action_requests": [{"name", "args"}, …]}` | tool approval, one for each | `{"decisions": [{"type": …}, …]}` |
| `{"action_request": {"action", "args"}}`, or a list of them | the same | `{"type": …, "args": …}`, or a list of them |
| a mapping with a question in it, or a text | that question, its options | the response, or else the decision |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agenthost import Answer, Interrupt, approval_of, ask_approval
from agenthost_langgraph.events import INTERRUPT, Call
from agenthost_langgraph.plain_values import plain

QUESTIONS = ("question", "query", "message", "prompt", "description", "instruction", "instructions", "task")
"""Under which key a mapping has its question; the first that holds text."""

OPTIONS = ("options", "choices")

GO_ON = "continue"

RESUME = "__resume__"
"""Where LangGraph has the answers that a task goes on with."""

MAX_SHOWN = 400


@dataclass(frozen=True, slots=True)
class Asked:
    """One interrupt of a graph: the questions it is to a person, and what its answers in their order are to the graph.

    `graph_id` is LangGraph's id, None for a breakpoint, which is answered by going on.
    """

    graph_id: str | None
    questions: Sequence[Interrupt]
    value: Callable[[Sequence[Answer]], Any]


def as_kept(interrupt: Any) -> dict[str, Any]:
    """One of LangGraph's interrupts as it is kept in ours: `{"id", "value", "fields"}`, plain values."""
    fields = getattr(interrupt, "response_schema", None)  # LangGraph has it since 1.2
    return {"id": interrupt.id, "value": plain(interrupt.value), "fields": fields if isinstance(fields, dict) else None}


def asked_by(
    interrupts: Sequence[Mapping[str, Any]], following: Sequence[str], calls: Mapping[str, Call]
) -> list[Asked]:
    """What a graph that has paused asks, by its interrupts (`as_kept`) or at a breakpoint before the nodes `following`.

    `calls` are the tool calls that have begun; an approval has the id of the call it is for, where that is one of them.
    Asked again with the same, it says the same.
    """
    if not interrupts:
        return [_breakpoint(following)]
    free = dict(calls)
    return [_asked(interrupt, free) for interrupt in interrupts]


def undecided_calls(writes: Sequence[Sequence[Any]], calls: Sequence[Mapping[str, Any]]) -> set[str]:
    """The ids of those `calls` that a checkpoint's pending writes ask about, unless an answer has come since."""
    if any(channel == RESUME for _task, channel, _value in writes):
        return set()
    asked = [as_kept(one) for _task, channel, value in writes if channel == INTERRUPT for one in each(value)]
    known = {call["id"]: {"tool": call["name"], "arguments": call["args"]} for call in calls}
    return {question.interrupt_id or "" for one in asked_by(asked, [], known) for question in one.questions}


def each(value: Any) -> Sequence[Any]:
    """The interrupts in a pending write: a list of them, or one."""
    return value if isinstance(value, list | tuple) else (value,)


def _breakpoint(following: Sequence[str]) -> Asked:
    question = Interrupt(
        f"Continue with {', '.join(following)}?",
        options=[GO_ON],
        metadata={"kind": "breakpoint", "next": list(following)},
        interrupt_id=f"before-{'-'.join(following)}"[:200],
    )
    return Asked(None, [question], lambda answers: None)


def _asked(interrupt: Mapping[str, Any], free: dict[str, Call]) -> Asked:
    value, graph_id = interrupt["value"], interrupt["id"]
    if isinstance(value, Mapping):
        if isinstance(value.get("tool"), str) and isinstance(value.get("arguments"), Mapping):
            call_id = value.get("tool_call_id")
            question = _approval(
                value["tool"], value["arguments"], value.get("question"), str(call_id or graph_id), free
            )
            return Asked(graph_id, [question], lambda answers: _as_approved(answers[0]))
        if _requests(value.get("action_requests"), "name"):
            return _middleware(graph_id, value["action_requests"], free)
        if _requests([value.get("action_request")], "action"):
            return _inbox(graph_id, [value], free, many=False)
    listed = value if isinstance(value, list) and all(isinstance(one, Mapping) for one in value) else []
    if _requests([one.get("action_request") for one in listed], "action"):
        return _inbox(graph_id, listed, free, many=True)
    return Asked(graph_id, [_plain_question(interrupt)], lambda answers: _response(answers[0]))


def _requests(found: Any, name: str) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and all(
            isinstance(one, Mapping) and isinstance(one.get(name), str) and isinstance(one.get("args", {}), Mapping)
            for one in found
        )
    )


def _approval(tool: str, arguments: Mapping[str, Any], text: Any, own_id: str, free: dict[str, Call]) -> Interrupt:
    same = {"tool": tool, "arguments": arguments}
    call_id = own_id if own_id in free else next((known for known, call in free.items() if call == same), own_id)
    free.pop(call_id, None)
    return ask_approval(tool, call_id, arguments, question=text if isinstance(text, str) and text else None)


def _as_approved(answer: Answer) -> dict[str, Any]:
    said = approval_of(answer)
    edited = None if said.arguments is None else dict(said.arguments)
    return {"approved": said.approved, "arguments": edited, "message": said.message}


def _middleware(graph_id: str, requests: Sequence[Mapping[str, Any]], free: dict[str, Call]) -> Asked:
    """As LangChain's middleware asks: several tool calls in one interrupt."""
    questions = [
        _approval(one["name"], one.get("args", {}), one.get("description"), f"{graph_id}-{place}", free)
        for place, one in enumerate(requests)
    ]

    def value(answers: Sequence[Answer]) -> dict[str, Any]:
        return {"decisions": [_decision(one["name"], answer) for one, answer in zip(requests, answers, strict=True)]}

    return Asked(graph_id, questions, value)


def _decision(tool: str, answer: Answer) -> dict[str, Any]:
    said = approval_of(answer)
    if not said.approved:
        return {"type": "reject", **({"message": said.message} if said.message else {})}
    if said.arguments is not None:
        return {"type": "edit", "edited_action": {"name": tool, "args": dict(said.arguments)}}
    return {"type": "approve"}


def _inbox(graph_id: str, values: Sequence[Mapping[str, Any]], free: dict[str, Call], *, many: bool) -> Asked:
    """As `langgraph.prebuilt` spells it for agent inboxes."""
    requests = [one["action_request"] for one in values]
    questions = [
        _approval(request["action"], request.get("args", {}), one.get("description"), f"{graph_id}-{place}", free)
        for place, (one, request) in enumerate(zip(values, requests, strict=True))
    ]

    def value(answers: Sequence[Answer]) -> Any:
        said = [_inbox_answer(one["action"], answer) for one, answer in zip(requests, answers, strict=True)]
        return said if many else said[0]

    return Asked(graph_id, questions, value)


def _inbox_answer(tool: str, answer: Answer) -> dict[str, Any]:
    said = approval_of(answer)
    if not said.approved:
        return {"type": "response", "args": said.message} if said.message else {"type": "ignore", "args": None}
    if said.arguments is not None:
        return {"type": "edit", "args": {"action": tool, "args": dict(said.arguments)}}
    return {"type": "accept", "args": None}


def _plain_question(interrupt: Mapping[str, Any]) -> Interrupt:
    value = interrupt["value"]
    asked = Interrupt(_text(value), fields=interrupt["fields"], interrupt_id=interrupt["id"])
    if not isinstance(value, Mapping):
        return asked if isinstance(value, str) else replace(asked, metadata={"value": value})
    options = next((value[key] for key in OPTIONS if isinstance(value.get(key), list) and value[key]), None)
    return replace(asked, options=options, metadata={"value": value})


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        for key in QUESTIONS:
            if isinstance(value.get(key), str) and value[key]:
                return str(value[key])
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=lambda one: type(one).__name__)
    )
    return text if len(text) <= MAX_SHOWN or isinstance(value, str) else f"{text[: MAX_SHOWN - 1]}…"


def _response(answer: Answer) -> Any:
    if answer.decision is not None and answer.response in (None, ""):
        return dict(answer.decision)
    return answer.response
