"""Who may ask: every route, every way to present a key, every Host and every origin."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount

from agenthost.auth import Principal
from agenthost.errors import Misdirected
from agenthost.http.app import App
from agenthost.http.security import Policy, addressed, host_name, is_loopback, read_headers
from agenthost.protocols.exchange import Exchange
from tests.distributions import Site
from tests.serving import Hosted, Process, actors, agents_toml, bearer, key, secret
from tests.wire import Reply, Wire, ask, request

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "REPORT")

PUBLIC = {("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/agents/{name}/health")}
"""What answers without a key, and with any."""

FOR_ANY_KEY = {
    *(("GET", path) for path in ("/agents", "/openapi.json", "/docs", "/acme-all/motto", "/v1/models")),
    *(("HEAD", path) for path in ("/openapi.json", "/docs")),
    ("POST", "/acme-all/orders/{number}"),
}
"""What answers a key that may neither operate the host nor use the agent in question."""

DIALECTS = """
from fastapi import APIRouter
from agenthost.hookspecs import Dialect, hookimpl

def routes(host, agent):
    router = APIRouter()
    @router.get("/motto")
    async def motto():
        return {"motto": "festina lente"}
    @router.post("/orders/{number}")
    async def order(number: int):
        return {"number": number}
    return router

@hookimpl
def register_protocols(register):
    register(Dialect("acme", prefix="/acme", endpoints=routes))
    register(Dialect("acme-all", prefix="/acme-all", endpoints=routes, scope="host"))
"""


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A host with a plugin's routes, whose key `stranger` may use no agent that is served."""
    folder = tmp_path_factory.mktemp("plugged")
    text = actors("say") + key("root", more="admin = true") + key("stranger", agents='["elsewhere"]')
    with Site(folder / "site") as site:
        site.install("acme", plugins={"acme": "acme_dialects"}, modules={"acme_dialects": DIALECTS})
        with Hosted(agents_toml(folder, text)) as host:
            yield host


def walk(routes: Iterable[Any], prefix: str = "") -> Iterator[str]:
    """The paths of a route table, those of included and mounted ones too."""
    for route in routes:
        included = getattr(route, "original_router", None)  # newer FastAPI keeps included routers whole
        if included is not None:
            yield from walk(included.routes, prefix + route.include_context.prefix)
        elif isinstance(route, Mount):
            yield from walk(route.routes, prefix + route.path)
        else:
            yield prefix + route.path


def every_path(host: Hosted) -> set[str]:
    """Every path of a host, with `{name}` for the agent's name."""
    router = host.app.router
    (entry,) = host.host.entries.values()
    paths = set(walk(router.host_app.routes))
    paths |= {"/agents/{name}" + path for path in walk(router._app(entry).routes)}
    for dialect in host.host.dialects.values():
        paths |= {"/agents/{name}" + dialect.prefix + path for _method, path in dialect.fast}
    return paths


def ask_path(host: Hosted, method: str, path: str, headers: dict[str, str]) -> Reply:
    filled = (
        (
            path.replace("{name}", "say")
            .replace("{thread_id:path}", "t")
            .replace("{run_id}", "r")
            .replace("{number}", "7")
        )
        .replace("{model}", "say")
        .replace("{response_id}", "r")
    )
    assert "{" not in filled
    return ask(host.port, method, filled, headers)


