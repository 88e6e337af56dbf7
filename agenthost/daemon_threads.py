"""Blocking agents on daemon threads of their own, their events handed to the loop: never the loop's own thread pool.

A thread that never comes back holds only its place here; the process can still exit.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from agenthost.contained_tasks import work_on_thread

AHEAD = 64
"""How many events a generator may be ahead of its reader."""

IDLE = 10.0
"""Seconds a thread waits for more work before it ends."""


class DaemonThreads:
    """At most `limit` daemon threads, started when needed; jobs beyond that wait their turn."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._jobs: deque[Callable[[], None]] = deque()
        self._change = threading.Condition()
        self._idle = 0
        self._threads = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` on a thread; it must not raise. Raises `RuntimeError` where no thread can be had at all."""
        with self._change:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._change.notify()
                return
            if self._threads >= self._limit:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            self._undo(job)
            raise

    def _undo(self, job: Callable[[], None]) -> None:
        """The thread did not start: forget it, and its job unless another thread has taken that."""
        with self._change:
            self._threads -= 1
            if job in self._jobs:
                self._jobs.remove(job)

    def _work(self) -> None:
        while True:
            with self._change:
                self._idle += 1
                arrived = self._change.wait_for(lambda: self._jobs, timeout=IDLE)
                self._idle -= 1
                if not arrived:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
            job()
            del job  # or an idle thread keeps the last run's objects alive


class Bridge:
    """One blocking iterator, run on a thread, read on the loop; at most `AHEAD` items wait between them."""

    def __init__(self, start: Callable[[], Iterator[Any]]) -> None:
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Any] = deque()
        self._room = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._begun = False
        self._stop = False
        self._over = False
        self._failure: BaseException | None = None

    def work(self) -> None:
        """Iterate to the end; the job for the thread."""
        with self._room:
            self._begun = not self._stop
        try:
            if self._begun:
                self._iterate()
        except BaseException as failure:  # noqa: BLE001 - also SystemExit: it ends the run, not the host
            self._failure = failure
        finally:
            self._over = True
            self._notify()

    def _iterate(self) -> None:
        items = self._start()
        try:
            for item in items:
                with self._room:
                    self._room.wait_for(lambda: self._stop or len(self._ready) < AHEAD)
                    if self._stop:
                        return
                    self._ready.append(item)
                self._notify()
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def _notify(self) -> None:
        if self._waiter is None:
            return  # the reader looks again before it sleeps
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            self._stop = True  # the loop is closed: nobody reads any more

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def items(self) -> AsyncIterator[Any]:
        """Yield what the thread made; when left early, tell the thread and wait for it, however often cancelled.

        A cancelled reader that went away while its thread still works would free a slot that is not free.
        """
        try:
            while True:
                while self._ready:
                    with self._room:
                        item = self._ready.popleft()
                        self._room.notify()
                    yield item
                if self._over and not self._ready:
                    break
                await self._wait()
            if self._failure is not None:
                raise self._failure
        finally:
            with self._room:
                self._stop = True
                self._room.notify()
            await self._outlast()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            if not self._ready and not self._over:
                await self._waiter
        finally:
            self._waiter = None

    async def _outlast(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        while self._begun and not self._over:
            self._ready.clear()
            try:
                await self._wait()
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled is not None:
            raise cancelled


async def iterate(threads: DaemonThreads, start: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
    """Yield what `start()` yields, iterated on one of `threads` in this task's context variables."""
    context = contextvars.copy_context()
    bridge = Bridge(start)
    threads.submit(lambda: context.run(work_on_thread, bridge.work))
    items = bridge.items()
    try:
        async for item in items:
            yield item
    finally:
        await items.aclose()  # type: ignore[attr-defined]  # an async generator, typed as its protocol
