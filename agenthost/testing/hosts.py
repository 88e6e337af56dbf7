"""A real host for a plugin's own tests: `agenthost dev` or `serve` in a process of its own, on a free port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

LOOK = 0.02
"""Seconds between two looks at whether a host serves."""

_ADDRESS = re.compile(r" · (http://\S+)")


class HostProcess:
    """A host in a process of its own; made by `serving`."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.url = ""
        """Its address, without a slash at the end."""
        self._log = tempfile.NamedTemporaryFile(prefix="agenthost-", suffix=".log")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(  # noqa: S603 - the command is `serving`'s own
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def log(self) -> str:
        """What the host has written so far, to stdout and stderr."""
        return Path(self._log.name).read_text(errors="replace")

    def wait_until_ready(self, within: float) -> None:
        """Wait until every required agent serves.

        Raises `RuntimeError` if the host ends, `TimeoutError` after `within` seconds, both with what it has said.
        """
        end = time.monotonic() + within
        while not self._is_ready():
            if not self.is_running:
                raise RuntimeError(f"the host ended with code {self._process.returncode}:\n{self.log()}")
            if time.monotonic() > end:
                raise TimeoutError(f"the host was not ready within {within:g} s:\n{self.log()}")
            time.sleep(LOOK)

    def _is_ready(self) -> bool:
        found = _ADDRESS.search(self.log())
        if found is None:
            return False
        self.url = found[1]
        return httpx.get(f"{self.url}/health/ready", trust_env=False).status_code == httpx.codes.OK

    def stop(self, within: float = 30.0) -> int:
        """Stop it in order, as SIGTERM does, and return its exit code. Raises `TimeoutError` after `within` seconds."""
        self._process.terminate()
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the host did not stop within {within:g} s:\n{self.log()}") from None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it if it has not ended, and forget its log."""
        if self.is_running:
            self.kill()
        self._log.close()


@contextmanager
def serving(
    what: Path | str,
    *,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    dev: bool = True,
    arguments: Sequence[str] = (),
    within: float = 60.0,
) -> Iterator[HostProcess]:
    """Serve an agents.toml, or one object of a file, inside `with`; yields the host once every required agent is ready.

    `what` is the path of an agents.toml, or `FILE.py:OBJECT` (with `dev` only), relative to `folder`: by default the
    folder of that agents.toml, else this process's. `env` is added to this process's environment. With `dev` no key is
    needed; without, the host serves as in production. `arguments` are further ones of the command line. At the end of
    `with` the host is stopped in order, if it still runs.

    Raises `RuntimeError` with what the host has said if it ends, `TimeoutError` if it is not ready within `within`
    seconds.
    """
    named = ["--config", str(what.absolute())] if isinstance(what, Path) else [what]
    command = [sys.executable, "-m", "agenthost", *(("dev", "--no-reload") if dev else ("serve",)), *named]
    command += ["--port", "0", *arguments]
    where = folder or (what.absolute().parent if isinstance(what, Path) else Path.cwd())
    host = HostProcess(command, where, {**os.environ, **(env or {})})
    try:
        host.wait_until_ready(within)
        yield host
        if host.is_running:
            host.stop()
    finally:
        host.close()
