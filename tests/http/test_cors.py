"""Web pages of listed origins may call and read; all others find no trace of CORS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import Hosted, actors, agents_toml, bearer, key
from tests.wire import Reply, Wire, ask, request

PAGE = "https://app.example"
PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    text = actors("say", "fail") + key("root")
    server = f'cors_origins = ["{PAGE}", "http://localhost:5173"]\n'
    with Hosted(agents_toml(tmp_path_factory.mktemp("cors"), text, server=server)) as host:
        yield host


def granted(reply: Reply) -> bool:
    """Whether the page may read the reply."""
    return reply.all("access-control-allow-origin") == [PAGE] and "Origin" in reply.all("vary")


def test_a_preflight_of_a_listed_origin_needs_no_key(listing: Hosted) -> None:
    for path in ("/agents/say/invoke", "/agents/say/stream", "/agents", "/agents/nobody/invoke"):
        reply = ask(listing.port, "OPTIONS", path, PREFLIGHT)
        assert reply.status == 204
        assert granted(reply)
        assert {"GET", "POST", "DELETE"} == set(reply["access-control-allow-methods"].split(", "))
        allowed = reply["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "content-type", "idempotency-key", "last-event-id"} == set(allowed)
        assert reply["x-request-id"]


def test_a_preflight_of_another_origin_is_403(listing: Hosted) -> None:
    for origin in ("https://evil.example", "https://app.example.evil", "http://app.example", "null", ""):
        reply = ask(listing.port, "OPTIONS", "/agents/say/invoke", {**PREFLIGHT, "origin": origin})
        assert reply.status == 403
        assert reply.json["code"] == "forbidden"
        assert not [name for name, _value in reply.headers if name.startswith("access-control")]


def test_an_options_request_that_is_no_preflight_needs_a_key(listing: Hosted) -> None:
    assert ask(listing.port, "OPTIONS", "/agents/say/invoke").status == 401
    assert ask(listing.port, "OPTIONS", "/agents/say/invoke", {"origin": PAGE}).status == 401


def test_a_preflight_to_a_foreign_host_is_421(listing: Hosted) -> None:
    assert ask(listing.port, "OPTIONS", "/agents", PREFLIGHT, host="evil.example").status == 421


def test_a_listed_page_may_read_answers_errors_and_streams(listing: Hosted) -> None:
    page = {**bearer("root"), "origin": PAGE, "sec-fetch-site": "cross-site"}
    body = {"prompt": "x"}
    for reply, status in (
        (ask(listing.port, "POST", "/agents/say/invoke", page, body), 200),
        (ask(listing.port, "POST", "/agents/say/stream", page, body), 200),
        (ask(listing.port, "POST", "/agents/fail/invoke", page, body), 500),
        (ask(listing.port, "POST", "/agents/say/invoke", page, {}), 422),
        (ask(listing.port, "POST", "/agents/say/invoke", {"origin": PAGE}, body), 401),
        (ask(listing.port, "POST", "/agents/nobody/invoke", page, body), 404),
        (ask(listing.port, "GET", "/agents", page), 200),
        (ask(listing.port, "PUT", "/agents/say/invoke", page), 405),
    ):
        assert reply.status == status
        assert granted(reply)
        assert "X-Run-ID" in reply["access-control-expose-headers"]


def test_a_page_of_no_listed_origin_may_read_nothing(listing: Hosted) -> None:
    headers = {**bearer("root"), "origin": "https://evil.example"}
    reply = ask(listing.port, "GET", "/agents", headers)
    assert reply.status == 200
    assert reply.all("access-control-allow-origin") == []
    assert ask(listing.port, "POST", "/agents/say/invoke", headers, {"prompt": "x"}).status == 403


def test_without_cors_origins_there_is_no_cors(hosted: Hosted) -> None:
    assert ask(hosted.port, "OPTIONS", "/agents/say/invoke", PREFLIGHT).status == 401
    reply = ask(hosted.port, "GET", "/agents", {**bearer("root"), "origin": PAGE})
    assert not [name for name, _value in reply.headers if name.startswith("access-control") or name == "vary"]


def test_dev_preflights_are_for_this_machine_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = agents_toml(tmp_path_factory.mktemp("dev"), actors("say"), server=f'cors_origins = ["{PAGE}"]\n')
    with Hosted(path, dev=True) as host, Wire(host.port) as wire:
        assert wire.ask("OPTIONS", "/agents", PREFLIGHT, host="localhost").status == 204
        assert wire.ask("OPTIONS", "/agents", PREFLIGHT, host="evil.example").status == 421
        wire.send(request("OPTIONS", "/agents", {**PREFLIGHT, "x-forwarded-for": "1.2.3.4"}))
        assert wire.reply().status == 421
