"""R, the practical limit: one ASGI callable, orjson and a bearer check, answering in the shapes of the native dialect.

`POST /invoke` answers Locus's six fields. `POST /stream` sends 200 `model_chunk` events and a `done`, one send each;
`/stream/turns` gives every event a loop turn of its own, `/stream/whole` sends all of them at once, `/stream/idle`
sends one and then waits for the client to leave. `GET /health/live` is public.
"""

import asyncio
import hmac
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

EVENTS = 200
KEY = f"Bearer {os.environ.get('BENCHMARK_KEY', '')}".encode()
JSON = [(b"content-type", b"application/json")]
SSE = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
DONE = b"data: [DONE]\n\n"


def frame(seq: int, kind: str, payload: dict[str, Any]) -> bytes:
    """One SSE frame, as the native dialect writes it."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, kind.encode(), orjson.dumps(payload))


def chunk(seq: int) -> bytes:
    """The frame of the event numbered `seq`."""
    return frame(seq, "model_chunk", {"type": "model_chunk", "content": f"word {seq} "})


def end() -> bytes:
    """The last two frames: how the run ended, and that the stream is over."""
    return frame(EVENTS + 1, "done", {"type": "done", "message": "words", "reason": "complete"}) + DONE


def allowed(scope: Scope) -> bool:
    """Whether the request carries the key."""
    return any(name == b"authorization" and hmac.compare_digest(value, KEY) for name, value in scope["headers"])


async def read_body(receive: Receive) -> Any:
    """The JSON body of the request."""
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return orjson.loads(body)


async def reply(send: Send, status: int, body: bytes) -> None:
    """Answer with a whole JSON body."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*JSON, length]})
    await send({"type": "http.response.body", "body": body})


async def invoke(receive: Receive, send: Send) -> None:
    """Answer the prompt with itself."""
    started = time.perf_counter()
    body = await read_body(receive)
    answer = {
        "message": body["prompt"],
        "success": True,
        "stop_reason": "complete",
        "iterations": 1,
        "tool_calls": 0,
        "duration_ms": (time.perf_counter() - started) * 1000,
    }
    await reply(send, 200, orjson.dumps(answer))


async def stream(receive: Receive, send: Send, mode: str) -> None:
    """Send the events in the way that `mode` names."""
    await read_body(receive)
    await send({"type": "http.response.start", "status": 200, "headers": SSE})
    if mode == "idle":
        await send({"type": "http.response.body", "body": chunk(1), "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if mode == "whole":
        await send({"type": "http.response.body", "body": b"".join(map(chunk, range(1, EVENTS + 1))) + end()})
        return
    for seq in range(1, EVENTS + 1):
        if mode == "turns":
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": chunk(seq), "more_body": True})
    await send({"type": "http.response.body", "body": end()})


STREAMS = {"/stream": "sends", "/stream/turns": "turns", "/stream/whole": "whole", "/stream/idle": "idle"}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    path = scope["path"]
    if path == "/health/live":
        await reply(send, 200, b'{"status":"ok"}')
    elif not allowed(scope):
        await reply(send, 401, b'{"detail":"Unauthorized"}')
    elif path == "/invoke":
        await invoke(receive, send)
    elif path in STREAMS:
        await stream(receive, send, STREAMS[path])
    else:
        await reply(send, 404, b'{"detail":"Not Found"}')
