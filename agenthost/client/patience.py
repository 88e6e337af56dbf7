"""When a lost connection is tried again, how long to wait before, and when to give up; no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import SystemRandom

from agenthost.client.failures import CallFailed, HostUnreachable
from agenthost.client.replies import is_about_a_run, refusal, retry_after
from agenthost.client.steps import Answer, ConnectionBroke, Pause

RECONNECT = 60.0
"""Seconds without any progress after which a lost connection is given up."""

FIRST_WAIT = 0.2
LONGEST_WAIT = 5.0
"""Seconds between two tries, doubled from the one to the other, each a random half shorter."""

PASSING = frozenset({502, 503, 504})
"""Statuses of a host that is not there yet, or of the proxy before it: while re-joining they are waited for."""

_chance = SystemRandom().random


class Patience:
    """One call's tries. `seconds` without progress end them; 0 never tries again."""

    def __init__(
        self,
        url: str,
        seconds: float = RECONNECT,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = _chance,
    ) -> None:
        self.reached = False
        """Whether the host has ever taken a request up: before that, nothing has begun and nothing is tried again."""
        self._url = url
        self._seconds = seconds
        self._clock = clock
        self._chance = chance
        self._lost_at: float | None = None
        self._wait = FIRST_WAIT
        self._tried_at = clock()
        self._losses = 0

    def trying(self) -> None:
        """A try begins."""
        self._tried_at = self._clock()

    def progress(self) -> None:
        """Something new has come: all patience is there again."""
        self.reached = True
        self._lost_at = None
        self._wait = FIRST_WAIT

    def lasted(self) -> bool:
        """Whether this try has held longer than the longest wait: somebody is there who takes long."""
        return self._clock() - self._tried_at > LONGEST_WAIT

    def again(self, cause: ConnectionBroke | Answer, run_id: str | None = None) -> Pause:
        """The wait before the next try; raises `CallFailed` where there is to be none.

        A refusal is final unless a connection was lost before and the host may only be starting.
        """
        least = 0.0
        if isinstance(cause, Answer):
            self.reached = True
            if not self._losses or cause.status not in PASSING or is_about_a_run(cause):
                raise refusal(cause, run_id)
            least = retry_after(cause)
        elif cause.unreachable and not self.reached:
            raise HostUnreachable(f"nothing answers at {self._url}")
        else:
            self.reached = True
            self._losses += 1
        wait = self._next_wait(least)
        if wait is None:
            raise self._given_up(cause, run_id)
        return Pause(wait)

    def _next_wait(self, least: float) -> float | None:
        now = self._clock()
        if self._lost_at is None:
            self._lost_at = now
        left = self._lost_at + self._seconds - now
        if left <= 0:
            return None
        wait = max(least, self._wait * (0.5 + self._chance() / 2))
        self._wait = min(self._wait * 2, LONGEST_WAIT)
        return min(wait, left)

    def _given_up(self, cause: ConnectionBroke | Answer, run_id: str | None) -> CallFailed:
        if isinstance(cause, Answer):
            return refusal(cause, run_id)
        tried = f", and {self._seconds:g} seconds of trying have not mended it" if self._seconds else ""
        return CallFailed(
            f"the connection to {self._url} broke: {cause.why}{tried}", code="connection_lost", run_id=run_id
        )
