"""Errors as problem bodies (RFC 9457): at most 4 kB, a code, a correlation id, and nothing of what was sent."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import orjson

from agenthost.errors import HostError, RunError
from agenthost.protocols.exchange import Exchange, Send, header_value

MAX_DETAIL = 1000
"""Characters of `detail`; with the rest of the body that stays far below 4 kB, also in UTF-8."""

log = logging.getLogger("agenthost.http")


def correlation_of(error: HostError, exchange: Exchange) -> str:
    """The id that the log has too: the run's where it has one, else the request's."""
    known = error.correlation_id if isinstance(error, RunError) else None
    return known or exchange.id


def problem(error: HostError, correlation_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body for `error`."""
    fields = {
        "type": f"urn:agenthost:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail[:MAX_DETAIL],
        "code": error.code,
        "correlation_id": correlation_id,
    }
    run_id = error.run_id if isinstance(error, RunError) else None
    if run_id is not None:
        fields["run_id"] = run_id
    body = orjson.dumps(fields)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store")]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="agenthost"'))
    return error.status, headers, body


async def send_problem(exchange: Exchange, error: HostError, send: Send) -> None:
    """Answer with `error`, in the dialect's own shape where the path is a dialect's that has one."""
    correlation_id = correlation_of(error, exchange)
    status, headers, body = problem(error, correlation_id)
    rendered = _in_its_own_words(exchange, error, correlation_id)
    if rendered is not None:
        status, own, body = rendered
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in own.items()]
        headers.append((b"content-length", str(len(body)).encode()))
    if isinstance(error, RunError) and error.run_id is not None:
        exchange.run_id = error.run_id
        headers.append((b"x-run-id", header_value(error.run_id)))
        if exchange.agent_path or exchange.entry is not None:
            headers.append((b"content-location", f"{exchange.agent_path}/runs/{error.run_id}".encode()))
    if status >= 500 and not isinstance(error, RunError):
        log.warning(
            "%s %s: %s",
            exchange.method,
            exchange.path,
            error.message,
            extra={"request_id": exchange.id},
        )
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _in_its_own_words(
    exchange: Exchange, error: HostError, correlation_id: str
) -> tuple[int, Mapping[str, str], bytes] | None:
    path = exchange.path.removeprefix(exchange.agent_path) if exchange.agent_path else exchange.path
    scope = "agent" if exchange.agent_path else "host"
    for dialect in exchange.host.dialects.values():
        if dialect.render_error is not None and dialect.scope == scope and path.startswith(dialect.prefix):
            rendered: tuple[int, Mapping[str, str], bytes] = dialect.render_error(error, correlation_id)
            return rendered
    return None


def unexpected(exchange: Exchange, raised: BaseException) -> HostError:
    """The host's own fault, or a plugin's: logged with its traceback, answered without a word of it."""
    error = HostError("the host failed to answer this request")
    log.error(
        "%s %s failed",
        exchange.method,
        exchange.path,
        exc_info=(type(raised), raised, raised.__traceback__),
        extra={"request_id": exchange.id},
    )
    return error
