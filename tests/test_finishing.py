"""An end that the store refuses is told to readers at once, and recorded once the store takes it again."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from agenthost.agents import RunRequest
from agenthost.ended_run import EndedRun
from agenthost.errors import StoreError
from agenthost.run import Run
from tests.agents_for_tests import ANN, PATIENCE, Held, events, hosting, kinds, started, thread, within


@pytest.mark.fault
def test_a_run_whose_end_was_refused_is_recorded_when_the_store_is_well(tmp_path: Path) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host, thread())
            await within(held.begun.wait())
            holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            held.go.set()
            found = await events(run)
            assert kinds(found)[-1] == "error"
            assert found[-1]["code"] == "store"
            assert await host.readiness() != []
            in_hand = await host.runs.find(host.entries["agent"], ANN, run.id)
            assert isinstance(in_hand, Run)
            with pytest.raises(StoreError):
                await in_hand.result()
            holder.rollback()
            holder.close()
            async with asyncio.timeout(PATIENCE):
                while not isinstance(await host.runs.find(host.entries["agent"], ANN, run.id), EndedRun):
                    await asyncio.sleep(0.05)
                while await host.readiness():
                    await asyncio.sleep(0.05)
            ended = await host.runs.find(host.entries["agent"], ANN, run.id)
            assert isinstance(ended, EndedRun)
            assert (ended.status, ended.stored.code) == ("failed", "store")
            assert await events(ended) == found  # type: ignore[arg-type]  # both are read alike
            held.go.set()
            assert (await within((await started(host, RunRequest("p", thread_id="t"))).result())).status == "completed"

    asyncio.run(main())
