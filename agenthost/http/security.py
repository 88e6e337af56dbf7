"""Who may ask at all, from headers alone: Host, cross-site, credentials, size and type; before a byte of body is read.

The order of refusals: 421 a Host that is not ours, or a request that something forwarded to a server meant for this
machine only (`addressed`) · 403 cross-site · 401 credentials · 413 size · 415 type (`guard`). A route is public only by
being in `PUBLIC`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agenthost.auth import Authenticator, Credentials, Principal
from agenthost.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    Misdirected,
    Unauthorized,
    UnsupportedMediaType,
)
from agenthost.protocols.exchange import Exchange

PUBLIC = frozenset({"/health/live", "/health/ready", "/agents/{name}/health"})
"""GET routes of a host that answer without credentials."""

_PROBES = frozenset({"/health/live", "/health/ready"})
"""What load balancers ask by address: answered under any Host, unless this server is for this machine only."""

MISSING = "Missing bearer token"
UNKNOWN = "Invalid bearer token"
"""What a 401 says: the words that clients of Locus 3.0.1 know."""

CLOSE = (b"connection", b"close")
"""The header of an answer after which a connection is of no more use: who sent this may mean something else by it."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FORWARDED = frozenset({b"forwarded", b"via", b"x-real-ip"})
"""What proxies add, besides everything that begins with `x-forwarded-`."""

_SINGLE = frozenset({b"authorization", b"host", b"content-length", b"content-type", b"origin", b"sec-fetch-site"})
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_MAX_TOKEN = 4096
_LONGEST_LENGTH = 18
"""Digits of a Content-Length that is worth reading as a number."""

