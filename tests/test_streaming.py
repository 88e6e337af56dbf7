"""A run's log as server-sent events: whole frames, heartbeats, one end; and what a slow client costs."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthost import streaming
from agenthost.agents import RunContext
from agenthost.errors import Cancelled, HostStopping
from agenthost.events import Entry
from agenthost.run_log import KEPT, UNREAD, Reader, RunLog
from agenthost.streaming import BEAT, END, batches, data_frame, frame, pump, ready
from tests.agents_for_tests import Held, hosting, idle, started, thread, until, within


async def nothing_stored(_run_id: str, _after: int, _limit: int) -> list[Entry]:
    return []


def reader_of(log: RunLog) -> Reader:
    return Reader(log, "run", 0, nothing_stored, lambda: None)


class Client:
    """Takes what is written; `slow` makes each write wait for `go`."""

    def __init__(self, *, slow: bool = False) -> None:
        self.writes: list[tuple[bytes, bool]] = []
        self.go = asyncio.Event()
        self.wrote = asyncio.Event()
        self._slow = slow

    async def write(self, data: bytes, more: bool) -> None:
        self.writes.append((data, more))
        self.wrote.set()
        if self._slow:
            await self.go.wait()

    @property
    def beats(self) -> int:
        return sum(data == BEAT for data, _more in self.writes)


def test_a_frame_has_id_event_and_data_on_a_line_each() -> None:
    entry = Entry(7, "think", b'{"type":"think","content":"a\\nb"}')
    assert frame(entry) == b'id: 7\nevent: think\ndata: {"type":"think","content":"a\\nb"}\n\n'
    assert data_frame(entry) == b'data: {"type":"think","content":"a\\nb"}\n\n'


def test_what_is_ready_leaves_in_one_write_and_the_end_with_it() -> None:
    async def main() -> None:
        log, client = RunLog(durable=False), Client()
        entries = [Entry(seq, "model_chunk", b"{}") for seq in (1, 2, 3)]
        for entry in entries:
            log.add(entry)
        log.close()
        await within(pump(reader_of(log), client.write))
        assert client.writes == [(b"".join(map(frame, entries)) + END, False)]

    asyncio.run(main())


def test_a_log_without_entries_still_has_an_end() -> None:
    async def main() -> None:
        log, client = RunLog(durable=False), Client()
        log.close()
        await within(pump(reader_of(log), client.write))
        assert client.writes == [(END, False)]

    asyncio.run(main())


class Letters:
    """Tells entries as letters, those of type `x` not at all."""

    def begin(self) -> bytes:
        return b"("

    def entry(self, entry: Entry) -> bytes:
        return b"" if entry.type == "x" else entry.type.encode()

    def end(self) -> bytes:
        return b")"


def test_a_teller_has_the_first_and_the_last_word_and_what_it_does_not_tell_is_no_write() -> None:
    async def main() -> None:
        log, client = RunLog(durable=False), Client()
        pumping = asyncio.create_task(pump(reader_of(log), client.write, Letters()))
        await within(client.wrote.wait())
        for seq, kind in enumerate("axb", 1):
            log.add(Entry(seq, kind, b"{}"))
            await asyncio.sleep(0)
        log.close()
        await within(pumping)
        assert b"" not in [data for data, _more in client.writes]
        assert b"".join(data for data, _more in client.writes) == b"(ab)"
        assert [more for _data, more in client.writes][-1:] == [False]

    asyncio.run(main())


def test_a_log_is_read_in_batches_to_its_end_and_one_that_goes_on_elsewhere_has_none() -> None:
    async def main(abandoned: bool) -> list[int]:
        log, found = RunLog(durable=True), list[int]()
        log.add(Entry(1, "a", b"{}"))
        log.show(1)

        async def end() -> None:
            log.add(Entry(2, "b", b"{}"))
            log.show(2)
            if abandoned:
                log.abandon()
            else:
                log.close()

        assert [entry.seq for entry in await ready(reader_of(log))] == [1]
        ending = asyncio.create_task(end())
        async with asyncio.timeout(20):
            async for entries in batches(reader_of(log)):
                found += [entry.seq for entry in entries]
        await ending
        return found

    assert asyncio.run(main(False)) == [1, 2]
    with pytest.raises(HostStopping, match="the host stopped before this run ended"):
        asyncio.run(main(True))


def test_entries_leave_as_they_come_and_while_a_client_is_slow_they_gather() -> None:
    async def main() -> None:
        log, client = RunLog(durable=False), Client(slow=True)
        pumping = asyncio.create_task(pump(reader_of(log), client.write))
        await asyncio.sleep(0)
        log.add(Entry(1, "model_chunk", b"{}"))
        await within(client.wrote.wait())
        for seq in (2, 3, 4):
            log.add(Entry(seq, "model_chunk", b"{}"))
        log.close()
        client.go.set()
        await within(pumping)
        assert [data.count(b"id: ") for data, _more in client.writes] == [1, 3]
        assert [more for _data, more in client.writes] == [True, False]

    asyncio.run(main())


def test_a_silent_stream_beats_and_a_busy_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.05)

    async def main() -> None:
        log, client = RunLog(durable=False), Client()
        pumping = asyncio.create_task(pump(reader_of(log), client.write))
        await until(lambda: client.beats == 3)
        log.add(Entry(1, "model_chunk", b"{}"))
        await until(lambda: client.writes[-1][0] != BEAT)
        log.close()
        await within(pumping)
        assert all(more for _data, more in client.writes[:-1])
        seen = len(client.writes)
        await asyncio.sleep(0.12)  # two beats' time: the timer must have gone with the stream
        assert len(client.writes) == seen

    asyncio.run(main())


@pytest.mark.parametrize("last", [False, True])
def test_a_client_that_takes_nothing_for_too_long_is_a_reader_that_left(
    monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.01)
    monkeypatch.setattr(streaming, "STALLED", 0.05)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        log, client, left = RunLog(durable=False), Client(slow=True), asyncio.Event()
        reader = Reader(log, "run", 0, nothing_stored, left.set)
        log.add(Entry(1, "model_chunk", b"{}"))
        if last:
            log.close()
        began = loop.time()
        pumping = asyncio.create_task(pump(reader, client.write))
        await within(left.wait())
        assert loop.time() - began > 0.05
        assert len(client.writes) == 1
        log.close()
        client.go.set()
        await within(pumping)  # what it can still have, it gets

    asyncio.run(main())


def test_a_client_that_is_slow_but_takes_something_in_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.01)
    monkeypatch.setattr(streaming, "STALLED", 0.2)

    async def main() -> None:
        log, client, left = RunLog(durable=False), Client(slow=True), asyncio.Event()
        pumping = asyncio.create_task(pump(Reader(log, "run", 0, nothing_stored, left.set), client.write))
        for seq in range(1, 6):
            log.add(Entry(seq, "model_chunk", b"{}"))
            await within(client.wrote.wait())
            await asyncio.sleep(0.06)
            client.wrote.clear()
            client.go.set()
            await asyncio.sleep(0)
            client.go.clear()
        assert not left.is_set()
        client.go.set()
        log.close()
        await within(pumping)

    asyncio.run(main())


def test_a_beat_waits_for_a_slow_client_like_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.01)

    async def main() -> None:
        log, client = RunLog(durable=False), Client(slow=True)
        pumping = asyncio.create_task(pump(reader_of(log), client.write))
        await within(client.wrote.wait())
        await asyncio.sleep(0.05)  # five beats' time
        assert client.beats == 1
        log.close()
        client.go.set()
        await within(pumping)

    asyncio.run(main())


def test_heartbeats_go_on_while_a_run_that_never_speaks_is_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.02)

    async def main() -> None:
        client, held = Client(), Held()
        async with hosting(held) as host:
            run = await started(host)
            reader = run.read()
            pumping = asyncio.create_task(pump(reader, client.write))
            await until(lambda: client.beats >= 3)
            run.cancel(Cancelled("by a test"))
            await within(pumping)
            assert client.writes[-1][0].endswith(END)
            reader.close()
            await idle(host)

    asyncio.run(main())


@pytest.mark.parametrize("durable", [False, True], ids=["ephemeral", "durable"])
@pytest.mark.parametrize("size", [1, 100, 10_000, 1_000_000])
def test_a_client_that_stops_reading_costs_little_whatever_the_agent_says(durable: bool, size: int) -> None:
    """Within a megabyte for what is unread, two pieces under way, and what the store's own cache takes."""

    async def floods(ctx: RunContext) -> AsyncIterator[str]:
        text = "x" * size
        while True:
            yield text

    async def main() -> None:
        async with hosting(floods) as host:
            client = Client(slow=True)
            run = await started(host, thread() if durable else "hello")
            reader = run.read()
            gc.collect()
            tracemalloc.start()
            try:
                pumping = asyncio.create_task(pump(reader, client.write))
                last = -1
                while last != run.log.last and run.log.last < 6_000_000 // (size + 256):
                    last = run.log.last
                    await asyncio.sleep(0.05)  # it makes thousands in that time, unless it waits
                held, _peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            if durable:
                assert run.log._bytes < KEPT * 3 // 2 + size, "the rest of it is in the store"
            else:
                assert last == run.log.last, "it waits"
                assert held < 2 * UNREAD + 4 * size
            pumping.cancel()
            await asyncio.wait((pumping,))
            reader.close()
            await idle(host)

    asyncio.run(main())


