"""The load: a process of its own that reads jobs from stdin, a JSON object a line, and answers each with one line.

A job is a `Job` (see driver.py), or `{"release": true}`, which closes the streams that a job with `hold` left open.
Plain asyncio protocols on uvloop, requests built beforehand: it must cost less than what it measures.
"""

import asyncio
import contextlib
import json
import sys
import time
from itertools import count
from typing import Any

import uvloop

from .processes import cpu_seconds
from .replies import Reply

THREAD = "@thread-of-request@@"
REQUESTS_PER_THREAD = 10
threads = count(1)


def request_bytes(job: dict[str, Any]) -> bytes:
    """The request that a job sends over and over; where it uses threads, with `THREAD` where their id goes."""
    body = json.dumps({**job["body"], **({"thread_id": THREAD} if job["threads"] else {})}).encode()
    head = (
        f"POST {job['path']} HTTP/1.1\r\nHost: 127.0.0.1:{job['port']}\r\nAuthorization: Bearer {job['key']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def percentile(values: list[float], part: float) -> float:
    """The value that `part` of the values do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


class Load:
    """What all connections of one job share: the request, the counts and whether to go on."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Begin with nothing counted."""
        self.request = request_bytes(job)
        self.threads: bool = job["threads"]
        self.stream: bool = job["stream"]
        self.min_events: int = job["min_events"]
        self.stopping = False
        self.problem: str | None = None
        self.broken = asyncio.Event()
        self.sample = b""
        self.reset()

    def reset(self) -> None:
        """Forget what was counted: the warm-up."""
        self.requests = self.events = 0
        self.latencies: list[float] = []
        self.firsts: list[float] = []

    def fail(self, problem: str) -> None:
        """Note the first thing that went wrong, and stop."""
        self.problem = self.problem or problem
        self.stopping = True
        self.broken.set()

    def check(self, reply: Reply) -> None:
        """Note what is wrong with a whole reply."""
        self.sample = self.sample or reply.start
        if reply.status != 200:
            self.fail(f"{reply.status}: {reply.start.decode(errors='replace')}")
        elif self.stream and (not reply.done or reply.events < self.min_events):
            self.fail(f"a stream of {reply.events} events that {'ends' if reply.done else 'does not end'} with [DONE]")


class Connection(asyncio.Protocol):
    """One client: sends a request, reads the reply, and sends the next."""

    transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        """Belong to a job's load."""
        self.load = load
        self.busy = False
        self.first = asyncio.Event()
        self.ended = asyncio.Event()
        self.sent = 0.0
        self.reply = Reply()
        self.thread, self.uses = 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # asyncio gives a stream protocol a Transport

    def send(self) -> None:
        """Send the next request; a thread is used for ten, then a new one begins."""
        request = self.load.request
        if self.load.threads:
            if self.uses % REQUESTS_PER_THREAD == 0:
                self.thread = next(threads)
            self.uses += 1
            request = request.replace(THREAD.encode(), b"%020d" % self.thread)
        self.reply = Reply()
        self.busy = True
        self.sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read on; a whole reply is counted and followed by the next request."""
        load, reply = self.load, self.reply
        before = reply.events
        try:
            whole = reply.feed(data)
        except ValueError as error:
            load.fail(f"not HTTP: {error}")
            return
        if reply.events != before:
            load.events += reply.events - before
            if not before:
                load.firsts.append(time.perf_counter() - self.sent)
                self.first.set()
        if whole:
            load.latencies.append(time.perf_counter() - self.sent)
            load.requests += 1
            load.check(reply)
            self.busy = False
            if load.stopping:
                self.ended.set()
            else:
                self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that goes while a reply is due is a fault."""
        if self.busy and not self.load.stopping:
            self.load.fail(f"the server closed the connection: {exc or 'end of file'}")
        self.busy = False
        self.ended.set()


async def connect(load: Load, port: int, clients: int) -> list[Connection]:
    """Open the connections, a hundred at a time."""
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    for start in range(0, clients, 100):
        opening = [
            loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
            for _ in range(min(100, clients - start))
        ]
        connections += [protocol for _, protocol in await asyncio.gather(*opening)]
    return connections


async def wait_or_break(load: Load, seconds: float) -> None:
    """Let the load go on for a time, or until something is wrong."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(load.broken.wait(), seconds)


def cpu_of(job: dict[str, Any]) -> float:
    """CPU time of the server, and of its workers where the job names some."""
    return sum(map(cpu_seconds, (job["pid"], *job["workers"])))


async def measure(load: Load, job: dict[str, Any], connections: list[Connection]) -> dict[str, Any]:
    """Warm up, then count for the job's time; the server's CPU is read at both ends of it."""
    await wait_or_break(load, max(0.1, job["seconds"] * 0.2))
    load.reset()
    cpu, own, began = cpu_of(job), time.process_time(), time.perf_counter()
    await wait_or_break(load, job["seconds"])
    wall = time.perf_counter() - began
    counted = {
        "cpu": cpu_of(job) - cpu,
        "wall": wall,
        "client_busy": (time.process_time() - own) / wall,
        "requests": load.requests,
        "events": load.events,
        "latency_p50": percentile(load.latencies, 0.5),
        "latency_p99": percentile(load.latencies, 0.99),
        "first_p50": percentile(load.firsts, 0.5),
        "first_p99": percentile(load.firsts, 0.99),
    }
    load.stopping = True
    for connection in connections:
        if connection.busy and not load.problem:
            await asyncio.wait_for(connection.ended.wait(), 30)
    return counted


async def wait_for_firsts(load: Load, connections: list[Connection]) -> None:
    """Wait until every stream has sent its first event, or something is wrong."""

    async def firsts() -> None:
        for connection in connections:
            await connection.first.wait()

    waits = {asyncio.ensure_future(firsts()), asyncio.ensure_future(load.broken.wait())}
    done, pending = await asyncio.wait(waits, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    if not done:
        load.fail("a stream sent no event within 30 s")


async def run(job: dict[str, Any], held: list[Connection]) -> dict[str, Any]:
    """Do one job; what it answers has a `problem` if any reply was not as it should be."""
    load = Load(job)
    connections: list[Connection] = []
    counted: dict[str, Any] = {}
    try:
        connections = await connect(load, job["port"], job["clients"])
        for connection in connections:
            connection.send()
        if job["hold"]:
            await wait_for_firsts(load, connections)
            held.extend(connections)
        else:
            counted = await measure(load, job, connections)
    except (OSError, TimeoutError) as error:
        load.fail(f"{type(error).__name__}: {error}")
    load.stopping = True
    if not job["hold"]:
        close(connections)
    return {**counted, "problem": load.problem, "sample": load.sample.decode(errors="replace")}


def close(connections: list[Connection]) -> None:
    """Close every connection."""
    for connection in connections:
        connection.transport.close()
    connections.clear()


async def close_and_flush(connections: list[Connection]) -> None:
    """Close every connection and let the loop do it."""
    close(connections)
    await asyncio.sleep(0)


def main() -> None:
    """Answer jobs until stdin ends; connections that are held stay open between jobs."""
    loop = uvloop.new_event_loop()
    held: list[Connection] = []
    for line in sys.stdin:
        job = json.loads(line)
        if "release" in job:
            loop.run_until_complete(close_and_flush(held))
            print("{}", flush=True)
        else:
            print(json.dumps(loop.run_until_complete(run(job, held))), flush=True)
    loop.run_until_complete(close_and_flush(held))
    loop.close()


if __name__ == "__main__":
    main()
