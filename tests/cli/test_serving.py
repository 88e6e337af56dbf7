"""`agenthost dev` and `agenthost serve`: what they serve, and what they refuse, in which words."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import httpx
import pytest

from agenthost.cli.serving import agent_name
from tests.cli.conftest import Type
from tests.commands import ECHO, KEY, ROOT, Serving, agenthost
from tests.distributions import Site


def test_dev_serves_an_object_in_a_file_without_agents_toml_and_writes_nothing(tmp_path: Path):
    (tmp_path / "my_app.py").write_text(ECHO)
    with Serving("dev", "my_app.py:agent", cwd=tmp_path, env={"PYTHONDONTWRITEBYTECODE": "1"}) as served:
        reply = httpx.post(f"{served.url}/agents/my-app/invoke", json={"prompt": "hello world"})
        assert reply.json()["message"] == "hello world "
        assert " · dev · " in served.err
        assert " · my_app.py:agent; no agents.toml\n" in served.err
        assert "  store    memory: nothing is kept when the host stops\n" in served.err
        assert served.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["my_app.py"]


def test_dev_of_a_file_uses_all_of_agents_toml_but_its_agents(tmp_path: Path):
    (tmp_path / "agents.toml").write_text(
        '[store]\nurl = "memory:"\n[defaults]\ntimeout = "7s"\n[agents.other]\nuse = "app.py:agent"\n'
    )
    (tmp_path / "app.py").write_text(ECHO.replace("agent", "shout"))
    with Serving("dev", "app.py:shout", cwd=tmp_path) as served:
        assert " · app.py:shout alone; [agents] of agents.toml not used\n" in served.err
        agents = httpx.get(f"{served.url}/agents").json()["agents"]
        assert [agent["name"] for agent in agents] == ["shout"]
        assert httpx.get(f"{served.url}/agents/shout").json()["limits"]["timeout_seconds"] == 7.0


def test_dev_of_a_file_finds_it_from_here_wherever_agents_toml_is(tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (there / "agents.toml").write_text('[store]\nurl = "memory:"\n')
    (here / "app.py").write_text(ECHO)
    with Serving("dev", "app.py:agent", "--config", str(there / "agents.toml"), cwd=here) as served:
        assert "  app  ready " in served.err


@pytest.mark.parametrize(
    ("where", "attribute", "name"),
    [
        ("app.py", "agent", "app"),
        ("src/My App.py", "agent", "my-app"),
        ("acme.agents", "agent", "agents"),
        ("graph.py", "researcher", "researcher"),
        ("graph.py", "Research_Team", "research-team"),
        ("graph.py", "Team.agent", "graph"),
        ("graph.py", "_private_", "private"),
        ("日本.py", "agent", "agent"),
        ("x.py", "a" * 80, "a" * 63),
    ],
)
def test_an_object_is_served_under_its_own_name_or_its_files(where: str, attribute: str, name: str):
    assert agent_name(where, attribute) == name


@pytest.mark.parametrize(
    ("target", "hint"),
    [("app.py", "did you mean app.py:agent?"), ("echo", "an installed agent: agenthost add echo")],
)
def test_dev_of_something_that_is_no_object_in_a_file_says_what_was_meant(enter: Type, target: str, hint: str):
    ended = enter("dev", target)
    assert ended.code == 2
    assert ended.err == f"'{target}' is not of the form FILE.py:OBJECT\n  → {hint}\n"


def test_dev_without_agents_toml_says_what_is_installed_and_the_line_to_add(enter: Type, here: Path, site: Site):
    site.install("aaa-first", agents={"aaa": "aaa_first:agent"})
    ended = enter("dev")
    assert ended.code == 2
    assert ended.err.startswith(f"there is no agents.toml in {here}\ninstalled: aaa (aaa-first 1.0)")
    assert ended.err.endswith("\n  → agenthost add aaa\n")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_dev_refuses_an_address_that_others_can_reach(enter: Type, host: str):
    ended = enter("dev", "app.py:agent", "--host", host)
    assert ended.code == 2
    assert ended.err == (
        f"`agenthost dev` serves this machine only, and {host} is not a loopback address\n"
        "  → leave --host out, or serve with keys: agenthost serve\n"
    )


def test_dev_listens_on_loopback_whatever_address_serve_has(tmp_path: Path):
    (tmp_path / "agents.toml").write_text('[server]\nhost = "0.0.0.0"\n[store]\nurl = "memory:"\n')
    with Serving("dev", cwd=tmp_path) as served:
        assert f" · dev · http://127.0.0.1:{served.port} · agents.toml\n" in served.err


def test_dev_says_that_nothing_may_be_put_in_front_of_it(tmp_path: Path):
    (tmp_path / "agents.toml").write_text('[store]\nurl = "memory:"\n')
    with Serving("dev", cwd=tmp_path) as served:
        assert (
            "  callers  everybody on this machine, without a key; put nothing in front of it (no proxy, tunnel or "
            "published port): that takes `agenthost serve`\n"
        ) in served.err
        forwarded = httpx.get(f"{served.url}/agents", headers={"x-forwarded-for": "203.0.113.7"})
        assert forwarded.status_code == 421
        assert httpx.get(f"{served.url}/agents", headers={"host": "evil.example"}).status_code == 421
        assert httpx.get(f"{served.url}/agents").status_code == 200


def test_serve_without_any_authenticator_refuses_and_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "agents.toml").write_text("")
    ended = agenthost("serve", cwd=tmp_path)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err == (
        "refusing to serve without authentication\n"
        "  → set AGENTHOST_API_KEY, add [[auth.keys]], run `agenthost dev` on this machine, "
        "or [auth] allow_unauthenticated = true\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["agents.toml"]


def test_serve_without_agents_toml_refuses(enter: Type, here: Path):
    ended = enter("serve")
    assert ended.code == 2
    assert ended.err == (
        f"agents.toml: no such file (looked in {here})\n"
        "  → `agenthost add NAME` writes one; `agenthost dev FILE.py:OBJECT` needs none\n"
    )


@pytest.mark.parametrize(
    ("text", "env", "begins"),
    [
        ("", {"AGENTHOST_API_KEY": ""}, "AGENTHOST_API_KEY: "),
        ("", {"AGENTHOST_API_KEY": "short"}, "AGENTHOST_API_KEY: "),
        (
            '[[auth.keys]]\nid = "web"\nprincipal = "web"\nagents = ["*"]\nsecret = "written-out-0123456789"\n',
            {},
            "agents.toml:5: [[auth.keys]] secret: ",
        ),
        (
            '[agents.a]\nsettings = { api_key = "written-out-0123456789" }\n',
            {},
            "agents.toml:2: [agents.a] settings.api_key: ",
        ),
    ],
)
def test_serve_refuses_a_key_that_is_none_in_one_line_naming_the_setting(
    enter: Type, here: Path, monkeypatch: pytest.MonkeyPatch, text: str, env: dict[str, str], begins: str
):
    (here / "agents.toml").write_text(text)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    ended = enter("serve")
    assert ended.code == 2
    assert ended.err.startswith(begins)
    assert ended.err.count("\n") == 1
    assert "written-out" not in ended.err


def test_a_port_that_is_taken_is_refused_before_anything_is_loaded(tmp_path: Path):
    (tmp_path / "app.py").write_text("print('loaded')\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = agenthost("dev", "app.py:agent", "--port", str(port), cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (f"cannot listen on 127.0.0.1:{port}: Address already in use\n  → choose another with --port\n")


def test_an_address_that_is_not_this_machines_is_refused(tmp_path: Path):
    (tmp_path / "agents.toml").write_text('[store]\nurl = "memory:"\n')
    ended = agenthost("serve", "--host", "192.0.2.1", cwd=tmp_path, env={"AGENTHOST_API_KEY": KEY})
    assert ended.code == 2
    assert ended.err == (
        "cannot listen on 192.0.2.1:8000: Cannot assign requested address\n  → correct --host or --port\n"
    )


def test_a_second_host_on_one_store_is_refused_by_the_name_of_the_file(tmp_path: Path):
    (tmp_path / "agents.toml").write_text("")
    with Serving("dev", cwd=tmp_path) as served:
        ended = agenthost("dev", "--port", "0", cwd=tmp_path)
        assert ended.code == 2
        assert f"agenthost.db is in use by another host (process {served.process.pid})\n  → " in ended.err


WHERE = "import os\nasync def agent(ctx):\n    yield f\"{os.getpid()} {os.environ.get('SECRET')}\"\n"


def test_dev_gives_an_authors_own_agents_a_process_each_and_leaves_installed_and_placed_ones_where_they_are(
    tmp_path: Path,
) -> None:
    with Site(tmp_path / "site-packages") as bought, Site(tmp_path / "source") as source:
        bought.install("acme-bought", agents={"bought": "acme_bought:agent"}, modules={"acme_bought": WHERE})
        source.install("acme-source", agents={"source": "acme_source:agent"}, modules={"acme_source": WHERE})
    (tmp_path / "app.py").write_text(WHERE)
    (tmp_path / "agents.toml").write_text(
        '[store]\nurl = "memory:"\n[agents.bought]\n[agents.source]\n[agents.own]\nuse = "app.py:agent"\n'
        '[agents.placed]\nuse = "app.py:agent"\nplacement = "in-process"\n'
        '[agents.worker]\nuse = "app.py:agent"\nplacement = "process"\n'
    )
    paths = os.pathsep.join([str(ROOT), str(tmp_path / "site-packages"), str(tmp_path / "source")])
    with Serving("dev", cwd=tmp_path, env={"PYTHONPATH": paths, "SECRET": "seen"}) as served:
        said = {}
        for name in ("bought", "source", "own", "placed", "worker"):
            reply = httpx.post(f"{served.url}/agents/{name}/invoke", json={"prompt": ""}).json()["message"]
            pid, variable = reply.split()
            said[name] = (int(pid) == served.process.pid, variable)
        served.until(lambda: "  reload   when agents.toml or the code of own, source, worker changes\n" in served.err)
    assert said == {
        "bought": (True, "seen"),
        "source": (False, "seen"),
        "own": (False, "seen"),
        "placed": (True, "seen"),
        "worker": (False, "None"),
    }
