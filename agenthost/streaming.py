"""A run's log as server-sent events: frames with ids, a heartbeat, and `[DONE]`; what is ready leaves at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agenthost.events import Entry
from agenthost.run_log import Reader

HEARTBEAT = 15.0
"""Seconds without news after which a comment says that the stream is alive."""

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


async def pump(reader: Reader, write: Write, render: Callable[[Entry], bytes] = frame) -> None:
    """Write the log to a client, from the reader's place to the end; returns when the log is closed and written.

    Never waits to fill a write. Cancelled by cancelling the task; closing the reader is the caller's.
    """
    loop = asyncio.get_running_loop()
    due = False
    timer: asyncio.TimerHandle

    def beat() -> None:
        nonlocal due, timer
        due = True
        reader.nudge()
        timer = loop.call_later(HEARTBEAT, beat)

    timer = loop.call_later(HEARTBEAT, beat)
    try:
        while True:
            entries = reader.take()
            if entries is None:
                entries = await reader.take_stored()
            if reader.at_end:
                break
            if entries:
                await write(b"".join(map(render, entries)) if len(entries) > 1 else render(entries[0]), True)
                due = False
            elif due:
                due = False
                await write(BEAT, True)
            else:
                await reader.news()
        await write(b"".join(map(render, entries)) + END, False)
    finally:
        timer.cancel()
