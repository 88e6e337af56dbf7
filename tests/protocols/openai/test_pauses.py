"""Questions as calls, and their answers as replies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthost.approvals import ask_approval
from agenthost.errors import InvalidRequest
from agenthost.protocols.openai.pauses import (
    APPROVAL,
    Given,
    arguments,
    call_id,
    is_tool_approval,
    question_of,
    reply_to,
)
from agenthost.store import StoredInterrupt

RUN = "0" * 32
ASKED = {"interrupt_id": "q_1\n2", "question": "really?", "options": ["yes", "no"], "type": "interrupt"}


def stored(**payload: Any) -> StoredInterrupt:
    return StoredInterrupt(
        run_id=RUN, interrupt_id="q", status="open", payload={"question": "?", **payload}, state=None, created=0.0,
        expires_at=1.0, claimed_by=None, answer=None,
    )  # fmt: skip


def test_an_id_names_the_run_and_the_question_whatever_the_agent_called_it() -> None:
    for prefix in ("call", APPROVAL):
        assert question_of(call_id(RUN, ASKED, prefix)) == (RUN, "q_1\n2")
    for other in ("call_1", "call_" + "g" * 32 + "_q", f"x_{RUN}_q", f"call_{RUN}_", ""):
        assert question_of(other) is None


def test_a_calls_arguments_are_the_question_and_nothing_that_is_not_there() -> None:
    assert json.loads(arguments(ASKED)) == {"question": "really?", "options": ["yes", "no"]}


@pytest.mark.parametrize(
    ("payload", "text", "response"),
    [
        ({}, "42", "42"),
        ({"options": ["yes", "no"]}, "yes", "yes"),
        ({"options": ["1", 2]}, "1", "1"),
        ({"options": ["1", 2]}, "2", 2),
        ({"options": [{"id": "a"}]}, "a", "a"),
        ({"options": [True]}, "true", True),
        ({"fields": {"type": "object"}}, '{"a": 1}', {"a": 1}),
    ],
)
def test_an_answer_is_the_option_or_the_json_that_its_text_says(payload: Any, text: str, response: Any) -> None:
    reply = reply_to(Given(RUN, "q", text), [stored(**payload)])
    assert (reply.interrupt_id, reply.response, reply.decision) == ("q", response, None)


def test_what_fills_in_fields_is_json() -> None:
    with pytest.raises(InvalidRequest, match="output: the question has fields to fill in; answer with a JSON object"):
        reply_to(Given(RUN, "q", "three"), [stored(fields={"type": "object"})])


def test_whether_a_tool_may_run_is_answered_by_a_word_a_decision_or_an_approval() -> None:
    asked = ask_approval("rm", "q", {}).payload()
    assert is_tool_approval(asked)
    assert not is_tool_approval(ASKED)
    questions = [stored(**asked)]
    assert reply_to(Given(RUN, "q", "deny"), questions).response == "deny"
    decision = {"verdict": "approved", "arguments": {"a": 1}}
    assert reply_to(Given(RUN, "q", json.dumps(decision)), questions).decision == decision
    approved = Given(RUN, "q", approved=True)
    assert reply_to(approved, questions).decision == {"verdict": "approved"}
    denied = Given(RUN, "q", approved=False, reason="no")
    assert reply_to(denied, questions).decision == {"verdict": "denied", "message": "no"}
