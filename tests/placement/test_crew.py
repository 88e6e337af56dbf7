"""The workers of one agent: they share its runs, come back when they end, and are given up when they end too often."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from agenthost.agents import ProcessOptions
from agenthost.errors import AgentCrashed, AgentUnavailable, LoadError
from agenthost.placement import crew
from agenthost.placement.process import ProcessPlacement
from tests.agents_for_tests import until, within
from tests.placement.workers import AGENTS, Log, alive, asked, opened, said, spec_of

TWO = ProcessOptions(workers=2)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers come back without a pause."""
    monkeypatch.setattr(crew, "FIRST_PAUSE", 0.0)


def test_runs_go_to_the_worker_that_has_the_least_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "pid", process=TWO) as ref:
            logs = [Log() for _ in range(6)]
            runs = []
            for log in logs:
                runs.append(asyncio.create_task(ref.run(asked("0.3"), log.emit)))
                await asyncio.sleep(0)
            await within(asyncio.gather(*runs))
            served = sorted(text for log in logs for text in log.texts)
            assert {served.count(str(pid)) for pid in ref.pids} == {3}

    asyncio.run(main())


def test_a_worker_that_is_killed_is_back_soon_and_the_other_serves_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "pid", process=TWO) as ref:
            before = ref.pids
            os.kill(before[0], signal.SIGKILL)
            await until(lambda: ref.pids == before[1:])
            health = await ref.health()
            assert (health.ok, health.detail) == (False, "workers that are being started again: 1")
            assert await said(ref) == [str(before[1])]
            began = time.monotonic()
            await until(lambda: len(ref.pids) == 2)
            assert time.monotonic() - began < 10
            assert (await ref.health()).ok
            assert before[0] not in ref.pids

    asyncio.run(main())


def test_a_run_waits_for_a_worker_where_none_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "pid") as ref:
            [before] = ref.pids
            os.kill(before, signal.SIGKILL)
            await until(lambda: not ref.pids)
            [after] = await said(ref)
            assert [int(after)] == ref.pids != [before]

    asyncio.run(main())


def test_a_run_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 0.1)
    monkeypatch.setattr(crew, "FIRST_PAUSE", 5.0)

    async def main() -> None:
        async with opened(tmp_path, "pid") as ref:
            os.kill(ref.pids[0], signal.SIGKILL)
            await until(lambda: not ref.pids)
            with pytest.raises(AgentUnavailable) as refused:
                await said(ref)
            assert refused.value.message == "agent 'agent' has no worker: it is being started again"

    asyncio.run(main())


@pytest.mark.usefixtures("at_once")
def test_workers_that_end_too_often_are_given_up_with_the_reason(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "exits") as ref:
            for _ in range(crew.MOST_ENDS + 1):
                with pytest.raises(AgentCrashed):
                    await said(ref, "7")
            lost = await within(asyncio.shield(ref.lost))
            assert lost.message == (
                "agent 'agent' (ag.py:exits): its workers ended 6 times within 60 s; "
                "the last one ended with exit code 7"
            )
            assert lost.hint == "see its lines in the log, and mend it, or set enabled = false under [agents.agent]"
            with pytest.raises(AgentUnavailable):
                await said(ref)

    asyncio.run(main())


@pytest.mark.usefixtures("at_once")
def test_a_worker_that_does_not_start_again_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "sometimes") as ref:
            (tmp_path / "broken").touch()
            os.kill(ref.pids[0], signal.SIGKILL)
            lost = await within(asyncio.shield(ref.lost), 60)
            assert lost.message == (
                "agent 'agent' (ag.py:sometimes): its workers ended 6 times within 60 s; the last one did not start: "
                "agent 'agent' (ag.py:sometimes) failed to load: RuntimeError: broken now"
            )

    asyncio.run(main())


def test_of_workers_that_do_not_all_start_none_is_left(tmp_path: Path) -> None:
    (tmp_path / "ag.py").write_text(AGENTS)
    (tmp_path / "broken").touch()

    async def main() -> None:
        with pytest.raises(LoadError, match="broken now"):
            await within(ProcessPlacement(tmp_path).open(spec_of("sometimes", process=ProcessOptions(workers=3))), 60)

    asyncio.run(main())


def test_an_open_that_is_given_up_leaves_no_worker(tmp_path: Path) -> None:
    (tmp_path / "ag.py").write_text(f"open({str(tmp_path / 'begun')!r}, 'w')\nimport time\ntime.sleep(600)\n")

    async def main() -> None:
        opening = asyncio.create_task(ProcessPlacement(tmp_path).open(spec_of("never", load_timeout=600)))
        await until((tmp_path / "begun").exists)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(opening)

    asyncio.run(main())


@pytest.mark.usefixtures("at_once")
def test_a_host_that_has_no_thread_to_spare_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name in {"worker agent", "output of agent"} and thread.name not in refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main() -> None:
        async with opened(tmp_path, "pid") as ref:
            [before] = ref.pids
            monkeypatch.setattr(threading.Thread, "start", no_more)
            os.kill(before, signal.SIGKILL)
            await until(lambda: ref.pids not in ([], [before]))
            assert refused == ["worker agent", "output of agent"]

    asyncio.run(main())


def test_a_close_that_is_given_up_leaves_no_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "pid", process=TWO) as ref:
            pids = ref.pids
            closing = asyncio.create_task(ref.close(5.0))
            await asyncio.sleep(0)
            closing.cancel()
            await until(lambda: not any(map(alive, pids)))
            await asyncio.wait((closing,))

    asyncio.run(main())
