"""What a host says when it has started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from agenthost.agents import AgentSource, AgentSpec
from agenthost.cli.summary import LISTED, counts, start_summary
from agenthost.config import Config, load_config
from agenthost.entries import AgentEntry
from agenthost.errors import LoadError
from agenthost.http.app import WebHost
from agenthost.plugins import own_version
from tests.distributions import Site
from tests.serving import key

URL = "http://127.0.0.1:8000"


async def _agent(_ctx: Any) -> Any:
    yield "x"


def _spec(name: str, load: Callable[[], Any] = lambda: _agent, **values: Any) -> AgentSpec:
    return AgentSpec(name=name, source=AgentSource(name, load, "acme", "1.0"), **values)


def _failing(name: str) -> AgentSpec:
    return _spec(name, problem=LoadError(f"agent '{name}' (acme 1.0) failed to load", hint="mend it\nor leave it"))


def _said(
    config: Config, specs: Sequence[AgentSpec] | None = (), *, dev: bool = True, served: str = "", **notes: str
) -> str:
    """The summary of a host that has started."""

    async def main() -> str:
        host = WebHost(config, specs=specs)
        await host.start()
        try:
            return click.unstyle(start_summary(host, URL, dev=dev, served=served, notes=notes))
        finally:
            await host.stop()

    return asyncio.run(main())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "agents.toml").write_text('[store]\nurl = "memory:"\n')
    return load_config(tmp_path / "agents.toml")


def test_every_agent_is_shown_with_its_state_its_address_and_why_not(config: Config):
    specs = [_spec("echo"), _failing("billing"), _spec("old", enabled=False)]
    assert _said(config, specs) == (
        f"agenthost {own_version()} · dev · {URL} · {config.path}\n\n"
        "  billing  failed    agent 'billing' (acme 1.0) failed to load\n"
        "                       → mend it\n"
        "                     or leave it\n"
        f"  echo     ready     {URL}/agents/echo\n"
        "  old      disabled  enabled = false under [agents.old]\n\n"
        "  store    memory: nothing is kept when the host stops\n"
        "  callers  everybody on this machine, without a key; put nothing in front of it "
        "(no proxy, tunnel or published port): that takes `agenthost serve`\n"
        f"  openai   {URL}/v1\n"
    )


def test_where_there_is_no_agent_it_says_how_to_have_one(config: Config):
    assert "\n  no agents: `agenthost list` shows what is installed, `agenthost add NAME` names one\n" in _said(config)


def test_many_agents_are_counted_and_only_those_that_do_not_serve_are_listed(config: Config):
    specs = [_spec(f"agent-{number:04}") for number in range(1000)]
    specs += [_failing("bad-one"), _spec("off-one", enabled=False)]
    said = _said(config, specs)
    assert "  bad-one  failed    agent 'bad-one' (acme 1.0) failed to load\n" in said
    assert (
        f"  1002 agents: 1000 ready, 1 failed, 1 disabled; {URL}/agents lists them, each is at {URL}/agents/NAME\n"
    ) in said
    assert len(said.splitlines()) < 15


def test_of_many_that_fail_only_so_many_are_listed(config: Config):
    said = _said(config, [_failing(f"bad-{number:04}") for number in range(200)])
    assert said.count("failed to load") == LISTED
    assert "  200 agents: 200 failed; " in said


def test_a_plugin_that_fails_is_named_with_distribution_version_and_remedy(config: Config, site: Site):
    site.install("acme-hooks", "0.4", plugins={"hooks": "acme_hooks"}, modules={"acme_hooks": "import not_there\n"})
    assert _said(config).endswith(
        "\n\n  plugin 'hooks' (acme-hooks 0.4) failed to load: ModuleNotFoundError: No module named 'not_there'\n"
        '    → pip install not_there, or [plugins] block = ["acme-hooks"]\n'
    )


def test_keys_and_whom_they_stand_for_are_counted(tmp_path: Path):
    text = key("one", principal="acme") + key("two", principal="acme") + key("three")
    (tmp_path / "agents.toml").write_text(f'[store]\nurl = "memory:"\n{text}')
    said = _said(load_config(tmp_path / "agents.toml"), dev=False)
    assert " · serve · " in said
    assert "\n  callers  3 keys for 2 principals\n" in said


def test_other_authenticators_are_named(tmp_path: Path, site: Site):
    hooks = (
        "from agenthost import hookimpl\n"
        "class Badges:\n    def authenticate(self, credentials): pass\n"
        "@hookimpl\ndef register_authenticators(register): register('badges', Badges())\n"
    )
    site.install("acme-badges", plugins={"badges": "acme_badges"}, modules={"acme_badges": hooks})
    (tmp_path / "agents.toml").write_text(f'[store]\nurl = "memory:"\n[auth]\nuse = ["api-keys", "badges"]\n{key("a")}')
    said = _said(load_config(tmp_path / "agents.toml"), dev=False)
    assert "\n  callers  1 key for 1 principal, those that badges knows\n" in said


def test_a_host_that_lets_anybody_in_says_so(tmp_path: Path):
    (tmp_path / "agents.toml").write_text('[store]\nurl = "memory:"\n[auth]\nallow_unauthenticated = true\n')
    said = _said(load_config(tmp_path / "agents.toml"), dev=False)
    assert "\n  callers  anybody who reaches it, without a key ([auth] allow_unauthenticated = true)\n" in said


def test_the_store_is_named_by_its_file(tmp_path: Path):
    (tmp_path / "agents.toml").write_text('[store]\nurl = "sqlite:///mine.db"\n')
    assert f"\n  store    {tmp_path / 'mine.db'}\n" in _said(load_config(tmp_path / "agents.toml"))


def test_agents_are_at_the_public_address_where_there_is_one_and_others_can_call(tmp_path: Path):
    text = '[server]\npublic_url = "https://agents.example/base/"\n[store]\nurl = "memory:"\n'
    (tmp_path / "agents.toml").write_text(text + key("one"))
    config = load_config(tmp_path / "agents.toml")
    said = _said(config, [_spec("echo")], dev=False)
    assert f" · serve · {URL} · " in said
    assert "  echo  ready     https://agents.example/base/agents/echo\n" in said
    assert f"  echo  ready     {URL}/agents/echo\n" in _said(config, [_spec("echo")])


def test_agents_that_are_not_agents_tomls_are_said_to_be_so(config: Config):
    said = _said(config, served="app.py:agent alone")
    assert said.startswith(f"agenthost {own_version()} · dev · {URL} · app.py:agent alone\n")


def test_states_have_colours_on_a_terminal(config: Config):
    async def main() -> str:
        host = WebHost(config, specs=[_spec("echo")])
        await host.start()
        try:
            return start_summary(host, URL, dev=True)
        finally:
            await host.stop()

    assert "\x1b[32mready   \x1b[0m" in asyncio.run(main())


def test_states_are_counted_those_that_serve_first():
    entries = [AgentEntry(_spec("x"), state) for state in ("failed", "loading", "ready", "draining", "ready")]
    assert counts(entries) == "5 agents: 2 ready, 1 loading, 1 failed, 1 draining"
    assert counts(entries[:1]) == "1 agent: 1 failed"
    assert counts([]) == "0 agents"


def test_what_else_there_is_to_say_stands_below_in_a_line_each(config: Config):
    said = _said(config, env=".env: REGION", debug="", reload="when a\x1b[2Jgent.py changes")
    assert said.endswith("  env      .env: REGION\n  reload   when a\\x1b[2Jgent.py changes\n")
