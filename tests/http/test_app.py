"""The host as an ASGI app: when it refuses to be made, who is who, and where it can be put."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from agenthost import create_app
from agenthost.errors import AuthError, BodyTooLarge, ConfigError, StartError
from agenthost.http.app import App, Limited
from tests.distributions import Site
from tests.serving import Foreign, Hosted, actors, agents_toml, bearer, key
from tests.wire import Wire, ask, request


def test_a_host_without_a_key_is_not_made(tmp_path: Path) -> None:
    path = agents_toml(tmp_path, actors("say"))
    with pytest.raises(AuthError, match="refusing to serve without authentication") as refused:
        create_app(path)
    assert refused.value.hint == (
        "set AGENTHOST_API_KEY, add [[auth.keys]], run `agenthost dev` on this machine, "
        "or [auth] allow_unauthenticated = true"
    )


def test_a_host_with_a_bad_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        create_app(agents_toml(tmp_path, actors("say", more="placment = 1") + key("root")))


def test_the_file_is_found_by_path_by_environment_or_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = agents_toml(tmp_path, actors("say") + key("root"))
    for made in (create_app(str(path)), create_app(path)):
        assert set(made.host.config.agents) == {"say"}
        made.host.store.close()
    monkeypatch.setenv("AGENTHOST_CONFIG", str(path))
    made = create_app()
    made.host.store.close()
    monkeypatch.delenv("AGENTHOST_CONFIG")
    monkeypatch.chdir(tmp_path)
    made = create_app()
    made.host.store.close()


def test_one_key_of_the_environment_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_API_KEY", "environment-0123456789")
    with Hosted(agents_toml(tmp_path, actors("mirror"))) as host:
        headers = {"authorization": "Bearer environment-0123456789"}
        reply = ask(host.port, "POST", "/agents/mirror/invoke", headers, {"prompt": "x"})
        assert reply.json["output"]["principal"] == "default"
        assert ask(host.port, "GET", "/metrics", headers).status == 200


def test_dev_is_an_operator_who_needs_no_key(tmp_path: Path) -> None:
    with Hosted(agents_toml(tmp_path, actors("mirror") + key("root")), dev=True) as host:
        assert ask(host.port, "GET", "/metrics").status == 200
        assert ask(host.port, "POST", "/agents/mirror/invoke", {}, {"prompt": ""}).json["output"]["principal"] == "dev"
        with_key = ask(host.port, "POST", "/agents/mirror/invoke", bearer("root"), {"prompt": ""})
        assert with_key.json["output"]["principal"] == "dev"


def test_without_authentication_everybody_may_use_agents_and_nobody_operates(tmp_path: Path) -> None:
    text = "[auth]\nallow_unauthenticated = true\n" + actors("mirror")
    with Hosted(agents_toml(tmp_path / "open", text)) as host:
        reply = ask(host.port, "POST", "/agents/mirror/invoke", {}, {"prompt": ""})
        assert reply.json["output"]["principal"] == "anon"
        assert ask(host.port, "GET", "/metrics").status == 403
        assert ask(host.port, "GET", "/agents", {"x-forwarded-for": "1.2.3.4"}).status == 200
    text += key("root", more="admin = true")
    with Hosted(agents_toml(tmp_path / "both", text)) as host:
        assert ask(host.port, "GET", "/metrics", bearer("root")).status == 200
        assert ask(host.port, "GET", "/metrics").status == 403
        assert ask(host.port, "GET", "/agents", {"authorization": "Bearer wrong"}).status == 401


def test_every_reply_has_an_id_of_its_own(hosted: Hosted) -> None:
    paths = ["/health/live", "/agents", "/nothing", "/agents/say/health"] * 3
    ids = {ask(hosted.port, "GET", path)["x-request-id"] for path in paths}
    assert len(ids) == len(paths)


def test_a_request_id_that_is_sent_is_not_believed(hosted: Hosted) -> None:
    assert ask(hosted.port, "GET", "/health/live", {"x-request-id": "mine"})["x-request-id"] != "mine"


def test_invoke_stream_and_their_failures_say_which_run_they_are_about(hosted: Hosted) -> None:
    for name, path, status in (("say", "invoke", 200), ("say", "stream", 200), ("fail", "invoke", 500)):
        body = {"prompt": "x", "thread_id": "tell-me"}
        reply = ask(hosted.port, "POST", f"/agents/{name}/{path}", bearer("root"), body)
        assert reply.status == status
        assert reply["content-location"] == f"/agents/{name}/runs/{reply['x-run-id']}"
        assert reply["x-thread-id"] == "tell-me"


@pytest.mark.parametrize("thread_id", ["plain", "with space", "50%", "a/b", "é", "snow ☃", "a,b", '"quoted"'])
def test_a_thread_id_in_a_header_is_percent_encoded_where_it_must_be(hosted: Hosted, thread_id: str) -> None:
    body = {"prompt": "x", "thread_id": thread_id}
    reply = ask(hosted.port, "POST", "/agents/say/invoke", bearer("root"), body)
    shown = reply["x-thread-id"]
    assert httpx.URL(f"http://x/{shown}").path == f"/{thread_id}" if "%" in shown else shown == thread_id
    assert reply.json["thread_id"] == thread_id


def test_a_host_can_be_mounted_in_another_app(tmp_path: Path) -> None:
    made: Any = create_app(agents_toml(tmp_path, actors("say", "fail") + key("root")))

    @contextlib.asynccontextmanager
    async def lifespan(_outer: FastAPI) -> AsyncIterator[None]:
        await made.host.start()
        yield
        await made.host.stop()

    outer = FastAPI(lifespan=lifespan)

    @outer.get("/outer")
    async def hello() -> str:
        return "outer"

    outer.mount("/inner/agents-host", made)
    with Foreign(outer) as served:
        assert ask(served.port, "GET", "/outer").json == "outer"
        base = "/inner/agents-host"
        assert ask(served.port, "GET", f"{base}/health/live").status == 200
        assert ask(served.port, "GET", f"{base}/agents/say/health").status == 200
        assert ask(served.port, "GET", f"{base}/agents").status == 401
        reply = ask(served.port, "POST", f"{base}/agents/say/invoke", bearer("root"), {"prompt": "x"})
        assert reply.json["message"] == "x"
        assert reply["content-location"] == f"{base}/agents/say/runs/{reply['x-run-id']}"
        failed = ask(served.port, "POST", f"{base}/agents/fail/invoke", bearer("root"), {"prompt": "x"})
        assert failed["content-location"] == f"{base}/agents/fail/runs/{failed['x-run-id']}"
        schema = ask(served.port, "GET", f"{base}/agents/say/openapi.json", bearer("root")).json
        assert schema["servers"] == [{"url": f"{base}/agents/say"}]
        card = ask(served.port, "GET", f"{base}/agents/say", bearer("root"), host="localhost:7").json
        assert card["url"] == f"http://localhost:7{base}/agents/say"


def test_requests_that_do_not_wait_for_each_other_are_answered_in_order(hosted: Hosted) -> None:
    with Wire(hosted.port) as wire:
        for number in range(5):
            path = ("invoke", "stream")[number % 2]
            wire.send(request("POST", f"/agents/say/{path}", bearer("root"), {"prompt": f"number {number}"}))
        wire.send(request("GET", "/agents/nobody", bearer("root")))
        for number in range(5):
            assert f"number {number}".encode() in wire.reply().body
        assert wire.reply().status == 404


def test_a_web_socket_is_closed(tmp_path: Path) -> None:
    made: Any = create_app(agents_toml(tmp_path, actors("say") + key("root")))

    async def main() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        await made({"type": "websocket", "path": "/", "headers": []}, receive, send)
        return sent

    assert asyncio.run(main()) == [{"type": "websocket.close", "code": 1000}]
    made.host.store.close()


def test_an_upgrade_is_answered_as_what_it_is_without(hosted: Hosted) -> None:
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x", "sec-websocket-version": "13"}
    assert ask(hosted.port, "GET", "/agents", headers).status == 401
    assert ask(hosted.port, "GET", "/agents", {**headers, **bearer("root")}).status == 200


def test_a_store_that_cannot_be_opened_refuses_the_start(tmp_path: Path) -> None:
    path = agents_toml(tmp_path, actors("say") + key("root"), store=f"sqlite:///{tmp_path}/no/such/folder/x.db")
    with pytest.raises(StartError):
        create_app(path)


def test_the_lifespan_tells_the_server_what_went_wrong(tmp_path: Path) -> None:
    class Refusing:
        started = False

        async def start(self) -> None:
            raise StartError("no disk", hint="buy one")

    async def main() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        app = App(Refusing(), None, None)  # type: ignore[arg-type]  # all that a lifespan needs
        await app({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(main()) == [{"type": "lifespan.startup.failed", "message": "no disk\n  → buy one"}]


def test_what_is_received_is_counted_message_by_message() -> None:
    messages = iter([{"type": "http.request", "body": b"12345", "more_body": True}] * 3)

    async def receive() -> Any:
        return next(messages)

    async def main() -> None:
        limited = Limited(receive, 10)
        await limited()
        await limited()
        with pytest.raises(BodyTooLarge):
            await limited()

    asyncio.run(main())


BROKEN_LOCK = """
from agenthost import hookimpl

@hookimpl
def register_authenticators(register):
    raise RuntimeError("needs LDAP_URL")
"""


def test_a_broken_authenticator_keeps_serve_from_starting_and_not_dev(tmp_path: Path) -> None:
    path = agents_toml(tmp_path, actors("mirror") + key("root"))
    with Site(tmp_path / "site") as site:
        site.install("acme-auth", plugins={"acme": "acme_auth"}, modules={"acme_auth": BROKEN_LOCK})
        with pytest.raises(AuthError) as refused:
            create_app(path)
        said = "plugin 'acme' (acme-auth 1.0) failed in register_authenticators: RuntimeError: needs LDAP_URL"
        assert refused.value.message == said
        with Hosted(path, dev=True) as host:
            assert ask(host.port, "POST", "/agents/mirror/invoke", {}, {"prompt": "x"}).status == 200
            assert [one["error"] for one in ask(host.port, "GET", "/health").json["plugins"]] == [said]
