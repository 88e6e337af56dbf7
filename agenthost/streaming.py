"""A run's log as server-sent events: frames with ids, a heartbeat, and `[DONE]`; what is ready leaves at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from agenthost.errors import HostStopping
from agenthost.events import Entry
from agenthost.run_log import Reader

HEARTBEAT = 15.0
"""Seconds without news after which a comment says that the stream is alive."""

STALLED = 60.0
"""Seconds that a client may leave what it was sent unread."""

BEAT = b": alive\n\n"
END = b"data: [DONE]\n\n"

Write = Callable[[bytes, bool], Awaitable[None]]
"""`write(data, more)`: returns when the transport has taken it; `more` is False with the last piece."""


def frame(entry: Entry) -> bytes:
    """`id`, `event` and `data` lines: what a browser's EventSource needs to go on after a drop."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.seq, entry.type.encode(), entry.data)


def data_frame(entry: Entry) -> bytes:
    """The `data` line alone, for clients that split at blank lines and read one line (Locus 3.0.1's own examples)."""
    return b"data: %s\n\n" % entry.data


class Teller(Protocol):
    """How one run is told on one stream, in the words of a dialect that frames alone are not enough for."""

    def begin(self) -> bytes:
        """What is sent before anything else, at once."""
        ...

    def entry(self, entry: Entry) -> bytes:
        """How an entry looks; empty where the dialect has no word for it."""
        ...

    def end(self) -> bytes:
        """What is sent once the log is told to its end."""
        ...


class Frames:
    """The host's own frames, and `[DONE]`."""

    __slots__ = ("entry",)

    def __init__(self, render: Callable[[Entry], bytes] = frame) -> None:
        """`render` says how an entry looks."""
        self.entry = render

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def end(self) -> bytes:
        """`[DONE]`."""
        return END


class _Heart:
    """Beats while a stream is open; `due` says that a silent one owes its client a sign of life."""

    __slots__ = ("_loop", "_reader", "_timer", "due", "writing")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(HEARTBEAT, self._beat)
        self.due = False
        self.writing: float | None = None
        """For how many seconds, as far as the beats tell, a write has been waiting; None while none does."""

    def _beat(self) -> None:
        self.due = True
        if self.writing is None:
            self._reader.nudge()
        elif self.writing >= STALLED:
            self._reader.close()
        else:
            self.writing += HEARTBEAT
        self._timer = self._loop.call_later(HEARTBEAT, self._beat)

    def stop(self) -> None:
        self._timer.cancel()


async def pump(reader: Reader, write: Write, teller: Teller | None = None) -> None:
    """Write the log to a client, from the reader's place to the end; returns when the log is closed and written.

    `teller` says how; else it is told in frames.

    Never waits to fill a write. A write that is not taken for `STALLED` seconds closes the reader, as if the client had
    left; the connection is for the server to end. The reply stays without an end where the next host begins
    the run. Cancelled by cancelling the task; closing the reader is the caller's.
    """
    teller = teller or Frames()
    render = teller.entry
    if said := teller.begin():
        await write(said, True)
    heart = _Heart(reader)
    try:
        while True:
            entries = reader.take()
            if entries is None:
                entries = await reader.take_stored()
            if reader.at_end:
                break
            if entries:
                said = b"".join(map(render, entries)) if len(entries) > 1 else render(entries[0])
                if not said:
                    continue
                heart.writing = 0.0
                await write(said, True)
                heart.writing, heart.due = None, False
            elif heart.due:
                heart.writing, heart.due = 0.0, False
                await write(BEAT, True)
                heart.writing = None
            else:
                await reader.news()
        if reader.abandoned:
            return  # an end would say that there is no more; a reader that is cut off asks the next host
        heart.writing = 0.0
        await write(b"".join(map(render, entries)) + teller.end(), False)
    finally:
        heart.stop()


async def batches(reader: Reader) -> AsyncIterator[Sequence[Entry]]:
    """The log from the reader's place to its end, as it grows: for who makes one answer of it.

    Raises `HostStopping` where the run goes on with the next host. Closing the reader is the caller's.
    """
    while True:
        entries = reader.take()
        if entries is None:
            entries = await reader.take_stored()
        if entries:
            yield entries
        if reader.at_end:
            break
        if not entries:
            await reader.news()
    if reader.abandoned:
        raise HostStopping("the host stopped before this run ended")


async def ready(reader: Reader) -> Sequence[Entry]:
    """What there is of the log by now, from the reader's place on, without waiting for more."""
    found: list[Entry] = []
    while True:
        entries = reader.take()
        if entries is None:
            entries = await reader.take_stored()
        if not entries:
            return found
        found += entries
