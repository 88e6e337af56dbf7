"""Sees that files have changed: written in place, renamed over, or another one behind a link, as mounted volumes do it.

Looks at them a few times a second instead of asking the system to be told: that sees every kind of change on every kind
of file system, and what a link leads to today may lie in another folder tomorrow.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

EVERY = 0.2
"""Seconds between two looks. A change counts once two looks in a row see the same, so that no half file is read."""

Mark = tuple[int, int, int, int]
Marks = dict[Path, Mark | None]


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
    files: Callable[[], Mapping[Path, float]],
    changed: Callable[[Collection[Path]], None],
    known: Marks,
    every: float = EVERY,
) -> None:
    """Call `changed` with those of the `files` that have changed, until cancelled; they may be other ones from then on.

    `files` are given with the time, in seconds since the epoch, before which they were not read. `known` are the marks
    of those that are looked at from the start, as they were then; one that comes later has changed if it was written
    after its time. Looks from a thread: a file system may hang.
    """
    last: Marks = {}
    while True:
        await asyncio.sleep(every)
        named = files()
        seen = await asyncio.to_thread(marks_of, named)
        known = {file: known[file] if file in known else _mark_at(named[file], mark) for file, mark in seen.items()}
        if seen != known and seen == last:
            news = [file for file, mark in seen.items() if mark != known[file]]
            known = seen
            changed(news)
        last = seen


def _mark_at(time: float, mark: Mark | None) -> Mark | None:
    """The mark that a file had at a time, if it is `mark` now; None where it was written since."""
    return mark if mark is None or mark[-1] <= time * 1e9 else None
