"""Reloads under load: nobody who calls an agent that stays ever notices, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import KEY, Serving

pytestmark = pytest.mark.fault

RELOADS = int(os.environ.get("RELOADS", "20"))
"""In CI. By hand 200 of them: `RELOADS=200 uv run pytest -s -m fault tests/journeys/test_reload.py`."""

BROKEN_EVERY = 10
CALLERS = 12

APP = '''
import asyncio
import os
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class Settings:
    word: str = "first"
    raises: bool = False


class Word:
    """Says its word ten times. Alive it has a descriptor, a thread and a task."""

    Settings = Settings

    def __init__(self, settings):
        self.settings = settings
        self.alive = False

    @asynccontextmanager
    async def lifespan(self):
        if self.settings.raises:
            raise RuntimeError("no backend")
        ends = threading.Event()
        thread = threading.Thread(target=ends.wait, daemon=True)
        thread.start()
        task = asyncio.create_task(asyncio.Event().wait())
        with open(__file__):
            self.alive = True
            yield
            self.alive = False
        task.cancel()
        ends.set()

    async def run(self, ctx):
        for _ in range(10):
            assert self.alive
            yield self.settings.word + " "
            await asyncio.sleep(0.02)


async def census(ctx):
    threads = os.listdir("/proc/self/task")
    return {
        "processes": sum(len(open(f"/proc/self/task/{thread}/children").read().split()) for thread in threads),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
    }
'''

SERVER = '[server]\ndrain = "5s"\n[store]\nurl = "sqlite:///runs.db"\n'
BREAKAGES = (
    "[agents",
    '[agents.broken]\nuse = "app.py:Word"\nplacment = 1\n',
    '[agents.broken]\nuse = "app.py:Word"\nsettings = { raises = true }\n',
    '[agents.broken]\nuse = "app.py:Wrod"\n',
    '[agents.broken]\nuse = "app.py:Word"\nsettings = { wrod = "x" }\n',
)


def toml(number: int, *, broken: str = "") -> str:
    """The file as the reload of that number reads it: three agents change, one stays, one comes and one goes.

    One that changes, and every fifth of those that come, run in a process of their own.
    """
    agents = {
        "changes-apart": f'settings = {{ word = "w{number}" }}\nplacement = "process"\n',
        "changes": f'settings = {{ word = "w{number}" }}\ntimeout = "{60 + number}s"\n',
        "also-changes": f'settings = {{ word = "w{number}" }}\nconcurrency = {64 + number % 7}\n',
        "stays": 'settings = { word = "stays" }\n',
        f"comes-{number}": f'settings = {{ word = "w{number}" }}\nrequired = false\n',
    }
    if number % 5 == 0:
        agents[f"comes-{number}"] += 'placement = "process"\n'
    tables = "".join(f'[agents.{name}]\nuse = "app.py:Word"\n{more}' for name, more in agents.items())
    return SERVER + tables + '[agents.census]\nuse = "app.py:census"\n' + broken


class Callers:
    """Clients that call the agents that stay, again and again, and note all that they would not expect."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.answered: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def __aenter__(self) -> Callers:
        self._over = False
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]
        return self

    async def __aexit__(self, *_raised: object) -> None:
        self._over = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)

    async def _call(self, number: int) -> None:
        agent = ("changes", "also-changes", "stays", "changes-apart")[number % 4]
        way = (self._invoke, self._stream, self._run)[number // 4 % 3]
        turn = 0
        while not self._over:
            turn += 1
            try:
                words = await way(agent, {"prompt": "go", **({"thread_id": f"t{number}"} if number % 3 else {})})
            except Exception as raised:
                self.wrong.append(f"{agent}: {raised!r}")
                await asyncio.sleep(0.05)
                continue
            if len(words) != 10 or len(set(words)) != 1:
                self.wrong.append(f"{agent}: {words}")
            self.answered[agent] += 1

    async def _invoke(self, agent: str, body: dict[str, Any]) -> list[str]:
        reply = await self._client.post(f"/agents/{agent}/invoke", json=body)
        assert reply.status_code == 200, reply.text
        message: str = reply.json()["message"]
        return message.split()

    async def _stream(self, agent: str, body: dict[str, Any]) -> list[str]:
        words, kinds = [], []
        async with self._client.stream("POST", f"/agents/{agent}/stream", json=body) as reply:
            assert reply.status_code == 200, await reply.aread()
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    kinds.append(event["type"])
                    words += event["content"].split() if event["type"] == "model_chunk" else []
        assert kinds[-1] == "done", kinds
        return words

    async def _run(self, agent: str, body: dict[str, Any]) -> list[str]:
        """In the background; asked after until it has ended."""
        begun = await self._client.post(f"/agents/{agent}/runs", json=body)
        assert begun.status_code == 202, begun.text
        while True:
            run = (await self._client.get(begun.headers["location"])).json()
            if "ended" in run:
                assert run["status"] == "completed", run
                message: str = run["message"]
                return message.split()
            await asyncio.sleep(0.05)


async def said(client: httpx.AsyncClient, agent: str) -> set[str]:
    reply = await client.post(f"/agents/{agent}/invoke", json={"prompt": "go"})
    assert reply.status_code == 200, reply.text
    return set(reply.json()["message"].split())


async def census(client: httpx.AsyncClient) -> dict[str, int]:
    """What the host's process has, once nothing drains any more."""
    async with asyncio.timeout(30):
        while (await client.get("/health")).json()["draining"]:
            await asyncio.sleep(0.1)
    counted: dict[str, int] = (await client.post("/agents/census/invoke", json={"prompt": "x"})).json()["output"]
    return counted


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    (folder / "app.py").write_text(APP)
    (folder / "agents.toml").write_text(toml(0))
    with Serving("serve", "--no-access-log", cwd=folder, env={"AGENTHOST_API_KEY": KEY}) as host:
        headers = {"authorization": f"Bearer {KEY}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=2 * CALLERS)
        async with httpx.AsyncClient(
            base_url=host.url, headers=headers, timeout=30, trust_env=False, limits=limits
        ) as client:
            yield host, client


def test_reloads_under_load_are_noticed_by_nobody_who_calls_an_agent_that_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (_host, client):
            async with Callers(client) as callers:
                for number in range(1, 6):
                    await reload(client, tmp_path, number)
            before = await census(client)
            serving = 5
            async with Callers(client) as callers:
                for number in range(6, 6 + RELOADS):
                    if number % BROKEN_EVERY == 0:
                        broken = BREAKAGES[number // BROKEN_EVERY % len(BREAKAGES)]
                        await refused(client, tmp_path, number, broken)
                    else:
                        await reload(client, tmp_path, number)
                        gone = await client.post(f"/agents/comes-{serving}/invoke", json={"prompt": "go"})
                        assert gone.status_code == 404
                        serving = number
                    if number % 7 == 0:
                        for agent in ("changes", "changes-apart"):
                            assert await said(client, agent) == {f"w{serving}"}
                        assert await said(client, f"comes-{serving}") == {f"w{serving}"}
            after = await census(client)
            print(f"{sum(callers.answered.values())} runs during {RELOADS} reloads; before {before}, after {after}")
            assert callers.wrong == []
            assert min(callers.answered.values()) > RELOADS // 20
            assert after["processes"] <= before["processes"]
            assert after["tasks"] <= before["tasks"]
            assert after["descriptors"] <= before["descriptors"] + 2
            assert after["threads"] <= before["threads"] + 2

    asyncio.run(main())


async def reload(client: httpx.AsyncClient, folder: Path, number: int) -> None:
    (folder / "agents.toml").write_text(toml(number))
    reply = await client.post("/admin/reload")
    assert reply.status_code == 200, reply.text
    report = reply.json()
    assert report["added"] == [f"comes-{number}"]
    assert report["changed"].keys() == {"also-changes", "changes", "changes-apart"}


async def refused(client: httpx.AsyncClient, folder: Path, number: int, broken: str) -> None:
    (folder / "agents.toml").write_text(toml(number, broken=broken))
    reply = await client.post("/admin/reload")
    assert (reply.status_code, reply.json()["code"]) == (422, "reload_failed")