def test_every_route_and_method_needs_a_key_with_the_scope_for_it(plugged: Hosted) -> None:
    paths = every_path(plugged)
    assert {"/agents/{name}/invoke", "/agents/{name}/acme/orders/{number}", "/metrics", "/acme-all/motto"} <= paths
    wrong = {"authorization": "Bearer wrong-0123456789abcdef"}
    stranger, root = bearer("stranger"), bearer("root")
    more = {"/", "/nothing", "/agents/{name}/nothing", "/agents/", "/agents/nobody/invoke"}
    for path in sorted(paths | more, reverse=True):  # what unloads the agent comes last
        for method in METHODS:
            said = f"{method} {path}"
            statuses = [ask_path(plugged, method, path, headers).status for headers in ({}, wrong, stranger, root)]
            if (method, path) in PUBLIC:
                assert statuses == [200] * 4, said
                continue
            assert statuses[:2] == [401, 401], said
            assert statuses[3] not in {401, 403, 500}, said
            if (method, path) in FOR_ANY_KEY:
                assert statuses[2] == 200, said
            elif path.startswith("/agents/") or statuses[3] == 200:
                assert statuses[2] == 403, said
            else:
                assert statuses[2] == statuses[3] in {400, 404, 405}, said


def test_the_public_routes_are_the_three_that_the_policy_lists(plugged: Hosted) -> None:
    assert plugged.app.policy.public == {path for _method, path in PUBLIC}


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/agents/say/docs", "/agents/say/openapi.json", "/metrics"])
def test_docs_schemas_and_metrics_need_a_key(hosted: Hosted, path: str) -> None:
    assert ask(hosted.port, "GET", path).status == 401
    assert ask(hosted.port, "GET", path, bearer("root")).status == 200


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"bearer",
        b"Basic " + secret("root").encode(),
        b"Token " + secret("root").encode(),
        secret("root").encode(),
        b"Bearer" + secret("root").encode(),
        b"Bearer\t" + secret("root").encode(),
        b"Bearer " + secret("root").encode()[:-1],
        b"Bearer " + secret("root").encode() + b"x",
        b"Bearer " + secret("root").encode() + b" x",
        b"Bearer " + secret("root").encode() + b"," + secret("root").encode(),
        b'Bearer "' + secret("root").encode() + b'"',
        b"Bearer " + secret("root").upper().encode(),
        b"Bearer \xe9\xe8\xff\xfe",
        "Bearer ключ-ключ-ключ-ключ".encode(),
        b"Bearer \x01\x02\x03",
        b"Bearer " + secret("root").encode() + b"\x7f",
        b"Bearer " + b"a" * 60_000,
        b"Bearer " * 1000,
        b"\xff" * 100,
    ],
)
def test_an_odd_bearer_is_refused_and_never_an_error_of_the_server(hosted: Hosted, value: bytes) -> None:
    reply = ask(hosted.port, "GET", "/agents", {"authorization": value})
    assert reply.status in {400, 401, 431}
    assert len(reply.body) < 4096
    assert ask(hosted.port, "GET", "/agents/say/health", {"authorization": value}).status in {200, 400, 431}


def test_a_bearer_may_have_spaces_around_it_and_any_case_of_the_word(hosted: Hosted) -> None:
    for spelled in ("BEARER {}", "bearer   {}", "Bearer {}  "):
        header = {"authorization": spelled.format(secret("root"))}
        assert ask(hosted.port, "GET", "/agents", header).status == 200, spelled


@pytest.mark.parametrize("name", ["authorization", "host", "content-length", "content-type", "origin"])
def test_a_header_that_decides_something_is_refused_twice(hosted: Hosted, name: str) -> None:
    body = b'{"prompt": "x"}'
    named = {
        "authorization": f"Bearer {secret('root')}",
        "host": "127.0.0.1",
        "content-length": str(len(body)),
        "content-type": "application/json",
        "origin": f"http://127.0.0.1:{hosted.port}",
    }
    wanted = {one: value for one, value in named.items() if one != "origin"}
    twice = [*wanted.items(), (name, named[name])] + ([(name, named[name])] if name == "origin" else [])
    assert ask(hosted.port, "POST", "/agents/say/invoke", wanted, body).status == 200
    assert ask(hosted.port, "POST", "/agents/say/invoke", twice, body).status == 400


