"""Which path reaches which agent, and what an agent that does not serve still answers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
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
            assert listed == {"say": ["native", "openai", "acme"], "mirror": ["native"]}


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
            assert ask(host.port, "GET", "/agents/say", ROOT).json["protocols"] == ["native", "openai", "acme"]
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


WHOLE = """
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from agenthost.hookspecs import Dialect, hookimpl
from agenthost.protocols import Answer, exchange_of, stream_run
from agenthost import RunRequest

class Teller:
    def __init__(self, run):
        self.run = run

    def begin(self):
        return b"run %s\\n" % self.run.id.encode()

    def entry(self, entry):
        return b"" if entry.type == "done" else entry.data + b"\\n"

    def end(self):
        return b"over\\n"

def routes(host, agent):
    router = APIRouter()

    @router.get("/agents")
    async def agents(request: Request):
        return [entry.name for entry in exchange_of(request.scope).agents("acme")]

    @router.post("/ask/{name}")
    async def ask(request: Request, name: str):
        exchange = exchange_of(request.scope)
        entry = exchange.choose(name, "acme")
        async def begin():
            return await exchange.host.runs.ask(entry, exchange.caller, RunRequest("hello", "t"))
        return Answer(stream_run, exchange, begin, 0, None, Teller)

    @router.get("/runs/{run_id}")
    async def find(request: Request, run_id: str):
        exchange = exchange_of(request.scope)
        found = await exchange.host.runs.find(None, exchange.caller, run_id)
        return found.id
    return router

def app(host, agent):
    async def answer(scope, receive, send):
        await JSONResponse([agent, scope["path"].removeprefix(scope["root_path"])])(scope, receive, send)
    return answer

def refuses(host, agent):
    raise RuntimeError("no")

@hookimpl
def register_protocols(register):
    register(Dialect("acme-card", prefix="/.well-known", endpoints=app, part_of="acme"))
    register(Dialect("acme", prefix="/acme", endpoints=routes, scope="host"))
    register(Dialect("plain", prefix="/plain", endpoints=app))
    register(Dialect("plain-all", prefix="/plain", endpoints=app, scope="host", part_of="plain"))
    register(Dialect("orphan", prefix="/orphan", endpoints=app, part_of="nobody"))
    register(Dialect("refuses", prefix="/refuses", endpoints=refuses, scope="host"))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("whole")
    text = key("root") + key("bob", agents='["say", "mirror"]') + actors("say", "pieces")
    text += actors("mirror", more='protocols = ["native", "plain"]')
    with Site(folder / "site") as site:
        site.install("acme", plugins={"acme": "acme_whole"}, modules={"acme_whole": WHOLE})
        with Hosted(agents_toml(folder, text)) as host:
            yield host


def test_a_dialect_for_the_whole_host_lists_the_agents_that_speak_it_and_that_the_caller_may_use(whole: Hosted) -> None:
    assert ask(whole.port, "GET", "/acme/agents", ROOT).json == ["pieces", "say"]
    assert ask(whole.port, "GET", "/acme/agents", bearer("bob")).json == ["say"]


def test_an_agent_is_chosen_by_name_as_by_address_and_its_run_is_told_in_the_dialects_own_words(whole: Hosted) -> None:
    reply = ask(whole.port, "POST", "/acme/ask/say", ROOT)
    assert reply["content-location"] == f"/agents/say/runs/{reply['x-run-id']}"
    assert reply.body.decode() == f'run {reply["x-run-id"]}\n{{"type":"model_chunk","content":"hello"}}\nover\n'
    for name, caller, status in (("nobody", "root", 404), ("mirror", "root", 404), ("pieces", "bob", 403)):
        assert ask(whole.port, "POST", f"/acme/ask/{name}", bearer(caller)).status == status


def test_a_run_is_found_without_its_agents_name_by_who_may_see_it(whole: Hosted) -> None:
    run_id = ask(whole.port, "POST", "/acme/ask/say", ROOT)["x-run-id"]
    assert ask(whole.port, "GET", f"/acme/runs/{run_id}", ROOT).json == run_id
    for path, caller in ((run_id, "bob"), ("0" * 32, "root")):
        assert ask(whole.port, "GET", f"/acme/runs/{path}", bearer(caller)).status == 404


def test_a_mounted_app_answers_at_its_prefix_too_and_never_redirects(whole: Hosted) -> None:
    for path, agent, rest in (
        ("/plain", None, ""),
        ("/plain/x", None, "/x"),
        ("/agents/say/plain", "say", ""),
        ("/agents/say/plain/", "say", "/"),
    ):
        assert ask(whole.port, "POST", path, ROOT).json == [agent, rest]


def test_the_parts_of_a_protocol_are_chosen_with_it_and_a_part_of_nothing_is_not_there(whole: Hosted) -> None:
    assert ask(whole.port, "GET", "/agents/say/.well-known/card", ROOT).json == ["say", "/card"]
    for path in ("/agents/mirror/.well-known/card", "/agents/say/orphan"):
        assert ask(whole.port, "GET", path, ROOT).status == 404
    assert ask(whole.port, "POST", "/agents/mirror/plain", ROOT).json == ["mirror", ""]


def test_a_card_has_the_address_of_every_protocol_that_its_agent_speaks(whole: Hosted) -> None:
    base = "http://127.0.0.1"
    cards = {one["name"]: one for one in ask(whole.port, "GET", "/agents", ROOT).json["agents"]}
    own = {"native": f"{base}/agents/say", "acme": f"{base}/acme", "plain": f"{base}/agents/say/plain"}
    assert {name: cards["say"]["addresses"][name] for name in own} == own
    assert {"orphan", "refuses", "plain-all", "acme-card"}.isdisjoint(cards["say"]["protocols"])
    assert set(cards["mirror"]["addresses"]) == set(cards["mirror"]["protocols"]) == {"native", "plain"}


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
        assert {*first(paths), "/docs", "/openapi.json"} - {"/v1"} == set(OWN_ADDRESSES[scope]), "but a dialect's own"


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
