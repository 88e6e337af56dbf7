"""Which path reaches which agent, and what an agent that does not serve still answers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from agenthost import registry
from agenthost.agents import AgentSource, AgentSpec
from agenthost.config import load_config
from agenthost.plugins import own_version
from agenthost.registering import OWN_ADDRESSES
from tests.actors import Structured, say
from tests.agents_for_tests import until
from tests.distributions import GATE, Site
from tests.serving import START, Hosted, actors, agents_toml, bearer, key
from tests.wire import ask

ROOT = bearer("root")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/agents/say", 200),
        ("/agents/say/", 200),
        ("/agents/say?x=1", 200),
        ("/agents/sa%79", 200),
        ("/agents/say/health", 200),
        ("/agents/say//health", 404),
        ("/agents//say", 404),
        ("//agents/say", 404),
        ("/agents/", 404),
        ("/agents//", 404),
        ("/agents/SAY", 404),
        ("/agents/say%2Fhealth", 200),
        ("/agents/say%20", 404),
        ("/agents/say%00", 404),
        ("/agents/../agents/say", 404),
        ("/agents/%2e%2e/health", 404),
        ("/agents/..", 404),
        ("/agents/.", 404),
        ("/agents/say/../../plugins", 404),
        ("/agents/say;x=1/health", 404),
        ("/agents/%E2%80%AE", 404),
        ("/agents/%EF%BF%BD", 404),
        ("/agents/" + "a" * 8_000, 404),
        ("/agents/%ff", 400),
        ("/%c3%28", 400),
        ("/%ed%a0%80", 400),
        ("/%", 404),
        ("/%zz", 404),
        ("/health/", 404),
        ("/agents/say/health/", 404),
        ("http://evil.example/agents/say", 200),
    ],
)
def test_a_path_is_an_agents_only_as_it_is_spelled(hosted: Hosted, path: str, status: int) -> None:
    reply = ask(hosted.port, "GET", path, ROOT)
    assert reply.status == status
    if status == 200:
        assert reply.json.get("name", "say") == "say"


def test_there_are_no_redirects(hosted: Hosted) -> None:
    reply = ask(hosted.port, "POST", "/agents/say/invoke/", ROOT, {"prompt": "x"})
    assert reply.status == 404
    assert reply.all("location") == []


def test_an_agents_own_documents_are_below_it(hosted: Hosted) -> None:
    for name in ("say", "mirror"):
        schema = ask(hosted.port, "GET", f"/agents/{name}/openapi.json", ROOT).json
        assert schema["info"]["title"] == name
        assert {"/invoke", "/stream", "/threads/{thread_id}"} <= set(schema["paths"])
        assert schema["servers"] == [{"url": f"/agents/{name}"}]
        assert f"/agents/{name}/openapi.json" in ask(hosted.port, "GET", f"/agents/{name}/docs", ROOT).body.decode()


# ── agents that do not serve ─────────────────────────────────────────────────────────────────────────────────────────


def specs(**loads: Callable[[], object]) -> list[AgentSpec]:
    return [AgentSpec(name=name, source=AgentSource(use=name, load=load)) for name, load in loads.items()]


def test_an_agent_is_listed_while_it_loads_and_its_documents_are_its_own_once_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "PATIENCE", 0.05)
    gate = threading.Event()

    def slow() -> object:
        assert gate.wait(START)
        return Structured()

    config = load_config(agents_toml(tmp_path, key("root", more="admin = true")), {})
    with Hosted(config, specs=specs(slow=slow)) as host:
        card = ask(host.port, "GET", "/agents/slow", ROOT)
        assert (card.status, card.json["state"], card.json["title"]) == (200, "loading", "slow")
        public = ask(host.port, "GET", "/agents/slow/health")
        assert (public.status, public.json) == (503, {"status": "loading"})
        for path in ("/agents/slow/invoke", "/agents/slow/stream"):
            refused = ask(host.port, "POST", path, ROOT, {"prompt": "x"})
            assert (refused.status, refused.json["code"]) == (503, "agent_not_ready")
            assert int(refused["retry-after"]) >= 1
        assert ask(host.port, "GET", "/health/ready").status == 503
        gate.set()
        host.run(host.host.registry.settled(START))
        assert ask(host.port, "GET", "/agents/slow/health").json == {"status": "ok"}
        assert ask(host.port, "GET", "/health/ready").status == 200
        assert ask(host.port, "GET", "/agents/slow", ROOT).json["title"] == "Orders"
        assert ask(host.port, "GET", "/agents/slow/openapi.json", ROOT).json["info"]["title"] == "Orders"


def test_an_agent_that_failed_is_a_state_and_the_others_serve(tmp_path: Path) -> None:
    def broken() -> object:
        raise ImportError("no module named hunter2")

    config = load_config(agents_toml(tmp_path, key("root", more="admin = true") + key("user")), {})
    with Hosted(config, specs=specs(broken=broken, say=lambda: say)) as host:
        assert ask(host.port, "POST", "/agents/say/invoke", ROOT, {"prompt": "x"}).status == 200
        assert ask(host.port, "POST", "/agents/broken/invoke", ROOT, {"prompt": "x"}).status == 503
        for headers in ({}, bearer("user")):
            reply = ask(host.port, "GET", "/agents/broken/health", headers)
            assert (reply.status, reply.json) == (503, {"status": "failed"})
        told = ask(host.port, "GET", "/agents/broken/health", ROOT).json
        assert "hunter2" in told["reason"]
        assert ask(host.port, "GET", "/agents", bearer("user")).json["agents"][0]["state"] == "failed"


def test_a_disabled_agent_is_not_there(tmp_path: Path) -> None:
    text = key("root") + actors("say") + actors("mirror", more="enabled = false")
    with Hosted(agents_toml(tmp_path, text)) as host:
        for path in ("/agents/mirror", "/agents/mirror/health", "/agents/mirror/openapi.json"):
            assert ask(host.port, "GET", path, ROOT).status == 404
        assert ask(host.port, "GET", "/agents/mirror/health").status == 404
        assert [one["name"] for one in ask(host.port, "GET", "/agents", ROOT).json["agents"]] == ["say"]


ACME = """
from fastapi import APIRouter
from agenthost.hookspecs import Dialect, hookimpl

