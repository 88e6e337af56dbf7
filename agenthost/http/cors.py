"""Which web pages may read what this host answers: CORS, absent unless `[server] cors_origins` lists their origins."""

from __future__ import annotations

from collections.abc import Collection

from agenthost.errors import Forbidden
from agenthost.protocols.exchange import Exchange, Send

Headers = list[tuple[bytes, bytes]]

_VARY = (b"vary", b"Origin")
_EXPOSED = (
    b"access-control-expose-headers",
    b"X-Run-ID, X-Thread-ID, X-Request-ID, Content-Location, Retry-After",
)
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID"),
    (b"access-control-max-age", b"600"),
)


def reply_headers(exchange: Exchange, origins: Collection[str]) -> Headers:
    """What every reply carries, errors and streams too: that it depends on the origin, and leave for a listed one."""
    origin = exchange.headers.get(b"origin")
    if origin is None or origin.decode("latin-1") not in origins:
        return [_VARY]
    return [_VARY, (b"access-control-allow-origin", origin), _EXPOSED]


def is_preflight(exchange: Exchange) -> bool:
    """Whether a browser asks, without credentials, if it may send the request that a page wants to send."""
    headers = exchange.headers
    return exchange.method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


async def answer_preflight(exchange: Exchange, origins: Collection[str], send: Send) -> None:
    """Say what pages of a listed origin may send; raises `Forbidden` for any other origin."""
    if exchange.headers[b"origin"].decode("latin-1") not in origins:
        raise Forbidden("this origin is not one of [server] cors_origins")
    await send({"type": "http.response.start", "status": 204, "headers": list(_PREFLIGHT)})
    await send({"type": "http.response.body", "body": b""})
