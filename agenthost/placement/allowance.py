"""How many lines an agent may put into the host's log: so many at once, then so many a second; the rest are counted."""

from __future__ import annotations

import time

AT_ONCE = 200
PER_SECOND = 50.0

TELL_EVERY = 5.0
"""Seconds between two words on how many were left out."""

LONGEST = 4096
"""Characters of one line; the rest of a longer one is cut off."""

LONGEST_TRACE = 16 << 10
"""Characters of a traceback, in which an exception's text stands as well: that may be a whole document."""


class Allowance:
    """Counts lines against the clock; one per agent and process, used from one thread at a time."""

    def __init__(self, at_once: int = AT_ONCE, per_second: float = PER_SECOND) -> None:
        self._most, self._rate = at_once, per_second
        self._left, self._looked = float(at_once), time.monotonic()
        self._refused = 0
        self._told = float("-inf")

    def take(self, lines: int = 1) -> int:
        """How many of so many lines may be logged; the others are counted."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._looked) * self._rate)
        self._looked = now
        taken = min(lines, int(self._left))
        self._left -= taken
        self._refused += lines - taken
        return taken

    def left_out(self, *, at_end: bool = False) -> str:
        """What to say of the lines that were refused since that was said last; empty where there is nothing yet."""
        now = time.monotonic()
        if not self._refused or not (at_end or now - self._told >= TELL_EVERY):
            return ""
        refused, self._refused, self._told = self._refused, 0, now
        return f"{refused} lines left out: over {self._rate:g} a second"


def cut(text: str) -> str:
    """The text, or its beginning where it is too long for a line."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def abridged(trace: str) -> str:
    """The traceback, or its beginning and its end where it is too long: what was raised stands at the end."""
    half = LONGEST_TRACE // 2
    return trace if len(trace) <= LONGEST_TRACE else f"{trace[:half]}…\n({len(trace)} characters)\n…{trace[-half:]}"