def routes(host, agent):
    router = APIRouter()
    @router.get("/who")
    async def who():
        return {"agent": agent}
    return router

async def quick(exchange, receive, send):
    await receive()
    body = b'{"quick": true}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

@hookimpl
def register_protocols(register):
    register(Dialect("acme", prefix="/acme", endpoints=routes, fast={("POST", "/quick"): quick}))
"""


def test_an_agent_speaks_the_dialects_it_names_or_all_there_are(tmp_path: Path) -> None:
    text = key("root") + actors("say") + actors("mirror", more='protocols = ["native"]')
    with Site(tmp_path / "site") as site:
        site.install("acme", plugins={"acme": "acme_dialect"}, modules={"acme_dialect": ACME})
        with Hosted(agents_toml(tmp_path, text)) as host:
            assert ask(host.port, "GET", "/agents/say/acme/who", ROOT).json == {"agent": "say"}
            assert ask(host.port, "POST", "/agents/say/acme/quick", ROOT).json == {"quick": True}
            assert ask(host.port, "GET", "/agents/mirror/acme/who", ROOT).status == 404
            assert ask(host.port, "POST", "/agents/mirror/acme/quick", ROOT).status == 404
            listed = {one["name"]: one["protocols"] for one in ask(host.port, "GET", "/agents", ROOT).json["agents"]}
            assert listed == {"say": ["native", "acme"], "mirror": ["native"]}


BROKEN = """
from fastapi import APIRouter
from agenthost.hookspecs import Dialect, hookimpl

def raises(host, agent):
    raise RuntimeError("broken dialect")

async def evil(exchange, receive, send):
    raise AssertionError

@hookimpl
def register_protocols(register):
    register(Dialect("raises", prefix="/raises", endpoints=raises, fast={("POST", "/x"): evil}))
    register(Dialect("raises-once", prefix="/raises-once", endpoints=raises, scope="host"))
    register(Dialect("nothing", prefix="/nothing", endpoints=lambda host, agent: None))
    register(Dialect("evil", prefix="", endpoints=lambda host, agent: APIRouter(), fast={("POST", "/invoke"): evil}))
"""


def test_a_dialect_that_cannot_be_mounted_is_left_out_and_told_of(tmp_path: Path) -> None:
    text = key("root", more="admin = true") + actors("say", "mirror")
    with Site(tmp_path / "site") as site:
        site.install("acme", plugins={"acme": "acme_dialect"}, modules={"acme_dialect": ACME})
        site.install("broken", plugins={"broken": "broken_dialect"}, modules={"broken_dialect": BROKEN})
        with Hosted(agents_toml(tmp_path, text)) as host:
            for path in ("/health/live", "/health/ready", "/agents", "/agents/say/", "/agents/say/threads"):
                assert ask(host.port, "GET", path, ROOT).status == 200, path
            assert ask(host.port, "POST", "/agents/say/invoke", ROOT, {"prompt": "x"}).json["success"]
            assert ask(host.port, "GET", "/agents/say/acme/who", ROOT).json == {"agent": "say"}
            assert ask(host.port, "POST", "/agents/say/raises/x", ROOT, {}).status == 404
            assert ask(host.port, "GET", "/agents/say", ROOT).json["protocols"] == ["native", "acme"]
            problems = ask(host.port, "GET", "/health", ROOT).json["plugins"]
            assert {(one["distribution"], one["hook"]) for one in problems} == {("broken", "register_protocols")}
            taken = f"prefix '' is taken by protocol 'native' (agenthost {own_version()})"
            nothing = "TypeError: endpoints returned NoneType, not an APIRouter or an ASGI app"
            assert [one["error"] for one in problems] == [
                "plugin 'broken' (broken 1.0) cannot register protocol 'evil': " + taken,
                "protocol 'raises-once' (broken 1.0) has no routes: RuntimeError: broken dialect",
                "protocol 'nothing' (broken 1.0) is not served for agent 'say': " + nothing,
                "protocol 'raises' (broken 1.0) is not served for agent 'say': RuntimeError: broken dialect",
            ]


LATE = """
import contextlib
from fastapi import APIRouter
from agenthost.hookspecs import Dialect, hookimpl
import gate

