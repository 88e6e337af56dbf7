"""Frames between the host and a worker, over a socketpair: the length of a body, a kind, a call's number, the body.

Each side numbers the calls that it makes: which side's call a CREDIT, CANCEL, EVENT, END or ERROR is about is told by
the direction it travels in.

| kind | from | body |
|---|---|---|
| CALL | both | JSON: what is asked; call 0 is the host's, and loads the agent |
| HELLO | worker | JSON: what the agent says of itself; the answer to call 0 |
| EVENT | worker | an entry: its type, NUL, its JSON; of a question also NUL and its state's JSON |
| CREDIT | host | four bytes: how much more of this call's events the host takes |
| CANCEL | both | nothing, or one byte: the call's events are not taken any more |
| END | both | what the call gives: JSON, or nothing |
| ERROR | both | JSON: what the call raised |
| LOG | worker | JSON: a record for the host's log |
| FILES | worker | JSON: the author's own files that it has read; first before HELLO, or the ERROR of call 0 |
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

CALL, HELLO, EVENT, CREDIT, CANCEL, END, ERROR, LOG, FILES = range(1, 10)

HEAD = struct.Struct("<IBI")
AMOUNT = struct.Struct("<I")

WINDOW = 256
"""Events of a run that a worker may send and the host has not taken: the host gives back what it took as CREDIT."""

PIECE = 12
"""An event takes one of these for itself, and one for each 4 kB (2 to the 12th) of it: a window is about 1 MB."""

REFUND = 64
"""What the host takes before it says so."""

LARGEST = 1 << 30
"""Bytes of a body from which on it is taken for garbage: something else has written to the socket."""

AT_ONCE = 64 << 10
"""Bytes that are sent without waiting for the loop's next turn."""

OnFrame = Callable[[int, int, bytes], None]
"""Takes a frame: its kind, its call's number, its body."""


class Wire(asyncio.Protocol):
    """One end of the socketpair: `on_frame` takes what comes, `on_end` is called once when nothing more will.

    What is sent in one turn of the loop leaves in one write. Belongs to the loop that it was connected on.
    """

    def __init__(self, on_frame: OnFrame, on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._soon = False
        self._parts: list[bytes] = []
        self._have = 0
        self._want = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not one by inheritance

    def send(self, kind: int, number: int, body: bytes = b"") -> None:
        """Send a frame with the others of this turn; after the end nothing is sent, and nothing is said of it."""
        self._out.append(HEAD.pack(len(body), kind, number))
        self._out.append(body)
        self._out_bytes += len(body)
        if self._out_bytes >= AT_ONCE:
            self.flush()
        elif not self._soon:
            self._soon = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was sent."""
        self._soon = False
        out, self._out, self._out_bytes = self._out, [], 0
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        """Take bytes; a frame is told once it is whole."""
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._want:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        place, end, want, on_frame, read, head = 0, len(data), HEAD.size, self._on_frame, HEAD.unpack_from, HEAD.size
        while end - place >= head:
            size, kind, number = read(data, place)
            if not CALL <= kind <= FILES or size > LARGEST:
                self.close()
                return
            stop = place + head + size
            if stop > end:
                want = head + size
                break
            on_frame(kind, number, data[place + head : stop])
            place = stop
        if place < end:
            self._parts.append(data[place:])
            self._have, self._want = end - place, want

    def connection_lost(self, _failure: Exception | None) -> None:
        """The other end is gone, or this one was closed."""
        self._transport = None
        self._on_end()

    def close(self) -> None:
        """Write what was sent, and end."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
