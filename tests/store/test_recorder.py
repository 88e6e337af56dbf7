"""What is put into a log comes out of it, however it was cut up; and a job that fails, fails alone."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthost.errors import StoreError
from agenthost.events import Entry
from agenthost.store import KeyTaken, NewInterrupt, NewRun, RunEnd, Store, ThreadBefore
from agenthost.threads import ThreadKey

KEY = ThreadKey("acme", "echo", "t")
RUNS = 3
LENGTH = 24

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
        assert (await store.start_run(new_run("r1"))).state == {"at": 1}
        assert rows("SELECT interrupt_id, position, status, payload, state, expires_at FROM interrupts") == [
            ("i1", 0, "open", b'{"question":"which?"}', b'{"secret":1}', 9.0),
            ("i2", 1, "open", b"{}", b"null", 9.5),
        ]

    asyncio.run(main())