def test_a_401_says_what_locus_clients_know_and_how_to_come_again(hosted: Hosted) -> None:
    missing = ask(hosted.port, "GET", "/agents")
    wrong = ask(hosted.port, "GET", "/agents", {"authorization": "Bearer wrong"})
    assert missing.json["detail"] == "Missing bearer token"
    assert wrong.json["detail"] == "Invalid bearer token"
    assert missing["www-authenticate"].startswith("Bearer")
    assert missing.json["code"] == wrong.json["code"] == "unauthorized"


def test_401_comes_before_the_first_byte_of_the_body(hosted: Hosted) -> None:
    for declared in ({"content-length": "268435456"}, {"transfer-encoding": "chunked"}):
        with Wire(hosted.port) as wire:
            wire.send(request("POST", "/agents/say/invoke", {"content-type": "application/json", **declared}))
            assert wire.reply().status == 401


def test_a_client_that_waits_to_be_asked_for_its_body_is_not_asked_without_a_key(hosted: Hosted) -> None:
    headers = {"content-type": "application/json", "content-length": "15", "expect": "100-continue"}
    with Wire(hosted.port) as wire:
        wire.send(request("POST", "/agents/say/invoke", headers))
        assert wire.socket.recv(65536).startswith(b"HTTP/1.1 401 ")
    with Wire(hosted.port) as wire:
        wire.send(request("POST", "/agents/say/invoke", {**headers, **bearer("root")}))
        assert wire.socket.recv(65536).startswith(b"HTTP/1.1 100 ")
        wire.send(b'{"prompt": "x"}')
        assert wire.reply().json["message"] == "x"


def test_keys_of_one_principal_are_the_same_person(tmp_path: Path) -> None:
    text = actors("mirror") + key("old", principal="acme") + key("new", principal="acme")
    with Hosted(agents_toml(tmp_path, text)) as host:
        body = {"prompt": "one", "thread_id": "t"}
        assert ask(host.port, "POST", "/agents/mirror/invoke", bearer("old"), body).status == 200
        thread = ask(host.port, "GET", "/agents/mirror/threads/t", bearer("new")).json
        assert thread["messages"][0]["content"] == "one"


# ── Host ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

FOREIGN = (
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "[::1]evil.example",
    "[::1].evil.example:80",
    "127.0.0.1@evil.example",
    "evil.example/127.0.0.1",
    "127.0.0.1:80:80",
    "127.0.0.1, evil.example",
    "",
    "8.8.8.8",
    "[2001:db8::1]",
    "0.0.0.0",
    "2130706433",
    "127.1",
    "\xe9vil",
)


@pytest.fixture(scope="module")
def developing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """`agenthost dev`: no key; its file trusts a proxy on this machine and lists an origin, which must open nothing."""
    path = agents_toml(
        tmp_path_factory.mktemp("dev"),
        actors("say"),
        server='trusted_proxies = ["127.0.0.0/8"]\ncors_origins = ["https://app.example"]\n',
    )
    with Hosted(path, dev=True) as host:
        yield host


@pytest.mark.parametrize("method", METHODS)
def test_dev_answers_no_foreign_host_under_any_method(developing: Hosted, method: str) -> None:
    for path in ("/health/live", "/health/ready", "/agents/say/health", "/agents", "/agents/say/invoke", "/nothing"):
        assert ask(developing.port, method, path, host="evil.example").status == 421


@pytest.mark.parametrize("host", FOREIGN)
def test_dev_answers_no_host_that_only_looks_like_this_machine(developing: Hosted, host: str) -> None:
    assert ask(developing.port, "GET", "/agents", host=host).status in {400, 421}


def test_dev_answers_no_request_without_a_host(developing: Hosted) -> None:
    assert ask(developing.port, "GET", "/agents", host=None).status in {400, 421}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:1", "localhost.", "[::1]", "[::1]:8000", "127.8.8.8"]
)
def test_dev_answers_every_name_of_this_machine_without_a_key(developing: Hosted, host: str) -> None:
    assert ask(developing.port, "POST", "/agents/say/invoke", {}, {"prompt": "x"}, host=host).json["message"] == "x"


