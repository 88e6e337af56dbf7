"""Sees that files have changed: written in place, renamed over, or another one behind a link, as mounted volumes do it.

Looks at them a few times a second instead of asking the system to be told: that sees every kind of change on every kind
of file system, and what a link leads to today may lie in another folder tomorrow.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from pathlib import Path

EVERY = 0.2
"""Seconds between two looks. A change counts once two looks in a row see the same, so that no half file is read."""

Marks = dict[Path, tuple[int, int, int, int] | None]


def marks_of(files: Collection[Path]) -> Marks:
    """What tells one state of each file from another: which file it is, its size, its time; None for one not there."""
    found: Marks = {}
    for file in files:
        try:
            stat = os.stat(file)
        except OSError:
            found[file] = None
        else:
            found[file] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


async def watch(
    files: Callable[[], Collection[Path]], changed: Callable[[], None], known: Marks, every: float = EVERY
) -> None:
    """Call `changed` after each change of any of the `files`, until cancelled; they may be other ones from then on.

    `known` are their marks as they were when they were read. Files that come to be looked at later have not changed by
    that. Looks from a thread: a file system may hang.
    """
    last: Marks = {}
    while True:
        await asyncio.sleep(every)
        seen = await asyncio.to_thread(marks_of, files())
        known = {file: known.get(file, mark) for file, mark in seen.items()}
        if seen != known and seen == last:
            known = seen
            changed()
        last = seen
