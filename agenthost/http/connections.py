"""One client's connection: uvicorn's parser and writer, with limits on who is slow and a plain no to what is not HTTP.

What a client may cost before the app hears of it is decided here. Too late: the head of a request (10 s from its first
byte), the rest of a body (30 s without a byte), the first or the next request, what it does not read (60 s without
progress). Too much: the head, the headers, the address, requests sent ahead, connections. Not HTTP: whatever the parser
refuses. Each is answered where that can still be heard, and the connection is closed.

Of uvicorn this uses, besides the protocol's methods that it overrides, the attributes in `USED`; `require_uvicorn`
looks whether they are there before anything is served.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from types import FunctionType
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from agenthost.errors import (
    BadRequest,
    HeadTooLarge,
    HostError,
    RequestTimeout,
    StartError,
    TargetTooLong,
    TooManyConnections,
)
from agenthost.http.problems import problem
from agenthost.http.security import CLOSE
from agenthost.streaming import STALLED

MAX_HEAD = 64 << 10
"""Bytes of a request's head, and of what comes between or after the pieces of its body."""

MAX_HEADERS = 100
MAX_TARGET = 8 << 10
"""Bytes of a request's path and query."""

MAX_AHEAD = 16
"""Requests that may be sent before the one in front of them is answered."""

MAX_AHEAD_BYTES = 64 << 10

AT_ONCE = struct.pack("ii", 1, 0)
"""`SO_LINGER`: what is unsent is dropped when the socket is closed."""

AGAIN = 15.0
"""Seconds between looks at a connection that is not waited for, or does not read."""

USED: Mapping[type, str] = {
    HttpToolsProtocol: "config connections cycle flow headers parser pipeline server_state transport url "
    "connection_lost on_response_complete shutdown",
    RequestResponseCycle: "disconnected keep_alive message_event response_complete response_started",
    FlowControl: "read_paused write_paused resume_reading",
    ServerState: "connections default_headers tasks total_requests",
    uvicorn.Server: "force_exit handle_exit lifespan server_state servers should_exit shutdown started startup",
}
"""What is used of uvicorn's classes without being promised by it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a connection is waited for, in seconds, and how many there may be."""

    head: float = 10.0
    body: float = 30.0
    unread: float = STALLED
    farewell: float = 2.0
    """To read why a connection is closed."""
    connections: int = 20_000


class Stage(Enum):
    """What a connection waits for."""

    NEW = "its first byte"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    ANSWERING = "the app's answer to a whole request"
    IDLE = "the next request"
    REFUSED = "the client to read why"


NEW, HEAD, BODY, ANSWERING, IDLE, REFUSED = Stage


