"""The interpreter that an agent's worker is started with: the host's own, or one of an environment made when needed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agenthost.agents import AgentSpec, EnvironmentSpec
from agenthost.blame import Blame
from agenthost.entries import AgentEntry
from agenthost.environments.contents import WITHOUT_HOST, environment_name, told
from agenthost.environments.folder import HOME_VARIABLE, Hold, Kept, Made, home, python_of
from agenthost.environments.uv import MISSING, Tell, Uv, UvFailed, end, find_uv, started
from agenthost.errors import HostError

BUILD_LIMIT = 600.0
"""Seconds that making an environment may take, waiting for another host that makes it included."""

OLDEST = (3, 11)
"""The Python that the host's own code needs, in a worker too."""

POLL = 0.2
"""Seconds between looks at a lock that another host holds."""

ASK_VERSION = "import sys; print(*sys.version_info[:3], sep='.')"

ASKING = 30.0
"""Seconds that an interpreter may take to tell its version."""

log = logging.getLogger("agenthost.environments")


def _log(agent: str, what: str) -> None:
    log.info("agent '%s': %s", agent, what, extra={"agent": agent})


class Environments:
    """Makes environments and keeps those it gave out from being removed, until `close`.

    `limit` is how many seconds making one may take, None: as many as it takes. `announce` takes an agent's name and
    what is done for it, for each step.
    """

    def __init__(
        self,
        *,
        limit: float | None = BUILD_LIMIT,
        announce: Callable[[str, str], None] = _log,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.announce = announce
        self._limit = limit
        self._environ = environ
        self._given: dict[EnvironmentSpec, Kept] = {}
        self._held: dict[Path, Hold] = {}

    async def prepare(self, entry: AgentEntry) -> None:
        """Have the environment of an agent that is about to load; meanwhile its reason says how far that is.

        Raises `LoadError`.
        """

        def tell(what: str) -> None:
            if entry.state == "loading":
                entry.reason = HostError(what)

        await self.interpreter(entry.spec, tell)
        if entry.state == "loading":
            entry.reason = None

    async def interpreter(self, spec: AgentSpec, tell: Tell | None = None) -> Path:
        """Return the Python to start this agent's worker with: the host's own where it has no environment.

        Makes the environment if it is not there, which may take long; `tell` takes each step. Two that want the same
        one, in this process or another, make it once. What is made by half (a host that was killed) is made again.
        Raises `LoadError`, with uv's own words where it failed. Cancelled, it ends uv.
        """
        environment = spec.environment
        if environment is None:
            return Path(sys.executable)
        blame = Blame(
            f"agent '{spec.name}' ({told(environment)})",
            otherwise=f"set enabled = false under [agents.{spec.name}]",
        )
        limit = asyncio.timeout(self._limit)
        try:
            if environment.venv is not None:
                return await _existing(Path(environment.venv))
            async with limit:
                return await self._kept(spec.name, environment, tell or (lambda _what: None))
        except _Unusable as unusable:
            raise blame.error(str(unusable), unusable.hint) from None
        except UvFailed as failed:
            problem = blame.error(f"its environment cannot be made: uv: {failed.reason}", _MEND.format(spec.name))
            problem.traceback = failed.output if failed.cut else None
            raise problem from None
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            reason = f"its environment cannot be made:{where}: {error.strerror or error}"
            hint = f"name a folder that can be written to in {HOME_VARIABLE}"
            if limit.expired():  # a TimeoutError is an OSError too
                reason = f"making its environment took longer than {self._limit:g} s"
                hint = f"make it ahead, without a limit: agenthost env build {spec.name}"
            raise blame.error(reason, hint) from None

    def keep_only(self, specs: Iterable[AgentSpec]) -> None:
        """Let go of the environments that none of these agents has: from now on they may be removed."""
        asked = {spec.environment for spec in specs}
        self._given = {environment: kept for environment, kept in self._given.items() if environment in asked}
        for path in self._held.keys() - {kept.path for kept in self._given.values()}:
            self._held.pop(path).release()

    def close(self) -> None:
        """Let go of all environments that were given out; they stay where they are."""
        self.keep_only(())

    async def _kept(self, agent: str, environment: EnvironmentSpec, tell: Tell) -> Path:
        """Return the interpreter of an environment that is whole and held; makes it, or waits until another has."""
        kept = self._place(environment)
        while kept.made() is None or kept.path not in self._held:
            if former := self._held.pop(kept.path, None):
                former.release()  # of an environment that somebody removed by hand
            alone = kept.made() is None
            hold = kept.hold(alone=alone)
            if hold is None:
                tell(f"waits for its environment {kept.name}, which is being made or removed")
                await asyncio.sleep(POLL)
                continue
            try:
                if alone and kept.made() is None:
                    await self._make(agent, kept, environment, tell, hold)
                hold.share()
            except BaseException:
                hold.release()
                raise
            self._held[kept.path] = hold
        self._given[environment] = kept
        return kept.python

    def _place(self, environment: EnvironmentSpec) -> Kept:
        """Where it is, or is to be made: once given out it stays the same, also where a lock file changed meanwhile."""
        given = self._given.get(environment)
        if given is not None and given.made() is not None:
            return given
        if environment.lock is not None and not Path(environment.lock).is_file():
            raise _Unusable(f"there is no lock file {environment.lock}", "write it as seen from agents.toml")
        return Kept(home(Path(environment.folder), self._environ) / environment_name(environment))

    async def _make(self, agent: str, kept: Kept, environment: EnvironmentSpec, tell: Tell, hold: Hold) -> None:
        uv = find_uv()
        if uv is None:
            raise _Unusable("its environment is made with uv, which is not installed", MISSING)
        run = Uv(uv, Path(environment.folder), self._environ).run
        began = time.time()

        def step(what: str) -> None:
            tell(f"is making its environment {kept.name}: {what}")
            self.announce(agent, f"environment {kept.name}: {what}")

        step(told(environment))
        await _in_thread(kept.clear)
        await run(
            *("venv", "--no-project", "--python", sys.executable, str(kept.venv)), tell=step, holding=hold.descriptor
        )
        arguments, given = _install(kept, environment)
        await run(*arguments, tell=step, given=given, holding=hold.descriptor)
        took = time.time() - began
        kept.mark(Made(told(environment), ".".join(map(str, sys.version_info[:3])), began, round(took, 1)))
        step(f"made in {took:.1f} s")


_MEND = "mend environment under [agents.{}]"


class _Unusable(Exception):
    """Why there is no interpreter, and what to do."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.hint = hint


def _install(kept: Kept, environment: EnvironmentSpec) -> tuple[list[str], str]:
    """What uv is asked to do in an environment that is empty, and what it reads: an address may hold a password."""
    python = ["--python", str(kept.python)]
    if environment.lock is not None:
        return ["pip", "sync", *python, environment.lock], ""
    overrides = kept.path / "overrides.txt"
    overrides.write_text(WITHOUT_HOST)
    lines = "".join(f"{line}\n" for line in environment.requirements)
    return ["pip", "install", *python, "--override", str(overrides), "--requirement", "-"], lines


async def _in_thread(work: Callable[[], None]) -> None:
    """Have a thread do it to its end, waited for also by whoever is cancelled: the lock is held no longer than that."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    finally:
        if not task.done():
            await asyncio.wait((task,))


async def _existing(venv: Path) -> Path:
    """Return the interpreter of an environment that somebody else made, which must be new enough."""
    python = _python_in(venv)
    version = await _version(python)
    if version is None:
        raise _Unusable(f"its environment's {python} does not run", f"make it anew: uv venv --clear {venv}")
    if version < OLDEST:
        found, needed = (".".join(map(str, one)) for one in (version, OLDEST))
        raise _Unusable(
            f"its environment {venv} has Python {found}; a worker needs {needed}",
            f"make it anew: uv venv --clear --python {needed} {venv}",
        )
    return python


def _python_in(venv: Path) -> Path:
    python = python_of(venv)
    if not python.is_file():
        what = "has no bin/python" if venv.is_dir() else "does not exist"
        raise _Unusable(f"its environment {venv} {what}", f"make it: uv venv {venv}, and install the agent there")
    return python


async def _version(python: Path) -> tuple[int, ...] | None:
    """Ask an interpreter for its version; None where it does not answer with one."""
    try:
        process = await started(
            *(python, "-I", "-S", "-c", ASK_VERSION),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(ASKING):
            answer, _ = await process.communicate()
        return tuple(int(part) for part in answer.decode().split("."))
    except (TimeoutError, ValueError):
        return None
    finally:
        await end(process)
