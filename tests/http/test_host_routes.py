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
        "protocols": ["native", "openai"],
        "url": "http://localhost:7/agents/say",
        "addresses": {"native": "http://localhost:7/agents/say", "openai": "http://localhost:7/v1"},
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
    admin = {"/admin/plan", "/admin/reload", "/admin/agents/{name}/load", "/admin/agents/{name}/unload"}
    ours = {path for path in paths if not path.startswith("/v1/")}
    assert ours == {"/agents", "/health", "/health/live", "/health/ready", "/plugins", "/metrics", *admin}


ROOT = key("root", more="admin = true")


def test_an_operator_reloads_the_file_and_is_told_what_that_changed(tmp_path: Path) -> None:
    root, web = bearer("root"), bearer("web")
    with Hosted(agents_toml(tmp_path, ROOT + key("web") + actors("say", "pieces"))) as host:
        agents_toml(tmp_path, ROOT + key("new") + actors("say", "mirror"), server='max_body = "1KiB"\nport = 7\n')
        plan = {
            "added": ["mirror"],
            "removed": ["pieces"],
            "changed": {},
            "unchanged": ["say"],
            "keys": {"added": ["new"], "removed": ["web"]},
            "settings": ["[server] max_body"],
            "needs_restart": ["[server] port"],
        }
        assert ask(host.port, "GET", "/admin/plan", root).json == plan
        assert ask(host.port, "GET", "/agents", web).status == 200
        report = ask(host.port, "POST", "/admin/reload", root).json
        assert {key: value for key, value in report.items() if key != "at"} == {
            "by": "'root'",
            "applied": True,
            **plan,
        }
        assert ask(host.port, "GET", "/health", root).json["reload"] == report
        assert ask(host.port, "GET", "/agents", web).status == 401
        assert ask(host.port, "GET", "/agents", bearer("new")).status == 200
        assert ask(host.port, "POST", "/agents/pieces/invoke", root, {"input": ["x"]}).status == 404
        assert ask(host.port, "POST", "/agents/mirror/invoke", root, {"prompt": "x"}).status == 200
        assert ask(host.port, "POST", "/agents/say/invoke", root, {"prompt": "x" * 2000}).status == 413


def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path) -> None:
    root = bearer("root")
    with Hosted(agents_toml(tmp_path, ROOT + actors("say"))) as host:
        agents_toml(tmp_path, ROOT + actors("say").replace("use", "usw"))
        for method, path in (("GET", "/admin/plan"), ("POST", "/admin/reload")):
            refused = ask(host.port, method, path, root)
            assert (refused.status, refused.json["code"]) == (422, "reload_failed")
            assert "unknown key 'usw'; did you mean 'use'?" in refused.json["detail"]
        assert ask(host.port, "POST", "/agents/say/invoke", root, {"prompt": "x"}).status == 200


def test_titles_descriptions_and_protocols_change_where_they_are_shown(tmp_path: Path) -> None:
    root = bearer("root")
    with Hosted(agents_toml(tmp_path, ROOT + actors("say"))) as host:
        assert ask(host.port, "GET", "/agents/say/openapi.json", root).json["info"]["title"] == "say"
        agents_toml(tmp_path, ROOT + actors("say", more='title = "Parrot"\nconcurrency = 3\n'))
        assert ask(host.port, "POST", "/admin/reload", root).json["changed"] == {"say": ["title", "concurrency"]}
        assert ask(host.port, "GET", "/agents/say/openapi.json", root).json["info"]["title"] == "Parrot"
        assert ask(host.port, "GET", "/agents/say/", root).json["limits"]["concurrency"] == 3
        agents_toml(tmp_path, ROOT + actors("say", more="protocols = []\n"))
        ask(host.port, "POST", "/admin/reload", root)
        assert ask(host.port, "POST", "/agents/say/invoke", root, {"prompt": "x"}).status == 404


def test_an_operator_unloads_and_loads_an_agent(tmp_path: Path) -> None:
    root, alice = bearer("root"), bearer("alice")
    with Hosted(agents_toml(tmp_path, ROOT + key("alice") + actors("say"))) as host:
        gone = ask(host.port, "POST", "/admin/agents/say/unload", root)
        assert (gone.status, gone.json["state"], gone.json["cut_off"]) == (200, "unloaded", 0)
        assert gone.json["reason"] == "unloaded by 'root'"
        refused = ask(host.port, "POST", "/agents/say/invoke", alice, {"prompt": "x"})
        assert (refused.status, refused.json["detail"]) == (503, "agent 'say' is unloaded")
        assert refused["retry-after"]
        assert ask(host.port, "GET", "/health/ready").status == 503
        assert ask(host.port, "GET", "/agents/say/health", alice).json == {"status": "unloaded"}
        back = ask(host.port, "POST", "/admin/agents/say/load", root)
        assert (back.status, back.json["state"]) == (200, "ready")
        assert ask(host.port, "POST", "/agents/say/invoke", alice, {"prompt": "x"}).status == 200
        for path in ("load", "unload"):
            assert ask(host.port, "POST", f"/admin/agents/say/{path}", alice).status == 403
            assert ask(host.port, "POST", f"/admin/agents/nobody/{path}", root).status == 404


def test_an_agent_that_does_not_load_is_answered_with_the_reason(tmp_path: Path) -> None:
    missing = '[agents.gone]\nuse = "no_such_module:agent"\n'
    with Hosted(agents_toml(tmp_path, ROOT + missing)) as host:
        reply = ask(host.port, "POST", "/admin/agents/gone/load", bearer("root"))
        assert (reply.status, reply.json["state"]) == (503, "failed")
        assert "no_such_module" in reply.json["reason"]
