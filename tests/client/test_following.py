"""One run followed to its end, whatever happens to its connections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.client.asking import get_events, post_run
from agenthost.client.failures import CallFailed, HostUnreachable
from agenthost.client.following import Following
from agenthost.client.replies import Event
from agenthost.client.steps import ConnectionBroke, Left, Open, Read, Send, Step
from tests.client.played import Outcome, Played, chunks, head, leaving, log

BEGIN = post_run("a", "stream", {"prompt": "x"}, streams=True, key="k")
CUT = ConnectionBroke("ReadError")
REFUSED = ConnectionBroke("ConnectError", unreachable=True)


def _stream(played: Played, seconds: float = 60.0) -> Following:
    return Following("a", played.patience(seconds), begin=BEGIN)


def _told(played: Played, following: Following | None = None, leave_after: int | None = None) -> list[Event]:
    items: list[Event] = []
    played.run((following or _stream(played)).events(), items, leave_after=leave_after)
    return items


def test_what_is_read_is_the_log():
    whole = chunks(3)
    played = Played([head(), b"".join(log(*whole))])
    events = _told(played)
    assert events == whole
    assert [(event.id, event.run_id) for event in events] == [(1, "r1"), (2, "r1"), (3, "r1"), (4, "r1")]
    assert played.asked == [BEGIN]


def test_a_dropped_connection_goes_on_after_the_last_whole_event():
    whole = chunks(3)
    frames = log(*whole)
    played = Played([head(), frames[0] + frames[1][:-1], CUT, head(), b"".join(frames[1:])])
    assert _told(played) == whole
    assert played.asked == [BEGIN, get_events("a", "r1", 1)]
    assert played.waits == [0.2]


def test_a_connection_that_only_ends_is_a_dropped_one():
    whole = chunks(2)
    frames = log(*whole)
    played = Played([head(), frames[0], b"", head(), b"".join(frames[1:])])
    assert _told(played) == whole


def test_before_the_run_is_known_the_same_request_is_made_again():
    played = Played([CUT, REFUSED, head(), b"".join(log(*chunks(1)))])
    assert _told(played) == chunks(1)
    assert played.asked == [BEGIN, BEGIN, BEGIN]


def test_what_was_seen_before_is_not_yielded_again():
    whole = chunks(3)
    frames = log(*whole)
    played = Played([head(), b"".join(frames[:2]), CUT, head(), b"".join(frames)])
    assert _told(played) == whole


def test_a_gap_is_an_error_that_says_so():
    frames = log(*chunks(5))
    events: list[Event] = []
    played = Played([head(), frames[0], CUT, head(), frames[3]])
    with pytest.raises(CallFailed) as failed:
        played.run(_stream(played).events(), events)
    assert failed.value.detail == "http://host goes on with event 4 after event 1: some are missing"
    assert (failed.value.code, failed.value.run_id) == ("events_missing", "r1")
    assert len(events) == 1


def test_a_run_that_fails_raises_after_what_came_before():
    error = {"type": "error", "error": "it failed", "code": "host_lost", "correlation_id": "c", "run_id": "r1"}
    events: list[Event] = []
    played = Played([head(), b"".join(log({"type": "think", "content": "hm"}, error))])
    with pytest.raises(CallFailed, match=r"^it failed$") as failed:
        played.run(_stream(played).events(), events)
    assert [event.type for event in events] == ["think"]
    assert (failed.value.code, failed.value.status, failed.value.run_id) == ("host_lost", 200, "r1")


def test_several_questions_are_all_read_also_over_a_drop():
    asked = [{"type": "interrupt", "question": str(number), "interrupt_id": str(number)} for number in range(2)]
    frames = log(*asked)
    played = Played([head(), frames[0], CUT, head(), b"".join(frames[1:])])
    assert _told(played) == asked


def test_a_drop_after_the_last_event_needs_no_other_connection():
    frames = log(*chunks(1))
    for end in (CUT, b""):
        assert _told(Played([head(), b"".join(frames[:-1]), end])) == chunks(1)


def test_a_stream_that_is_ended_before_its_run_is_a_failure():
    played = Played([head(), log(*chunks(2))[0] + b"data: [DONE]\n\n"])
    with pytest.raises(CallFailed, match=r"^the stream was ended before the run was$") as failed:
        _told(played)
    assert failed.value.code == "connection_lost"


@pytest.mark.parametrize(
    "sent", [b"data: {}\n\n", b'data: {"type":"done"}\n\n', b"id: 1\ndata: x\n\n", b"data: \xff\n\n"]
)
def test_what_is_no_stream_of_numbered_events_is_a_failure(sent: bytes):
    with pytest.raises(CallFailed, match=r"^http://host does not answer like a host of agents$"):
        _told(Played([head(), sent]))


def test_a_refusal_is_the_end_and_so_is_one_while_joining_again():
    gone = head(410, {"detail": "expired", "code": "events_expired"})
    with pytest.raises(CallFailed, match=r"^expired$"):
        _told(Played([gone]))
    with pytest.raises(CallFailed, match=r"^expired$") as failed:
        _told(Played([head(), CUT, gone]))
    assert (failed.value.code, failed.value.run_id) == ("events_expired", "r1")


def test_a_host_that_is_starting_again_is_waited_for():
    frames = log(*chunks(1))
    starting = head(503, {"detail": "loading", "code": "agent_not_ready"}, **{"retry-after": "2"})
    played = Played([head(), frames[0], CUT, REFUSED, starting, head(), b"".join(frames[1:])])
    assert _told(played) == chunks(1)
    assert played.waits == [0.2, 0.4, 2.0]


def test_one_that_does_not_come_back_is_given_up_after_the_time_for_it():
    def answers(step: Step) -> Outcome:
        return head() if len(played.steps) == 1 else CUT if isinstance(step, Read) else REFUSED

    played = Played(answers=answers)
    with pytest.raises(CallFailed, match="60 seconds of trying have not mended it") as failed:
        _told(played)
    assert (failed.value.code, failed.value.run_id) == ("connection_lost", "r1")
    assert sum(played.waits) == pytest.approx(60.0)


def test_a_proxy_that_lets_no_event_through_is_given_up_too():
    def answers(step: Step) -> Outcome:
        return head() if isinstance(step, Open) else (b"id: 1\nda" if len(played.steps) % 3 == 2 else CUT)

    played = Played(answers=answers)
    with pytest.raises(CallFailed, match="60 seconds of trying have not mended it"):
        _told(played)


def test_a_heartbeat_is_progress():
    def answers(step: Step) -> Outcome:
        if isinstance(step, Open):
            return head()
        played.clock.now += 30
        if played.clock.now > 2000:
            return b"".join(log(*chunks(1)))
        return b": alive\n\n" if isinstance(played.steps[-2], Open) else CUT

    played = Played(answers=answers)
    assert _told(played) == chunks(1)
    assert set(played.waits) == {0.2}


def test_where_nobody_answers_at_first_it_fails_at_once():
    with pytest.raises(HostUnreachable):
        _told(Played([REFUSED]))


@given(
    cuts=st.lists(st.integers(0, 700), max_size=12),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    whole=st.booleans(),
)
def test_cut_anywhere_and_in_any_pieces_it_is_exactly_the_whole(cuts: list[int], sizes: list[int], whole: bool):
    told = chunks(12)
    frames = log(*told)
    waiting: list[bytes | ConnectionBroke] = []

    def answers(step: Step) -> Outcome:
        if isinstance(step, Open):
            after = int(step.ask.headers.get("last-event-id", 0))
            sent = b"".join(frames[0 if whole else after :])
            kept = sent[: cuts.pop()] if cuts else sent
            size = sizes[len(cuts) % len(sizes)]
            waiting[:] = [kept[at : at + size] for at in range(0, len(kept), size)]
            waiting.append(CUT)
            return head()
        assert isinstance(step, Read)
        return waiting.pop(0)

    assert _told(Played(answers=answers)) == told


def test_who_leaves_early_cancels_the_run():
    played = Played([head(), b"".join(log(*chunks(3))), head(202)])
    with pytest.raises(Left):
        _told(played, leave_after=1)
    assert isinstance(played.steps[-1], Send)
    assert (played.asked[-1].method, played.asked[-1].path) == ("POST", "/agents/a/runs/r1/cancel")
    assert played.asked[-1].silence == 5.0


def test_who_leaves_before_the_run_is_known_asks_which_it_is():
    played = Played([head(), head(202)])
    logic = _stream(played).events()
    assert next(logic) == Open(BEGIN)
    with pytest.raises(Left):
        played.run(leaving(logic))
    assert [ask.path for ask in played.asked] == ["/agents/a/stream", "/agents/a/runs/r1/cancel"]
    assert played.asked[0].headers["idempotency-key"] == "k"


@pytest.mark.parametrize("last", ["done", "interrupt"])
def test_who_leaves_after_the_last_event_cancels_nothing(last: str):
    played = Played([head(), log({"type": last, "question": "?"})[0]])
    with pytest.raises(Left):
        _told(played, leave_after=1)
    assert played.asked == [BEGIN]


def test_who_only_reads_a_run_leaves_it_alone():
    played = Played([head(), b"".join(log(*chunks(5))[2:])])
    following = Following("a", played.patience(), run_id="r1", after=2)
    with pytest.raises(Left):
        _told(played, following, leave_after=1)
    assert played.asked == [get_events("a", "r1", 2)]


def test_last_words_that_nobody_hears_are_not_repeated():
    played = Played([head(), b"".join(log(*chunks(3))), CUT])
    with pytest.raises(Left):
        _told(played, leave_after=1)
    assert len(played.asked) == 2
