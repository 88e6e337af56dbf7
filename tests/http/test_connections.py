"""Connections under limits: who is slow is told and dropped, what is not HTTP is refused and closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agenthost.errors import StartError
from agenthost.http import connections
from agenthost.http.app import create_app
from agenthost.http.connections import MAX_AHEAD, MAX_HEAD, MAX_HEADERS, MAX_TARGET, Limits, require_uvicorn
from agenthost.http.server import Server
from tests.actors import CANCELLED, GATES, HOLDING, wait_for
from tests.releases import lowest_uvicorn
from tests.serving import Hosted, Threaded, actors, agents_toml, bearer, key
from tests.wire import Broken, Reply, Wire, chunked, request

QUICK = Limits(head=0.5, body=0.5, unread=0.5, farewell=0.5, connections=20)
WITHIN = 10.0
"""Seconds that a limit of half a second, and two looks at it, may take on a busy machine."""

INVOKE = "/agents/say/invoke"
JSON = {**bearer("root"), "content-type": "application/json"}
CHUNKED = {**JSON, "transfer-encoding": "chunked"}


class Limited(Threaded):
    """A host whose patience is short."""

    def __init__(self, config: Path, limits: Limits = QUICK, **settings: Any) -> None:
        self.app = create_app(config)
        self.host: Any = self.app.host
        super().__init__(lambda started: Server(self.app, self.host, on_started=started, limits=limits, **settings))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    text = actors("say", "hold", "gated") + "".join(
        f'[agents.{name}]\nuse = "tests.http.test_connections:{name}"\n' for name in ("floods", "hears", "pours")
    )
    path = agents_toml(tmp_path_factory.mktemp("quick"), text + key("root", more="admin = true"))
    with Limited(path, timeout_keep_alive=1) as host:
        yield host


async def floods(ctx: Any) -> Any:
    """Says more than anybody reads; notes that it was cancelled."""
    try:
        while True:
            yield "x" * 10_000
    finally:
        with connections_changed:
            flooded.append(ctx.prompt)
            connections_changed.notify_all()


async def hears(_ctx: Any) -> Any:
    """Says nothing worth keeping of what it is told."""
    yield "heard"


async def pours(_ctx: Any) -> Any:
    """Says more than a connection holds, and waits."""
    for _ in range(800):
        yield "x" * 10_000
    await asyncio.Event().wait()


flooded: list[str] = []
connections_changed = threading.Condition()


def refused(wire: Wire, status: int, code: str) -> Reply:
    """The answer of a connection that is closed after it: a whole problem, and small."""
    reply = wire.reply()
    assert (reply.status, reply.json["status"], reply.json["code"]) == (status, status, code)
    assert reply["content-type"] == "application/problem+json"
    assert reply["connection"] == "close"
    assert reply["x-request-id"] == reply.json["correlation_id"]
    assert reply["date"]
    assert len(reply.body) < 1000
    assert wire.closed()
    return reply


def seconds_to_the_end(wire: Wire) -> float:
    """How long it takes until the server closes."""
    began = time.monotonic()
    assert wire.closed()
    return time.monotonic() - began


# ── slow ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_says_nothing_is_closed_without_a_word(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        assert QUICK.head <= seconds_to_the_end(wire) < WITHIN


@pytest.mark.fault
def test_empty_lines_are_nothing_said(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        wire.send(b"\r\n\r\n")
        assert seconds_to_the_end(wire) < WITHIN


def test_a_head_that_does_not_end_is_408_however_it_drips(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        wire.send(b"GET /agents HTTP/1.1\r\n")
        began = time.monotonic()
        wire.socket.settimeout(0.05)
        with contextlib.suppress(OSError):  # closed while it drips
            while time.monotonic() - began < WITHIN:
                wire.socket.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    wire._more()
                    break
        wire.socket.settimeout(WITHIN)
        reply = refused(wire, 408, "request_timeout")
        assert reply.json["detail"] == "the request did not arrive in time"
        assert QUICK.head <= time.monotonic() - began < WITHIN


def test_a_body_that_stops_coming_is_408_and_starts_nothing(quick: Limited) -> None:
    for declared, half in (({**JSON, "content-length": "100"}, b"{"), (CHUNKED, b"5\r\n{\r\n")):
        with Wire(quick.port) as wire:
            wire.send(request("POST", INVOKE, declared) + half)
            refused(wire, 408, "request_timeout")
    assert quick.host.runs.going == {}


@pytest.mark.fault
def test_a_body_that_keeps_coming_is_waited_for(quick: Limited) -> None:
    body = b'{"prompt": "patience"}'
    with Wire(quick.port) as wire:
        wire.send(request("POST", INVOKE, {**JSON, "content-length": str(len(body))}))
        pause = threading.Event()
        for place in range(len(body)):
            pause.wait(0.1)  # two seconds in all, four times what a gap may last
            wire.send(body[place : place + 1])
        assert wire.reply().json["message"] == "patience"


@pytest.mark.fault
def test_a_connection_without_a_next_request_is_closed_after_uvicorns_keep_alive(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        for _ in range(3):
            assert wire.ask("GET", "/health/live").status == 200
        assert 1 <= seconds_to_the_end(wire) < WITHIN


@pytest.mark.fault
def test_the_rest_of_a_body_that_was_refused_is_not_waited_for_for_ever(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        wire.send(request("POST", INVOKE, {"content-length": "1000000"}) + b"x")
        assert wire.reply().status == 401
        began = time.monotonic()
        wire.socket.settimeout(0.05)
        with contextlib.suppress(OSError):
            while time.monotonic() - began < WITHIN:
                wire.socket.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    assert wire.socket.recv(1) == b""
                    break
        assert time.monotonic() - began < WITHIN


@pytest.mark.fault
def test_an_answer_that_takes_long_is_no_fault_of_the_client(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        wire.send(request("POST", "/agents/gated/invoke", bearer("root"), {"prompt": "slow agent"}))
        wait_for(HOLDING, "slow agent")
        threading.Event().wait(2.5)  # longer than any patience here
        quick.loop.call_soon_threadsafe(GATES["slow agent"].set)
        assert wire.reply().json["message"] == "begun ended"


def test_who_reads_nothing_of_a_stream_is_cut_off_and_the_run_ends(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        wire.send(request("POST", "/agents/floods/stream", bearer("root"), {"prompt": "unread"}))
        assert wire.head().status == 200
        with connections_changed:
            assert connections_changed.wait_for(lambda: "unread" in flooded, WITHIN)
        with pytest.raises((Broken, ConnectionError)):
            list(wire.chunks())


@pytest.mark.fault
def test_who_reads_nothing_of_a_big_answer_is_cut_off(quick: Limited) -> None:
    body = {"prompt": "x" * (8 << 20), "thread_id": "big"}
    with Wire(quick.port) as wire:
        assert wire.ask("POST", "/agents/hears/invoke", bearer("root"), body).status == 200
    with Wire(quick.port) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(request("GET", "/agents/hears/threads/big", bearer("root")))
        head = wire.head()
        deadline = time.monotonic() + WITHIN
        while open_connections(quick):
            assert time.monotonic() < deadline
        with pytest.raises((Broken, ConnectionError)):
            wire._exactly(int(head["content-length"]))


@pytest.mark.fault
def test_a_detached_run_does_not_mind_that_a_reader_was_cut_off(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        begun = wire.ask("POST", "/agents/pours/runs", bearer("root"), {"prompt": "x"})
        assert begun.status == 202
        wire.send(request("GET", f"{begun['location']}/events", bearer("root")))
        assert wire.head().status == 200
        deadline = time.monotonic() + WITHIN
        while open_connections(quick):
            assert time.monotonic() < deadline
    with Wire(quick.port) as wire:
        assert wire.ask("GET", begun["location"], bearer("root")).json["status"] == "running"
        assert wire.ask("POST", f"{begun['location']}/cancel", bearer("root"), {}).status == 202


@pytest.mark.fault
def test_who_reads_slowly_gets_it_all(quick: Limited) -> None:
    body = {"prompt": "y" * (8 << 20), "thread_id": "slow"}
    with Wire(quick.port) as wire:
        assert wire.ask("POST", "/agents/hears/invoke", bearer("root"), body).status == 200
        wire.send(request("GET", "/agents/hears/threads/slow", bearer("root")))
        left = int(wire.head()["content-length"])
        pause = threading.Event()
        while left:
            pause.wait(0.05)
            piece = min(left, 256 << 10)
            wire._exactly(piece)
            left -= piece


def open_connections(host: Limited) -> int:
    """How many connections the server has."""

    async def count() -> int:
        return len(host._server.server_state.connections)

    return host.run(count())


# ── not HTTP ──────────────────────────────────────────────────────────────────────────────────────────────────────────

HOST = b"host: 127.0.0.1\r\n"
POST = b"POST /agents/say/invoke HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\n"
MALFORMED = {
    "a length and chunks": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"content-length: 3, 3\r\n\r\nabc",
    "no number of bytes": POST + b"content-length: +3\r\n\r\nabc",
    "a chunk without a size": POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a chunk of less than nothing": POST + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
    "a chunk of more than there is": POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a chunk that is longer than it says": POST + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "bare line feeds in chunks": POST + b"transfer-encoding: chunked\r\n\r\n1\na\n0\n\n",
    "a coding that is not chunked last": POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding that only looks like it": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"GET /agents HTTP/1.1\r\n" + HOST + b"x-a: b\r\n c\r\n\r\n",
    "a NUL in a value": b"GET /agents HTTP/1.1\r\n" + HOST + b"x-a: b\0c\r\n\r\n",
    "a NUL in a name": b"GET /agents HTTP/1.1\r\n" + HOST + b"x\0a: b\r\n\r\n",
    "a bare carriage return": b"GET /agents HTTP/1.1\r\n" + HOST + b"x-a: b\rc\r\n\r\n",
    "bare line feeds": b"GET /agents HTTP/1.1\nhost: 127.0.0.1\n\n",
    "a space before the colon": b"GET /agents HTTP/1.1\r\n" + HOST + b"x-a : b\r\n\r\n",
    "a header without a name": b"GET /agents HTTP/1.1\r\n" + HOST + b": b\r\n\r\n",
    "HTTP/2, known beforehand": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version that is none": b"GET /agents HTTP/1.2\r\n" + HOST + b"\r\n",
    "the first bytes of TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "a method that is none": b"FETCH /agents HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes in the address": b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health/live HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "no words at all": b"\0" * 100,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http_is_refused_and_closed(hosted: Hosted, name: str) -> None:
    with Wire(hosted.port) as wire:
        wire.send(MALFORMED[name])
        refused(wire, 400, "bad_request")


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http_behind_a_request_that_is_leaves_its_answer_alone(hosted: Hosted, name: str) -> None:
    whole = request("POST", INVOKE, bearer("root"), {"prompt": "whole"})
    with Wire(hosted.port) as wire:
        wire.send(whole + MALFORMED[name])
        assert wire.reply().json["message"] == "whole"
        rest = bytearray()
        while data := wire.socket.recv(65536):
            rest += data
        assert not rest or rest.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))


def test_what_breaks_a_body_once_the_answer_has_begun_cuts_it(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    ended = threading.Event()
    host: Any = create_app(agents_toml(tmp_path, actors("say") + key("root"))).host
    with Threaded(lambda started: Server(app, host, on_started=started, limits=QUICK, lifespan="off")) as served:
        for broken in (b"zz\r\n", b""):  # or nothing more, for longer than is waited for
            with Wire(served.port) as wire:
                wire.send(request("POST", "/", CHUNKED))
                assert wire.head().status == 200
                chunks = wire.chunks()
                assert next(chunks) == b"begun"
                wire.send(broken)
                with pytest.raises((Broken, ConnectionError)):
                    list(chunks)
                assert ended.wait(WITHIN)
            ended.clear()
    host.store.close()


# ── too much ──────────────────────────────────────────────────────────────────────────────────────────────────────────

HEADS = {
    "an address of 8 kB and a byte": (b"GET /" + b"a" * MAX_TARGET + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "an address without an end": (b"GET /" + b"a" * MAX_TARGET, 414),
    "2,000 headers": (b"GET /agents HTTP/1.1\r\n" + HOST + b"x: y\r\n" * 2000 + b"\r\n", 431),
    "a header too many": (b"GET /agents HTTP/1.1\r\n" + HOST + b"x: y\r\n" * MAX_HEADERS + b"\r\n", 431),
    "a header of 70 kB": (b"GET /agents HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    "headers of 70 kB": (b"GET /agents HTTP/1.1\r\n" + HOST + (b"x: " + b"y" * 995 + b"\r\n") * 70 + b"\r\n", 431),
    "a header without an end": (b"GET /agents HTTP/1.1\r\n" + HOST + b"x: " + b"y" * MAX_HEAD, 431),
    "a name without an end": (b"GET /agents HTTP/1.1\r\n" + HOST + b"x" * MAX_HEAD, 431),
    "empty lines without an end": (b"\r\n" * MAX_HEAD, 431),
    "trailers without an end": (POST + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * MAX_HEAD * 2, 431),
    "a trailer without an end": (POST + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * MAX_HEAD * 8, 431),
    "a chunk's size without an end": (POST + b"transfer-encoding: chunked\r\n\r\n1;" + b"y" * MAX_HEAD * 8, 431),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("piece", [1 << 20, 4096])
def test_a_head_that_is_too_much_is_refused_before_its_end_and_closed(hosted: Hosted, name: str, piece: int) -> None:
    head, status = HEADS[name]
    with Wire(hosted.port) as wire:
        with contextlib.suppress(OSError):  # it may have been answered by then
            for place in range(0, len(head), piece):
                wire.send(head[place : place + piece])
        reply = wire.reply()
        if b"transfer-encoding" in head:  # whose own head was right: it has no key
            assert reply.status in {401, status}
        else:
            assert (reply.status, reply["connection"]) == (status, "close")
            assert reply.json["code"] == {414: "target_too_long", 431: "head_too_large"}[status]
        assert wire.closed()


def test_the_largest_heads_are_taken(hosted: Hosted) -> None:
    with Wire(hosted.port) as wire:
        path = "/" + "a" * (MAX_TARGET - 1)
        many = [(f"x-{number}", "y") for number in range(MAX_HEADERS - 2)]
        large = {"x": "y" * (MAX_HEAD - 200)}
        for headers in ([*many, *bearer("root").items()], [*large.items(), *bearer("root").items()]):
            assert wire.ask("GET", "/agents", headers).status == 200
        assert wire.ask("GET", path, bearer("root")).status == 404
        body = b'{"prompt": "%s"}' % (b"x" * 200_000)  # with its head in one piece, which is larger than a head may be
        assert wire.ask("POST", INVOKE, JSON, body).status == 200


def test_what_comes_after_the_chunks_is_no_header(hosted: Hosted) -> None:
    body = b"2\r\n{}\r\n0\r\nauthorization: Bearer root-0123456789abcdef\r\nhost: evil.example\r\n\r\n"
    with Wire(hosted.port) as wire:
        wire.send(request("POST", INVOKE, {"content-type": "application/json", "transfer-encoding": "chunked"}) + body)
        assert wire.reply().status == 401
        wire.send(request("POST", INVOKE, CHUNKED) + chunked(b'{"prompt": ', b'"x"}')[:-2] + b"x: y\r\n\r\n")
        assert wire.reply().status == 200


def test_one_connection_too_many_is_told_to_come_again(quick: Limited) -> None:
    deadline = time.monotonic() + WITHIN
    while open_connections(quick):
        assert time.monotonic() < deadline
    with contextlib.ExitStack() as opened:
        for _ in range(QUICK.connections):
            wire = opened.enter_context(Wire(quick.port))
            assert wire.ask("GET", "/health/live").status == 200
        late = opened.enter_context(Wire(quick.port))
        reply = refused(late, 503, "too_many_connections")
        assert int(reply["retry-after"]) >= 1
    with Wire(quick.port) as wire:
        while open_connections(quick) > 1:
            assert time.monotonic() < deadline + WITHIN
        assert wire.ask("GET", "/health/live").status == 200


# ── another protocol ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
def test_a_request_that_would_rather_speak_another_protocol_is_answered_whole_in_this_one(
    hosted: Hosted, protocol: str
) -> None:
    asking = {**bearer("root"), "connection": "Upgrade, HTTP2-Settings", "upgrade": protocol, "http2-settings": "AAM"}
    with Wire(hosted.port) as wire:
        assert wire.ask("GET", "/agents", asking).status == 200
        assert wire.ask("POST", INVOKE, asking, {"prompt": "a body"}).json["message"] == "a body"
        body = b'{"prompt": "in pieces"}'
        wire.send(request("POST", INVOKE, {**asking, **JSON, "content-length": str(len(body))}))
        wire.send(body[:5])
        wire.send(body[5:])
        assert wire.reply().json["message"] == "in pieces"
        assert wire.ask("POST", INVOKE, {**asking, "connection": "upgrade, close"}, {"prompt": "x"}).status == 200
        assert wire.closed()


# ── ahead ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("behind", [1, 3, MAX_AHEAD + 5])
def test_a_client_that_leaves_is_heard_of_behind_what_it_sent_ahead(quick: Limited, behind: int) -> None:
    for path in ("/agents/hold/invoke", "/agents/hold/stream"):
        prompt = f"left behind {behind} {path}"
        with Wire(quick.port) as wire:
            wire.send(request("POST", path, bearer("root"), {"prompt": prompt}))
            wait_for(HOLDING, prompt)
            wire.send(request("POST", INVOKE, bearer("root"), {"prompt": "never"}) * behind)
            wire.send(b"POST /agents/say/invoke HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + b"x" * 150_000)
            wire.socket.shutdown(socket.SHUT_WR)
            left = time.monotonic()
            assert wait_for(CANCELLED, prompt) - left < 0.25
    deadline = time.monotonic() + WITHIN
    while quick.host.runs.going:
        assert time.monotonic() < deadline


def test_too_much_sent_ahead_is_dropped_and_the_first_is_answered(quick: Limited) -> None:
    with Wire(quick.port) as wire:
        wire.send(request("POST", "/agents/gated/invoke", bearer("root"), {"prompt": "first"}))
        wait_for(HOLDING, "first")
        for _ in range(300):
            wire.send(request("GET", "/health/live") * 10 + b"GET / HTTP/1.1\r\nx: " + b"x" * 60_000 + b"\r\n\r\n")
        quick.loop.call_soon_threadsafe(GATES["first"].set)
        assert wire.reply().json["message"] == "begun ended"
        assert wire.closed()


def test_half_a_request_sent_ahead_is_waited_for_once_it_is_its_turn(quick: Limited) -> None:
    body = b'{"prompt": "second"}'
    with Wire(quick.port) as wire:
        wire.send(request("POST", "/agents/gated/invoke", bearer("root"), {"prompt": "one ahead"}))
        wait_for(HOLDING, "one ahead")
        wire.send(request("POST", INVOKE, {**JSON, "content-length": str(len(body))}) + body[:5])
        quick.loop.call_soon_threadsafe(GATES["one ahead"].set)
        assert wire.reply().json["message"] == "begun ended"
        wire.send(body[5:])
        assert wire.reply().json["message"] == "second"


# ── uvicorn ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_installed_uvicorn_has_what_is_used_of_it() -> None:
    require_uvicorn()


def test_a_uvicorn_without_what_is_used_of_it_refuses_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {**connections.USED, HttpToolsProtocol: "cycle conveyor on_response_complete"}
    monkeypatch.setattr(connections, "USED", wanted)
    monkeypatch.setattr("uvicorn.__version__", "9.9")
    with pytest.raises(StartError) as refusal:
        Server(None, None)  # type: ignore[arg-type]  # it does not come to that
    assert refusal.value.message == (
        "uvicorn 9.9 is not one that agenthost can serve with: it has no HttpToolsProtocol.conveyor"
    )
    assert refusal.value.hint == (
        f"install a release that agenthost was tested with: pip install 'uvicorn>={lowest_uvicorn()},<=0.54'"
    )
