"""HTTP and server-sent events over a bare socket, read strictly: what is not exactly right raises `Broken`."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

TIMEOUT = 20.0
"""Seconds after which a silent server fails the test."""

Header = tuple[str, str | bytes]


class Broken(AssertionError):
    """A reply that ends early, or is not HTTP, or a stream that is not one of events."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; header names are lower case, `seconds` count from the request's last byte to the reply's."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    seconds: float = 0.0

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for known, value in self.headers if known == name]

    def __getitem__(self, name: str) -> str:
        """The one value of a header."""
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)

    @property
    def frames(self) -> list[Frame]:
        """The body, which must be an event stream."""
        return parse_events(self.body)


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event as a browser would dispatch it; `comments` came before it."""

    data: str
    event: str = "message"
    id: str = ""
    comments: tuple[str, ...] = ()

    @property
    def json(self) -> Any:
        """The data, which must be JSON."""
        return json.loads(self.data)


@dataclass(slots=True)
class _Pending:
    data: list[str] = field(default_factory=list)
    event: str = ""
    id: str = ""
    comments: list[str] = field(default_factory=list)


def parse_events(body: bytes) -> list[Frame]:
    """Read an event stream as HTML says it is: lines end with CR LF, LF or CR. Raises `Broken` for a torn end."""
    text = body.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.endswith("\n\n"):
        raise Broken(f"the stream ends inside an event: {text[-80:]!r}")
    frames, pending, last_id = [], _Pending(), ""
    for line in text.split("\n")[:-1]:
        if line == "":
            if pending.data:
                frames.append(
                    Frame("\n".join(pending.data), pending.event or "message", last_id, tuple(pending.comments))
                )
                pending = _Pending()
            pending.event = ""
        elif line.startswith(":"):
            pending.comments.append(line[1:])
        else:
            name, _colon, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                pending.data.append(value)
            elif name == "event":
                pending.event = value
            elif name == "id" and "\0" not in value:
                last_id = value
            elif name not in {"id", "retry"}:
                raise Broken(f"a field that no reader knows: {line[:80]!r}")
    return frames


def request(
    method: str,
    path: str | bytes,
    headers: Iterable[Header] | Mapping[str, str | bytes] = (),
    body: bytes | Mapping[str, Any] | None = None,
    *,
    host: str | None = "127.0.0.1",
) -> bytes:
    """Spell a request; a mapping as body is sent as JSON and declared so, `host=None` leaves the Host header out."""
    named = list(headers.items() if isinstance(headers, Mapping) else headers)
    given = {name.lower() for name, _value in named}
    if host is not None and "host" not in given:
        named.insert(0, ("host", host))
    if isinstance(body, Mapping):
        body = json.dumps(body, ensure_ascii=False).encode()
        if "content-type" not in given:
            named.append(("content-type", "application/json"))
    if body is not None and not given & {"content-length", "transfer-encoding"}:
        named.append(("content-length", str(len(body))))
    lines = [method.encode() + b" " + (path if isinstance(path, bytes) else path.encode()) + b" HTTP/1.1"]
    lines += [
        name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in named
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks, to go with `transfer-encoding: chunked`."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Wire:
    """One connection; requests may follow one another on it."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = TIMEOUT) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = bytearray()
        self._since = time.perf_counter()

    @staticmethod
    def listening() -> socket.socket:
        """A socket bound to a free port, to learn of one."""
        found = socket.socket()
        found.bind(("127.0.0.1", 0))
        return found

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; the next reply is timed from here."""
        self.socket.sendall(data)
        self._since = time.perf_counter()

    def ask(self, *arguments: Any, **named: Any) -> Reply:
        """Send `request(…)` and read the reply to it."""
        self.send(request(*arguments, **named))
        return self.reply(bodiless=arguments[0] == "HEAD")

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise Broken(f"the connection was closed after {bytes(self._read[-200:])!r}")
        self._read += data

    def _until(self, mark: bytes) -> bytes:
        while (end := self._read.find(mark)) < 0:
            self._more()
        found = bytes(self._read[:end])
        del self._read[: end + len(mark)]
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self._read) < count:
            self._more()
        found = bytes(self._read[:count])
        del self._read[:count]
        return found

    def head(self) -> Reply:
        """Read status and headers of the next reply that is not an interim one; its body is left to read."""
        while True:
            first, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
            version, status, *_reason = first.split(b" ", 2)
            if version != b"HTTP/1.1" or not status.isdigit():
                raise Broken(f"not a status line: {first!r}")
            if status[:1] != b"1":
                headers = [_header(line) for line in lines]
                return Reply(int(status), headers, b"", time.perf_counter() - self._since)

    def chunks(self) -> Iterator[bytes]:
        """Read the body of a chunked reply, chunk by chunk, to its end."""
        while size := int(self._until(b"\r\n"), 16):
            chunk = self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Broken("a chunk is longer than it says")
            yield chunk
        if self._until(b"\r\n"):
            raise Broken("trailers after the last chunk")

    def reply(self, *, bodiless: bool = False) -> Reply:
        """Read a whole reply; raises `Broken` if it is cut."""
        head = self.head()
        lengths, encodings = head.all("content-length"), head.all("transfer-encoding")
        if bodiless or head.status in {204, 304}:
            body = b""
        elif encodings == ["chunked"] and not lengths:
            body = b"".join(self.chunks())
        elif len(lengths) == 1 and not encodings:
            body = self._exactly(int(lengths[0]))
        else:
            raise Broken(f"no telling where the body ends: {head.headers}")
        return Reply(head.status, head.headers, body, time.perf_counter() - self._since)

    def closed(self) -> bool:
        """Wait until the server closes the connection; False if it sends more instead."""
        return not self._read and self.socket.recv(1) == b""


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name != name.strip():
        raise Broken(f"not a header: {line!r}")
    return name.decode("ascii").lower(), value.strip().decode("latin-1")


def ask(port: int, *arguments: Any, **named: Any) -> Reply:
    """Send one request on a connection of its own."""
    with Wire(port) as wire:
        return wire.ask(*arguments, **named)
