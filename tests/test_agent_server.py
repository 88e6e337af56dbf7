"""One agent at `/`: how it is made, started, mounted, kept from strangers, and what it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from agenthost import AgentServer, Interrupt, RunContext, ToolProgress, Usage
from agenthost.errors import StartError
from tests.actors import CANCELLED, HOLDING, Structured, hold, mirror, say, wait_for
from tests.distributions import Site
from tests.serving import PATHS, START, Foreign
from tests.wire import Wire, ask, request

with warnings.catch_warnings(action="ignore"):  # newer Starlette asks for another HTTP client than the one we have
    from fastapi.testclient import TestClient

KEY = "agent-server-0123456789"
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(autouse=True)
def no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTHOST_API_KEY", raising=False)
    monkeypatch.delenv("LOCUS_SERVER_API_KEY", raising=False)


# ── made ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_is_the_argument_else_ours_else_locus(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(server: AgentServer, token: str) -> bool:
        return TestClient(server.app).get("/threads", headers={"authorization": f"Bearer {token}"}).status_code == 200

    monkeypatch.setenv("LOCUS_SERVER_API_KEY", "locus-0123456789abcdef")
    assert takes(AgentServer(say), "locus-0123456789abcdef")
    monkeypatch.setenv("AGENTHOST_API_KEY", "ours-0123456789abcdef")
    assert takes(AgentServer(say), "ours-0123456789abcdef")
    assert not takes(AgentServer(say), "locus-0123456789abcdef")
    assert takes(AgentServer(say, api_key=KEY), KEY)
    assert not takes(AgentServer(say, api_key=KEY), "ours-0123456789abcdef")


def test_a_short_key_and_no_key_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    AgentServer(say, api_key="short")
    AgentServer(say)
    assert [record.getMessage() for record in caplog.records] == [
        "AgentServer: the API key has fewer than 16 bytes; anybody may guess it",
        "AgentServer: no API key; answering this machine only",
    ]
    caplog.clear()
    AgentServer(say, api_key=KEY)
    AgentServer(say, allow_unauthenticated=True)
    assert caplog.records == []


def test_a_short_key_works(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL), TestClient(AgentServer(say, api_key="secret").app) as client:
        reply = client.post("/invoke", json={"prompt": "x"}, headers={"authorization": "Bearer secret"})
        assert reply.json()["message"] == "x"


@pytest.mark.parametrize("key", ["with space", "sch\u00f6n-0123456789abcdef", "line\nbreak-0123456789", "k" * 5000])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="the API key has characters that no bearer header can carry") as refused:
        AgentServer(say, api_key=key)
    assert key not in str(refused.value)


def test_it_is_a_fastapi_app_with_its_title_and_no_documents() -> None:
    server = AgentServer(say, title="Mine", description="Says it back", api_key=KEY)
    assert isinstance(server.app, FastAPI)
    assert (server.app.title, server.app.description) == ("Mine", "Says it back")
    assert server.agent is say
    with TestClient(server.app) as client:
        card = client.get("/", headers=BEARER).json()
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=BEARER).status_code == 404
    assert (card["title"], card["url"], card["protocols"]) == ("Mine", "http://testserver/", ["native"])
    assert card["limits"]["max_body_bytes"] == 10 << 20


def test_any_kind_of_agent_is_taken() -> None:
    def plain(ctx: RunContext) -> str:
        return f"plain {ctx.prompt}"

    for agent, message in ((say, "x"), (plain, "plain x"), (Structured, "ordered"), (Structured(), "ordered")):
        with TestClient(AgentServer(agent, api_key=KEY).app) as client:
            reply = client.post("/invoke", json={"prompt": "x", "input": {"item": "pen"}}, headers=BEARER)
            assert reply.json()["message"] == message


def test_what_is_no_agent_is_503_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(AgentServer(42, api_key=KEY).app) as client:
        assert client.get("/health").json() == {"status": "failed"}
        reply = client.post("/invoke", json={"prompt": "x"}, headers=BEARER)
    assert (reply.status_code, reply.json()["code"]) == (503, "agent_not_ready")
    assert "hand over an async generator function" in caplog.text


INSTALLED = """
from agenthost import Dialect, hookimpl

@hookimpl
def register_adapters(register):
    register("numbers", lambda number: lambda ctx: f"number {number}", modules=["builtins"],
             accepts=lambda obj: isinstance(obj, int))

@hookimpl
def register_authenticators(register):
    raise RuntimeError("needs LDAP_URL")

@hookimpl
def register_protocols(register):
    raise AssertionError
