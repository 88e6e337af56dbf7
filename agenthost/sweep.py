"""One timer for many deadlines: a timer set and cancelled for every request costs more than looking at them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Sweep(Generic[T]):
    """Calls `due(item)` on the loop that added it, at its deadline or up to `interval` seconds later.

    Nothing runs while there are no items. Items are compared by identity or `__hash__`; each may be added once a loop.
    """

    def __init__(self, interval: float, due: Callable[[T], None]) -> None:
        self._interval = interval
        self._due = due
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[T, float]] = WeakKeyDictionary()
        self._latest: tuple[asyncio.AbstractEventLoop | None, dict[T, float]] = (None, {})
        """The loop asked for last and its items: a host has one loop, and a weak dictionary is slow."""

    def add(self, item: T, seconds: float) -> None:
        """Have `due(item)` called in `seconds`, unless it is discarded before."""
        loop = asyncio.get_running_loop()
        latest, items = self._latest
        if latest is not loop:
            items = self._begin(loop)
        items[item] = loop.time() + seconds

    def discard(self, item: T) -> None:
        """Forget an item, on the loop that added it; one that is not there is no error."""
        loop = asyncio.get_running_loop()
        latest, items = self._latest
        if latest is loop:
            items.pop(item, None)
        elif loop in self._loops:
            self._loops[loop].pop(item, None)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> dict[T, float]:
        items = self._loops.get(loop)
        if items is None:
            items = self._loops[loop] = {}
            loop.call_later(self._interval, self._sweep, loop)
        self._latest = (loop, items)
        return items

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        items = self._loops[loop]
        now = loop.time()
        try:
            for item in [item for item, deadline in items.items() if deadline <= now]:
                if items.pop(item, None) is not None:  # an earlier one may have discarded it
                    self._due(item)
        finally:
            self._go_on(loop, items)

    def _go_on(self, loop: asyncio.AbstractEventLoop, items: dict[T, float]) -> None:
        if items:
            loop.call_later(self._interval, self._sweep, loop)
            return
        del self._loops[loop]
        if self._latest[0] is loop:
            self._latest = (None, {})
