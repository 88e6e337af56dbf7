"""Replies that are a run's log, and what every route of runs shares: keys, headers, JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import orjson
from fastapi.responses import Response

from agenthost.agents import RunRequest
from agenthost.ended_run import EndedRun
from agenthost.events import Entry
from agenthost.protocols.exchange import ClientWatch, Exchange, Receive, Scope, Send
from agenthost.protocols.run_wire import idempotency_key, resume_digest, run_digest
from agenthost.resuming import ResumeRequest, undecided
from agenthost.run import Run
from agenthost.run_log import Reader
from agenthost.streaming import Frames, Teller, batches, pump

Headers = Sequence[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)

Begin = Callable[[], Awaitable[Run | EndedRun]]
"""Starts a run, or finds one; what it raises is answered as a problem."""


Look = Callable[[Run | EndedRun, Reader], Awaitable[None]]
"""Waits for what a run begins with."""


async def stream_run(
    exchange: Exchange,
    begin: Begin,
    receive: Receive,
    send: Send,
    after: int = 0,
    look: Look | None = None,
    told: Callable[[Run | EndedRun], Teller] | None = None,
) -> None:
    """Send a run's log after entry `after` as it grows; a client that leaves is a reader that leaves.

    `look` is awaited before anything is sent: what it raises is answered as a problem. `told` is how a dialect tells a
    run, where it is not in the host's own frames.
    """
    with ClientWatch(receive):
        run = await begin()
        reader = run.read(after)
        try:
            headers = [*EVENT_STREAM, *exchange.run_headers(run)]
            teller = told(run) if told is not None else Frames(exchange.render)
            if look is not None:
                await look(run, reader)
            await send({"type": "http.response.start", "status": 200, "headers": headers})

            def write(data: bytes, more: bool) -> Awaitable[None]:
                return send({"type": "http.response.body", "body": data, "more_body": more})

            await pump(reader, write, teller)
        finally:
            reader.close()


class Folding(Protocol):
    """How a dialect makes one answer of a run's log."""

    def entry(self, entry: Entry) -> Any:
        """Take in the next entry."""
        ...

    def whole(self) -> Any:
        """The answer, as JSON; the run has completed, or paused."""
        ...


async def fold_run(
    exchange: Exchange,
    begin: Begin,
    receive: Receive,
    send: Send,
    told: Callable[[Run | EndedRun], Folding],
) -> None:
    """Run, fold the log, answer; a client that leaves is a reader that leaves, and gets no answer.

    A run that did not complete is answered as a problem, like all that `begin` raises.
    """
    with ClientWatch(receive) as watch:
        run = await begin()
        reader = run.read()
        try:
            exchange.run_headers(run)
            folding = told(run)
            async for entries in batches(reader):
                for entry in entries:
                    folding.entry(entry)
            await run.result()
            if isinstance(run, Run) and (error := undecided(run)) is not None:
                raise error
            headers = exchange.run_headers(run)  # a pause may have given it a thread
        finally:
            reader.close()
    if watch.gone:
        return
    body = orjson.dumps(folding.whole())
    headers = [*headers, JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def keyed(exchange: Exchange, request: RunRequest) -> RunRequest:
    """The request with the key of its `Idempotency-Key` header, where there is one; raises `InvalidRequest`."""
    raw = exchange.headers.get(b"idempotency-key")
    if raw is not None:
        request.idempotency_key, request.request_digest = idempotency_key(raw), run_digest(request)
    return request


def keyed_resume(exchange: Exchange, request: ResumeRequest) -> ResumeRequest:
    """As `keyed`, for a resume."""
    raw = exchange.headers.get(b"idempotency-key")
    if raw is None:
        return request
    return replace(request, idempotency_key=idempotency_key(raw), request_digest=resume_digest(request))


class Answer(Response):
    """A response that is written by a function of the exchange, for the FastAPI routes."""

    def __init__(self, answer: Callable[..., Any], exchange: Exchange, asked: Any, *more: Any) -> None:
        super().__init__()
        self._answer = answer
        self._arguments = (exchange, asked)
        self._more = more

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write it."""
        await self._answer(*self._arguments, receive, send, *self._more)


class _Reply(Response):
    """A reply whose headers are bytes already."""

    def __init__(self, body: bytes, status: int, headers: Headers) -> None:
        super().__init__(body, status, media_type="application/json")
        self.raw_headers.extend(headers)


def json_reply(content: Any, status: int = 200, headers: Headers = ()) -> Response:
    """A JSON reply."""
    return _Reply(orjson.dumps(content), status, headers)