"""


def test_of_what_is_installed_only_adapters_count(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        site.install("acme", plugins={"acme": "acme_installed"}, modules={"acme_installed": INSTALLED})
        with TestClient(AgentServer(7, api_key=KEY).app) as client:
            assert client.get("/health").status_code == 200
            reply = client.post("/invoke", json={"prompt": "x"}, headers=BEARER)
            assert reply.json()["message"] == "number 7"


# ── run ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["0.0.0.0", "8.8.8.8", "::", "", "agents.example.com"])
def test_without_a_key_no_open_address_is_bound(host: str) -> None:
    with pytest.raises(RuntimeError, match=r"^Refusing to bind AgentServer to '.*' without an API key: ") as refused:
        AgentServer(say).run(host=host, port=0)
    assert "api_key=" in str(refused.value)
    assert "allow_unauthenticated=True" in str(refused.value)


def test_an_address_that_is_taken_is_said_with_what_to_do() -> None:
    with Wire.listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"^cannot listen on 127.0.0.1:{port}: Address already in use$"):
            AgentServer(say, allow_unauthenticated=True).run(port=port)


def test_what_uvicorn_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="no_setting"):
        AgentServer(say).run(port=0, no_setting=True)


RUNS = """
import socket, sys, threading, uvicorn
from agenthost import AgentServer
from tests.actors import hold, say

AgentServer(hold if sys.argv[4:] else say, **eval(sys.argv[1])).run(
    host=sys.argv[2], port=int(sys.argv[3]), log_level="warning", headers=[("x-set-by", "me")]
)
"""


@pytest.mark.parametrize(("made", "host"), [("{}", "127.0.0.1"), (f"dict(api_key={KEY!r})", "0.0.0.0")])
def test_it_serves_until_it_is_stopped(tmp_path: Path, made: str, host: str) -> None:
    with Wire.listening() as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
    command = [sys.executable, "-c", RUNS, made, host, str(port)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + START
            while True:
                assert process.poll() is None
                assert time.monotonic() < deadline
                with contextlib.suppress(ConnectionRefusedError):
                    assert ask(port, "GET", "/health").json == {"status": "ok"}
                    break
            reply = ask(port, "POST", "/invoke", BEARER if "api_key" in made else {}, {"prompt": "x"})
            assert reply.json["message"] == "x"
            assert reply["x-set-by"] == "me", "settings are uvicorn's"
        finally:
            process.terminate()
            process.communicate(timeout=START)
    assert list(tmp_path.iterdir()) == [], "a memory store leaves no file"


def test_a_stop_ends_a_stream_that_would_go_on(tmp_path: Path) -> None:
    with Wire.listening() as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
    command = [sys.executable, "-c", RUNS, "{}", "127.0.0.1", str(port), "hold"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            with _connected(process, port) as wire:
                wire.send(request("POST", "/stream", body={"prompt": "x"}))
                assert wire.head().status == 200
                body = next(chunks := wire.chunks())
                process.terminate()
                body += b"".join(chunks)
            assert process.wait(START) == -signal.SIGTERM, "as under uvicorn, which passes the signal on"
        finally:
            process.kill()
            process.communicate(timeout=START)
    assert b'"code":"host_stopping"' in body
    assert body.endswith(b"data: [DONE]\n\n")


def _connected(process: subprocess.Popen[bytes], port: int) -> Wire:
    deadline = time.monotonic() + START
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        with contextlib.suppress(ConnectionRefusedError):
            return Wire(port)


# ── strangers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def keyless() -> Iterator[Foreign]:
    """Under a plain uvicorn, which believes the forwarding headers of this machine's proxies."""
    with Foreign(AgentServer(mirror).app) as server:
        yield server


