"""Frames on a real socketpair: whole or in pieces, small or large, and what is no frame at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agenthost.placement.frames import CALL, EVENT, FILES, HEAD, LOG, Wire
from tests.agents_for_tests import until


class End:
    """One end: the frames that have come, and whether it has ended."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, bytes]] = []
        self.ends = 0
        self.wire = Wire(lambda *frame: self.frames.append(frame), self.end)

    def end(self) -> None:
        self.ends += 1


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[End, End]]:
    loop = asyncio.get_running_loop()
    ends = []
    for connection in socket.socketpair():
        end = End()
        await loop.connect_accepted_socket(lambda end=end: end.wire, connection)
        ends.append(end)
    one, other = ends
    try:
        yield one, other
    finally:
        one.wire.close()
        other.wire.close()
        await until(lambda: one.ends and other.ends)


@asynccontextmanager
async def by_hand() -> AsyncIterator[tuple[Callable[[bytes], None], End]]:
    """An end, and what puts bytes into it."""
    hand, connection = socket.socketpair()
    end = End()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: end.wire, connection)
    with hand:
        yield hand.sendall, end
        end.wire.close()
        await until(lambda: end.ends)


def test_frames_arrive_whole_in_order_and_both_ways() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            for number in range(100):
                one.wire.send(EVENT, number, b"x" * number)
            other.wire.send(CALL, 7, b"")
            await until(lambda: len(other.frames) == 100 and one.frames)
            assert other.frames == [(EVENT, number, b"x" * number) for number in range(100)]
            assert one.frames == [(CALL, 7, b"")]

    asyncio.run(main())


def test_a_frame_larger_than_any_read_arrives_whole_between_small_ones() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            large = bytes(range(256)) * (5 << 12)
            for body in (b"before", large, b"after"):
                one.wire.send(EVENT, 1, body)
            await until(lambda: len(other.frames) == 3)
            assert [body for _kind, _number, body in other.frames] == [b"before", large, b"after"]

    asyncio.run(main())


@pytest.mark.parametrize("step", [1, 5, HEAD.size, HEAD.size + 1, 20])
def test_a_frame_in_pieces_is_told_once_it_is_whole(step: int) -> None:
    async def main() -> None:
        async with by_hand() as (send, end):
            data = b"".join(HEAD.pack(len(body), LOG, 3) + body for body in (b"first", b"", b"second and longer"))
            for place in range(0, len(data), step):
                send(data[place : place + step])
                await asyncio.sleep(0)
            await until(lambda: len(end.frames) == 3)
            assert [body for *_rest, body in end.frames] == [b"first", b"", b"second and longer"]

    asyncio.run(main())


@pytest.mark.parametrize("head", [HEAD.pack(3, 0, 1), HEAD.pack(3, FILES + 1, 1), HEAD.pack(2**31, EVENT, 1)])
def test_what_is_no_frame_ends_the_connection(head: bytes) -> None:
    async def main() -> None:
        async with by_hand() as (send, end):
            send(HEAD.pack(0, EVENT, 1) + head + b"abc")
            await until(lambda: end.ends)
            assert end.frames == [(EVENT, 1, b"")]

    asyncio.run(main())


def test_the_end_is_told_once_and_after_it_nothing_is_sent() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            one.wire.send(EVENT, 1, b"last")
            one.wire.close()
            await until(lambda: other.ends and one.ends)
            other.wire.send(EVENT, 1, b"unheard")
            one.wire.send(EVENT, 1, b"unheard")
            await asyncio.sleep(0)
            assert other.frames == [(EVENT, 1, b"last")]
            assert (one.ends, other.ends) == (1, 1)

    asyncio.run(main())
