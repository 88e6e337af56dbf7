"""A run's event log, the only thing readers of a run see: slow, late, second and dropped readers are one mechanism.

An ephemeral log forgets what its one reader has taken, and makes the run wait while `UNREAD` bytes are not taken. A
durable log shows an entry only once it is committed, keeps the newest `KEPT` bytes in memory for any number of readers
(older ones come from the store), and never waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from agenthost.errors import StoreError
from agenthost.events import Entry

UNREAD = 512 << 10
"""Bytes an ephemeral log holds for its reader before the run waits; with what is under way, 1 MB a stream."""

KEPT = 1 << 20
"""Bytes a durable log keeps in memory."""

CHUNK = 128 << 10
"""Bytes a reader takes at once, so that what is under way to one client stays small."""

WEIGHT = 256
"""Bytes that an entry takes besides its data."""

HOLD = 8
"""Loop turns that readers are held for while each turn brings more: a write costs ten times what an entry does. The
first turn without an entry ends it, so an agent that waits for anything is sent at once."""

HELD = 16 << 10
"""Bytes that end a hold."""

PAGE = 64
"""Entries read from the store at once: each may be of 1 MiB."""


class RunLog:
    """Entries of one run, in order; written by the run's own task, read on the same loop."""

    __slots__ = (
        "_base",
        "_bytes",
        "_entries",
        "_held",
        "_many",
        "_room",
        "_sleepers",
        "abandoned",
        "closed",
        "durable",
        "last",
        "on_sleep",
        "visible",
    )

    def __init__(self, *, durable: bool, last: int = 0) -> None:
        """`last` is the newest entry where the log goes on from what the store has."""
        self.durable = durable
        self.closed = False
        self.abandoned = False
        """Whether it is closed without an end: its run goes on elsewhere."""
        self.last = last
        """Seq of the newest entry."""
        self.visible = last
        """Seq of the newest entry that readers may see."""
        self.on_sleep: Callable[[], None] | None = None
        """Called when a reader falls asleep though there is more than it may see yet."""
        self._entries: list[Entry] = []
        self._base = last
        self._held = False
        """Whether readers are held for a few turns because the agent is saying more."""
        self._bytes = 0
        """What the entries here weigh."""
        self._sleepers: list[asyncio.Future[None]] = []
        self._many = 2  # sleepers from which on those that are done are dropped
        self._room: asyncio.Future[None] | None = None

    def add(self, entry: Entry) -> None:
        """Append the next entry; an ephemeral log shows it at once."""
        self._entries.append(entry)
        self._bytes += len(entry.data) + WEIGHT
        self.last = entry.seq
        if not self.durable:
            self.visible = entry.seq
            if self._sleepers and not self._held:
                self._hold_or_wake()

    def _hold_or_wake(self) -> None:
        """Wake readers for the first entry at once; later ones may hold for the turns the agent needs to say more."""
        if self.last == 1:
            self.wake()
        else:
            self._held = True
            asyncio.get_running_loop().call_soon(self._look, 0, 0)  # the agent's own next step comes after this look

    def _look(self, seen: int, turns: int) -> None:
        if self.last != seen and turns < HOLD and self._bytes < HELD and not self.closed:
            asyncio.get_running_loop().call_soon(self._look, self.last, turns + 1)
        else:
            self._held = False
            self.wake()

    def skip_entry(self, entry: Entry) -> None:
        """Count an entry that nobody will read."""
        self.last = self.visible = self._base = entry.seq

    def show(self, seq: int) -> None:
        """Let readers see entries up to `seq`: they are committed."""
        self.visible = max(self.visible, seq)
        if self.durable and self._bytes > KEPT + (KEPT >> 2):  # what an ephemeral log has, nobody else has
            self._trim()
        self.wake()

    def become_durable(self) -> None:
        """From here on entries are hidden until they are committed; the next one must be seen by the store first."""
        if not self.durable:
            self.durable = True
            self._base = self.last - len(self._entries)

    @property
    def hidden(self) -> Sequence[Entry]:
        """The entries that no reader may see yet."""
        return self._entries[self.visible - self._base :]

    def forget_hidden(self) -> None:
        """Drop the entries that no reader may see: they cannot be committed."""
        hidden = self.hidden
        del self._entries[self.visible - self._base :]
        self._bytes -= sum(map(_weight, hidden))
        self.last = self.visible

    def forget_questions(self) -> None:
        """Drop the questions at the end that no reader may see: the run did not pause, so nobody can answer them."""
        while len(self._entries) > self.visible - self._base and self._entries[-1].type == "interrupt":
            self._bytes -= _weight(self._entries.pop())
            self.last -= 1

    def close(self) -> None:
        """The last visible entry is the last one there will be."""
        self.closed = True
        self.wake()

    def abandon(self) -> None:
        """Nothing more will be said here: its run has not ended, but begins on another host."""
        self.abandoned = True
        self.close()

    def wake(self) -> None:
        """Wake every reader that sleeps."""
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    @property
    def awaited(self) -> bool:
        """Whether a reader sleeps until there is more."""
        return bool(self._sleepers)

    @property
    def crowded(self) -> bool:
        """Whether an ephemeral run must wait for its reader."""
        return self._bytes > UNREAD and not self.durable

    async def room(self) -> None:
        """Wait until the reader has taken some."""
        while self.crowded:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def after(self, seq: int) -> Sequence[Entry] | None:
        """The next visible entries after `seq` that are in memory; None if the next one is in the store only.

        About `CHUNK` bytes of them. Of an ephemeral log they are gone from it then.
        """
        if not self.durable:
            return self._taken()
        if seq < self._base:
            return None
        ready = self._entries[seq - self._base : self.visible - self._base]
        return ready if self._bytes <= CHUNK else ready[: _chunk(ready)]

    def _taken(self) -> Sequence[Entry]:
        taken = self._entries
        if self._bytes <= CHUNK:
            self._entries, self._bytes = [], 0
        else:
            cut = _chunk(taken)
            taken, self._entries = taken[:cut], taken[cut:]
            self._bytes -= sum(map(_weight, taken))
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return taken

    def sleep(self) -> asyncio.Future[None]:
        """A future that is done when there is news; one that is cancelled is dropped at the next news."""
        sleeper = asyncio.get_running_loop().create_future()
        if len(self._sleepers) >= self._many:  # a heartbeat wakes one without news
            self._sleepers = [other for other in self._sleepers if not other.done()]
            self._many = 2 * len(self._sleepers) + 2
        self._sleepers.append(sleeper)
        if self.on_sleep is not None and self.last > self.visible:
            self.on_sleep()
        return sleeper

    @classmethod
    def ended(cls, last: int) -> RunLog:
        """The log of a run that ended, whose entries up to `last` are in the store."""
        log = cls(durable=True, last=last)
        log.closed = True
        return log

    def _trim(self) -> None:
        cut = 0
        for entry in self._entries:
            if self._bytes <= KEPT or entry.seq >= self.visible:
                break
            self._bytes -= _weight(entry)
            cut += 1
        del self._entries[:cut]
        self._base += cut


