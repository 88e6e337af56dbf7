"""What the client makes of what a host answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthost.client.failures import CallFailed
from agenthost.client.replies import (
    Event,
    Failure,
    Interrupt,
    RunState,
    ThreadSummary,
    is_about_a_run,
    made,
    read_cards,
    read_reply,
    read_run,
    refusal,
    retry_after,
    understood,
)
from agenthost.client.steps import Answer

RUN = {"run_id": "r1", "agent": "a", "status": "running", "created": 1.5}


def _answer(status: int, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, headers, raw, "http://host/x")


def test_an_event_is_a_mapping_that_knows_its_place():
    event = Event({"type": "model_chunk", "content": "hi"}, 3, "r1")
    assert (event.type, event.id, event.run_id) == ("model_chunk", 3, "r1")
    assert event == {"type": "model_chunk", "content": "hi"}
    assert (event["content"], event.get("reasoning"), len(event), [*event]) == ("hi", None, 2, ["type", "content"])
    assert repr(event) == "Event({'type': 'model_chunk', 'content': 'hi'}, id=3, run_id='r1')"
    with pytest.raises(KeyError):
        event["nothing"]


def test_a_run_says_how_it_is_and_what_it_asks():
    asked = {"interrupt_id": "q", "question": "Really?", "options": ["yes", "no"], "expires_at": 9.0, "new": 1}
    run = read_run(
        {
            **RUN,
            "status": "paused",
            "interrupts": [{**asked, "status": "open"}, {**asked, "interrupt_id": "p", "status": "answered"}],
            "something_newer": True,
        }
    )
    assert run.has_ended
    assert run.open_interrupts == (Interrupt("q", "Really?", ["yes", "no"], expires_at=9.0),)
    assert not read_run(RUN).has_ended
    failed = read_run({**RUN, "status": "failed", "error": {"code": "host_lost", "detail": "gone"}})
    assert failed.error == Failure("host_lost", "gone")


def test_a_reply_has_its_questions_whether_one_or_several():
    ended = {"run_id": "r1", "status": "paused", "message": "", "success": False, "stop_reason": "interrupt"}
    one, two = {"interrupt_id": "q", "question": "?"}, {"interrupt_id": "p", "question": "!"}
    assert read_reply(ended).interrupts == ()
    assert read_reply({**ended, "interrupt": {"type": "interrupt", **one}}).interrupts == (Interrupt("q", "?"),)
    both = read_reply({**ended, "interrupt": one, "interrupts": [one, two]})
    assert [asked.interrupt_id for asked in both.interrupts] == ["q", "p"]


def test_cards_without_schemas_have_none():
    card = {"name": "a", "title": "A", "description": "", "state": "ready", "protocols": ["native"], "url": "u"}
    assert read_cards({"agents": [card]})[0].input_schema is None


@pytest.mark.parametrize(
    "body", [b"<html>", b"[1]", b"{}", {"agent": "a"}, {**RUN, "interrupts": [{}]}, {**RUN, "interrupts": 5}]
)
def test_what_no_host_of_agents_would_say_is_a_failure(body: Any):
    with pytest.raises(CallFailed, match=r"^http://host/x does not answer like a host of agents$") as failed:
        understood(_answer(200, body), read_run)
    assert failed.value.status == 200


def test_a_good_reply_may_have_another_status_but_is_no_problem_body():
    assert understood(_answer(202, RUN), read_run) == RunState("r1", "a", "running", 1.5)
    assert understood(_answer(503, {"status": "loading"}), dict, also=503) == {"status": "loading"}
    with pytest.raises(CallFailed, match=r"^stopping$"):
        understood(_answer(503, {"detail": "stopping", "code": "agent_not_ready"}), dict, also=503)


def test_a_refusal_is_the_hosts_own_words_and_marks():
    body = {"detail": "no", "code": "forbidden", "correlation_id": "c", "run_id": 5}
    failed = refusal(_answer(403, body), "r1")
    assert (failed.detail, failed.status, failed.code, failed.correlation_id) == ("no", 403, "forbidden", "c")
    assert failed.run_id == "r1"
    assert refusal(_answer(502, b"<html>")).detail == "http://host/x answered 502 without saying why"


def test_a_refusal_with_a_run_is_about_that_run():
    assert is_about_a_run(_answer(500, {"run_id": "r1"}))
    assert not is_about_a_run(_answer(503, {"code": "agent_not_ready"}))


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("", 0.0), ("Tue, 24 Nov 2026 06:48:17 GMT", 0.0)])
def test_a_host_may_say_when_to_ask_again(said: str, seconds: float):
    assert retry_after(_answer(503, {}, **{"retry-after": said})) == seconds


def test_what_is_not_known_here_is_left_out():
    assert made(ThreadSummary, {"thread_id": "t", "created": 1, "updated": 2, "newer": 3}) == ThreadSummary("t", 1, 2)