def test_a_stream_that_is_cancelled_leaves_no_timer_and_no_task() -> None:
    async def main() -> None:
        log, client = RunLog(durable=False), Client()
        for _ in range(20):
            pumping = asyncio.create_task(pump(reader_of(log), client.write))
            await asyncio.sleep(0)
            pumping.cancel()
            await asyncio.wait((pumping,))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        scheduled: Any = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # asyncio's own heap
        assert not [timer for timer in scheduled if not timer.cancelled()]

    asyncio.run(main())


def test_a_reader_of_a_long_durable_log_gets_all_of_it_from_the_store_and_from_memory() -> None:
    async def counts(ctx: RunContext) -> AsyncIterator[str]:
        for number in range(3000):
            yield f"{number} " + "x" * 1000

    async def main() -> None:
        async with hosting(counts) as host:
            run = await started(host, thread())
            await within(run.ended())
            sent = bytearray()

            async def write(data: bytes, more: bool) -> None:
                sent.extend(data)

            reader = run.read()
            await within(pump(reader, write))
            reader.close()
            frames = bytes(sent).split(b"\n\n")
            assert len(frames) == 3000 + 3
            numbers = [json.loads(one.split(b"data: ")[1])["content"].split()[0] for one in frames[:3000]]
            assert numbers == [str(number) for number in range(3000)]

    asyncio.run(main())
