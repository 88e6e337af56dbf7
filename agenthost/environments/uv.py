"""uv, found and run: what it says is passed on as it goes, why it failed is kept, and nobody's password is told."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sysconfig
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agenthost.config.redaction import Redactor
from agenthost.config.secret_names import is_secret

MAX_LINES = 200
"""Lines of uv's words that are kept, the last ones."""

LONGEST_LINE = 1 << 22
"""Bytes of a line that uv may say."""

MAX_REASON = 600
"""Characters of uv's reason in a one-line message; the kept lines have the rest."""

MISSING = "pip install 'agenthost[envs]'"
"""What brings uv."""

_NOT_FOR_UV = re.compile("AGENTHOST_.*|PYTHON[A-Z]*|VIRTUAL_ENV|CONDA_PREFIX|UV_(?:PYTHON|SYSTEM_PYTHON|OVERRIDE)")
_LOGIN = re.compile(r"://(?:([^\s/:@]*):)?([^\s/@]+)@")
_CAUSE = re.compile(r":?\n\s*(?:[╰├]─▶|cause:|Caused by:) ")
_DRAWN = re.compile(r"^[\s×╰├─▶│]+", re.MULTILINE)
_NO_STEP = re.compile(r"\s*$|\s*[+~-] |warning:|Using |Activate |Creating ")
_FAILURE = re.compile(r"\s*(?:error\b|×)")

Tell = Callable[[str], None]
"""Takes a line about what is going on."""


class UvFailed(Exception):
    """uv ended without doing what it was to do: its reason in a line, perhaps `cut`, and in `output` all it said."""

    def __init__(self, reason: str, output: str) -> None:
        super().__init__(reason)
        self.cut = len(reason) > MAX_REASON
        self.reason = f"{reason[: MAX_REASON - 1]}…" if self.cut else reason
        self.output = output


def find_uv() -> str | None:
    """Return the path of uv: the one that pip installed beside this Python, else the first on PATH; None without."""
    return shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv")


class Uv:
    """uv at `path`, run in `folder`, where its own settings are looked for and relative paths count from."""

    def __init__(self, path: str, folder: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._path = path
        self._folder = folder
        self._environ = uv_environment(environ)
        self._redactor = Redactor(_passwords(self._environ))

    async def run(self, *arguments: str, tell: Tell, given: str = "", holding: int | None = None) -> None:
        """Run it to the end; `given` is what it reads from stdin, `tell` takes each line about its progress.

        Cancelled, it ends with all that it has started. It has the descriptor `holding` as well: a lock is then held
        until uv has ended, also where the host is killed before. Raises `UvFailed`, and `OSError` if it cannot start.
        """
        process = await self._start(arguments, () if holding is None else (holding,))
        assert process.stdin is not None
        assert process.stderr is not None
        said: deque[str] = deque(maxlen=MAX_LINES)
        failing = False
        try:
            process.stdin.write(given.encode())
            process.stdin.close()
            async for line in process.stderr:
                text = self._redactor.text(line.decode(errors="replace").rstrip())
                said.append(text)
                failing = failing or _FAILURE.match(text) is not None
                if not failing and not _NO_STEP.match(text):
                    tell(text.strip())
            code = await process.wait()
        finally:
            await end(process)
        if code:
            output = "\n".join(said)
            raise UvFailed(reason_of(output) or f"it ended with code {code}", output)

    async def _start(self, arguments: Sequence[str], descriptors: Sequence[int]) -> asyncio.subprocess.Process:
        return await started(
            self._path,
            *arguments,
            "--color=never",
            cwd=self._folder,
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            pass_fds=descriptors,
        )


async def started(*command: str | Path, **options: Any) -> asyncio.subprocess.Process:
    """Start a process that leads a session of its own; the options are those of `asyncio.create_subprocess_exec`.

    Cancelled, it is ended: asyncio itself would forget the pipes of a process that is just being started. Raises
    `OSError`.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, start_new_session=True, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(OSError):
            await end(await starting)
        raise


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process with all that it has started, if it still goes on, and read what it has said to the end."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that uv and what it builds get: the host's, without secrets that are not uv's own."""
    return {
        name: value
        for name, value in environ.items()
        if not _NOT_FOR_UV.fullmatch(name) and (name.startswith("UV_") or not is_secret(name))
    }


def reason_of(output: str) -> str:
    """What uv said it failed for, as one line: from its first error on."""
    lines = output.splitlines()
    first = next((at for at, line in enumerate(lines) if _FAILURE.match(line)), len(lines))
    text = _CAUSE.sub(": ", "\n".join(lines[first:]))
    return " ".join(_DRAWN.sub("", text).removeprefix("error: ").split())


def _passwords(environ: Mapping[str, str]) -> set[str]:
    """What stands as a password in uv's own variables, alone or inside an address."""
    named = {value for name, value in environ.items() if name.startswith("UV_") and is_secret(name)}
    inside = {found for value in environ.values() for found in _LOGIN.findall(value)}
    return named | {part for pair in inside for part in pair[1:]}