_LOCAL_NAMES = frozenset({"localhost", "localhost."})
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]@/]+))(?::[0-9]{0,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Policy:
    """How one server tells callers apart.

    `anonymous` is who a request without credentials is, where that is allowed. `local_only` answers nothing that
    does not come from this machine. `hosts` are the Host names that are ours; empty: any. `origins` are the web origins
    besides this host's own whose pages may send unsafe requests, and `cors_origins` those that may read the replies.
    """

    authenticators: tuple[Authenticator, ...] = ()
    anonymous: Principal | None = None
    local_only: bool = False
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    max_body: int = 10 << 20
    public: frozenset[str] = field(default=PUBLIC)


def is_loopback(host: str) -> bool:
    """Whether a host name or address (without port) is this machine's own."""
    if host.lower() in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, IPv6 without brackets; empty for what is neither."""
    found = _AUTHORITY.fullmatch(authority)
    return (found[1] or found[2]).lower() if found else ""


def read_headers(exchange: Exchange, raw: Sequence[tuple[bytes, bytes]]) -> None:
    """Index the headers, joining those that came twice.

    Raises `BadRequest`, and has the connection closed, where one that decides something came twice, or no Host came.
    """
    headers = dict(raw)
    if len(headers) != len(raw):
        headers = {}
        for name, value in raw:
            if name in headers and name in _SINGLE:
                exchange.reply_headers.append(CLOSE)
                raise BadRequest(f"more than one {name.decode('latin-1')} header")
            headers[name] = headers[name] + b", " + value if name in headers else value
    if b"host" not in headers and exchange.scope.get("http_version") == "1.1":
        exchange.reply_headers.append(CLOSE)
        raise BadRequest("no host header")
    exchange.headers = headers


def addressed(exchange: Exchange, policy: Policy) -> None:
    """Raise `Misdirected` unless the request is meant for this server; note who sent it."""
    if policy.local_only:
        _only_this_machine(exchange)
    elif policy.hosts and exchange.path not in _PROBES:
        _our_host(exchange.headers, policy.hosts)
    client = exchange.scope.get("client")
    exchange.peer = client[0] if client else None
    if policy.trusted_proxies and _trusted(exchange.peer, policy):
        _believe_proxy(exchange, policy)


def guard(exchange: Exchange, policy: Policy, *, public: bool) -> None:
    """Let the request through with its principal, or raise why not."""
    headers = exchange.headers
    unsafe = exchange.method not in _SAFE
    if unsafe:
        _same_site(headers, policy)
    _authenticate(exchange, policy, public=public)
    if _has_body(headers, policy.max_body) and unsafe:
        _is_json(headers)


def _believe_proxy(exchange: Exchange, policy: Policy) -> None:
    """Take scheme and sender's address from headers: from the right, to the first that is no proxy of ours."""
    scheme = exchange.headers.get(b"x-forwarded-proto", b"").decode("latin-1")
    if scheme in {"http", "https"}:
        exchange.scope["scheme"] = scheme
    for hop in reversed(exchange.headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
        address = hop.strip() if is_address(hop.strip()) else host_name(hop.strip())
        if not is_address(address):
            break
        exchange.peer = address
        if not _trusted(address, policy):
            break


def _trusted(peer: str | None, policy: Policy) -> bool:
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    return any(address in network for network in policy.trusted_proxies)


def _only_this_machine(exchange: Exchange) -> None:
    """Bound address, peer and Host are loopback, and nothing forwarded it; an in-memory client is local.

    The addresses are the connection's own. What a server in front took from headers (uvicorn's `proxy_headers` does)
    cannot pass for them: those headers are still there.
    """
    if any(name.startswith(b"x-forwarded-") or name in _FORWARDED for name in exchange.headers):
        raise Misdirected("this server answers only this machine, and this request was forwarded to it")
    server, client = exchange.scope.get("server"), exchange.scope.get("client")
    local = [end[0] for end in (server, client) if end and is_address(end[0])]
    if not server or is_address(server[0]) or "/" in server[0]:
        # a socket's own address is a number or a path; a name stands for a client in memory, under any Host
        local.append(host_name(exchange.headers.get(b"host", b"").decode("latin-1")))
    if not all(map(is_loopback, local)):
        raise Misdirected("this server answers only this machine, under a loopback Host")


def is_address(host: str | None) -> bool:
    """Whether this is an IP address."""
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def _our_host(headers: Mapping[bytes, bytes], hosts: frozenset[str]) -> None:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if not host or (host not in hosts and host_name(host) not in hosts):
        raise Misdirected("this server does not answer to that Host")


def _same_site(headers: Mapping[bytes, bytes], policy: Policy) -> None:
    """A browser says where an unsafe request comes from; other sites may not send any, unless listed."""
    origin = headers.get(b"origin")
    site = headers.get(b"sec-fetch-site")
    if origin is None and (site is None or site in {b"same-origin", b"same-site", b"none"}):
        return
    if origin is not None:
        text = origin.decode("latin-1")
        if text in policy.origins:
            return
        own = headers.get(b"host", b"").decode("latin-1").lower()
        if own and _authority(text) == own and site != b"cross-site":
            return
    raise Forbidden("cross-site requests are not allowed")


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _authenticate(exchange: Exchange, policy: Policy, *, public: bool) -> None:
    bearer, principal = None, None
    try:
        bearer = _bearer(exchange.headers.get(b"authorization"))
        principal = _principal(exchange, policy, bearer)
    except Unauthorized:
        if not public:
            raise
    if principal is None and not public:
        raise Unauthorized(MISSING if bearer is None else UNKNOWN)
    exchange.principal = principal


def _bearer(header: bytes | None) -> bytes | None:
    """The token of one well-formed `Bearer` header; raises `Unauthorized` for any other shape."""
    if header is None:
        return None
    scheme, _space, token = header.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not is_token(token):
        raise Unauthorized(MISSING)
    return token


def is_token(token: bytes) -> bool:
    """Whether a bearer header can carry this: 1 to 4096 visible ASCII characters."""
    return len(token) <= _MAX_TOKEN and _TOKEN.fullmatch(token) is not None


def _principal(exchange: Exchange, policy: Policy, bearer: bytes | None) -> Principal | None:
    if policy.authenticators:
        credentials = Credentials(bearer, exchange.headers, exchange.peer)
        for authenticator in policy.authenticators:
            principal = authenticator.authenticate(credentials)
            if principal is not None:
                return principal
        if bearer is not None:
            raise Unauthorized(UNKNOWN)
    return policy.anonymous


def _has_body(headers: Mapping[bytes, bytes], max_body: int) -> bool:
    """Whether a body comes; raises `BodyTooLarge` for one whose declared size is over the limit."""
    length = headers.get(b"content-length")
    if length is None:
        return b"transfer-encoding" in headers
    if not length.isdigit():
        raise BadRequest("Content-Length is not a number")
    if len(length) > _LONGEST_LENGTH or int(length) > max_body:
        raise BodyTooLarge(f"the body is larger than {max_body} bytes")
    return length != b"0"


def _is_json(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a body that does not say it is JSON."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise UnsupportedMediaType("the body must be declared as application/json")
