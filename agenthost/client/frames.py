"""Server-sent events, read from pieces of any size; lines end at newline bytes only: text may hold other line ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One event's `id` and `data` as they were sent; a heartbeat has no data."""

    id: str | None
    data: str | None


class Frames:
    """The frames of one stream; what is not whole yet is kept for the next piece."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._id: str | None = None
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that this piece makes whole. Raises `UnicodeDecodeError` for what is not UTF-8."""
        self._rest += piece
        found, begin = [], 0
        while (end := self._rest.find(b"\n", self._searched)) >= 0:
            frame = self._line(bytes(self._rest[begin:end]).removesuffix(b"\r"))
            if frame is not None:
                found.append(frame)
            begin = self._searched = end + 1
        del self._rest[:begin]
        self._searched = len(self._rest)
        return found

    def _line(self, line: bytes) -> Frame | None:
        field, _, value = line.partition(b":")
        if line.startswith(b":"):
            return Frame(None, None)
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"id":
            self._id = value.removeprefix(b" ").decode()
        elif not line and self._data:
            frame = Frame(self._id, b"\n".join(self._data).decode())
            self._id, self._data = None, []
            return frame
        return None
