"""Thousands of clients that say nothing, or begin a request and never end it; `python -m tests.flood PORT SILENT SLOW`.

Prints "open" once all are connected, and when all have been closed a JSON object: for `silent` and `slow` the seconds
that the first and the last of them were open, `left` how many were not closed, `told` what the slow ones were.
"""

from __future__ import annotations

import contextlib
import json
import resource
import selectors
import socket
import sys
import time
from dataclasses import dataclass

PATIENCE = 40.0
AT_A_TIME = 100
DRIP = 0.5
"""Seconds between two bytes of a slow client."""


@dataclass(slots=True)
class Client:
    """One of them, and what became of it."""

    socket: socket.socket
    slow: bool
    opened: float
    closed: float = 0.0
    told: bytes = b""


def connect(port: int, slow: bool) -> Client:
    """Connect; a slow one sends all of a request but the end."""
    made = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    if slow:
        made.sendall(b"GET /agents HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")
    made.setblocking(False)
    return Client(made, slow, time.monotonic())


def wait(clients: list[Client]) -> None:
    """Wait until all are closed, dripping where slow."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        end, drip = time.monotonic() + PATIENCE, 0.0
        left = len(clients)
        while left and (now := time.monotonic()) < end:
            for key, _events in selector.select(0.1):
                left -= read(selector, key.data)
            if now > drip:
                drip = now + DRIP
                for client in clients:
                    if client.slow and not client.closed and not client.told:
                        with contextlib.suppress(OSError):
                            client.socket.send(b"y")


def read(selector: selectors.BaseSelector, client: Client) -> bool:
    """Take what is there; True where that was the end."""
    try:
        data = client.socket.recv(65536)
    except OSError:
        data = b""
    client.told += data
    if data:
        return False
    client.closed = time.monotonic()
    selector.unregister(client.socket)
    client.socket.close()
    return True


def main(port: int, silent: int, slow: int) -> None:
    """Connect them all, wait for their ends, print what became of them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = []
    for number in range(silent + slow):
        clients.append(connect(port, slow=number < slow))
        if number % AT_A_TIME == 0:
            time.sleep(0.02)  # others connect as well
    print("open", flush=True)
    wait(clients)
    ended = {name: [one for one in clients if one.slow == (name == "slow")] for name in ("silent", "slow")}
    report = {
        name: sorted(round(one.closed - one.opened, 2) for one in some if one.closed)[:: max(1, len(some) - 1)]
        for name, some in ended.items()
    }
    told = [one.told.partition(b"\r\n")[0].decode() for one in ended["slow"]]
    print(json.dumps({**report, "left": sum(not one.closed for one in clients), "told": sorted(set(told))}), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
