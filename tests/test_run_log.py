"""A run's event log: what is shown to whom, what stays in memory, and when a run has to wait for its reader."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agenthost.errors import StoreError
from agenthost.events import Entry
from agenthost.run_log import CHUNK, HOLD, KEPT, PAGE, UNREAD, WEIGHT, Reader, RunLog


def entry(seq: int, size: int = 1) -> Entry:
    return Entry(seq, "model_chunk", b"x" * size)


class Stored:
    """What a store would give back."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.asked: list[tuple[int, int]] = []

    async def read(self, _run_id: str, after: int, limit: int) -> Sequence[Entry]:
        self.asked.append((after, limit))
        return [one for one in self.entries if one.seq > after][:limit]


def reader_of(log: RunLog, stored: Stored | None = None, after: int = 0, closed: Any = lambda: None) -> Reader:
    return Reader(log, "run", after, (stored or Stored()).read, closed)


def seqs(entries: Sequence[Entry] | None) -> list[int]:
    assert entries is not None
    return [one.seq for one in entries]


def test_an_ephemeral_log_shows_at_once_and_forgets_what_is_taken() -> None:
    log = RunLog(durable=False)
    reader = reader_of(log)
    assert reader.take() == []
    log.add(entry(1))
    log.add(entry(2))
    assert seqs(reader.take()) == [1, 2]
    assert reader.take() == []
    assert not reader.at_end
    log.close()
    assert reader.at_end
    late = reader_of(log)
    assert late.take() == []
    assert late.at_end, "or it would wait for ever for what is gone"


def test_an_ephemeral_log_forgets_nothing_that_is_not_taken_however_large_the_last_entry_is() -> None:
    log = RunLog(durable=False)
    reader = reader_of(log)
    for seq in (1, 2, 3):
        log.add(entry(seq))
    log.add(entry(4, 2 * KEPT))
    log.show(4)
    log.close()
    assert seqs(reader.take()) == [1, 2, 3, 4]


def test_a_durable_log_shows_what_is_committed_to_every_reader() -> None:
    log = RunLog(durable=True)
    one, two = reader_of(log), reader_of(log, after=1)
    for seq in (1, 2, 3):
        log.add(entry(seq))
    assert (one.take(), log.last, log.visible) == ([], 3, 0)
    log.show(2)
    assert (seqs(one.take()), seqs(two.take())) == ([1, 2], [2])
    log.show(1)
    assert log.visible == 2, "what is shown stays shown"
    log.show(3)
    log.close()
    assert (seqs(one.take()), seqs(two.take()), one.at_end) == ([3], [3], True)
    assert seqs(reader_of(log).take()) == [1, 2, 3]


def test_a_reader_is_given_what_is_ready_in_pieces_of_bounded_size() -> None:
    for durable in (False, True):
        log = RunLog(durable=durable)
        for seq in range(1, 501):
            log.add(entry(seq, 1000))
        log.show(500)
        reader = reader_of(log)
        found: list[int] = []
        while taken := reader.take():
            assert sum(len(one.data) + WEIGHT for one in taken) <= CHUNK + 1000 + WEIGHT
            found += seqs(taken)
        assert found == list(range(1, 501))


def test_one_entry_larger_than_a_piece_is_a_piece_of_its_own() -> None:
    log = RunLog(durable=False)
    for seq in (1, 2):
        log.add(entry(seq, 1 << 20))
    reader = reader_of(log)
    assert [seqs(reader.take()), seqs(reader.take()), seqs(reader.take())] == [[1], [2], []]


def test_an_ephemeral_log_is_crowded_past_a_megabyte_and_a_durable_one_never() -> None:
    for durable in (False, True):
        log = RunLog(durable=durable)
        seq = 0
        while not log.crowded and seq * 1000 < 2 * UNREAD:
            seq += 1
            log.add(entry(seq, 1000))
        assert (seq * (1000 + WEIGHT) <= UNREAD + 1000 + WEIGHT) is not durable


def test_small_entries_are_weighed_with_what_they_cost_besides_their_bytes() -> None:
    log = RunLog(durable=False)
    seq = 0
    while not log.crowded:
        seq += 1
        log.add(entry(seq))
    assert seq < UNREAD / 256 + 1