class Connection(HttpToolsProtocol):
    """What uvicorn makes for each client; `look` is called by the server's sweep once `due` has come."""

    def __init__(self, *arguments: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.due = 0.0
        """When to look, by the loop's clock; 0 to be told at the next sweep when that is."""
        self._limits = limits
        self._stage = NEW
        self._deaf = False
        """Whether what still comes is dropped. It is read, or nobody would hear that the client leaves."""
        self._loose = 0
        """Bytes since the last that belonged to a body or completed a head: what the parser may be holding."""
        self._ahead = 0
        """Bytes that came while an answer was due before theirs."""
        self._running: RequestResponseCycle | None = None
        """The request that is being answered, or was last; uvicorn's `cycle` is the one that came last."""
        self._plain: bytes | None = None
        """The head of a request that asked for another protocol, without the asking."""
        self._unsent = 0
        self._stuck_since = 0.0

    # ── what comes in ─────────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a client in, unless there are too many: that is told without waiting for what it wants."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._deaf, self._stage = True, REFUSED
            transport.write(self._refusal(TooManyConnections(retry_after=1.0)))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the app, whichever request it is answering; those behind that are dropped."""
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the `on_` methods; then see that it holds no more than it may."""
        if self._deaf:
            return
        self._loose += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            plain, self._plain = self._plain or b"", None
            self.parser = httptools.HttpRequestParser(self)  # that one is done, if the connection is to close
            self.data_received(plain + data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, HostError) else BadRequest("the request is not valid HTTP"))
            return
        stage = self._stage
        if stage is BODY and not self.cycle.response_complete:  # else it may not take for ever, byte by byte
            self.due = 0.0
        if stage is HEAD and len(self.url) > MAX_TARGET:
            self._refuse(TargetTooLong())
        elif self._loose > MAX_HEAD:
            self._refuse(HeadTooLarge())
        elif self.pipeline:
            self._look_at_what_is_ahead(len(data))

    def _look_at_what_is_ahead(self, received: int) -> None:
        """Bound what is kept, and go on reading all the same: else nobody would hear that the client leaves."""
        self._ahead += received
        if self._ahead > MAX_AHEAD_BYTES:
            self._refuse(BadRequest("too much was sent ahead"))
        self.flow.resume_reading()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= MAX_AHEAD:
            raise BadRequest("too much was sent ahead")
        super().on_message_begin()
        self._stage = HEAD
        self.due = 0.0

    def on_headers_complete(self) -> None:
        """Hand the request to the app, its body to follow."""
        if len(self.url) > MAX_TARGET:
            raise TargetTooLong
        if len(self.headers) > MAX_HEADERS or (self._loose > MAX_HEAD and self._head_size() > MAX_HEAD):
            raise HeadTooLarge
        if self.parser.should_upgrade():
            self._plain = self._without_upgrade()
            return
        self._loose = 0
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle
        self.headers = []  # not the app's any more: what comes after the body passed no check, and is dropped
        self._stage = BODY
        self.due = 0.0

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._plain is not None:
            return
        super().on_message_complete()
        self._stage = IDLE if self.cycle.response_complete else ANSWERING
        self.due = 0.0

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _without_upgrade(self) -> bytes:
        """The head again, for the parser: once it has seen an upgrade it takes the body for the other protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise BadRequest("this server is no proxy")
        first = b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())
        kept = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([first, *kept, b"", b""])

    # ── what goes out ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def owes(self) -> bool:
        """Whether a request, or a part of its answer, is still on its way."""
        return self._answering or self.transport.get_write_buffer_size() > 0

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def on_response_complete(self) -> None:
        """Answer the next request if it is here, else wait for it; uvicorn would set a timer of its own then."""
        self.due = 0.0
        if self.pipeline:
            self._running = self.pipeline[-1][0]
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self._ahead = 0
        if self._stage is ANSWERING:
            self._stage = IDLE
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """The client reads slower than it is sent to."""
        super().pause_writing()
        self.due = 0.0

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._stuck_since = 0.0

    def shutdown(self) -> None:
        """The server stops: close if nothing is going on, else once the answer is out."""
        if self._answering:
            self._answer_no_more()
        elif self._stage is IDLE:
            self.transport.close()

    def _answer_no_more(self) -> None:
        """Close once the answer that is being made is out: what came behind it can be asked again."""
        self.pipeline.clear()
        assert self._running is not None
        self._running.keep_alive = False

    def _refuse(self, error: HostError) -> None:
        """Answer in the app's place and close; a whole request that is being answered still gets that answer."""
        self._deaf = True
        cycle = self.cycle
        if self._answering and not (self._stage is BODY and self._running is cycle):
            self._answer_no_more()
            return
        if self._stage is BODY and cycle.response_started and not cycle.response_complete:
            self.transport.abort()
            return
        if self._stage is not BODY or not cycle.response_started:
            self.transport.write(self._refusal(error))
        if self._stage is BODY:
            cycle.disconnected = True
            cycle.message_event.set()
        self._stage, self.due = REFUSED, 0.0
        if self.transport.can_write_eof():
            self.transport.write_eof()  # and read on: to close with bytes unread would take back what was written
        else:
            self.transport.close()

    def _refusal(self, error: HostError) -> bytes:
        correlation_id = secrets.token_hex(8)
        status, headers, body = problem(error, correlation_id)
        headers += [
            *(header for header in self.server_state.default_headers if header[0] != b"connection"),
            (b"x-request-id", correlation_id.encode()),
            (b"content-length", b"%d" % len(body)),
            CLOSE,
        ]
        first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
        return b"\r\n".join([first, *(name + b": " + value for name, value in headers), b"", body])

    # ── what takes too long ───────────────────────────────────────────────────────────────────────────────────────────

    def look(self, now: float) -> None:
        """See whether what this connection waits for is late; if it is not, `due` says when it will be."""
        if self.flow.write_paused or self.transport.is_closing():
            self._look_at_unsent(now)
        elif self.due:
            self._late(now)
        else:
            self.due = now + self._patience()

    def _patience(self) -> float:
        stage = self._stage
        if stage is IDLE:
            return self.config.timeout_keep_alive
        if stage is NEW or stage is HEAD:
            return self._limits.head
        if stage is BODY:
            return self._limits.body
        return self._limits.farewell if stage is REFUSED else AGAIN

    def _late(self, now: float) -> None:
        stage = self._stage
        if stage is ANSWERING or (stage is BODY and self.flow.read_paused):
            self.due = now + AGAIN  # it is not the client who is waited for
        elif stage in {HEAD, BODY}:
            self._refuse(RequestTimeout("the request did not arrive in time"))
        elif stage is REFUSED:
            self.transport.abort()
        else:
            self.transport.close()

    def _look_at_unsent(self, now: float) -> None:
        """Cut off a client that reads nothing; to close would wait for it."""
        unsent = self.transport.get_write_buffer_size()
        if not self._stuck_since or unsent < self._unsent:
            self._unsent, self._stuck_since = unsent, now
        elif now - self._stuck_since >= self._limits.unread:
            with suppress(OSError):  # what the kernel holds for this client is to go as well, megabytes of it
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self.transport.abort()
        self.due = now + min(AGAIN, self._limits.unread)


def require_uvicorn() -> None:
    """Raise `StartError` where the installed uvicorn does not have what is used of it."""
    missing = [what for kind, names in USED.items() for what in _missing(kind, names.split())]
    if missing:
        raise StartError(
            f"uvicorn {uvicorn.__version__} is not one that agenthost can serve with: it has no {', '.join(missing)}",
            hint="install a release that agenthost was tested with: pip install 'uvicorn>=0.32.1,<=0.54'",
        )


def _missing(kind: type, names: Sequence[str]) -> list[str]:
    """Which of these a class neither has nor mentions in its functions' code."""
    functions = [value for value in vars(kind).values() if isinstance(value, FunctionType)]
    known = {*dir(kind), *(name for function in functions for name in function.__code__.co_names)}
    return [f"{kind.__name__}.{name}" for name in names if name not in known]
