"""Errors as problem bodies (RFC 9457): at most 4 kB, a code, a correlation id, and nothing of what was sent."""

from __future__ import annotations

import logging

import orjson

from agenthost.encoding import encode_json
from agenthost.errors import HostError, RunError
from agenthost.protocols.exchange import Exchange, Send

Headers = list[tuple[bytes, bytes]]

MAX_DETAIL = 600
"""Characters of `detail`; with the rest of the body that stays below 4 kB, also where each is escaped."""

MAX_MEMBER = 800
"""Bytes of one of an error's own members; a longer one is left out."""

log = logging.getLogger("agenthost.http")


def correlation_of(error: HostError, exchange: Exchange) -> str:
    """The id that the log has too: the run's where it has one, else the request's."""
    known = error.correlation_id if isinstance(error, RunError) else None
    return known or exchange.id


def problem(error: HostError, correlation_id: str, status: int | None = None) -> tuple[int, Headers, bytes]:
    """Status, headers and body for `error`; `status` where it is not the error's own."""
    status = status or error.status
    fields = {
        "type": f"urn:agenthost:error:{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail[:MAX_DETAIL],
        "code": error.code,
        "correlation_id": correlation_id,
    }
    fields |= {name: value for name, value in error.members.items() if len(encode_json(value)) <= MAX_MEMBER}
    run_id = error.run_id if isinstance(error, RunError) else None
    if run_id is not None:
        fields["run_id"] = run_id
    body = orjson.dumps(fields)
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    return status, [*headers, *_advice(error)], body


def _advice(error: HostError) -> Headers:
    """What HTTP itself tells a client to do, whatever the body looks like."""
    if error.retry_after is not None:
        return [(b"retry-after", str(max(1, round(error.retry_after))).encode())]
    if error.status == 401:
        return [(b"www-authenticate", b'Bearer realm="agenthost"')]
    return []


async def send_problem(
    exchange: Exchange, error: HostError, send: Send, *, status: int | None = None, headers: Headers | None = None
) -> None:
    """Answer with `error`, in the dialect's own shape where the path is a dialect's that has one, and log what is ours.

    `status` and `headers` are those of a framework's exception, where `error` only stands for one.
    """
    correlation_id = correlation_of(error, exchange)
    log_problem(exchange, error)
    answer = _in_its_own_words(exchange, error, correlation_id) or problem(error, correlation_id, status)
    status, own, body = answer
    own = [*own, *(headers or ()), (b"content-length", str(len(body)).encode())]
    if isinstance(error, RunError) and error.run_id is not None:
        exchange.run_id = error.run_id
        own += exchange.run_fields
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


def _in_its_own_words(exchange: Exchange, error: HostError, correlation_id: str) -> tuple[int, Headers, bytes] | None:
    path = exchange.path.removeprefix(exchange.agent_path) if exchange.agent_path else exchange.path
    scope = "agent" if exchange.agent_path else "host"
    for dialect in exchange.host.dialects.values():
        if dialect.render_error is None or dialect.scope != scope or not is_under(path, dialect.prefix):
            continue
        try:
            status, own, body = dialect.render_error(error, correlation_id)
            named = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in own.items()]
        except Exception:  # a plugin's function: the client still gets an answer
            log.exception("protocol '%s' failed to render an error", dialect.name, extra={"request_id": exchange.id})
            return None
        return status, [*named, *_advice(error)], body
    return None


def is_under(path: str, prefix: str) -> bool:
    """Whether a path is a dialect's: its prefix, or below it."""
    return not prefix or path == prefix or path.startswith(prefix + "/")


def unexpected(raised: Exception) -> HostError:
    """What stands for the host's own fault, or a plugin's: a client reads none of it, the log has the traceback."""
    error = HostError("the host failed to answer this request")
    error.__cause__ = raised
    return error


def log_problem(exchange: Exchange, error: HostError) -> None:
    """Log what is the host's to mend, once; the run engine has logged what runs ended with."""
    if error.status < 500 or isinstance(error, RunError):
        return
    cause = error.__cause__
    log.log(
        logging.WARNING if cause is None else logging.ERROR,
        "%s %s: %s",
        exchange.method,
        exchange.path[:500],
        error.message,
        exc_info=(type(cause), cause, cause.__traceback__) if cause is not None else None,
        extra={"request_id": exchange.id},
    )