def test_room_is_there_once_a_reader_has_taken_some() -> None:
    async def main() -> None:
        log = RunLog(durable=False)
        reader = reader_of(log)
        seq = 0
        while not log.crowded:
            seq += 1
            log.add(entry(seq, 10_000))
        waiting = asyncio.create_task(log.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert reader.take()
        await asyncio.wait_for(waiting, 5)
        assert not log.crowded

    asyncio.run(main())


def test_a_durable_log_keeps_a_megabyte_and_older_entries_come_from_the_store() -> None:
    async def main() -> None:
        log, stored = RunLog(durable=True), Stored()
        for seq in range(1, 2001):
            log.add(entry(seq, 1000))
            stored.entries.append(entry(seq, 1000))
            if seq % 50 == 0:
                log.show(seq)
        assert sum(len(one.data) + WEIGHT for one in log._entries) <= KEPT * 5 // 4 + 50 * (1000 + WEIGHT)
        reader = reader_of(log, stored)
        found: list[int] = []
        while True:
            taken = reader.take()
            if taken is None:
                taken = await reader.take_stored()
            if not taken:
                break
            found += seqs(taken)
        assert found == list(range(1, 2001))
        assert {limit for _after, limit in stored.asked} == {PAGE}
        newest = reader_of(log, stored, after=1990)
        assert seqs(newest.take()) == list(range(1991, 2001))

    asyncio.run(main())


def test_a_log_whose_older_entries_are_gone_says_so_and_not_nothing_for_ever() -> None:
    async def main() -> None:
        log = RunLog(durable=True)
        for seq in range(1, 2001):
            log.add(entry(seq, 1000))
        log.show(2000)
        reader = reader_of(log)
        assert reader.take() is None
        with pytest.raises(StoreError) as gone:
            await reader.take_stored()
        assert gone.value.message == "the rest of this run's log is no longer in the store"

    asyncio.run(main())


def test_what_is_hidden_can_be_forgotten_and_its_numbers_are_used_again() -> None:
    log = RunLog(durable=True)
    for seq in range(1, 6):
        log.add(entry(seq))
    log.show(3)
    log.forget_hidden()
    assert (log.last, log.visible) == (3, 3)
    log.add(Entry(4, "error", b"{}"))
    log.show(4)
    log.close()
    reader = reader_of(log)
    assert [one.type for one in reader.take() or ()] == ["model_chunk"] * 3 + ["error"]
    assert reader.at_end
    assert log._bytes == 3 * (1 + WEIGHT) + 2 + WEIGHT


def test_entries_nobody_reads_are_only_counted() -> None:
    log = RunLog(durable=False)
    for seq in range(1, 100):
        log.skip_entry(entry(seq, 100_000))
    assert (log.last, log.crowded, reader_of(log).take()) == (99, False, [])


def test_readers_that_sleep_are_woken_by_news_by_the_end_and_by_a_nudge() -> None:
    async def main() -> None:
        log = RunLog(durable=False)
        reader, other = reader_of(log), reader_of(log)
        for wake in (lambda: log.add(entry(1)), reader.nudge, log.close):
            news = reader.news()
            assert (news.done(), log.awaited) == (False, True)
            wake()
            await asyncio.wait_for(news, 5)
        reader.nudge()
        news, others = reader.news(), other.news()
        news.cancel()
        log.wake()
        await asyncio.wait_for(others, 5)

    asyncio.run(main())


async def turns_until(news: asyncio.Future[None]) -> int:
    turns = 0
    while not news.done():
        await asyncio.sleep(0)
        turns += 1
        assert turns < 100
    return turns


def test_the_first_entry_wakes_its_reader_at_once_and_one_that_stands_alone_within_three_turns() -> None:
    async def main() -> None:
        log = RunLog(durable=False)
        reader = reader_of(log)
        for seq in range(1, 5):
            news = reader.news()
            log.add(entry(seq))
            assert await turns_until(news) <= (0 if seq == 1 else 3)
            assert seqs(reader.take()) == [seq]

    asyncio.run(main())


def test_a_reader_is_held_a_few_turns_while_each_brings_more() -> None:
    async def main() -> None:
        log = RunLog(durable=False)
        reader = reader_of(log)
        log.add(entry(1))
        reader.take()
        news = reader.news()
        seq = 1
        while not news.done():
            seq += 1
            log.add(entry(seq))
            await asyncio.sleep(0)
        assert HOLD - 1 <= len(reader.take() or ()) <= HOLD + 3
        news = reader.news()
        log.add(entry(seq + 1, 20_000))
        assert await turns_until(news) <= 2, "what is large is not held"

    asyncio.run(main())


def test_the_end_wakes_a_reader_that_is_held() -> None:
    async def main() -> None:
        log = RunLog(durable=False)
        reader = reader_of(log)
        log.add(entry(1))
        reader.take()
        news = reader.news()
        log.add(entry(2))
        log.close()
        assert news.done()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_reader_that_is_only_nudged_leaves_nothing_behind() -> None:
    async def main() -> None:
        log = RunLog(durable=False)
        reader = reader_of(log)
        for _ in range(100):
            reader.news()
            reader.nudge()
        assert len(log._sleepers) <= 4

    asyncio.run(main())


def test_a_reader_that_falls_asleep_over_hidden_entries_asks_for_them() -> None:
    async def main() -> None:
        asked: list[int] = []
        log = RunLog(durable=True)
        log.on_sleep = lambda: asked.append(log.last)
        reader = reader_of(log)
        reader.news()
        log.add(entry(1))
        reader.news()
        log.show(1)
        reader.news()
        assert asked == [1]

    asyncio.run(main())


def test_a_reader_leaves_once() -> None:
    left: list[int] = []
    reader = reader_of(RunLog(durable=False), closed=lambda: left.append(1))
    reader.close()
    reader.close()
    assert left == [1]


def test_questions_that_nobody_may_see_are_forgotten_and_nothing_else() -> None:
    for durable in (False, True):
        log = RunLog(durable=durable)
        reader = reader_of(log)
        log.add(entry(1))
        log.become_durable()
        log.show(1)
        for seq in (2, 3):
            log.add(Entry(seq, "interrupt", b"{}"))
        assert seqs(log.hidden) == [2, 3]
        assert seqs(reader.take()) == [1]
        log.forget_questions()
        log.forget_questions()
        assert (log.last, log.visible, seqs(log.hidden)) == (1, 1, [])
        log.add(entry(2))
        log.show(2)
        log.forget_questions()
        assert seqs(reader.take()) == [2]


def test_a_question_that_is_shown_is_not_forgotten() -> None:
    log = RunLog(durable=True)
    log.add(Entry(1, "interrupt", b"{}"))
    log.show(1)
    log.forget_questions()
    assert seqs(reader_of(log).take()) == [1]


def test_a_log_that_turns_durable_shows_what_was_said_and_hides_what_comes() -> None:
    log = RunLog(durable=False)
    for seq in (1, 2):
        log.add(entry(seq))
    log.become_durable()
    log.become_durable()
    log.add(entry(3))
    one, two = reader_of(log), reader_of(log, after=1)
    assert (seqs(one.take()), seqs(two.take()), seqs(log.hidden)) == ([1, 2], [2], [3])
    log.show(3)
    log.close()
    assert (seqs(one.take()), one.at_end) == ([3], True)


def test_an_ended_log_is_in_the_store_alone() -> None:
    async def main() -> None:
        stored = Stored()
        stored.entries = [entry(seq) for seq in (1, 2, 3)]
        reader = reader_of(RunLog.ended(3), stored, after=1)
        assert (reader.take(), reader.at_end) == (None, False)
        assert seqs(await reader.take_stored()) == [2, 3]
        assert (reader.take(), reader.at_end) == ([], True)
        past = reader_of(RunLog.ended(3), stored, after=9)
        assert (past.take(), past.at_end) == ([], True)
        with pytest.raises(StoreError):
            await reader_of(RunLog.ended(5), stored, after=3).take_stored()

    asyncio.run(main())


def test_a_log_that_is_abandoned_is_closed_without_an_end() -> None:
    async def main() -> None:
        log = RunLog(durable=True)
        reader = reader_of(log)
        news = reader.news()
        assert not reader.abandoned
        log.abandon()
        assert news.done()
        assert (reader.take(), reader.at_end, reader.abandoned) == ([], True, True)

    asyncio.run(main())
