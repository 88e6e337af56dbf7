"""What a run's beginning looks like in the store, and that the same request can be read back from there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from agenthost.agents import Answer, RunRequest
from agenthost.auth import Principal
from agenthost.entries import AgentEntry
from agenthost.events import Interrupt
from agenthost.run import Run
from agenthost.starting import answer_to, asked_again, brought, history_of, new_run, question, user_message
from agenthost.store import Store
from agenthost.threads import Message, Part
from tests.agents_for_tests import served

CALLER = Principal("ann", groups=("staff",), agents=("agent", "risk-*"))

CONTENT = [
    Part(text="see "),
    Part(media_type="a/b", data=b"\x00\xff"),
    Part(media_type="a/b", uri="x:y"),
    Part(json={}),
]


def made(request: RunRequest, *, resumable: bool = False) -> Run:
    async def unread(*_arguments: Any) -> list[Any]:
        raise AssertionError

    agent = AgentEntry(served(None))
    agent.info = type(agent.info)(resumable=resumable)
    return Run(agent, CALLER, request, None, unread, lambda _run: None)


BROUGHT = (Message.of("system", "be brief"), Message.of("user", "a"), Message.of("assistant", "b"))

REQUESTS = [
    RunRequest("hello", detached=True),
    RunRequest("", thread_id="t", detached=True, input=[1, {"a": None}], metadata={"m": [1]}),
    RunRequest("see ", thread_id="t", detached=True, content=CONTENT),
    RunRequest("hello", idempotency_key="k", request_digest="d", detached=True),
    RunRequest("go on", thread_id="t", detached=True, history=BROUGHT),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: repr(request)[:60])
def test_a_request_is_read_back_from_the_store_as_it_was(request_: RunRequest) -> None:
    async def main() -> None:
        store = Store.open("memory:")
        run = made(request_)
        await store.start_run(new_run(run, status="queued"))
        stored = await store.get_run(run.id)
        assert stored is not None
        assert asked_again(stored, ()) == request_
        assert (stored.created, stored.status, stored.epoch) == (run.created, "queued", 1)
        store.close()

    asyncio.run(main())


def test_a_resume_claims_what_it_answers_and_its_answers_are_read_back() -> None:
    asked = Interrupt("q?", options=["a"], fields={}, metadata={"m": 1}, interrupt_id="q", state={"s": 1})
    answer = Answer(asked, {"x": 1}, {"ok": True}, perform_dangling=False)
    run = made(RunRequest("hello", thread_id="t", resumes="r1", answers=[answer]))
    beginning = new_run(run)
    (claim,) = beginning.claims
    assert (claim.run_id, claim.interrupt_id) == ("r1", "q")
    assert claim.answer == {"response": {"x": 1}, "decision": {"ok": True}, "perform_dangling": False}
    assert beginning.resumes == "r1"
    assert beginning.user_message is None, "it brings an answer, not a message"
    assert answer_to(stored(asked), claim.answer) == answer
    assert question(stored(asked)) == asked


def stored(asked: Interrupt) -> Any:
    """As the store gives it back: what was sent, and the agent's own state apart."""

    class Stored:
        payload: Mapping[str, Any] = asked.payload()
        interrupt_id = asked.interrupt_id
        state = asked.state

    return Stored()


def test_the_user_message_is_what_was_said_with_the_run() -> None:
    said = user_message(made(RunRequest("hello", thread_id="t")))
    assert said is not None
    assert (said.role, said.text) == ("user", "hello")
    run = made(RunRequest("see ", thread_id="t", content=CONTENT))
    said = user_message(run)
    assert said is not None
    assert (said.role, list(said.content)) == ("user", CONTENT)
    assert new_run(run).user_message == said
    assert new_run(run, status="queued").user_message is None, "it is written when the run begins"
    assert new_run(made(RunRequest("hello", detached=True))).user_message is None, "there is no thread to write it to"


def test_what_a_dialect_brings_goes_to_the_thread_before_the_message_but_for_system_messages() -> None:
    system, *others = BROUGHT
    request = RunRequest("c", thread_id="t", history=BROUGHT)
    assert brought(request) == others
    assert new_run(made(request)).brought == others
    assert new_run(made(request), status="queued").brought == ()
    before = [Message.of("user", "earlier")]
    assert list(history_of(request, before)) == [system, *before, *others]
    assert history_of(RunRequest("c"), before) is before
    assert brought(replace(request, resumes="r1")) == [], "a resume brings an answer, not a message"


@pytest.mark.parametrize(
    ("request_", "resumable", "kept"),
    [
        (RunRequest("x", thread_id="t"), False, False),
        (RunRequest("x", thread_id="t"), True, True),
        (RunRequest("x", detached=True), False, True),
        (RunRequest("x", idempotency_key="k"), False, False),
    ],
)
def test_who_asked_is_kept_where_a_run_may_have_to_begin_without_them(
    request_: RunRequest, resumable: bool, kept: bool
) -> None:
    beginning = new_run(made(request_, resumable=resumable))
    assert beginning.resumable is resumable
    caller = beginning.input.get("caller")
    assert caller == ({"agents": ["agent", "risk-*"], "groups": ["staff"]} if kept else None)
