"""A log comes out as it was put in, however it was cut up; a question is answered once; what fails, fails alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthost.errors import AlreadyAnswered, StoreError
from agenthost.events import Entry
from agenthost.runs import BEGUN_AGAIN
from agenthost.store import Claim, KeyTaken, NewInterrupt, NewRun, RunEnd, Store, ThreadBefore
from agenthost.store.jobs import HOSTS_OWN
from agenthost.threads import ThreadKey

KEY = ThreadKey("acme", "echo", "t")
RUNS = 3
LENGTH = 24

LATE = 9e12
ERROR = Entry(1, "error", b'{"type":"error"}')
ANSWER = {"response": "yes", "perform_dangling": True}

# which run, how many entries of it, how many it repeats from before, whether to wait for the answer before going on
steps = st.lists(st.tuples(st.integers(0, RUNS - 1), st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=30)


def log(run: int) -> list[Entry]:
    return [Entry(seq, f"type{seq % 3}", bytes([run]) * seq) for seq in range(1, LENGTH + 1)]


@settings(max_examples=60, deadline=None)
@given(steps, st.sampled_from([0, 1, 4]))
def test_a_log_is_the_same_in_whatever_pieces_it_was_appended(pieces, gap):
    async def main(store: Store):
        waiting = [
            store.start_run(NewRun(run_id=str(run), agent="a", principal="p", created=1.0)) for run in range(RUNS)
        ]
        at = [0] * RUNS
        for run, more, repeated, wait in pieces:
            first, last = max(at[run] - repeated, 0), min(at[run] + more, LENGTH - 1)
            waiting.append(store.append(str(run), 1, log(run)[first:last]))
            at[run] = max(at[run], last)
            if gap and last + gap < LENGTH:
                refused = store.append(str(run), 1, log(run)[last + gap :])
                assert isinstance((await asyncio.gather(refused, return_exceptions=True))[0], StoreError)
            if wait:
                await waiting[-1]
        for run in range(RUNS):
            rest = log(run)[at[run] :]
            ending = {"status": "completed", "stop_reason": "complete", "ended": 2.0, "result": {}}
            waiting.append(store.end_run(RunEnd(run_id=str(run), entries=rest, **ending)))
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        for run in range(RUNS):
            assert await store.read_events(str(run), 0, 99) == log(run)

    store = Store.open("memory:")
    try:
        asyncio.run(main(store))
    finally:
        store.close()


def texts(messages):
    return [(message.role, message.text) for message in messages]


def test_an_append_is_idempotent_and_leaves_no_gap(store, new_run, entries):
    async def main():
        await store.start_run(new_run("t"))
        await store.append("r1", 1, entries(1, 3))
        await store.append("r1", 1, entries(2, 5))
        await store.append("r1", 1, entries(1, 5))
        with pytest.raises(StoreError) as refused:
            await store.append("r1", 1, entries(7, 8))
        assert refused.value.message == "run r1: entry 7 cannot follow 5, which is the last stored"
        assert await store.read_events("r1", 0, 99) == entries(1, 5)
        assert await store.read_events("r1", 2, 2) == entries(3, 4)
        assert await store.read_events("r1", 5, 99) == []

    asyncio.run(main())


def test_appends_that_cannot_be_are_refused_by_name(store, new_run, end, entries):
    async def main():
        await store.start_run(new_run("t"))
        await store.end_run(end("r1", entries=entries(1, 1)))
        for run_id, epoch, text in (
            ("r1", 1, "run r1 has ended; its log is closed"),
            ("nobody's", 1, "run nobody's is not in the store"),
        ):
            with pytest.raises(StoreError) as refused:
                await store.append(run_id, epoch, entries(2, 2))
            assert refused.value.message == text
        await store.start_run(new_run("t"))
        with pytest.raises(StoreError) as refused:
            await store.append("r2", 2, entries(1, 1))
        assert refused.value.message == "run r2 goes on elsewhere: epoch 1, not 2"
        with pytest.raises(StoreError, match="run r1 has ended"):
            await store.end_run(end("r1"))

    asyncio.run(main())


def test_what_is_asked_at_once_happens_in_the_order_asked(store, new_run, end, entries, settle):
    async def main():
        results = await settle(
            store.start_run(new_run("t", say="one")),
            store.append("r1", 1, entries(1, 2)),
            store.append("r1", 1, entries(3, 3)),
            store.end_run(end("r1", "1", entries=entries(4, 4), state={"n": 1})),
            store.append("r1", 1, entries(5, 5)),
            store.start_run(new_run("t", say="two")),
            store.start_run(new_run("t", say="three")),
        )
        assert isinstance(results[4], StoreError), "the log was closed by then"
        assert texts(results[5].messages) == [("user", "one"), ("assistant", "1")]
        assert texts(results[6].messages) == [("user", "one"), ("assistant", "1"), ("user", "two")]
        assert results[5].state == results[6].state == {"n": 1}
        assert await store.read_events("r1", 0, 99) == entries(1, 4)

    asyncio.run(main())


def test_an_idempotency_key_belongs_to_one_run_of_an_agent_and_principal(store, new_run, settle):
    async def main():
        await store.start_run(new_run("t", say="kept", idempotency_key="k", request_digest="d1"))
        taken, other_principal, other_agent, keyless = await settle(
            store.start_run(new_run("t", say="not kept", idempotency_key="k", request_digest="d2")),
            store.start_run(new_run("t", principal="other", idempotency_key="k")),
            store.start_run(new_run("t", agent="search", idempotency_key="k")),
            store.start_run(new_run("u", say="kept too")),
        )
        assert isinstance(taken, KeyTaken)
        assert (taken.run_id, taken.request_digest) == ("r1", "d1")
        assert str(taken) == "the idempotency key belongs to run r1"
        assert isinstance(other_principal, ThreadBefore)
        assert isinstance(other_agent, ThreadBefore)
        assert isinstance(keyless, ThreadBefore)
        assert texts((await store.get_thread(KEY)).messages) == [("user", "kept")]
        assert await store.get_run("r2") is None

    asyncio.run(main())


def test_a_run_id_is_taken_once(store, new_run):
    async def main():
        await store.start_run(new_run("t", run_id="same"))
        with pytest.raises(StoreError) as refused:
            await store.start_run(new_run("u", run_id="same"))
        assert refused.value.message.startswith("the store cannot record this: ")
        assert refused.value.hint == "this is a mistake of agenthost's; report it"
        assert await store.get_thread(ThreadKey("acme", "echo", "u")) is None

    asyncio.run(main())


def test_values_no_database_takes_fail_their_own_run_only(store, new_run, settle):
    async def main():
        bad, good = await settle(
            store.start_run(new_run("lone \ud800 surrogate")), store.start_run(new_run("t", say="hello"))
        )
        assert isinstance(bad, StoreError)
        assert isinstance(good, ThreadBefore)

    asyncio.run(main())


def test_a_paused_run_keeps_its_interrupts_and_may_name_its_thread_at_the_end(open_store, path, new_run, end, rows):
    async def main():
        store = open_store()
        await store.start_run(new_run(idempotency_key="k"))
        await store.end_run(
            end(
                "r1",
                "which one?",
                status="paused",
                stop_reason="interrupt",
                thread=ThreadKey("acme", "echo", "r1"),
                state={"at": 1},
                interrupts=[
                    NewInterrupt("i1", {"question": "which?"}, {"secret": 1}, 9.0),
                    NewInterrupt("i2", {}, None, 9.5),
                ],
            )
        )
        thread = await store.get_thread(ThreadKey("acme", "echo", "r1"))
        assert [(message.text, message.status) for message in thread.messages] == [("which one?", "paused")]
        assert (await store.get_run("r1")).thread_id == "r1"
        assert (await store.start_run(new_run("r1", status="queued"))).state == {"at": 1}
        assert rows("SELECT interrupt_id, position, status, payload, state, expires_at FROM interrupts") == [
            ("i1", 0, "open", b'{"question":"which?"}', b'{"secret":1}', 9.0),
            ("i2", 1, "open", b"{}", b"null", 9.5),
        ]

    asyncio.run(main())


@pytest.fixture
def pause(new_run, end, entries):
    """Run `asker` on the thread, which pauses with the questions i1 and i2."""

    async def pause(store: Store, run_id: str = "asker", thread: str = "t", expires_at: float = LATE):
        await store.start_run(new_run(thread, say="pay", run_id=run_id))
        asked = [
            NewInterrupt(f"i{number}", {"question": f"{number}?"}, {"at": number}, expires_at) for number in (1, 2)
        ]
        ending = {"status": "paused", "stop_reason": "interrupt", "interrupts": asked}
        await store.end_run(end(run_id, "may I?", entries=entries(1, 1), **ending))

    return pause


@pytest.fixture
def resume(new_run):
    """A run that answers questions of `asker`."""

    def resume(run_id: str, *interrupt_ids: str, asker: str = "asker", **fields):
        claims = [Claim(asker, interrupt_id, ANSWER) for interrupt_id in interrupt_ids]
        return new_run("t", run_id=run_id, resumes=asker, claims=claims, **fields)

    return resume


async def statuses(store: Store, key: ThreadKey = KEY) -> list[str]:
    return [asked.status for asked in await store.interrupts(key)]


def test_what_a_run_asks_is_kept_whole_and_in_order(store, pause):
    async def main():
        await pause(store)
        first, second = await store.interrupts(KEY)
        assert (first.run_id, first.interrupt_id, first.payload, first.state) == (
            "asker",
            "i1",
            {"question": "1?"},
            {"at": 1},
        )
        assert (first.status, first.created, first.expires_at, first.claimed_by, first.answer) == (
            "open",
            1001.0,
            LATE,
            None,
            None,
        )
        assert second.interrupt_id == "i2"
        run = await store.get_run("asker")
        assert (run.interrupts, run.resumed_by, run.resumable) == ([first, second], None, False)
        assert await store.interrupts(ThreadKey("acme", "echo", "other")) == []

    asyncio.run(main())


def test_questions_of_a_thread_come_the_newest_runs_first(store, pause):
    async def main():
        await pause(store, "first")
        await pause(store, "second")
        await pause(store, "elsewhere", thread="u")
        assert [(asked.run_id, asked.interrupt_id, asked.status) for asked in await store.interrupts(KEY)] == [
            ("second", "i1", "open"),
            ("second", "i2", "open"),
            ("first", "i1", "superseded"),
            ("first", "i2", "superseded"),
        ]

    asyncio.run(main())


def test_a_claim_is_kept_with_its_answer_and_answered_with_the_agents_first_word(store, pause, resume, end, entries):
    async def main():
        await pause(store)
        before = await store.start_run(resume("r", "i1"))
        assert [message.text for message in before.messages] == ["pay", "may I?"]
        assert await statuses(store) == ["claimed", "open"]
        [claimed] = await store.interrupts_claimed_by("r")
        assert (claimed.interrupt_id, claimed.claimed_by, claimed.answer) == ("i1", "r", ANSWER)
        await store.append("r", 1, entries(1, 1))
        assert await statuses(store) == ["answered", "open"]
        await store.append("r", 1, entries(2, 2))
        await store.end_run(end("r", status="failed", code="agent_error", entries=[Entry(3, "error", b"{}")]))
        assert await statuses(store) == ["answered", "open"]
        [answered] = await store.interrupts_claimed_by("r")
        assert (answered.status, answered.answer) == ("answered", ANSWER)
        asker = await store.get_run("asker")
        assert (asker.resumed_by, asker.interrupts[0]) == ("r", answered)
        [summary] = (await store.list_runs("echo", "acme", status="paused", limit=9)).items
        assert (summary.run_id, summary.resumed_by) == ("asker", "r"), "the second question is still open"
        assert (await store.get_run("r")).resumes == "asker"

    asyncio.run(main())


@pytest.mark.parametrize("status", ["completed", "paused"])
def test_a_run_that_ends_well_has_answered_even_without_a_word(store, pause, resume, end, status):
    async def main():
        await pause(store)
        await store.start_run(resume("r", "i1", "i2"))
        await store.end_run(end("r", status=status))
        assert await statuses(store) == ["answered", "answered"]

    asyncio.run(main())


@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_run_that_ends_badly_without_a_word_gives_back_what_it_claimed(store, pause, resume, end, status, apart):
    async def main():
        await pause(store)
        await store.start_run(resume("r", "i1", "i2"))
        if apart:
            await store.append("r", 1, [ERROR])
            await store.end_run(end("r", status=status))
        else:
            await store.end_run(end("r", status=status, entries=[ERROR]))
        first, second = await store.interrupts(KEY)
        assert {first.status, second.status} == {"open"}
        assert (first.claimed_by, first.answer) == (None, None)
        assert (await store.get_run("asker")).resumed_by is None
        await store.start_run(resume("again", "i1", "i2"))
        assert await statuses(store) == ["claimed", "claimed"]

    asyncio.run(main())


def test_what_was_given_back_is_superseded_by_a_run_that_does_not_answer(store, pause, resume, new_run, end):
    async def main():
        await pause(store)
        await store.start_run(resume("r", "i1"))
        await store.start_run(new_run("t", say="while it waits"))
        assert await statuses(store) == ["claimed", "superseded"]
        await store.end_run(end("r", status="failed", entries=[ERROR]))
        assert await statuses(store) == ["open", "superseded"]
        await store.start_run(new_run("t", say="after"))
        assert await statuses(store) == ["superseded", "superseded"]

    asyncio.run(main())


def test_a_lost_memory_of_who_claimed_changes_nothing(open_store, pause, resume, end, entries, settle, new_run):
    """A job that fails makes the writer forget what it knew of the runs in its batch."""

    async def main():
        store = open_store()
        await pause(store)
        await store.start_run(resume("r", "i1"))
        await store.start_run(resume("s", "i2"))
        refused = await settle(store.append("r", 1, entries(7, 7)), store.append("s", 1, entries(7, 7)))
        assert [type(one) for one in refused] == [StoreError, StoreError]
        await store.append("r", 1, entries(1, 1))
        await store.end_run(end("s", status="cancelled", entries=[ERROR]))
        assert await statuses(store) == ["answered", "open"]

    asyncio.run(main())


def test_a_claim_on_what_is_not_open_fails_its_run_alone_and_leaves_nothing_of_it(
    store, pause, resume, new_run, settle
):
    async def main():
        await pause(store)
        await store.start_run(resume("r", "i1"))
        await pause(store, "foreign", "theirs")
        taken, half, unknown, foreign, threadless, good = await settle(
            store.start_run(resume("s", "i1")),
            store.start_run(resume("u", "i2", "i1")),
            store.start_run(resume("v", "i3")),
            store.start_run(resume("w", "i1", asker="foreign")),
            store.start_run(replace(resume("x", "i2"), thread_id=None)),
            store.start_run(new_run("other", say="hello")),
        )
        for refused in (taken, half, unknown, foreign, threadless):
            assert isinstance(refused, AlreadyAnswered)
            assert refused.message == "This question has been answered, or is no longer open"
        assert isinstance(good, ThreadBefore)
        assert await statuses(store) == ["claimed", "open"]
        assert await statuses(store, ThreadKey("acme", "echo", "theirs")) == ["open", "open"]
        for run_id in "suvwx":
            assert await store.get_run(run_id) is None

    asyncio.run(main())


def test_fifty_that_answer_at_once_are_one_that_does(store, pause, resume, settle):
    async def main():
        await pause(store)
        results = await settle(*(store.start_run(resume(f"r{number}", "i1", "i2")) for number in range(50)))
        assert [type(result) for result in results].count(ThreadBefore) == 1
        assert [type(result) for result in results].count(AlreadyAnswered) == 49
        assert len(await store.interrupts_claimed_by("r0")) == 2
        assert len((await store.list_runs("echo", "acme", limit=99)).items) == 2

    asyncio.run(main())


def test_a_question_past_its_time_is_expired_and_no_longer_answered(store, pause, resume):
    async def main():
        await pause(store, expires_at=1005.0)
        assert await statuses(store) == ["expired", "expired"]
        assert (await store.list_runs("echo", "acme", status="paused", limit=9)).items == []
        with pytest.raises(AlreadyAnswered):
            await store.start_run(resume("late", "i1", created=1005.0))
        await store.start_run(resume("in-time", "i1", created=1004.9))

    asyncio.run(main())


def test_a_resume_that_comes_again_under_its_key_is_the_same_run_and_not_a_second_answer(store, pause, resume):
    async def main():
        await pause(store)
        await store.start_run(resume("r", "i1", idempotency_key="k", request_digest="d"))
        with pytest.raises(KeyTaken) as taken:
            await store.start_run(resume("s", "i1", idempotency_key="k", request_digest="d"))
        assert taken.value.run_id == "r"
        assert (await store.find_key("echo", "acme", "k")).run_id == "r"
        assert await store.find_key("echo", "other", "k") is None

    asyncio.run(main())


def test_a_queued_run_claims_but_supersedes_nothing_and_says_nothing_yet(store, pause, resume, new_run):
    async def main():
        await pause(store)
        await store.start_run(new_run("t", say="later", run_id="waits", status="queued"))
        assert await statuses(store) == ["open", "open"]
        await store.start_run(resume("r", "i2", status="queued"))
        assert await statuses(store) == ["open", "claimed"]
        thread = await store.get_thread(KEY)
        assert [message.text for message in thread.messages] == ["pay", "may I?"]
        assert [run.status for run in thread.runs] == ["paused", "queued", "queued"]

    asyncio.run(main())


def test_only_threads_that_wait_are_looked_through(open_store, pause, new_run, end, rows):
    """The hint says so: it is 1 while a question may be open, and the run that supersedes takes it back."""

    async def main():
        store = open_store()
        await store.start_run(new_run("plain", say="hello"))
        await store.end_run(end("r1", "hi"))
        await pause(store)
        waiting = "SELECT thread_id, waiting FROM threads ORDER BY id"
        assert rows(waiting) == [("plain", None), ("t", 1)]
        await store.start_run(new_run("t", say="on"))
        assert rows(waiting) == [("plain", None), ("t", 0)]

    asyncio.run(main())


def test_what_the_host_writes_into_a_log_by_itself_is_not_the_agents_word(open_store, pause, resume, end):
    assert {"error", BEGUN_AGAIN} == HOSTS_OWN

    async def before(store):
        await pause(store)
        await store.start_run(resume("r", "i1", resumable=True))

    async def after(store):
        await store.recover()
        await store.begin_run("r", 2, None)
        await store.append("r", 2, [Entry(1, BEGUN_AGAIN, b"{}")])
        assert await statuses(store) == ["claimed", "open"]
        await store.end_run(end("r", status="failed", epoch=2, entries=[Entry(2, "error", b"{}")]))
        assert await statuses(store) == ["open", "open"]

    for work in (before, after):
        store = open_store()
        asyncio.run(work(store))
        store.close()


@pytest.mark.parametrize("thread", ["late", None])
def test_a_run_that_turns_durable_late_ends_though_it_was_forgotten_where_its_log_begins(
    store, new_run, end, entries, settle, thread
):
    async def main():
        await store.start_run(new_run(thread, run_id="late", last_seq=4))
        forgotten = store.append("late", 2, entries(5, 5))
        ended = store.end_run(
            end("late", status="paused", entries=entries(5, 6), thread=ThreadKey("acme", "echo", "late"))
        )
        refused, done = await settle(forgotten, ended)
        assert isinstance(refused, StoreError)
        assert done is None
        run = await store.get_run("late")
        assert (run.status, run.first_seq, run.last_seq, run.thread_id) == ("paused", 5, 6, "late")

    asyncio.run(main())


def test_a_run_that_was_durable_from_its_start_ends_with_no_gap_though_it_was_forgotten(
    store, new_run, end, entries, settle
):
    async def main():
        await settle(store.start_run(new_run("t")), store.start_run(new_run(idempotency_key="k")))
        for run_id in ("r1", "r2"):
            forgotten, ended = await settle(
                store.append(run_id, 2, entries(1, 1)), store.end_run(end(run_id, entries=entries(5, 6)))
            )
            assert isinstance(forgotten, StoreError)
            assert ended.message == f"run {run_id}: entry 5 cannot follow 0, which is the last stored"

    asyncio.run(main())


def test_a_run_that_turns_durable_late_goes_on_from_its_last_entry(store, new_run, end, entries):
    async def main():
        started = store.start_run(new_run("late", run_id="late", last_seq=4))
        ended = store.end_run(
            end("late", status="paused", entries=entries(5, 6), interrupts=[NewInterrupt("i", {}, None, LATE)])
        )
        await asyncio.gather(started, ended)
        run = await store.get_run("late")
        assert (run.first_seq, run.last_seq) == (5, 6)
        assert await store.read_events("late", 0, 9) == entries(5, 6)

    asyncio.run(main())
