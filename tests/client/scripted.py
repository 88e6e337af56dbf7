"""Servers that are none: one that plays a script, a connection at a time, and a proxy that cuts connections."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

PATIENCE = 20.0
"""Seconds after which a server stops to wait for anybody."""

Act = Callable[[socket.socket], None]
"""What happens to a connection once its request has been read."""


def says(data: bytes) -> Act:
    """Send it and end the connection in good order."""

    def act(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # a close with something unread would take back what was sent
            pass

    return act


def drops(data: bytes = b"") -> Act:
    """Send it and reset the connection."""

    def act(connection: socket.socket) -> None:
        connection.sendall(data)
        _reset_on_close(connection)

    return act


def hangs(data: bytes = b"") -> Act:
    """Send it and say no more until the other side leaves."""

    def act(connection: socket.socket) -> None:
        connection.sendall(data)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass

    return act


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reply(status: str, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """A whole reply, after which the connection ends."""
    given = {"content-type": kind, "content-length": str(len(body)), "connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body


def stream(*frames: bytes) -> bytes:
    """The head of a stream of run `r1`, and these frames."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-run-id: r1\r\nconnection: close\r\n\r\n"
    return head + b"".join(frames)


def run(status: str) -> bytes:
    """A reply about run `r1`."""
    body = {"run_id": "r1", "agent": "a", "status": status, "created": 1.0}
    return reply("202 Accepted", json.dumps(body).encode(), x_run_id="r1")


class Scripted:
    """A server that plays an act for each connection; when there are no more, it does not listen any more.

    `requests` are the requests' first lines, headers and bodies as far as they came.
    """

    def __init__(self, *acts: Act) -> None:
        self._acts = acts
        self.requests: list[str] = []

    def __enter__(self) -> Scripted:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(PATIENCE)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Wait until the whole script is played."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the script is not at its end"

    @property
    def asked(self) -> list[str]:
        """Method and path of each request."""
        return [request.partition(" HTTP/")[0] for request in self.requests]

    def _serve(self) -> None:
        with self._listening:
            for act in self._acts:
                connection, _address = self._listening.accept()
                connection.settimeout(PATIENCE)
                with connection:
                    self.requests.append(_request(connection))
                    act(connection)


def _request(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.partition(b":")[2]):
                body += connection.recv(65536)
    return (head + b"\r\n\r\n" + body).decode()


class Cutting:
    """A proxy before a host that resets each connection once so many bytes of replies have passed.

    `cuts` are these numbers, one for each connection in turn; when they are used up, connections are left alone.
    """

    def __init__(self, port: int, cuts: Sequence[int]) -> None:
        self._port = port
        self._cuts = iter(cuts)
        self._waiting = len(cuts)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Cutting:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._ending, self._end = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._listening.close()
        self._ending.close()

    @property
    def waiting(self) -> int:
        """How many cuts are still to be made."""
        return self._waiting

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listening, self._ending], [], [])
            if self._ending in ready:
                return
            client, _address = self._listening.accept()
            with self._lock:
                cut = next(self._cuts, None)
            thread = threading.Thread(target=self._pass_on, args=(client, cut))
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, client: socket.socket, cut: int | None) -> None:
        with (
            client,
            socket.create_connection(("127.0.0.1", self._port), PATIENCE) as host,
            contextlib.suppress(ConnectionError),
        ):
            for data in self._between(client, host):
                client.sendall(data[:cut])
                if cut is not None and cut <= len(data):
                    with self._lock:
                        self._waiting -= 1
                    _reset_on_close(client)
                    _reset_on_close(host)
                    return
                cut = cut - len(data) if cut is not None else None

    def _between(self, client: socket.socket, host: socket.socket) -> Iterator[bytes]:
        """What the host says, while what the client says is passed on."""
        while True:
            ready, _, _ = select.select([client, host, self._ending], [], [])
            if self._ending in ready:
                return
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                host.sendall(data)
            if host in ready:
                data = host.recv(65536)
                if not data:
                    return
                yield data


def lasting(items: Iterable[Any], into: list[Any]) -> list[Any]:
    """Put items into a list as they come, so that they are there whatever ends them."""
    for item in items:
        into.append(item)  # noqa: PERF402 - an exception must not lose what came before it
    return into
