"""How a durable run's entries reach the store: ahead of the disk by little, shown to readers only once committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agenthost.errors import StoreError
from agenthost.events import Entry
from agenthost.run_log import RunLog
from agenthost.store import Store

AHEAD_EVENTS = 64
AHEAD_BYTES = 64 << 10
"""How far a run may be ahead of the disk: whichever comes first."""

QUIET = 0.25
"""Seconds an entry that no reader waits for may stay unwritten, so that a short run costs two commits and no more."""


class Recorder:
    """One durable run's way to the store; at most one append is under way.

    `refused` is called once, with the error, when the store does not take an append; nothing is written after that.
    """

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_epoch",
        "_failure",
        "_flight",
        "_log",
        "_loop",
        "_pending",
        "_refused",
        "_run_id",
        "_settling",
        "_soon",
        "_store",
        "_timer",
    )

    def __init__(
        self, store: Store, run_id: str, epoch: int, log: RunLog, refused: Callable[[StoreError], None]
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._epoch = epoch
        self._log = log
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._pending: list[Entry] = []
        self._ahead = 0
        self._ahead_bytes = 0
        self._flight: asyncio.Future[None] | None = None
        self._soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._settling = False
        self._failure: StoreError | None = None
        log.on_sleep = self.hurry

    def add(self, entry: Entry) -> None:
        """Take an entry that the log has; write it soon if a reader waits for it, else within `QUIET`."""
        self._pending.append(entry)
        self._ahead += 1
        self._ahead_bytes += len(entry.data)
        self._schedule()

    @property
    def behind(self) -> bool:
        """Whether the run must wait for the disk."""
        return self._ahead >= AHEAD_EVENTS or self._ahead_bytes >= AHEAD_BYTES

    def hurry(self) -> None:
        """A reader waits: write what is pending now."""
        self._schedule(now=True)

    async def room(self) -> None:
        """Wait until the disk has caught up, or the run ends; raises `StoreError` if it refused."""
        while self.behind:
            if not await self._another_commit():
                return

    async def committed(self) -> None:
        """Wait until all that was added is on the disk, or the run ends; raises `StoreError` if it refused."""
        while self._pending or self._flight is not None:
            if not await self._another_commit():
                return

    async def _another_commit(self) -> bool:
        """Wait for the append under way, or start one; False where there will be none. Raises `StoreError`."""
        if self._failure is None and not self._settling:
            self._flush()
            if self._flight is not None:
                await asyncio.wait((self._flight,))
        self.check()
        return not self._settling

    def check(self) -> None:
        """Raise what an append failed with, if one did."""
        if self._failure is not None:
            raise self._failure

    async def settle(self) -> None:
        """Wait for the append under way; what is still to write (`RunLog.hidden`) is for the commit of the end."""
        self._settling = True
        self._log.on_sleep = None
        if self._timer is not None:
            self._timer.cancel()
        while self._flight is not None:
            await asyncio.wait((self._flight,))
        self.check()

    def _schedule(self, *, now: bool = False) -> None:
        if self._settling or self._flight is not None or not self._pending:
            return
        if now or self._log.awaited or self.behind:
            if not self._soon:
                self._soon = True
                self._loop.call_soon(self._flush)
        elif self._timer is None:
            self._timer = self._loop.call_later(QUIET, self._flush)

    def _flush(self) -> None:
        self._soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._settling or self._flight is not None or not self._pending or self._failure is not None:
            return
        entries, self._pending = self._pending, []
        try:
            self._flight = self._store.append(self._run_id, self._epoch, entries)
        except StoreError as closed:
            self._fail(closed)
            return
        self._flight.add_done_callback(lambda done: self._written(done, entries))

    def _written(self, done: asyncio.Future[None], entries: Sequence[Entry]) -> None:
        self._flight = None
        self._ahead -= len(entries)
        self._ahead_bytes -= sum(len(entry.data) for entry in entries)
        if done.cancelled():
            return
        failure = done.exception()
        if failure is None:
            self._log.show(entries[-1].seq)
            self._schedule()
        else:
            self._fail(as_store_error(failure))

    def _fail(self, failure: StoreError) -> None:
        self._failure = failure
        self._refused(failure)


def as_store_error(failure: BaseException) -> StoreError:
    """What the store raised, as the error that ends a run."""
    if isinstance(failure, StoreError):
        return failure
    error = StoreError(f"what the run had to write could not be written: {type(failure).__name__}")
    error.__cause__ = failure
    return error
