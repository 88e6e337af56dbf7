"""The host's end of a worker: runs, questions, cancels, and what is left of them when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from agenthost.errors import AgentCrashed, AgentError
from agenthost.placement import worker_link
from agenthost.placement.allowance import LONGEST, LONGEST_TRACE
from agenthost.placement.frames import WINDOW
from agenthost.placement.process import ProcessRef
from agenthost.placement.worker_link import WorkerLink
from tests.agents_for_tests import until, within
from tests.placement.workers import Log, StoppedError, alive, asked, opened, said


def link_of(ref: ProcessRef) -> WorkerLink:
    [link] = ref._crew.workers
    return link


def test_entries_are_numbered_from_one_and_hold_their_bytes_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "count") as ref:
            log = Log()
            await within(ref.run(asked("3"), log.emit))
            assert [(entry.seq, entry.type, entry.event) for entry in log.entries] == [
                (seq, "model_chunk", None) for seq in (1, 2, 3)
            ]
            assert log.entries[2].data == b'{"type":"model_chunk","content":"2"}'
            assert link_of(ref).busy == 0

    asyncio.run(main())


def test_a_log_without_room_halts_the_agent_within_its_window(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "count") as ref:
            log = Log()
            log.room.clear()
            run = asyncio.create_task(ref.run(asked("3000"), log.emit))
            await until(lambda: log.entries)
            [call] = link_of(ref)._calls.values()
            await until(lambda: len(call.ready) == WINDOW - 1)
            await asyncio.sleep(0.05)
            assert (len(log.entries), len(call.ready)) == (1, WINDOW - 1)
            log.room.set()
            await within(run)
            assert log.texts == [str(number) for number in range(3000)]

    asyncio.run(main())


def test_what_emit_raises_goes_through_once_the_agent_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "count") as ref:
            log = Log(stop_after=5)
            with pytest.raises(StoppedError):
                await within(ref.run(asked("100000"), log.emit))
            assert len(log.entries) == 5
            assert link_of(ref).busy == 0
            assert await said(ref, "1") == ["0"]

    asyncio.run(main())


def test_a_cancel_goes_to_the_agent_and_comes_back_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "held") as ref:
            log = Log()
            run = asyncio.create_task(ref.run(asked(), log.emit))
            await until(lambda: log.entries)
            began = time.monotonic()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(run)
            assert time.monotonic() - began < 1
            assert link_of(ref).busy == 0

    asyncio.run(main())


def test_a_worker_with_a_run_that_does_not_hear_is_replaced_and_ends_once_its_other_runs_have(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "mixed") as ref:
            [pid], deaf_log, other_log = ref.pids, Log(), Log()
            deaf = asyncio.create_task(ref.run(asked("deaf 600"), deaf_log.emit))
            other = asyncio.create_task(ref.run(asked("other 5"), other_log.emit))
            await until(lambda: deaf_log.entries and other_log.entries)
            deaf.cancel()
            await until(lambda: ref.pids and ref.pids != [pid])
            assert not deaf.done()
            assert await said(ref, "other 0") == ["begun", "ended"]
            await within(other)
            assert other_log.texts == ["begun", "ended"]
            with pytest.raises(asyncio.CancelledError):
                await within(deaf)
            await until(lambda: not alive(pid))

    asyncio.run(main())


def test_a_run_that_is_cancelled_while_its_log_has_no_room_ends_and_does_not_wait_for_a_second_cancel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_link, "CANCEL_AGAIN", 600.0)
    monkeypatch.setattr(worker_link, "DEAF_AFTER", 600.0)

    async def main() -> None:
        async with opened(tmp_path, "count") as ref:
            log = Log()
            log.room.clear()  # its readers have left, and take nothing more
            run = asyncio.create_task(ref.run(asked("3000"), log.emit))
            await until(lambda: log.entries)
            [call] = link_of(ref)._calls.values()
            await until(lambda: len(call.ready) == WINDOW - 1)
            run.cancel()
            try:
                with pytest.raises(asyncio.CancelledError):
                    await within(asyncio.shield(run))
            finally:
                log.room.set()
            assert link_of(ref).busy == 0

    asyncio.run(main())


def test_an_agent_that_ends_its_loop_has_crashed_and_so_has_the_run_beside_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "leaves") as ref:
            beside = Log()
            other = asyncio.create_task(ref.run(asked(), beside.emit))
            await until(lambda: beside.entries)
            for run in (ref.run(asked("now"), Log().emit), other):
                with pytest.raises(AgentCrashed, match="ended with exit code 70"):
                    await within(run)

    asyncio.run(main())


def test_a_worker_that_closes_its_socket_is_ended_and_what_comes_meanwhile_goes_to_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "shuts") as ref:
            [pid], log = ref.pids, Log()
            run = asyncio.create_task(ref.run(asked("shut"), log.emit))
            await until(lambda: not ref.pids)
            [another] = await said(ref)
            assert another != str(pid)
            with pytest.raises(AgentCrashed) as crashed:
                await within(run)
            assert crashed.value.message == "the worker of agent 'agent' closed its connection"
            await until(lambda: not alive(pid))

    asyncio.run(main())


def test_a_worker_that_is_blocked_is_closed_without_the_grace_that_it_could_not_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "blocks") as ref:
            [pid], log = ref.pids, Log()
            run = asyncio.create_task(ref.run(asked(), log.emit))
            await until(lambda: log.entries)
            [closed] = await within(asyncio.gather(ref.close(600.0), return_exceptions=True))
            assert isinstance(closed, TimeoutError)
            assert not alive(pid)
            with pytest.raises(AgentCrashed):
                await within(run)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("7", "ended with exit code 7"), ("0", "ended with exit code 0")],
)
def test_a_process_that_ends_fails_its_runs_with_how_it_ended(tmp_path: Path, prompt: str, words: str) -> None:
    async def main() -> None:
        async with opened(tmp_path, "exits") as ref:
            log = Log()
            with pytest.raises(AgentCrashed) as crashed:
                await within(ref.run(asked(prompt), log.emit))
            assert crashed.value.message == f"the worker of agent 'agent' {words}"
            assert log.texts == ["begun"]

    asyncio.run(main())


def test_a_process_that_is_killed_fails_all_that_was_asked_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "held") as ref:
            logs = [Log() for _ in range(5)]
            runs = [asyncio.create_task(ref.run(asked(), log.emit)) for log in logs]
            await until(lambda: all(log.entries for log in logs))
            link = link_of(ref)
            os.kill(link.pid, signal.SIGKILL)
            for run in runs:
                with pytest.raises(AgentCrashed, match="was ended by SIGKILL"):
                    await within(run)
            with pytest.raises(AgentCrashed):
                await within(link.ask("health"))
            assert link.gone.result() == "was ended by SIGKILL"

    asyncio.run(main())


def test_what_an_agent_raises_is_its_error_with_the_traceback_of_its_own_frames(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "fails") as ref:
            with pytest.raises(AgentError) as failed:
                await within(ref.run(asked(), Log().emit))
            assert failed.value.message == "ValueError: why"
            assert 'raise ValueError("why")' in str(failed.value.__cause__)
            assert "placement" not in str(failed.value.__cause__)

    asyncio.run(main())


def test_a_call_that_would_take_all_of_the_hosts_time_is_not_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "calls") as ref:
            with pytest.raises(AgentError, match=r"InvalidRequest: ctx\.call: more than 10 MiB in one call"):
                await within(ref.run(asked(), Log().emit))

    asyncio.run(main())


def test_what_an_agent_raises_costs_the_host_little_whatever_its_text_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "verbose") as ref:
            with pytest.raises(AgentError, match="ValueError: xxx") as failed:
                await within(ref.run(asked(), Log().emit))
            assert len(failed.value.message) < 2 * LONGEST
            assert len(str(failed.value.__cause__)) < 2 * LONGEST_TRACE
            assert "in verbose" in str(failed.value.__cause__)

    asyncio.run(main())