@pytest.mark.parametrize(
    "header",
    [
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-for", ""),
        ("x-forwarded-for", "unknown"),
        ("x-forwarded-for", "nonsense, 1.2.3.4"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-FORWARDED-PROTO", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-server", "proxy"),
        ("x-forwarded-prefix", "/a"),
        ("x-real-ip", "1.2.3.4"),
        ("via", "1.1 proxy"),
    ],
)
def test_dev_answers_nothing_that_was_forwarded(developing: Hosted, header: tuple[str, str]) -> None:
    for path in ("/health/live", "/agents"):
        reply = ask(developing.port, "GET", path, [header])
        assert reply.status == 421
        assert reply.json["code"] == "wrong_host"


def test_dev_answers_no_peer_from_elsewhere() -> None:
    """The addresses are the connection's; here they are given, since a test has no other machine to call from."""

    def status(server: Any, client: Any, host: bytes = b"localhost", *more: tuple[bytes, bytes]) -> bool:
        scope = {"method": "GET", "path": "/agents", "headers": [(b"host", host), *more], "server": server}
        exchange = Exchange({**scope, "client": client}, None, "1", 0.0)
        read_headers(exchange, scope["headers"])
        try:
            addressed(exchange, Policy(local_only=True))
        except Misdirected:
            return False
        return True

    here = ("127.0.0.1", 8000)
    assert status(here, ("127.0.0.1", 5))
    assert status(("::1", 8000), ("::1", 5))
    assert not status(here, ("10.0.0.7", 5))
    assert not status(("10.0.0.7", 8000), ("127.0.0.1", 5))
    assert not status(("0.0.0.0", 8000), ("10.0.0.7", 5))
    assert status(("testserver", 80), ("testclient", 5), b"testserver"), "a client in memory has no address"
    assert status(("app", None), ("127.0.0.1", 5), b"app")
    assert not status(("api.example", 443), ("203.0.113.9", 5), b"api.example"), "a gateway that calls in memory"
    assert not status(here, ("stranger", 0), b"evil.example"), "what a server took from a header is no address"
    assert not status(here, ("stranger", 0), b"localhost", (b"x-forwarded-for", b"stranger"))
    assert status(("/run/agents.sock", None), None), "a socket in the file system"
    assert not status(("/run/agents.sock", None), None, b"evil.example")
    assert not status(None, None, b"evil.example")


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """`serve` on a loopback address, with more names."""
    server = 'allowed_hosts = ["agents.internal", "10.0.0.7:8000"]\npublic_url = "https://agents.example.com/here"\n'
    path = agents_toml(
        tmp_path_factory.mktemp("fenced"), actors("say") + key("root", more="admin = true"), server=server
    )
    with Hosted(path) as host:
        yield host


@pytest.mark.parametrize("host", FOREIGN)
def test_serve_on_loopback_answers_only_its_own_hosts_but_for_probes(fenced: Hosted, host: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        reply = ask(fenced.port, method, "/agents", bearer("root"), host=host)
        assert reply.status in {400, 421}
    if host:
        assert ask(fenced.port, "GET", "/health/live", host=host).status == 200
        assert ask(fenced.port, "GET", "/health/ready", host=host).status == 200
        assert ask(fenced.port, "GET", "/agents/say/health", host=host).status == 421


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost:99",
        "[::1]",
        "agents.internal",
        "AGENTS.internal:1",
        "agents.example.com",
        "10.0.0.7:8000",
    ],
)
def test_serve_answers_its_address_public_url_and_allowed_hosts(fenced: Hosted, host: str) -> None:
    assert ask(fenced.port, "GET", "/agents", bearer("root"), host=host).status == 200


def test_an_allowed_host_with_a_port_is_that_port_only(fenced: Hosted) -> None:
    assert ask(fenced.port, "GET", "/agents", bearer("root"), host="10.0.0.7:9000").status == 421


