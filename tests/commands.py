"""`agenthost …` as people run it: a process of its own, in a folder, with distributions that only it sees."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

ROOT = Path(__file__).resolve().parents[1]

T = TypeVar("T")

PATIENCE = 40.0
"""Seconds that any of this may take on a busy machine."""

ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]):(\d+)")

ECHO = """
async def agent(ctx):
    for word in ctx.prompt.split():
        yield word + " "
"""

ENDLESS = """
import asyncio

async def agent(ctx):
    while True:
        yield "more "
        await asyncio.sleep(0.01)
"""

KEY = "a-key-of-more-than-16-bytes"
"""What `AGENTHOST_API_KEY` is in these tests."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code and all that it printed."""

    code: int
    out: str
    err: str


def environment(site: Path | None = None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without settings of agenthost or of Python, the checkout and `site` on the module path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTHOST_", "PYTHON"))}
    paths = [str(ROOT), *([str(site)] if site else [])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1", **(more or {})}


def agenthost(
    *arguments: str,
    cwd: Path,
    site: Path | None = None,
    env: Mapping[str, str] | None = None,
    python: Sequence[str] = (sys.executable, "-m", "agenthost"),
) -> Ended:
    """Run one command to its end."""
    done = subprocess.run(
        [*python, *arguments],
        cwd=cwd,
        env=environment(site, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Serving:
    """`agenthost dev` or `agenthost serve` on a free port, within `with`; it serves by then.

    `out` and `err` are what it has printed so far; `stdout` is where stdout goes instead. Unless it is to be `loaded`,
    some agents may be loading yet.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        site: Path | None = None,
        env: Mapping[str, str] | None = None,
        python: Sequence[str] = (sys.executable, "-m", "agenthost"),
        stdout: int = subprocess.PIPE,
        loaded: bool = True,
    ) -> None:
        self._loaded = loaded
        self._command = [*python, *arguments, "--port", "0"]
        self._stdout = stdout
        self._cwd = cwd
        self._env = environment(site, env)
        self._said = {"out": "", "err": ""}
        self._news = threading.Condition()
        self._ended = 0

    def __enter__(self) -> Serving:
        self.process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        pipes = {"out": self.process.stdout, "err": self.process.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=(name, pipe), daemon=True) for name, pipe in pipes.items() if pipe
        ]
        for reader in self._readers:
            reader.start()
        try:
            self.port = int(self.until(lambda: ADDRESS.search(self.err))[1])
            if self._loaded:
                self.until(self._has_loaded)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None and kind is None:
            self.stop()
        self._kill()

    def _has_loaded(self) -> bool:
        """Whether what the summary shows as loading has been tried since."""
        summary, whole, since = self.err.partition("\n  callers  ")
        loading = re.findall(r"^  (\S+) +loading ", summary, re.MULTILINE)
        return not summary.startswith("agenthost ") or (
            bool(whole) and all(f"agent '{name}'" in since for name in loading)
        )

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _read(self, name: str, pipe: IO[str]) -> None:
        for line in pipe:
            with self._news:
                self._said[name] += line
                self._news.notify_all()
        with self._news:
            self._ended += 1
            self._news.notify_all()

    @property
    def out(self) -> str:
        return self._said["out"]

    @property
    def err(self) -> str:
        return self._said["err"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def until(self, there: Callable[[], T]) -> T:
        """Wait until `there()` is true of what was printed, and return it; fails with all that was printed."""
        with self._news:
            self._news.wait_for(lambda: there() or self._ended == len(self._readers), PATIENCE)
            found = there()
        assert found, f"out: {self.out}\nerr: {self.err}"
        return found

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop and return its exit code, once everything it printed has been read."""
        self.process.send_signal(by)
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code
