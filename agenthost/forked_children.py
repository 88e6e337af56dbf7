"""Descriptors that a forked child must not keep: one that outlives its host would hold the lock and the port.

A child made by `fork` (multiprocessing in an agent) has every descriptor of the host; the kernel frees a lock, or an
address, when the last one is closed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet


class Held(Protocol):
    """What has a descriptor: a socket, a lock. `close` is not asked for, which a socket in a loop's use puts off."""

    def detach(self) -> int:
        """Hand over the descriptor, to be closed by whoever asked; -1 where there is none any more."""


_held: WeakSet[Held] = WeakSet()


def close_in_children(held: Held) -> None:
    """Have this closed in every child that is forked while it is alive."""
    _held.add(held)


def _in_child() -> None:
    for held in tuple(_held):
        with suppress(OSError):  # it was closed, and has none
            os.close(held.detach())
    _held.clear()


os.register_at_fork(after_in_child=_in_child)
