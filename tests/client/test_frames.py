"""Server-sent events in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.client.frames import Frame, Frames

STREAM = (
    ": hello\n\n"
    'id: 1\nevent: model_chunk\ndata: {"type":"model_chunk","content":"ü\u2028\x85\x0b"}\n\n'
    "id: 2\r\ndata:first\r\ndata: second\r\n\r\n"
    ": alive\n\n"
    "retry: 5\nunknown\n\n"
    "data: [DONE]\n\n"
).encode()
FRAMES = [
    Frame(None, None),
    Frame("1", '{"type":"model_chunk","content":"ü\u2028\x85\x0b"}'),
    Frame("2", "first\nsecond"),
    Frame(None, None),
    Frame(None, "[DONE]"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_frames_are_the_same_whatever_the_pieces(cuts: list[int]):
    frames, found = Frames(), []
    ends = [0, *sorted(cuts), len(STREAM)]
    for begin, end in pairwise(ends):
        found += frames.feed(STREAM[begin:end])
    assert found == FRAMES


def test_a_frame_that_is_not_whole_is_none():
    assert Frames().feed(b'id: 1\ndata: {"type":"done"}\n') == []


def test_what_is_not_utf_8_is_refused():
    with pytest.raises(UnicodeDecodeError):
        Frames().feed(b"data: \xff\n\n")


def test_a_big_event_in_small_pieces_is_not_searched_again_and_again():
    data = b"x" * (1 << 20)
    frames, found = Frames(), []
    for begin in range(0, len(data), 1000):
        found += frames.feed((b"data: " if begin == 0 else b"") + data[begin : begin + 1000])
    assert found == []
    assert [frame.data for frame in frames.feed(b"\n\n")] == [data.decode()]