def test_serve_on_every_address_takes_any_host_until_hosts_are_listed(tmp_path: Path) -> None:
    open_host = agents_toml(tmp_path / "open", actors("say") + key("root"), server='host = "0.0.0.0"\n')
    with Hosted(open_host) as host:
        assert ask(host.port, "GET", "/agents", bearer("root"), host="whatever.example").status == 200
    listed = 'host = "0.0.0.0"\nallowed_hosts = ["agents.example"]\n'
    with Hosted(agents_toml(tmp_path / "listed", actors("say") + key("root"), server=listed)) as host:
        assert ask(host.port, "GET", "/agents", bearer("root"), host="whatever.example").status == 421
        assert ask(host.port, "GET", "/agents", bearer("root"), host="agents.example").status == 200


def test_forwarding_headers_do_not_matter_where_there_is_a_key(hosted: Hosted) -> None:
    reply = ask(hosted.port, "GET", "/agents", {**bearer("root"), "x-forwarded-for": "1.2.3.4", "forwarded": "for=x"})
    assert reply.status == 200


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("a.example:80", "a.example"),
        ("A.Example", "a.example"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("a.example:", "a.example"),
        ("[::1]x", ""),
        ("a:b", ""),
        ("a:1:2", ""),
        ("a@b", ""),
        ("", ""),
    ],
)
def test_the_host_of_an_authority(authority: str, name: str) -> None:
    assert host_name(authority) == name


