"""A run's log as server-sent events: frames with ids, a heartbeat, and `[DONE]`; what is ready leaves at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

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


async def pump(reader: Reader, write: Write, render: Callable[[Entry], bytes] = frame) -> None:
    """Write the log to a client, from the reader's place to the end; returns when the log is closed and written.

    Never waits to fill a write. A write that is not taken for `STALLED` seconds closes the reader, as if the client had
    left; the connection is for the server to end. The reply stays without an end where the next host begins
    the run. Cancelled by cancelling the task; closing the reader is the caller's.
    """
    heart = _Heart(reader)
    try:
        while True:
            entries = reader.take()
            if entries is None:
                entries = await reader.take_stored()
            if reader.at_end:
                break
            if entries:
                heart.writing = 0.0
                await write(b"".join(map(render, entries)) if len(entries) > 1 else render(entries[0]), True)
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
        await write(b"".join(map(render, entries)) + END, False)
    finally:
        heart.stop()