def test_without_a_key_it_answers_this_machine_as_anon(keyless: Foreign) -> None:
    reply = ask(keyless.port, "POST", "/invoke", {}, {"prompt": "", "thread_id": "t"})
    assert reply.json["output"]["principal"] == "anon"
    assert ask(keyless.port, "GET", "/health", host="localhost:1").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"x-forwarded-for": "203.0.113.9"},
        {"x-forwarded-for": "stranger"},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-proto": "https"},
        {"forwarded": "for=203.0.113.9"},
    ],
)
def test_without_a_key_it_answers_nobody_else(keyless: Foreign, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/health"), ("POST", "/invoke"), ("GET", "/threads/t"), ("OPTIONS", "/invoke")):
        assert ask(keyless.port, method, path, headers).status == 421


def test_without_a_key_other_sites_send_nothing(keyless: Foreign) -> None:
    headers = {"origin": "https://evil.example"}
    assert ask(keyless.port, "POST", "/invoke", headers, {"prompt": "x"}).status == 403


def test_a_client_in_memory_is_local_under_any_name() -> None:
    server = AgentServer(say)
    assert TestClient(server.app, base_url="http://whatever.example").get("/health").status_code == 200

    async def main() -> int:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return (await client.post("/invoke", json={"prompt": "x"})).status_code

    assert asyncio.run(main()) == 200


def test_allow_unauthenticated_answers_anybody() -> None:
    with Foreign(AgentServer(say, allow_unauthenticated=True).app) as server:
        headers = {"x-forwarded-for": "203.0.113.9"}
        reply = ask(server.port, "POST", "/invoke", headers, {"prompt": "x"}, host="agents.example.com")
        assert reply.status == 200


def test_with_a_key_every_route_but_health_needs_it() -> None:
    with Foreign(AgentServer(say, api_key=KEY).app) as server:
        for method in ("GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"):
            for path in ("/", "/invoke", "/stream", "/threads", "/threads/t", "/health", "/docs", "/nothing"):
                public = (method, path) == ("GET", "/health")
                for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer \xe9\xff"}):
                    assert ask(server.port, method, path, headers).status == (200 if public else 401)
                assert ask(server.port, method, path, BEARER).status not in {401, 403, 500}


def test_threads_are_a_keys_own_and_named_by_locus_digest_of_it(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/threads.db"
    with Foreign(AgentServer(mirror, api_key=KEY, store=store).app) as server:
        output = ask(server.port, "POST", "/invoke", BEARER, {"prompt": "mine", "thread_id": "t"}).json["output"]
        digest = hashlib.sha256(KEY.encode()).hexdigest()[:12]
        assert output["thread"] == [digest, "agent", "t"]
        assert ask(server.port, "GET", "/threads/t", BEARER).status == 200
    other = "another-0123456789abcdef"
    with Foreign(AgentServer(mirror, api_key=other, store=store).app) as server:
        assert ask(server.port, "GET", "/threads/t", {"authorization": f"Bearer {other}"}).status == 404
    with Foreign(AgentServer(mirror, api_key=KEY, store=store).app) as server:
        assert ask(server.port, "GET", "/threads/t", BEARER).json["messages"][0]["content"] == "mine"


def test_a_path_is_as_strict_as_on_a_host_of_many() -> None:
    with Foreign(AgentServer(say, api_key=KEY).app) as server:
        for path, status in (("/threads/%ff", 400), ("/threads/a%0A", 422), ("/threads/%00", 422), ("/invoke/", 404)):
            assert ask(server.port, "GET", path, BEARER).status == status


# ── metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_servers_metadata_is_laid_over_the_clients() -> None:
    seen: list[tuple[Any, str]] = []

    def resolve(asked: Any, principal: str) -> dict[str, Any]:
        seen.append((asked, principal))
        return {"user": asked.headers["x-user"], "trusted": True}

    async def later(asked: Any, principal: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return resolve(asked, principal)

    for resolver in (resolve, later):
        with Foreign(AgentServer(mirror, api_key=KEY, metadata_resolver=resolver).app) as server:
            body = {"prompt": "", "metadata": {"user": "forged", "own": 1}}
            for path in ("/invoke", "/stream"):
                reply = ask(server.port, "POST", path, {**BEARER, "x-user": "ann"}, body)
                assert reply.status == 200
                if path == "/invoke":
                    assert reply.json["output"]["metadata"] == {"user": "ann", "own": 1, "trusted": True}
    assert len(seen) == 4
    assert all(isinstance(asked, Request) for asked, _principal in seen)
    assert {principal for _asked, principal in seen} == {hashlib.sha256(KEY.encode()).hexdigest()[:12]}


def test_a_resolver_that_says_nothing_leaves_the_clients_metadata() -> None:
    with Foreign(AgentServer(mirror, api_key=KEY, metadata_resolver=lambda _request, _who: None).app) as server:  # type: ignore[arg-type, return-value]  # as a careless caller would
        reply = ask(server.port, "POST", "/invoke", BEARER, {"prompt": "", "metadata": {"own": 1}})
        assert reply.json["output"]["metadata"] == {"own": 1}


def test_a_resolver_that_raises_is_a_500_and_starts_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def resolve(_asked: Any, _principal: str) -> dict[str, Any]:
        raise LookupError("no such user: hunter2")

    with Foreign(AgentServer(hold, api_key=KEY, metadata_resolver=resolve).app) as server:
        for path in ("/invoke", "/stream"):
            reply = ask(server.port, "POST", path, BEARER, {"prompt": "never"})
            assert (reply.status, reply.json["code"]) == (500, "internal")
            assert b"hunter2" not in reply.body
    assert "no such user: hunter2" in caplog.text
    assert "never" not in HOLDING


# ── in Locus's shape ─────────────────────────────────────────────────────────────────────────────────────────────────


async def locus_like(ctx: RunContext) -> AsyncIterator[Any]:
    yield "said "
    yield ToolProgress("c1", {"tool_name": "search", "progress": 0.5})
    yield ToolProgress("c1", "half")
    yield Usage("m", 1, 2)
    if ctx.prompt == "ask" and not ctx.answers:
        yield Interrupt("when?", fields={"type": "object", "x-fields": [{"name": "day"}]}, interrupt_id="q")


def streamed(server: AgentServer, prompt: str) -> list[dict[str, Any]]:
    with TestClient(server.app) as client:
        body = client.post("/stream", json={"prompt": prompt}, headers=BEARER).text
    assert body.endswith("data: [DONE]\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in body.split("\n\n")[:-2]]


def test_a_stream_has_the_data_line_alone_and_locus_keys() -> None:
    progress = {"type": "tool_progress", "tool_call_id": "c1"}
    asked = {"agent_name": None, "question": "when?", "options": None, "fields": [{"name": "day"}], "metadata": {}}
    assert streamed(AgentServer(locus_like, api_key=KEY), "ask") == [
        {"type": "model_chunk", "content": "said "},
        {**progress, "tool_name": "search", "progress": 0.5},
        {**progress, "data": "half"},
        {**asked, "type": "interrupt", "interrupt_id": "q"},
    ]
    done = {"type": "done", "message": "said ", "reason": "complete"}
    assert streamed(AgentServer(locus_like, api_key=KEY), "x")[-1] == done


def test_a_stream_without_tokens_has_the_text_at_the_end() -> None:
    said = streamed(AgentServer(locus_like, api_key=KEY, stream_tokens=False), "x")
    assert [event["type"] for event in said] == ["tool_progress", "tool_progress", "done"]
    assert said[-1]["message"] == "said "


DRIVES = """
from agenthost import hookimpl

class Driven:
    told = None
    def serve_alone(self, *, stream_tokens):
        self.told = stream_tokens
    async def run(self, ctx):
        return f"told {self.told}"

@hookimpl
def register_adapters(register):
    register("numbers", lambda number: Driven(), modules=["builtins"], accepts=lambda obj: isinstance(obj, int))
"""


def test_an_adapter_is_told_that_it_serves_alone(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        site.install("acme", plugins={"acme": "acme_drives"}, modules={"acme_drives": DRIVES})
        for stream_tokens in (True, False):
            with TestClient(AgentServer(7, api_key=KEY, stream_tokens=stream_tokens).app) as client:
                reply = client.post("/invoke", json={"prompt": "x"}, headers=BEARER)
                assert reply.json()["message"] == f"told {stream_tokens}"


def test_a_decision_without_a_handler_is_refused_before_the_thread_is_looked_for() -> None:
    with TestClient(AgentServer(locus_like, api_key=KEY).app) as client:
        for thread in ({"decision": {"verdict": "approved"}}, {"answers": [{"interrupt_id": "q", "decision": {}}]}):
            reply = client.post("/resume", json={"thread_id": "t", **thread}, headers=BEARER)
            assert (reply.status_code, reply.json()["detail"]) == (
                400,
                "this server does not accept decisions on /resume",
            )
        assert client.post("/resume", json={"thread_id": "t"}, headers=BEARER).status_code == 404


# ── starts and ends ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_starts_on_first_use_with_a_loop_per_request() -> None:
    server = AgentServer(mirror, api_key=KEY)
    first, second = TestClient(server.app), TestClient(server.app)
    for number, client in enumerate((first, second, first)):
        body = {"prompt": str(number), "thread_id": "t"}
        said = client.post("/invoke", json=body, headers=BEARER).json()["output"]["messages"]
        assert [text for role, text in said if role == "user"] == [str(past) for past in range(number + 1)]
        with client.stream("POST", "/stream", json={"prompt": "x"}, headers=BEARER) as reply:
            assert "".join(reply.iter_text()).endswith("data: [DONE]\n\n")
        assert len(client.get("/threads/t", headers=BEARER).json()["messages"]) == 2 * (number + 1)
    assert first.delete("/threads/t", headers=BEARER).json()["deleted"] is True


def test_clients_in_threads_with_loops_of_their_own_do_not_disturb_each_other() -> None:
    server = AgentServer(mirror, api_key=KEY)

    def talk(number: int) -> None:
        client = TestClient(server.app)
        for turn in range(5):
            body = {"prompt": str(turn), "thread_id": f"t{number}"}
            said = client.post("/invoke", json=body, headers=BEARER).json()["output"]["messages"]
            assert [text for role, text in said if role == "user"] == [str(past) for past in range(turn + 1)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(talk, range(8)))


def test_it_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    server = AgentServer(say, api_key=KEY, store=f"sqlite:///{tmp_path}/threads.db")
    for number in range(3):
        with TestClient(server.app) as client:
            body = {"prompt": str(number), "thread_id": "t"}
            assert client.post("/invoke", json=body, headers=BEARER).status_code == 200
            assert len(client.get("/threads/t", headers=BEARER).json()["messages"]) == 2 * (number + 1)


def test_a_lifespan_after_the_first_use_does_not_start_it_twice() -> None:
    entered: list[str] = []

    class Counting:
        @contextlib.asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            entered.append("in")
            yield
            entered.append("out")

        async def run(self, ctx: RunContext) -> AsyncIterator[str]:
            yield ctx.prompt

    server = AgentServer(Counting(), api_key=KEY)
    with Foreign(server.app, lifespan="on") as served:
        assert ask(served.port, "POST", "/invoke", BEARER, {"prompt": "x"}).status == 200
        assert entered == ["in"]
    assert entered == ["in", "out"]


def test_many_first_requests_start_it_once() -> None:
    entered = []

    class Slow:
        @contextlib.asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            entered.append(threading.get_ident())
            await asyncio.sleep(0.05)
            yield

        async def run(self, ctx: RunContext) -> AsyncIterator[str]:
            yield ctx.prompt

    server = AgentServer(Slow(), api_key=KEY)
    with Foreign(server.app, lifespan="off") as served, ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(lambda number: ask(served.port, "POST", "/invoke", BEARER, {"prompt": str(number)}), range(8))
        )
        assert [reply.json["message"] for reply in replies] == [str(number) for number in range(8)]
        assert len(entered) == 1


def test_it_can_be_mounted_in_another_app() -> None:
    outer = FastAPI()

    @outer.get("/hello")
    async def hello() -> str:
        return "outer"

    outer.mount("/assistants/mirror", AgentServer(mirror, api_key=KEY).app)
    with Foreign(outer) as served:
        base = "/assistants/mirror"
        assert ask(served.port, "GET", "/hello").json == "outer"
        assert ask(served.port, "GET", f"{base}/health").json == {"status": "ok"}
        assert ask(served.port, "POST", f"{base}/invoke", {}, {"prompt": "x"}).status == 401
        reply = ask(served.port, "POST", f"{base}/invoke", BEARER, {"prompt": "x", "thread_id": "a/b"})
        assert reply.status == 200
        assert reply["content-location"] == f"{base}/runs/{reply['x-run-id']}"
        assert ask(served.port, "GET", f"{base}/threads/a%2Fb", BEARER).json["thread_id"] == "a/b"
        stream = ask(served.port, "POST", f"{base}/stream", BEARER, {"prompt": "x"})
        assert stream.body.endswith(b"data: [DONE]\n\n")
        assert ask(served.port, "GET", f"{base}/nothing", BEARER).json["code"] == "not_found"


def test_a_mounted_one_without_a_key_is_still_for_this_machine_only() -> None:
    outer = FastAPI()
    outer.mount("/inner", AgentServer(say).app)
    with Foreign(outer) as served:
        assert ask(served.port, "GET", "/inner/health").status == 200
        assert ask(served.port, "GET", "/inner/health", host="evil.example").status == 421


def test_a_client_that_leaves_cancels_the_agent() -> None:
    with Foreign(AgentServer(hold, api_key=KEY).app) as server:
        for path in ("/invoke", "/stream"):
            with Wire(server.port) as wire:
                wire.send(request("POST", path, BEARER, {"prompt": f"served {path}"}))
                wait_for(HOLDING, f"served {path}")
            left = time.monotonic()
            assert wait_for(CANCELLED, f"served {path}") - left <= 0.25


def test_a_store_that_cannot_be_opened_is_a_500_problem_and_says_why_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = AgentServer(say, api_key=KEY, store=f"sqlite:///{tmp_path}/no/folder/x.db")
    with Foreign(server.app, lifespan="off") as served:
        reply = ask(served.port, "POST", "/invoke", BEARER, {"prompt": "x"})
        assert reply.status == 500
        assert reply.json["correlation_id"]
        assert str(tmp_path) not in reply.body.decode()
        assert ask(served.port, "POST", "/invoke", {}, {"prompt": "x"}).status == 401
    assert "no/folder" in caplog.text