def _weight(entry: Entry) -> int:
    return len(entry.data) + WEIGHT


def _chunk(entries: Sequence[Entry]) -> int:
    """How many entries, from the first, make about `CHUNK` bytes."""
    weight = 0
    for count, entry in enumerate(entries, 1):
        weight += len(entry.data) + WEIGHT
        if weight >= CHUNK:
            return count
    return len(entries)


ReadEvents = Callable[[str, int, int], Awaitable[Sequence[Entry]]]
"""`store.read_events(run_id, after, limit)`."""


class Reader:
    """One reader's place in a log; made by `Run.read`, left with `close`."""

    __slots__ = ("_log", "_on_close", "_read_events", "_run_id", "_sleeper", "seq")

    def __init__(
        self, log: RunLog, run_id: str, after: int, read_events: ReadEvents, on_close: Callable[[], None]
    ) -> None:
        self._log = log
        self._run_id = run_id
        self._read_events = read_events
        self._on_close: Callable[[], None] | None = on_close
        self._sleeper: asyncio.Future[None] | None = None
        self.seq = after
        """Seq of the last entry taken."""

    def take(self) -> Sequence[Entry] | None:
        """Everything in memory after the last one taken; None where the next one is in the store (`take_stored`)."""
        entries = self._log.after(self.seq)
        if entries:
            self.seq = entries[-1].seq
        elif not self._log.durable:
            self.seq = self._log.visible  # what there was, another reader has taken
        return entries

    async def take_stored(self) -> Sequence[Entry]:
        """The next entries, from the store; raises `StoreError` where they are no longer there."""
        entries = await self._read_events(self._run_id, self.seq, PAGE)
        if not entries:
            raise StoreError("the rest of this run's log is no longer in the store")
        self.seq = entries[-1].seq
        return entries

    @property
    def abandoned(self) -> bool:
        """Whether this is no end: the run goes on elsewhere, and so should its reader."""
        return self._log.abandoned

    @property
    def at_end(self) -> bool:
        """Whether the log is closed and all of it was taken."""
        return self._log.closed and self.seq >= self._log.visible

    def news(self) -> asyncio.Future[None]:
        """A future that is done when there is more than `take` gave, or at a `nudge`."""
        self._sleeper = self._log.sleep()
        return self._sleeper

    def nudge(self) -> None:
        """Wake this reader though there is no news (its heartbeat is due)."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def close(self) -> None:
        """Leave; the last reader of an attached run that leaves cancels it. Idempotent."""
        leave, self._on_close = self._on_close, None
        if leave is not None:
            leave()
