"""The requests that the client makes."""

from __future__ import annotations

import json

import pytest

from agenthost.client.asking import (
    agent_path,
    cancel_run,
    get_events,
    get_page,
    get_run,
    post_run,
    resume_body,
    run_body,
)


def test_no_name_leads_to_another_path():
    assert agent_path("../health", "threads", "a/b c?d#é") == "/agents/..%2Fhealth/threads/a%2Fb%20c%3Fd%23%C3%A9"


def test_a_body_has_what_was_given_and_nothing_else():
    assert run_body("hi", None, None, None) == {"prompt": "hi"}
    assert run_body(None, "t", {"n": 0}, {"from": "x"}) == {
        "thread_id": "t",
        "input": {"n": 0},
        "metadata": {"from": "x"},
    }
    assert resume_body("t", None, False, None, None, None) == {"thread_id": "t", "response": False}
    assert resume_body("t", "q", None, {"ok": True}, None, {"by": "x"}) == {
        "thread_id": "t",
        "interrupt_id": "q",
        "decision": {"ok": True},
        "metadata": {"by": "x"},
    }
    answers = [{"interrupt_id": "q", "response": 1}]
    assert resume_body("t", None, None, None, answers, None) == {"thread_id": "t", "answers": answers}


def test_every_request_for_a_run_has_a_key_of_its_own():
    first, second = (post_run("say", "invoke", {"prompt": "ü"}) for _ in range(2))
    assert len(first.headers["idempotency-key"]) == 32
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert (first.method, first.path) == ("POST", "/agents/say/invoke")
    assert first.headers["content-type"] == "application/json"
    assert first.body is not None
    assert json.loads(first.body) == {"prompt": "ü"}
    assert post_run("say", "runs", {}, key="k").headers["idempotency-key"] == "k"
    assert post_run("say", "stream", {}, streams=True).headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("unsendable", [float("nan"), "\udcff"])
def test_what_cannot_be_sent_is_refused_at_once(unsendable: object):
    with pytest.raises(ValueError):
        post_run("say", "invoke", {"input": unsendable})


def test_what_is_read_again_begins_after_the_last_event():
    ask = get_events("say", "r1", 7)
    assert (ask.method, ask.path, ask.headers["last-event-id"]) == ("GET", "/agents/say/runs/r1/events", "7")


def test_runs_and_pages_have_their_addresses():
    assert get_run("say", "r/1").path == "/agents/say/runs/r%2F1"
    assert (cancel_run("say", "r1").method, cancel_run("say", "r1").path) == ("POST", "/agents/say/runs/r1/cancel")
    assert get_page("say", "runs", None).path == "/agents/say/runs"
    wanted = get_page("say", "runs", "c&d", thread_id="a b", status=None).path
    assert wanted == "/agents/say/runs?thread_id=a+b&cursor=c%26d"
