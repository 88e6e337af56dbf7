"""The workers of one agent: started again when they end, but not too often; the least busy one gets the next run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from agenthost.agents import AgentInfo
from agenthost.blame import summary
from agenthost.errors import AgentCrashed, AgentUnavailable, HostError, LoadError
from agenthost.placement.worker_link import WorkerLink

FIRST_PAUSE = 0.5
"""Seconds after which a worker that has ended is started again; twice as many after each start that fails."""

LONGEST_PAUSE = 30.0
MOST_ENDS = 5
"""Ends of workers within `WINDOW` seconds; with one more the agent is lost."""

WINDOW = 60.0

PATIENCE = 2.0
"""Seconds that a run waits for a worker where all are being started again."""

Start = Callable[[Callable[[WorkerLink], None]], Awaitable[WorkerLink]]
"""Starts one worker, which calls what is given once it goes out of use; raises as `WorkerLink.start`."""

log = logging.getLogger("agenthost.placement")


class Crew:
    """`size` workers of the agent that a sentence calls `subject`; `lost` is done once they are given up."""

    def __init__(self, name: str, subject: str, size: int, start: Start) -> None:
        self.lost: asyncio.Future[HostError] = asyncio.get_running_loop().create_future()
        self.info = AgentInfo()
        self.found: tuple[str | None, str | None] = (None, None)
        """What the agent says of itself, once the workers are there."""
        self._name = name
        self._subject = subject
        self._size = size
        self._start = start
        self._up: list[WorkerLink] = []
        self._leaving: list[WorkerLink] = []
        self._ends: deque[float] = deque()
        self._keepers: list[asyncio.Task[None]] = []
        self._change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = False

    @property
    def workers(self) -> tuple[WorkerLink, ...]:
        """Those that take runs."""
        return tuple(self._up)

    @property
    def missing(self) -> int:
        """How many are being started again."""
        return self._size - len(self._up)

    async def assemble(self) -> None:
        """Start them all, side by side; raises what the first that failed did, and then leaves none behind."""
        starts = [asyncio.ensure_future(self._start(self._dismiss)) for _ in range(self._size)]
        try:
            links = await asyncio.gather(*starts)
        except BaseException:
            for one in starts:
                one.cancel()
            done = await asyncio.gather(*starts, return_exceptions=True)
            await asyncio.gather(*(link.end() for link in done if isinstance(link, WorkerLink)))
            raise
        self.info, self.found = links[0].info, links[0].found
        for link in links:
            self._welcome(link)
            self._keepers.append(asyncio.create_task(self._keep(link), name=f"worker of {self._name}"))

    async def free(self) -> WorkerLink:
        """The worker that has the least to do; waits where there is none. Raises `AgentUnavailable`."""
        up = self._up
        if len(up) == 1:
            return up[0]
        if not up:
            await self._wait_for_one()
        return min(self._up, key=lambda link: link.busy)

    async def _wait_for_one(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._up:
                    if self.lost.done() or self._closing:
                        break
                    await asyncio.shield(self._change)
        except TimeoutError:
            pass
        if not self._up:
            raise AgentUnavailable(f"agent '{self._name}' has no worker: it is being started again", retry_after=2.0)

    def _welcome(self, link: WorkerLink) -> None:
        if not link.gone.done():
            self._up.append(link)
        self._changed()

    def _changed(self) -> None:
        change, self._change = self._change, asyncio.get_running_loop().create_future()
        change.set_result(None)

    def _dismiss(self, link: WorkerLink) -> None:
        """It is out of use: it takes no run from here on, and another takes its place."""
        if link in self._up:
            self._up.remove(link)
        if link.retired:
            self._see_off(link)
        self._changed()

    def _see_off(self, link: WorkerLink) -> None:
        """A run in it does not hear that it is cancelled: it goes once its other runs have ended."""
        log.warning(
            "%s: a run does not end when it is cancelled; its worker is replaced",
            self._subject,
            extra={"agent": self._name},
        )
        self._leaving = [one for one in self._leaving if not one.gone.done()]
        while len(self._leaving) >= self._size:
            self._leaving.pop(0).kill()
        self._leaving.append(link)

    async def _keep(self, link: WorkerLink) -> None:
        """Have another worker in this one's place whenever it ends, or goes out of use."""
        while True:
            while not link.gone.done() and not link.retired:
                await asyncio.wait((link.gone, self._change), return_when=asyncio.FIRST_COMPLETED)
            if not link.retired:
                if not self._may_go_on(link.gone.result()):
                    return
                await asyncio.sleep(FIRST_PAUSE)
            again = await self._start_again()
            if again is None:
                return
            link = again
            self._welcome(link)
            log.info("%s has a worker again", self._subject, extra={"agent": self._name})

    def _may_go_on(self, words: str) -> bool:
        """Note that a worker has ended, or did not start; False where that has happened too often."""
        now = time.monotonic()
        self._ends.append(now)
        while now - self._ends[0] > WINDOW:
            self._ends.popleft()
        log.warning("%s: its worker %s", self._subject, words, extra={"agent": self._name})
        if len(self._ends) <= MOST_ENDS:
            return True
        problem = AgentCrashed(
            f"{self._subject}: its workers ended {len(self._ends)} times within {WINDOW:g} s; the last one {words}",
            hint=f"see its lines in the log, and mend it, or set enabled = false under [agents.{self._name}]",
        )
        if not self.lost.done():
            self.lost.set_result(problem)
        self._changed()
        return False

    async def _start_again(self) -> WorkerLink | None:
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._start(self._dismiss)
            except Exception as failed:  # noqa: BLE001 - whatever it is, another start may go well, and nobody else tries
                told = failed.message if isinstance(failed, LoadError) else summary(failed)
                if not self._may_go_on(f"did not start: {told}"):
                    return None
            pause = min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def close(self, grace: float) -> None:
        """End them all, within `grace` seconds for their lifespans; raises what leaving one raised."""
        self._closing = True
        for keeper in self._keepers:
            keeper.cancel()
        try:
            await asyncio.gather(*self._keepers, *(link.end() for link in self._leaving), return_exceptions=True)
        finally:  # also where whoever closes is cancelled
            self._changed()
            left = await asyncio.gather(*(link.close(grace) for link in self._up), return_exceptions=True)
        failures = [failure for failure in left if isinstance(failure, Exception)]
        if failures:
            raise failures[0]
