"""When to try again, and when to give up."""

from __future__ import annotations

import json

import pytest

from agenthost.client.failures import CallFailed, HostUnreachable
from agenthost.client.patience import Patience
from agenthost.client.steps import Answer, ConnectionBroke

BROKE = ConnectionBroke("ReadError")
REFUSED = ConnectionBroke("ConnectError", unreachable=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _patience(clock: Clock, seconds: float = 60.0, chance: float = 1.0) -> Patience:
    return Patience("http://host", seconds, clock=clock, chance=lambda: chance)


def _answer(status: int, *, retry: str | None = None, **body: str) -> Answer:
    headers = {"retry-after": retry} if retry is not None else {}
    return Answer(status, headers, json.dumps(body).encode(), "http://host/x")


def test_waits_double_up_to_five_seconds_each_a_random_half_shorter():
    for chance, part in ((1.0, 1.0), (0.0, 0.5)):
        patience = _patience(Clock(), chance=chance)
        waits = [patience.again(BROKE).seconds for _ in range(7)]
        assert waits == pytest.approx([part * wait for wait in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)])


def test_after_a_minute_without_progress_it_gives_up_and_names_the_run():
    clock = Clock()
    patience = _patience(clock)
    patience.again(BROKE, "r1")
    clock.now += 58.0
    assert [patience.again(REFUSED, "r1").seconds for _ in range(9)][-1] == 2.0
    clock.now += 2.0
    with pytest.raises(CallFailed) as failed:
        patience.again(REFUSED, "r1")
    assert failed.value.detail == (
        "the connection to http://host broke: ConnectError, and 60 seconds of trying have not mended it"
    )
    assert (failed.value.code, failed.value.run_id) == ("connection_lost", "r1")
    assert not isinstance(failed.value, HostUnreachable)


def test_progress_makes_all_patience_new():
    clock = Clock()
    patience = _patience(clock)
    for _ in range(10):
        patience.again(BROKE)
        clock.now += 50
        patience.progress()
    assert patience.again(BROKE).seconds == pytest.approx(0.2)


def test_nothing_is_tried_again_where_nobody_has_ever_answered():
    with pytest.raises(HostUnreachable, match=r"^nothing answers at http://host$"):
        _patience(Clock()).again(REFUSED)


def test_without_seconds_to_try_in_it_fails_at_once():
    with pytest.raises(CallFailed, match=r"^the connection to http://host broke: ReadError$") as failed:
        _patience(Clock(), 0).again(BROKE)
    assert failed.value.code == "connection_lost"


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 422, 429, 500])
def test_a_refusal_is_final_also_after_a_loss(status: int):
    patience = _patience(Clock())
    patience.again(BROKE)
    with pytest.raises(CallFailed, match=r"^no$") as failed:
        patience.again(_answer(status, detail="no", code="why"), "r1")
    assert (failed.value.status, failed.value.code, failed.value.run_id) == (status, "why", "r1")


def test_a_host_that_is_only_starting_is_waited_for_after_a_loss_and_not_before():
    starting = _answer(503, retry="3", detail="agent 'a' is loading", code="agent_not_ready")
    patience = _patience(Clock())
    with pytest.raises(CallFailed, match="is loading"):
        patience.again(starting)
    patience.again(BROKE)
    assert patience.again(starting).seconds == 3.0
    assert patience.again(_answer(502)).seconds == pytest.approx(0.8)


def test_a_host_that_never_gets_ready_is_given_up_in_its_own_words():
    clock = Clock()
    patience = _patience(clock)
    patience.again(BROKE)
    clock.now += 61
    with pytest.raises(CallFailed, match=r"^agent 'a' is loading$") as failed:
        patience.again(_answer(503, retry="1", detail="agent 'a' is loading", code="agent_not_ready"), "r1")
    assert (failed.value.code, failed.value.run_id) == ("agent_not_ready", "r1")


@pytest.mark.parametrize("status", [503, 504])
def test_what_a_run_ended_with_is_no_reason_to_ask_again(status: int):
    patience = _patience(Clock())
    patience.again(BROKE)
    with pytest.raises(CallFailed, match=r"^it ended$"):
        patience.again(_answer(status, detail="it ended", run_id="r1"))


def test_a_try_that_holds_longer_than_any_wait_has_lasted():
    clock = Clock()
    patience = _patience(clock)
    patience.trying()
    clock.now += 5.0
    assert not patience.lasted()
    clock.now += 0.1
    assert patience.lasted()