def test_which_addresses_are_this_machines_own() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST", "localhost."]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example", "8.8.8.8", "127.1"]))


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SHOWS_PEER = """
from agenthost import Principal, hookimpl

class ByAddress:
    def authenticate(self, credentials):
        return Principal(credentials.peer, agents=("*",))

@hookimpl
def register_authenticators(register):
    register("by-address", ByAddress())
"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """Behind proxies on this machine and in 10.0.0.0/8; a principal is called like the address it comes from."""
    folder = tmp_path_factory.mktemp("proxied")
    server = 'trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]\n'
    with Site(folder / "site") as site:
        site.install("acme", plugins={"acme": "acme_addresses"}, modules={"acme_addresses": SHOWS_PEER})
        path = agents_toml(folder, '[auth]\nuse = ["by-address"]\n' + actors("mirror"), server=server)
        with Hosted(path) as host:
            yield host


@pytest.mark.parametrize(
    ("forwarded", "peer"),
    [
        ([], "127.0.0.1"),
        (["203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9, 10.0.0.3"], "203.0.113.9"),
        (["203.0.113.9", "10.0.0.3"], "203.0.113.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::9]:4711"], "2001:db8::9"),
        (["6.6.6.6, unknown"], "127.0.0.1"),
        (["6.6.6.6, nonsense, 10.0.0.3"], "10.0.0.3"),
        ([""], "127.0.0.1"),
        (["\xff\xfe"], "127.0.0.1"),
    ],
)
def test_the_peer_is_what_the_last_proxy_of_ours_says(proxied: Hosted, forwarded: list[str], peer: str) -> None:
    headers = [("x-forwarded-for", value) for value in forwarded]
    reply = ask(proxied.port, "POST", "/agents/mirror/invoke", headers, {"prompt": ""})
    assert reply.json["output"]["principal"] == peer


def test_no_forwarded_address_is_believed_of_a_stranger(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        site.install("acme", plugins={"acme": "acme_addresses"}, modules={"acme_addresses": SHOWS_PEER})
        path = agents_toml(tmp_path, '[auth]\nuse = ["by-address"]\n' + actors("mirror"))
        with Hosted(path) as host:
            reply = ask(host.port, "POST", "/agents/mirror/invoke", {"x-forwarded-for": "6.6.6.6"}, {"prompt": ""})
            assert reply.json["output"]["principal"] == "127.0.0.1"


def test_a_trusted_proxy_says_under_which_scheme_it_was_called(tmp_path: Path) -> None:
    server = 'trusted_proxies = ["127.0.0.1"]\n'
    with Hosted(agents_toml(tmp_path, actors("say") + key("root"), server=server)) as host:
        for scheme, shown in (("https", "https"), ("gopher", "http")):
            headers = {**bearer("root"), "x-forwarded-proto": scheme}
            url = ask(host.port, "GET", "/agents/say", headers, host="localhost:8").json["url"]
            assert url == f"{shown}://localhost:8/agents/say"


# ── origins and types ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "https://localhost:8000"}, 200),
        ({"origin": "http://localhost"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "\xff"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://localhost:8000"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost:8000"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "nonsense"}, 403),
    ],
)
def test_other_sites_send_no_unsafe_requests(developing: Hosted, headers: dict[str, str], status: int) -> None:
    reply = ask(developing.port, "POST", "/agents/say/invoke", headers, {"prompt": "x"}, host="localhost:8000")
    assert reply.status == status
    assert ask(developing.port, "GET", "/agents", headers, host="localhost:8000").status == 200
    assert ask(developing.port, "DELETE", "/agents/say/threads/x", headers, host="localhost:8000").status == status


def test_the_public_url_is_an_origin_of_ours(fenced: Hosted) -> None:
    for origin, status in (("https://agents.example.com", 200), ("http://agents.example.com", 403)):
        headers = {**bearer("root"), "origin": origin}
        assert ask(fenced.port, "POST", "/agents/say/invoke", headers, {"prompt": "x"}).status == status


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON ;x=y", 200),
        ("application/vnd.acme+json", 200),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain; application/json", 415),
        ("application/json, text/plain", 415),
        ("", 415),
        (b"\xff\xfe", 415),
        (None, 415),
    ],
)
def test_a_body_must_say_that_it_is_json(hosted: Hosted, kind: str | bytes | None, status: int) -> None:
    headers = {**bearer("root"), **({} if kind is None else {"content-type": kind})}
    for path in ("/agents/say/invoke", "/agents/say/stream"):
        assert ask(hosted.port, "POST", path, headers, b'{"prompt": "x"}').status == status


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

BLOCK = b"x" * 65536


def _offer(port: int, headers: dict[str, str], blocks: Iterable[bytes]) -> int:
    """Send a body until the server has answered; returns the status."""
    with Wire(port) as wire:
        wire.send(request("POST", "/agents/say/invoke", {"content-type": "application/json", **headers}))
        for block in blocks:
            try:
                wire.send(block)
            except (BrokenPipeError, ConnectionResetError):
                break
        return wire.reply().status


def test_a_body_over_the_limit_is_413_and_costs_no_memory(tmp_path: Path) -> None:
    path = agents_toml(tmp_path, actors("say") + key("root"), server='max_body = "1MiB"\n')
    offered = [BLOCK] * 1024  # 64 MiB
    with Process(path) as host:
        declared = {**bearer("root"), "content-length": str(64 << 20)}
        chunks = {**bearer("root"), "transfer-encoding": "chunked"}
        pieces = [b"10000\r\n" + block + b"\r\n" for block in offered]
        for _ in range(3):  # so that what a first request costs is paid
            assert _offer(host.port, {**bearer("root"), "content-length": "900000"}, [b"x" * 900000]) == 400
        host.forget_peak()
        before = host.resident()
        assert _offer(host.port, declared, offered) == 413
        assert _offer(host.port, chunks, pieces) == 413
        assert _offer(host.port, {"transfer-encoding": "chunked"}, pieces) == 401
        assert _offer(host.port, {"content-length": str(64 << 20)}, offered) == 401
        grown = host.peak() - before
        assert grown <= 4 << 20, f"{grown >> 10} kB"
        logging.getLogger(__name__).info("256 MiB offered: %d kB grown", grown >> 10)


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_is_the_last_size_that_is_taken(tmp_path: Path, extra: int) -> None:
    path = agents_toml(tmp_path, actors("say") + key("root"), server="max_body = 1000\n")
    body = b'{"prompt": "%s"}' % (b"x" * (1000 - 14 + extra))
    with Hosted(path) as host:
        headers = {**bearer("root"), "content-type": "application/json"}
        declared = ask(host.port, "POST", "/agents/say/invoke", headers, body)
        with Wire(host.port) as wire:
            wire.send(request("POST", "/agents/say/invoke", {**headers, "transfer-encoding": "chunked"}))
            wire.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            chunked = wire.reply()
        assert declared.status == chunked.status == (413 if extra else 200)


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PUT", "POST"])
def test_the_limit_holds_under_every_method_for_routes_of_plugins_too(tmp_path: Path, method: str) -> None:
    with Site(tmp_path / "site") as site:
        site.install("acme", plugins={"acme": "acme_reader"}, modules={"acme_reader": READS_ALL})
        path = agents_toml(tmp_path, actors("say") + key("root"), server="max_body = 1000\n")
        with Hosted(path) as host:
            headers = {**bearer("root"), "content-type": "application/json"}
            assert ask(host.port, method, "/acme-reader/x", headers, b"x" * 1000).body == b"1000"
            assert ask(host.port, method, "/acme-reader/x", headers, b"x" * 1001).status == 413
            with Wire(host.port) as wire:
                chunks = b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n0\r\n\r\n"
                wire.send(request(method, "/acme-reader/x", {**headers, "transfer-encoding": "chunked"}) + chunks)
                assert wire.reply().status == 413


def test_a_body_with_two_lengths_is_counted_whatever_the_server_thinks_of_it() -> None:
    """uvicorn's parser refuses it; others follow the chunks."""

    async def main() -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * 600, "more_body": True}

        app = App(Bare(), Reading(), Policy(anonymous=Principal("p"), max_body=1000))  # type: ignore[arg-type]  # all it asks of a host
        headers = [
            (b"content-length", b"5"),
            (b"transfer-encoding", b"chunked"),
            (b"content-type", b"application/json"),
        ]
        await app({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
        status: int = sent[0]["status"]
        return status

    assert asyncio.run(main()) == 413


class Bare:
    """A host without dialects."""

    dialects: Mapping[str, Any] = {}


class Reading:
    """A router whose every route reads its whole body."""

    def locate(self, exchange: Exchange) -> str:
        return exchange.path

    async def answer(self, _exchange: Exchange, receive: Any, _send: Any) -> None:
        while (await receive())["more_body"]:
            pass


READS_ALL = """
from agenthost.hookspecs import Dialect, hookimpl

async def reader(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

@hookimpl
def register_protocols(register):
    register(Dialect("acme-reader", prefix="/acme-reader", endpoints=lambda host, agent: reader, scope="host"))
"""


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 18, "9" * 25, "9" * 5000, "1e3", "0x10", " ", ""])
def test_an_odd_content_length_is_refused(hosted: Hosted, length: str) -> None:
    with Wire(hosted.port) as wire:
        wire.send(request("POST", "/agents/say/invoke", {**bearer("root"), "content-length": length}))
        assert wire.reply().status in {400, 413}


def test_a_body_that_never_comes_whole_starts_no_run(tmp_path: Path) -> None:
    with Hosted(agents_toml(tmp_path, actors("hold") + key("root"))) as host:
        headers = {**bearer("root"), "content-type": "application/json"}
        for declared, body in (
            ({"content-length": "400"}, b'{"prompt": "half"}'),
            ({"transfer-encoding": "chunked"}, b'12\r\n{"prompt": "half"}\r\n'),
        ):
            with Wire(host.port) as wire:
                wire.send(request("POST", "/agents/hold/invoke", {**headers, **declared}) + body)
                wire.socket.shutdown(socket.SHUT_WR)
                assert wire.closed()
        assert host.host.runs.going == {}
        metrics = host.host.metrics_page().decode()
        assert 'agenthost_runs_started_total{agent="hold"}' not in metrics
