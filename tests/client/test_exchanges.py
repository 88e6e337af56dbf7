"""Calls that end with one answer, or with pages of them."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.client.asking import Ask, get_run, post_run
from agenthost.client.exchanges import awaited, invoked, once, paged, started
from agenthost.client.failures import CallFailed, HostUnreachable
from agenthost.client.replies import Event, read_reply, read_run
from agenthost.client.steps import Answer, ConnectionBroke, Left, Send, Step
from tests.client.played import Outcome, Played, chunks, head, leaving, log

BODY = {"prompt": "x"}
ASK = post_run("a", "invoke", BODY, key="k")
LEARN = post_run("a", "runs", BODY, key="k")
CUT = ConnectionBroke("ReadError")
REFUSED = ConnectionBroke("ConnectError", unreachable=True)
REPLY = head(200, {"run_id": "r1", "status": "completed", "message": "hi", "success": True, "stop_reason": "complete"})


def _run(status: str, code: int = 200) -> Answer:
    return head(code, {"run_id": "r1", "agent": "a", "status": status, "created": 1.0})


def _invoke(played: Played) -> Any:
    return played.run(started("a", ASK, LEARN, read_reply, played.patience()))


def test_a_request_whose_answer_was_lost_is_made_again_with_its_key():
    played = Played([CUT, REFUSED, REPLY])
    assert _invoke(played).message == "hi"
    assert played.asked == [ASK, ASK, ASK]
    assert played.waits == [0.2, 0.4]


def test_a_run_that_takes_longer_than_connections_hold_is_waited_for():
    def answers(step: Step) -> Outcome:
        played.clock.now += 60
        return CUT if len(played.asked) < 20 else REPLY

    played = Played(answers=answers)
    assert _invoke(played).message == "hi"
    assert set(played.waits) == {0.2}


def test_a_paused_run_comes_with_all_that_it_asks():
    first, second = ({"interrupt_id": name, "question": "?", "status": "open"} for name in "qp")
    ended = {"run_id": "r1", "status": "paused", "message": "", "success": False, "stop_reason": "interrupt"}
    paused = head(200, {**ended, "interrupt": first})
    run = {"run_id": "r1", "agent": "a", "status": "paused", "created": 1.0}
    whole = head(200, {**run, "interrupts": [first, second]})
    for answer, asked in ((whole, ["q", "p"]), (head(200, run), ["q"]), (head(404, {"detail": "gone"}), ["q"])):
        played = Played([paused, answer])
        reply = played.run(invoked("a", ASK, LEARN, played.patience()))
        assert [one.interrupt_id for one in reply.interrupts] == asked
        assert played.asked[1] == get_run("a", "r1")


def test_how_a_run_failed_is_final_also_after_a_loss():
    failed = head(503, {"detail": "stopped", "code": "host_stopping", "run_id": "r1"})
    with pytest.raises(CallFailed, match=r"^stopped$"):
        _invoke(Played([CUT, failed]))


def test_what_may_not_be_asked_twice_is_not():
    played = Played([CUT])
    with pytest.raises(CallFailed, match=r"^the connection to http://host broke: ReadError$"):
        played.run(once(Ask("DELETE", "/x"), dict, played.patience(0)))
    played = Played([REFUSED])
    with pytest.raises(HostUnreachable):
        played.run(once(Ask("GET", "/x"), dict, played.patience(0)))


def _left(played: Played) -> None:
    """Ask, leave while the answer is awaited, and play what is said then."""
    logic = started("a", ASK, LEARN, read_reply, played.patience())
    assert next(logic) == Send(ASK)
    with pytest.raises(Left):
        played.run(leaving(logic))


def test_who_leaves_before_the_answer_learns_which_run_it_is_and_cancels_it():
    played = Played([_run("running", 202), head(202)])
    _left(played)
    assert [(ask.method, ask.path) for ask in played.asked] == [
        ("POST", "/agents/a/runs"),
        ("POST", "/agents/a/runs/r1/cancel"),
    ]
    assert played.asked[0].headers["idempotency-key"] == "k"


@pytest.mark.parametrize("answer", [REFUSED, CUT, head(503, {"detail": "stopping"})])
def test_who_leaves_a_host_that_is_gone_leaves(answer: Outcome):
    played = Played([answer])
    _left(played)
    assert [ask.path for ask in played.asked] == ["/agents/a/runs"]


def _awaited(played: Played) -> Any:
    return played.run(awaited("a", "r1", played.patience()))


def test_a_run_that_has_ended_is_not_waited_for():
    played = Played([_run("failed")])
    assert _awaited(played).status == "failed"
    assert played.asked == [get_run("a", "r1")]


@pytest.mark.parametrize("last", [{"type": "done", "message": ""}, {"type": "error", "error": "x"}])
def test_a_run_is_waited_for_however_it_ends(last: dict[str, Any]):
    played = Played([_run("running"), head(), b"".join(log(last)), _run("completed")])
    assert _awaited(played).status == "completed"


def test_waiting_goes_on_over_drops_and_ends_with_what_the_host_will_not_say():
    played = Played([_run("running"), head(), CUT, REFUSED, head(), b"".join(log(*chunks(1))), CUT, _run("completed")])
    assert _awaited(played).status == "completed"
    refused = head(410, {"detail": "expired", "code": "events_expired"})
    with pytest.raises(CallFailed, match=r"^expired$"):
        _awaited(Played([_run("running"), refused]))


def test_pages_are_fetched_as_they_are_wanted():
    pages = [
        head(200, {"runs": [{"run_id": "r2", "agent": "a", "status": "paused", "created": 2}], "next_cursor": "c"}),
        head(200, {"runs": [{"run_id": "r1", "agent": "a", "status": "paused", "created": 1}]}),
    ]
    played, found = Played(pages), list[Event]()
    with pytest.raises(Left):
        played.run(paged("a", "runs", read_run, played.patience(0), status="paused"), found, leave_after=1)
    assert [ask.path for ask in played.asked] == ["/agents/a/runs?status=paused"]
    played, found = Played(pages), []
    played.run(paged("a", "runs", read_run, played.patience(0), status="paused"), found)
    assert [run.run_id for run in found] == ["r2", "r1"]
    assert played.asked[1].path == "/agents/a/runs?status=paused&cursor=c"


def test_a_page_without_what_was_asked_for_is_no_page():
    played = Played([head(200, {"threads": []})])
    with pytest.raises(CallFailed, match="does not answer like a host of agents"):
        played.run(paged("a", "runs", read_run, played.patience(0)))
