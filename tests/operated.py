"""A host of an agents.toml that a test writes again, and an agent that tells one of its versions from another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agenthost import Health, RunContext
from agenthost.http.app import WebHost, create_app
from tests.agents_for_tests import PATIENCE, within
from tests.serving import agents_toml

LIVES: list[str] = []
"""What `Versioned` has entered and left: `one entered`, `one left`."""

GATES: dict[str, asyncio.Event] = {}
"""What runs wait for, by prompt, once they have said their first word."""

LOADS: asyncio.Event | None = None
"""What `Versioned` waits for before its lifespan is entered, where a test says so."""

LEAVES: asyncio.Event | None = None
"""What it waits for before its lifespan is left, likewise."""


@dataclass
class Settings:
    word: str = "one"
    raises: bool = False
    unwell: str = ""
    pause: float = 0.0
    """Seconds that its lifespan takes to be entered, and to be left."""


class Versioned:
    """Says the word of its settings, waits where a gate stands, and says it again."""

    Settings = Settings

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        if LOADS is not None:
            await LOADS.wait()
        await asyncio.sleep(self.settings.pause)
        if self.settings.raises:
            raise RuntimeError("no backend")
        LIVES.append(f"{self.settings.word} entered")
        yield
        await asyncio.sleep(self.settings.pause)
        if LEAVES is not None:
            await LEAVES.wait()
        LIVES.append(f"{self.settings.word} left")

    async def health(self) -> Health:
        return Health(ok=not self.settings.unwell, detail=self.settings.unwell)

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield self.settings.word
        if ctx.prompt in GATES:
            await GATES[ctx.prompt].wait()
        yield f" {self.settings.word}"


ONE = Versioned(Settings("shared"))
"""An object of which there is no second one."""


def versioned(word: str = "one", *, name: str = "agent", more: str = "", **settings: Any) -> str:
    """The table of a `Versioned` that says `word`; `more` are lines for it."""
    given = {"word": word, **settings}
    values = ", ".join(f"{key} = {'true' if value is True else repr(value)}" for key, value in given.items())
    return f'[agents.{name}]\nuse = "tests.operated:Versioned"\nsettings = {{ {values} }}\n{more}\n'


class Operated:
    """A host, and its agents.toml to be written again."""

    def __init__(self, host: WebHost, folder: Path, server: str) -> None:
        self.host = host
        self.folder = folder
        self._server = server

    def write(self, text: str, *, server: str | None = None, store: str = "memory:") -> None:
        """Write agents.toml; `text` is everything but `[server]` and `[store]`."""
        agents_toml(self.folder, text, server=self._server if server is None else server, store=store)

    async def reload(self, text: str | None = None, **tables: str) -> dict[str, Any]:
        """Write agents.toml, if there is anything to write, and have it in force."""
        if text is not None:
            self.write(text, **tables)
        return await within(self.host.operations.reload("a test"))

    async def quiet(self) -> None:
        """Wait until no version drains any more."""
        async with asyncio.timeout(PATIENCE):
            while self.host.registry.draining.entries:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def operated(folder: Path, text: str, *, server: str = "", dev: bool = True) -> AsyncIterator[Operated]:
    """A started host of that agents.toml."""
    LIVES.clear()
    GATES.clear()
    host = create_app(agents_toml(folder, text, server=server), dev=dev).host
    assert isinstance(host, WebHost)
    await host.start(settle=PATIENCE)
    try:
        yield Operated(host, folder, server)
    finally:
        await within(host.stop(drain=0.0))