entered = []

@contextlib.asynccontextmanager
async def lifespan(host):
    entered.append(1)
    yield

def routes(host, agent):
    router = APIRouter()
    router.add_api_route("/entered", lambda: entered)
    return router

@hookimpl
def register_protocols(register):
    gate.opened.wait(20)
    register(Dialect("late", prefix="/late", endpoints=routes, lifespan=lifespan))
    register(Dialect("late-once", prefix="/late-once", endpoints=routes, scope="host", lifespan=lifespan))
"""


def test_a_dialect_that_comes_late_is_entered_and_served_for_agents_and_for_the_host(tmp_path: Path) -> None:
    text = key("root") + actors("say")
    with Site(tmp_path / "site") as site:
        site.install("acme", plugins={"acme": "late_dialect"}, modules={"late_dialect": LATE, "gate": GATE})
        with Hosted(agents_toml(tmp_path, text)) as host:
            for path in ("/agents/say/late/entered", "/late-once/entered"):
                assert ask(host.port, "GET", path, ROOT).status == 404
            sys.modules["gate"].opened.set()
            host.run(until(lambda: "late-once" in host.host.dialects))
            for path in ("/agents/say/late/entered", "/late-once/entered"):
                assert ask(host.port, "GET", path, ROOT).json == [1, 1]


def test_the_addresses_no_dialect_may_take_are_all_that_the_host_answers(hosted: Hosted) -> None:
    def first(paths: Iterable[str]) -> set[str]:
        return {"/" + path.split("/")[1] for path in paths} - {"/"}

    for scope, document in (("agent", "/agents/say/openapi.json"), ("host", "/openapi.json")):
        paths = ask(hosted.port, "GET", document, ROOT).json["paths"]
        assert {*first(paths), "/docs", "/openapi.json"} == set(OWN_ADDRESSES[scope])


def test_the_first_request_for_a_lazy_agent_loads_it_and_what_asks_about_it_does_not(tmp_path: Path) -> None:
    lazy = actors("say", more='load = "lazy"')
    with Hosted(agents_toml(tmp_path, key("root", more="admin = true") + lazy)) as host:
        for path in ("/agents/say/health", "/agents/say", "/agents/say/threads", "/agents/say/runs", "/health/ready"):
            assert ask(host.port, "GET", path, ROOT).status == 200
        assert ask(host.port, "GET", "/agents/say/health", ROOT).json["state"] == "discovered"
        assert ask(host.port, "POST", "/agents/say/invoke", ROOT, {"prompt": "x"}).json["message"] == "x"
        assert ask(host.port, "GET", "/agents/say/health", ROOT).json["state"] == "ready"


def test_a_lazy_agent_that_may_keep_its_threads_itself_is_loaded_to_be_asked_for_one(tmp_path: Path) -> None:
    lazy = actors("Keeper", more='load = "lazy"')
    with Hosted(agents_toml(tmp_path, key("root", more="admin = true") + lazy)) as host:
        assert ask(host.port, "GET", "/agents/keeper/threads/t", ROOT).status in {200, 404}
        assert host.host.entries["keeper"].state == "ready"


def test_a_lazy_agent_that_does_not_load_is_answered_with_503_and_when_to_come_again(tmp_path: Path) -> None:
    gone = '[agents.gone]\nuse = "no_such_module:agent"\nload = "lazy"\n'
    with Hosted(agents_toml(tmp_path, key("root", more="admin = true") + gone)) as host:
        refused = ask(host.port, "POST", "/agents/gone/invoke", ROOT, {"prompt": "x"})
        assert (refused.status, refused.json["detail"]) == (503, "agent 'gone' is failed")
        assert refused["retry-after"]
        assert ask(host.port, "GET", "/health/ready").status == 503
