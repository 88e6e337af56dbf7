"""What the host says of itself, and to whom."""

from __future__ import annotations

from pathlib import Path

from tests.serving import Hosted, actors, agents_toml, bearer, key
from tests.wire import ask


def test_live_and_ready_say_one_word_to_anybody(hosted: Hosted) -> None:
    for path in ("/health/live", "/health/ready"):
        reply = ask(hosted.port, "GET", path)
        assert (reply.status, reply.json) == (200, {"status": "ok"})
        assert reply["cache-control"] == "no-store"


def test_agents_are_those_the_caller_may_use_with_what_it_needs_to_call_them(hosted: Hosted) -> None:
    everything = ask(hosted.port, "GET", "/agents", bearer("alice"), host="localhost:7").json["agents"]
    assert [one["name"] for one in everything] == sorted(hosted.host.entries)
    (mine,) = ask(hosted.port, "GET", "/agents", bearer("bob"), host="localhost:7").json["agents"]
    assert mine == {
        "name": "say",
        "title": "say",
        "description": "Says the prompt back in one piece.",
        "state": "ready",
        "protocols": ["native"],
        "url": "http://localhost:7/agents/say",
    }
    orders = next(one for one in everything if one["name"] == "structured")
    assert orders["title"] == "Orders"
    assert orders["input_schema"]["required"] == ["item"]


def test_a_card_has_the_agents_limits(hosted: Hosted) -> None:
    card = ask(hosted.port, "GET", "/agents/say/", bearer("bob")).json
    assert card["limits"] == {
        "timeout_seconds": 600.0,
        "concurrency": 256,
        "queue": 1024,
        "on_busy_thread": "reject",
        "max_body_bytes": 10 << 20,
    }


def test_the_public_url_is_the_one_that_is_shown(tmp_path: Path) -> None:
    server = 'public_url = "https://agents.example.com/here/"\n'
    with Hosted(agents_toml(tmp_path, actors("say") + key("root"), server=server)) as host:
        shown = ask(host.port, "GET", "/agents/say", bearer("root"))
        assert shown.json["url"] == "https://agents.example.com/here/agents/say"


def test_operators_see_states_plugins_and_metrics(hosted: Hosted) -> None:
    root = bearer("root")
    ask(hosted.port, "POST", "/agents/say/invoke", root, {"prompt": "x"})
    health = ask(hosted.port, "GET", "/health", root).json
    assert health["status"] == "ok"
    assert health["problems"] == []
    assert {"status": "ok", "state": "ready", "use": "tests.actors:say", "running": 0, "queued": 0}.items() <= (
        health["agents"]["say"].items()
    )
    assert isinstance(ask(hosted.port, "GET", "/plugins", root).json["plugins"], list)
    metrics = ask(hosted.port, "GET", "/metrics", root)
    assert metrics["content-type"].startswith("text/plain; version=0.0.4")
    lines = metrics.body.decode().splitlines()
    assert 'agenthost_agent_state{agent="say",state="ready"} 1.0' in lines
    assert any(line.startswith('agenthost_runs_ended_total{agent="say",status="completed"}') for line in lines)


def test_who_may_not_operate_sees_none_of_it(hosted: Hosted) -> None:
    for path in ("/health", "/plugins", "/metrics"):
        reply = ask(hosted.port, "GET", path, bearer("alice"))
        assert (reply.status, reply.json["code"]) == (403, "forbidden")


def test_a_host_whose_required_agent_failed_is_not_ready_and_does_not_say_why_in_public(tmp_path: Path) -> None:
    missing = '[agents.gone]\nuse = "no_such_module:agent"\n'
    optional = missing.replace("gone", "spare") + "required = false\n"
    text = actors("say") + key("root", more="admin = true")
    with Hosted(agents_toml(tmp_path / "optional", text + optional)) as host:
        assert ask(host.port, "GET", "/health/ready").status == 200
    with Hosted(agents_toml(tmp_path / "required", text + missing)) as host:
        ready = ask(host.port, "GET", "/health/ready")
        assert (ready.status, ready.json) == (503, {"status": "unavailable"})
        assert ask(host.port, "GET", "/health/live").status == 200
        report = ask(host.port, "GET", "/health", bearer("root")).json
        assert report["status"] == "degraded"
        assert "no_such_module" in report["agents"]["gone"]["reason"]


def test_the_hosts_openapi_lists_its_routes(hosted: Hosted) -> None:
    paths = ask(hosted.port, "GET", "/openapi.json", bearer("alice")).json["paths"]
    assert set(paths) == {"/agents", "/health", "/health/live", "/health/ready", "/plugins", "/metrics"}
