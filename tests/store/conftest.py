"""Stores on real files, runs to put into them, and a second process to share a file with."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agenthost.events import Entry
from agenthost.store import NewRun, RunEnd, Store
from agenthost.threads import Message

CREATED = 1_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database is."""
    return tmp_path / "agenthost.db"


@pytest.fixture
def open_store(path: Path) -> Iterator[Callable[..., Store]]:
    """Open a store (on `path`, if no URL is given); it is closed when the test ends."""
    opened: list[Store] = []

    def open_it(url: str | None = None, durability: str = "normal") -> Store:
        opened.append(Store.open(url or f"sqlite:///{path}", durability))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, open_store: Callable[..., Store]) -> Store:
    """A store of each kind."""
    return open_store("memory:" if request.param == "memory" else None)


@pytest.fixture
def new_run() -> Callable[..., NewRun]:
    """Make a run of agent `echo` for principal `acme`; ids count up: r1, r2, …"""
    number = count(1)

    def make(thread_id: str | None = None, say: str | None = None, **fields: Any) -> NewRun:
        given = {"run_id": f"r{next(number)}", "agent": "echo", "principal": "acme", "created": CREATED, **fields}
        message = None if say is None else Message.of("user", say)
        return NewRun(thread_id=thread_id, user_message=message, **given)

    return make


@pytest.fixture
def entries() -> Callable[..., list[Entry]]:
    """Make the entries `first` to `last` of a log."""

    def make(first: int, last: int) -> list[Entry]:
        return [
            Entry(seq, "model_chunk", b'{"type":"model_chunk","content":"%d"}' % seq) for seq in range(first, last + 1)
        ]

    return make


@pytest.fixture
def end() -> Callable[..., RunEnd]:
    """Make the end of a run, completed unless told otherwise; `answer` is what the assistant said."""

    def make(run_id: str, answer: str | None = None, **fields: Any) -> RunEnd:
        messages = () if answer is None else (Message.of("assistant", answer),)
        given = {"status": "completed", "stop_reason": "complete", "ended": CREATED + 1, "result": {}, **fields}
        return RunEnd(run_id=run_id, messages=messages, **given)

    return make


class Child:
    """A second Python process, driven line by line: it says something, or waits to be told to go on."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        """The next thing it says; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Let it read a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL: what no program can prepare for."""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> int:
        """Wait for its end; its exit code."""
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Start a second process; it is gone when the test ends."""
    started: list[Child] = []

    def start(code: str, *arguments: object) -> Child:
        started.append(Child(code, *map(str, arguments)))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        for pipe in (one.process.stdin, one.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


async def settle(*waiting: Any) -> list[Any]:
    """Wait for all, at most ten seconds, and return results and exceptions alike."""
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)


@pytest.fixture(name="settle")
def settle_fixture() -> Callable[..., Any]:
    """`settle`, for the tests."""
    return settle


@pytest.fixture
def rows(path: Path) -> Callable[[str], list[Any]]:
    """Ask the file itself, past the store."""

    def ask(sql: str) -> list[Any]:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return ask
