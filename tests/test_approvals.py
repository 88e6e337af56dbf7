"""Tool approvals: what is asked, what counts as an answer, and what the agent reads of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthost.agents import Answer, RunContext
from agenthost.approvals import Approval, approval_of, ask_approval
from agenthost.errors import InvalidRequest
from agenthost.events import Event, Interrupt, encode_json
from agenthost.resuming import Reply
from tests.agents_for_tests import hosting, resumed, started, thread, within

ASKED = ask_approval("send_mail", "call-1", {"to": "Bob", "text": "lunch"}, state={"messages": ["secret"]})


class Mailer:
    """Asks before it sends."""

    def __init__(self) -> None:
        self.read: list[Approval] = []

    async def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
        if ctx.answer is None:
            yield ASKED
        else:
            self.read.append(approval_of(ctx.answer))
            yield "sent" if self.read[-1].approved else "not sent"


def test_the_question_shows_the_call_and_keeps_its_state_to_itself() -> None:
    sent = ASKED.payload()

    assert sent == {
        "type": "interrupt",
        "question": 'Run send_mail(to="Bob", text="lunch")?',
        "options": ["approve", "deny"],
        "metadata": {
            "kind": "tool_approval",
            "tool": "send_mail",
            "tool_call_id": "call-1",
            "arguments": {"to": "Bob", "text": "lunch"},
        },
        "interrupt_id": "call-1",
    }
    assert b"secret" not in encode_json(sent)


def test_long_arguments_are_cut_in_the_question_and_whole_in_the_metadata() -> None:
    asked = ask_approval("write", "c", {"text": "x" * 5000})

    assert len(asked.question) < 450
    assert asked.question.endswith("…)?")
    assert asked.metadata is not None
    assert asked.metadata["arguments"] == {"text": "x" * 5000}


def test_an_agent_may_put_the_question_in_its_own_words() -> None:
    assert ask_approval("send_mail", "c", {}, question="Mail Bob?").question == "Mail Bob?"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"response": "approve"}, Approval(True)),
        ({"response": "deny"}, Approval(False)),
        ({"decision": {"verdict": "approved"}}, Approval(True)),
        ({"decision": {"verdict": "denied", "message": "not today"}}, Approval(False, None, "not today")),
        (
            {"decision": {"verdict": "approve", "arguments": {"to": "Eve"}, "approval_id": 7}},
            Approval(True, {"to": "Eve"}),
        ),
        ({"decision": {"verdict": "deny"}, "response": ""}, Approval(False)),
    ],
)
def test_an_approval_is_answered_by_a_response_or_by_a_decision(given: dict[str, Any], read: Approval) -> None:
    mailer = Mailer()

    async def main() -> None:
        async with hosting(mailer) as host:
            await within((await started(host, thread())).result())
            result = await within((await resumed(host, Reply(**given))).result())
            assert result.message == ("sent" if read.approved else "not sent")
        assert mailer.read == [read]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"response": "yes"}, "response: it is none of the interrupt's options"),
        ({"response": None}, "response: it is none of the interrupt's options"),
        ({"decision": {}}, "decision.verdict: it is neither 'approved' nor 'denied'"),
        ({"decision": {"verdict": ["approved"]}}, "decision.verdict: it is neither 'approved' nor 'denied'"),
        ({"decision": {"verdict": "approved", "arguments": [1]}}, "decision.arguments: it is no object"),
        ({"decision": {"verdict": "denied", "message": 1}}, "decision.message: it is no text"),
        (
            {"decision": {"verdict": "approved"}, "response": "perhaps"},
            "response: it is none of the interrupt's options",
        ),
    ],
)
def test_what_is_no_answer_is_refused_and_the_tool_does_not_run(given: dict[str, Any], problem: str) -> None:
    mailer = Mailer()

    async def main() -> None:
        async with hosting(mailer) as host:
            await within((await started(host, thread())).result())
            with pytest.raises(InvalidRequest) as refused:
                await resumed(host, Reply(**given))
            assert refused.value.message == problem
            await within((await resumed(host, "approve")).result())
        assert mailer.read == [Approval(True)]

    asyncio.run(main())


@pytest.mark.parametrize("response", ["yes", None, {"no": "hash"}, True])
def test_reading_what_is_no_answer_raises(response: Any) -> None:
    with pytest.raises(ValueError, match="response: neither 'approve' nor 'deny'"):
        approval_of(Answer(ASKED, response))


def test_a_question_of_another_kind_takes_any_decision() -> None:
    class Asks:
        async def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
            if ctx.answer is None:
                yield Interrupt("which?", options=["a", "b"])
            else:
                yield str(ctx.answer.decision)

    async def main() -> None:
        async with hosting(Asks()) as host:
            await within((await started(host, thread())).result())
            run = await resumed(host, Reply(decision={"chosen": "c"}))
            assert (await within(run.result())).message == "{'chosen': 'c'}"

    asyncio.run(main())
