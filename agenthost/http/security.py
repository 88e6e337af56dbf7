"""Who may ask at all, from headers alone: Host, cross-site, credentials, size and type; before a byte of body is read.

The order of refusals: 421 a Host that is not ours, or a request that something forwarded to a server meant for this
machine only · 403 cross-site · 401 credentials · 413 size · 415 type. A route is public only by being in `PUBLIC`.
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

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip")
_SINGLE = frozenset({b"authorization", b"host", b"content-length", b"content-type", b"origin"})
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_MAX_TOKEN = 4096
_LOCAL_NAMES = frozenset({"localhost", "localhost."})


@dataclass(frozen=True, slots=True)
class Policy:
    """How one server tells callers apart.

    `anonymous` is who a request without credentials is, where that is allowed. `local_only` answers nothing that
    does not come from this machine. `hosts` are the Host names that are ours; empty: any.
    """

    authenticators: tuple[Authenticator, ...] = ()
    anonymous: Principal | None = None
    local_only: bool = False
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
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
    """The host of `host:port`, lower case, IPv6 without brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


def read_headers(exchange: Exchange, raw: Sequence[tuple[bytes, bytes]]) -> None:
    """Index the headers; raises `BadRequest` where one that decides something came twice."""
    headers = dict(raw)
    if len(headers) != len(raw):
        seen: set[bytes] = set()
        for name, _value in raw:
            if name in seen and name in _SINGLE:
                raise BadRequest(f"more than one {name.decode('latin-1')} header")
            seen.add(name)
    exchange.headers = headers


def guard(exchange: Exchange, policy: Policy, *, public: bool) -> None:
    """Let the request through with its principal, or raise why not."""
    headers = exchange.headers
    peer = _peer(exchange, policy)
    exchange.peer = peer
    if policy.local_only:
        _only_this_machine(exchange, peer)
    elif policy.hosts and exchange.path not in _PROBES:
        _our_host(headers, policy.hosts)
    unsafe = exchange.method not in _SAFE
    if unsafe:
        _same_site(headers, policy)
    _authenticate(exchange, policy, public=public)
    if unsafe:
        _body(headers, policy.max_body)


def _peer(exchange: Exchange, policy: Policy) -> str | None:
    """The sender's address: the connection's, or what a trusted proxy says, read from the right."""
    client = exchange.scope.get("client")
    peer: str | None = client[0] if client else None
    forwarded = exchange.headers.get(b"x-forwarded-for")
    if not policy.trusted_proxies or forwarded is None or not _trusted(peer, policy):
        return peer
    for hop in reversed(forwarded.decode("latin-1").split(",")):
        peer = hop.strip()
        if not _trusted(peer, policy):
            break
    return peer


def _trusted(peer: str | None, policy: Policy) -> bool:
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    return any(address in network for network in policy.trusted_proxies)


def _only_this_machine(exchange: Exchange, peer: str | None) -> None:
    """Bound address, peer and Host are loopback, and nothing forwarded it; an in-memory client is local."""
    server = exchange.scope.get("server")
    if server is None or not _is_ip(peer):
        return
    if any(name in exchange.headers for name in _FORWARDED):
        raise Misdirected("this server answers only this machine, and this request was forwarded to it")
    host = exchange.headers.get(b"host", b"").decode("latin-1")
    if not (is_loopback(host_name(host)) and is_loopback(peer or "") and is_loopback(str(server[0]))):
        raise Misdirected("this server answers only this machine, under a loopback Host")


def _is_ip(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def _our_host(headers: Mapping[bytes, bytes], hosts: frozenset[str]) -> None:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if host not in hosts and host_name(host) not in hosts:
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
        if _authority(text) in {own, *policy.hosts} and site != b"cross-site":
            return
    raise Forbidden("cross-site requests are not allowed")


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _authenticate(exchange: Exchange, policy: Policy, *, public: bool) -> None:
    bearer = None
    try:
        bearer = _bearer(exchange.headers.get(b"authorization"))
        principal = _principal(exchange, policy, bearer)
    except Unauthorized:
        if not public:
            raise
        principal = None
    if principal is None and not public:
        raise Unauthorized("credentials are missing or not known")
    exchange.principal = principal


def _bearer(header: bytes | None) -> bytes | None:
    """The token of one well-formed `Bearer` header; raises `Unauthorized` for any other shape."""
    if header is None:
        return None
    scheme, _space, token = header.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or len(token) > _MAX_TOKEN or _TOKEN.fullmatch(token) is None:
        raise Unauthorized("the Authorization header is not a bearer token")
    return token


def _principal(exchange: Exchange, policy: Policy, bearer: bytes | None) -> Principal | None:
    if policy.authenticators:
        credentials = Credentials(bearer, exchange.headers, exchange.peer)
        for authenticator in policy.authenticators:
            principal = authenticator.authenticate(credentials)
            if principal is not None:
                return principal
        if bearer is not None:
            raise Unauthorized("this key is not known")
    return policy.anonymous


def _body(headers: Mapping[bytes, bytes], max_body: int) -> None:
    """Refuse a declared size over the limit, and a body that does not say it is JSON."""
    length = headers.get(b"content-length")
    if length is None and b"transfer-encoding" not in headers:
        return
    if length is not None:
        if not length.isdigit():
            raise BadRequest("Content-Length is not a number")
        if int(length) > max_body:
            raise BodyTooLarge(f"the body is larger than {max_body} bytes")
        if length == b"0":
            return
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise UnsupportedMediaType("the body must be declared as application/json")
