"""What is kept long enough goes by itself, as agents.toml says, while the host serves."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunRequest
from agenthost.config import Config
from agenthost.errors import NotFound
from agenthost.host import Host
from agenthost.protocols import native
from agenthost.retention import keep_tidy
from agenthost.store import NewRun, RunEnd, Store
from agenthost.threads import ThreadKey
from tests.agents_for_tests import ANN, PATIENCE, served, started, within


async def speaks(ctx: Any) -> Any:
    yield ctx.prompt


def test_an_ended_run_goes_after_its_time_and_its_messages_stay(tmp_path: Path):
    async def main() -> None:
        kept = {"url": f"sqlite:///{tmp_path}/store.db", "run_retention": "1s"}
        host = Host(Config.model_validate({"store": kept}), builtins=(native,), specs=[served(speaks)])
        await host.start(settle=PATIENCE)
        try:
            run = await started(host, RunRequest("hello", thread_id="t"))
            await within(run.ended())
            async with asyncio.timeout(PATIENCE):
                while await host.store.get_run(run.id) is not None:
                    await asyncio.sleep(0.05)
            with pytest.raises(NotFound):
                await host.runs.find(host.entries["agent"], ANN, run.id)
            thread = await host.store.get_thread(ThreadKey("ann", "agent", "t"))
            assert thread is not None
            assert [message.text for message in thread.messages] == ["hello", "hello"]
        finally:
            await within(host.stop(drain=0.0))

    asyncio.run(main())


@pytest.mark.fault
def test_a_store_that_refuses_is_told_of_once_and_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Another process that keeps the file locked is waited for three seconds, each time."""

    def told(word: str) -> list[str]:
        return [message for message in caplog.messages if word in message]

    async def main() -> None:
        store = Store.open(f"sqlite:///{tmp_path}/store.db")
        await within(store.start_run(NewRun(run_id="r", agent="a", principal="ann", created=1.0, detached=True)))
        end = RunEnd(run_id="r", status="completed", stop_reason="complete", ended=2.0, result={})
        await within(store.end_run(end))
        holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        tidying = asyncio.create_task(keep_tidy(store, 1.0, 0.0))
        try:
            async with asyncio.timeout(PATIENCE):
                while not told("could not be deleted"):
                    await asyncio.sleep(0.05)
                holder.rollback()
                while await store.get_run("r") is not None:
                    await asyncio.sleep(0.05)
        finally:
            tidying.cancel()
            holder.close()
            store.close()

    with caplog.at_level(logging.INFO, logger="agenthost.store"):
        asyncio.run(main())
    assert len(told("could not be deleted: the store")) == 1
    assert told("deleted what") == ["deleted what was kept long enough: 1 runs, 0 threads; 0 questions have expired"]
