"""Worker processes: what they are given, how they end, and that nothing of them is left behind."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from agenthost.placement.spawning import INHERITED, LOADER, WorkerProcess, ended, environment
from tests.agents_for_tests import until, within

PYTHON = Path(sys.executable)


class Watched:
    """A process whose end and whose output are kept."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.heard = bytearray()
        self.process = WorkerProcess("watched", self.ends.append, self.heard.extend)


def test_a_worker_gets_a_few_variables_of_the_host_and_its_own() -> None:
    hosts = {"PATH": "/bin", "HOME": "/h", "https_proxy": "p", "AGENTHOST_API_KEY": "secret", "PYTHONPATH": "x"}
    assert environment({"REGION": "eu", "HOME": "/own"}, hosts) == {
        "PATH": "/bin", "HOME": "/own", "https_proxy": "p", "REGION": "eu",
    }  # fmt: skip
    assert not [name for name in INHERITED if name.startswith(("AGENTHOST", "PYTHON", "LD_", "DYLD"))]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (7, "ended with exit code 7"),
        (-9, "was ended by SIGKILL"),
        (-64, "was ended by SIGRTMAX"),
        (-99, "was ended by signal 99"),
    ],
)
def test_how_a_process_ended_in_words(code: int, words: str) -> None:
    assert ended(code) == words


def test_what_a_worker_begins_with_is_short_and_names_no_path() -> None:
    assert len(LOADER.splitlines()) <= 13
    assert "/" not in LOADER.replace('"/__init__.py"', "")


def test_a_process_that_is_killed_tells_how_it_ended_and_its_output_ends() -> None:
    async def main() -> None:
        watched = Watched()
        connection = await within(watched.process.start(PYTHON, {}))
        with connection:
            assert not os.get_inheritable(connection.fileno())
            os.kill(watched.process.pid, signal.SIGKILL)
            await until(lambda: watched.ends)
            assert watched.ends == ["was ended by SIGKILL"]
            assert connection.recv(1) == b""
            watched.process.kill()  # nobody is there any more
            with pytest.raises(ProcessLookupError):
                os.kill(watched.process.pid, 0)

    asyncio.run(main())


def test_a_kill_ends_what_the_worker_has_started_as_well(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\n{sys.executable} -c "import time; print(1, flush=True); time.sleep(600)"\n')
    program.chmod(0o755)

    async def main() -> None:
        watched = Watched()
        with await within(watched.process.start(program, {"PATH": os.environ["PATH"]})):
            await until(lambda: watched.heard)
            group = os.getpgid(watched.process.pid)
            assert group == watched.process.pid
            watched.process.kill()
            await until(lambda: watched.ends)
            await until(lambda: not _has_members(group))

    asyncio.run(main())


def test_what_a_worker_has_started_ends_with_it(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nsleep 600 &\necho begun\nexit 5\n")
    program.chmod(0o755)

    async def main() -> None:
        watched = Watched()
        with await within(watched.process.start(program, {"PATH": os.environ["PATH"]})):
            await until(lambda: watched.ends)
            assert watched.ends == ["ended with exit code 5"]
            await until(lambda: not _has_members(watched.process.pid))

    asyncio.run(main())


def _has_members(group: int) -> bool:
    """Whether a process of this group is alive: what has ended may wait for its parent to take note of it."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, member_of = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(member_of) == group and state != "Z":
            return True
    return False


def test_an_interpreter_that_is_not_there_is_an_os_error() -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await within(Watched().process.start(Path("/nowhere/python"), {}))

    asyncio.run(main())


def test_a_start_that_is_given_up_leaves_no_process() -> None:
    async def main() -> None:
        watched = Watched()
        start = asyncio.create_task(watched.process.start(PYTHON, {}))
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await until(lambda: watched.ends)
        assert watched.ends == ["was ended by SIGKILL"]

    asyncio.run(main())


def test_a_python_that_is_too_old_says_so(tmp_path: Path) -> None:
    old = LOADER.replace("(3, 11)", "(99, 0)")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c \'{old}\' "$5" "$6" "$7" "$8"\n')
    program.chmod(0o755)

    async def main() -> None:
        watched = Watched()
        with await within(watched.process.start(program, {})):
            await until(lambda: watched.ends and watched.heard)
            assert watched.ends == ["ended with exit code 1"]
            assert watched.heard.startswith(b"agenthost needs Python 3.11 or later, and this is ")

    asyncio.run(main())


def test_a_host_without_descriptors_to_spare_is_told_so_and_loses_none() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        before = open_descriptors()
        for spare in range(6):  # it takes a socket's two ends, a pipe's, and what `subprocess` takes for a moment
            watched = Watched()
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free() + spare, hard[1]))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    await within(watched.process.start(PYTHON, {}))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, hard)
            await until(lambda: open_descriptors() == before)

    asyncio.run(main())


def open_descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


def first_free() -> int:
    free = os.dup(0)
    os.close(free)
    return free
