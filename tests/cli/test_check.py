"""`agenthost check`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agenthost.store import NewRun, Store
from tests.cli.conftest import Type
from tests.commands import ECHO, KEY
from tests.distributions import Site
from tests.packages import wheel


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("AGENTHOST_API_KEY", KEY)


@pytest.mark.usefixtures("keyed")
def test_what_is_in_order_is_said_in_one_line(enter: Type, here: Path, site: Site):
    site.install("acme-shout", agents={"shout": "acme_shout:agent"}, modules={"acme_shout": ECHO})
    (here / "agents.toml").write_text('[agents.shout]\n[agents.mine]\nuse = "app.py:agent"\n')
    (here / "app.py").write_text(ECHO)
    ended = enter("check")
    assert ended == type(ended)(0, "agents.toml: ok; 2 of 2 agents load\n", "")
    assert not (here / "agenthost.db").exists()


def test_that_there_is_no_key_yet_is_no_problem_but_a_note(enter: Type, here: Path):
    (here / "agents.toml").write_text("")
    ended = enter("check")
    assert (ended.code, ended.out) == (0, "agents.toml: ok; 0 of 0 agents load\n")
    assert ended.err == (
        "note: nothing tells callers apart yet: `agenthost dev` serves, `agenthost serve` will refuse to\n"
    )


def test_every_mistake_in_the_file_is_said_at_once(enter: Type, here: Path):
    (here / "agents.toml").write_text('[server]\nport = "high"\n[agents.a]\nplacment = "process"\nqueue = -1\n')
    ended = enter("check")
    assert (ended.code, ended.out) == (1, "")
    *problems, verdict = ended.err.splitlines()
    assert [problem.partition(": ")[0] for problem in problems] == ["agents.toml:2", "agents.toml:4", "agents.toml:5"]
    assert verdict == "agents.toml: 3 problems in the file; plugins and agents were not tried"


def test_a_file_that_is_not_there_is_a_problem(enter: Type, here: Path):
    ended = enter("check")
    assert ended.code == 1
    assert ended.err.startswith(f"agents.toml: no such file (looked in {here})\n  → ")
    assert ended.err.endswith("agents.toml: 1 problem in the file; plugins and agents were not tried\n")


@pytest.mark.usefixtures("keyed")
def test_problems_of_plugins_discovery_and_loading_are_said_together_each_once(enter: Type, here: Path, site: Site):
    site.install("acme-hooks", "0.4", plugins={"hooks": "acme_hooks"}, modules={"acme_hooks": "import not_there\n"})
    site.install("acme-torch", "2.1", agents={"torch-user": "acme_torch:agent"})
    site.write({"acme_torch": "import torch_that_is_not_there\n"})
    (here / "agents.toml").write_text(
        '[agents.torch-user]\n[agents.gone]\n[agents.fine]\nuse = "app.py:agent"\n'
        '[agents.unset]\nuse = "app.py:Needy"\n[agents.off]\nuse = "nobody:agent"\nenabled = false\n'
    )
    (here / "app.py").write_text(
        ECHO + "\nimport dataclasses\n@dataclasses.dataclass\nclass Settings:\n    model: str\n"
        "class Needy:\n    Settings = Settings\n    async def run(self, ctx):\n        yield 'x'\n"
    )
    ended = enter("check")
    assert (ended.code, ended.out) == (1, "")
    plugin = (
        "plugin 'hooks' (acme-hooks 0.4) failed to load: ModuleNotFoundError: No module named 'not_there'\n"
        '  → pip install not_there, or [plugins] block = ["acme-hooks"]\n'
    )
    agent = (
        "agent 'torch-user' (acme-torch 2.1) failed to load: ModuleNotFoundError: "
        "No module named 'torch_that_is_not_there'\n"
        "  → pip install torch_that_is_not_there, or set enabled = false under [agents.torch-user]\n"
        "    Traceback (most recent call last):\n"
    )
    for said in (plugin, agent, "agent 'gone' is not installed", "agent 'unset' (app.py:Needy) "):
        assert ended.err.count(said) == 1, ended.err
    assert ended.err.endswith("\nagents.toml: 4 problems; 1 of 5 agents load\n")


@pytest.mark.usefixtures("keyed")
def test_an_authenticator_that_fails_is_a_problem_and_the_agents_are_tried_all_the_same(
    enter: Type, here: Path, site: Site
):
    hooks = "from agenthost import hookimpl\n@hookimpl\ndef register_authenticators(register):\n    1 / 0\n"
    site.install("acme-badges", "0.4", plugins={"badges": "acme_badges"}, modules={"acme_badges": hooks})
    (here / "agents.toml").write_text('[agents.fine]\nuse = "app.py:agent"\n[agents.gone]\n')
    (here / "app.py").write_text(ECHO)
    ended = enter("check")
    assert ended.code == 1
    assert (
        ended.err.count("plugin 'badges' (acme-badges 0.4) failed in register_authenticators: ZeroDivisionError") == 1
    )
    assert ended.err.endswith("\nagents.toml: 2 problems; 1 of 2 agents load\n")


@pytest.mark.usefixtures("keyed")
def test_agents_that_the_store_knows_and_the_file_does_not_are_named(enter: Type, here: Path):
    async def remember(store: Store) -> None:
        await store.start_run(NewRun(run_id="r1", agent="renamed", principal="somebody", created=0.0, thread_id="t"))

    store = Store.open(f"sqlite:///{here / 'agenthost.db'}")
    try:
        asyncio.run(remember(store))
        (here / "agents.toml").write_text("")
        ended = enter("check")  # beside the host that has the store open
    finally:
        store.close()
    assert ended.code == 0
    assert ended.err == "note: threads or runs are kept for agent 'renamed', which agents.toml does not name\n"


@pytest.mark.usefixtures("keyed")
def test_a_store_that_no_host_could_open_is_a_problem(enter: Type, here: Path):
    (here / "agents.toml").write_text("")
    (here / "agenthost.db").write_text("this is no database, and long enough to be looked at " * 30)
    ended = enter("check")
    assert ended.code == 1
    assert "agenthost.db" in ended.err
    assert ended.err.endswith("agents.toml: 1 problem; 0 of 0 agents load\n")
    assert (here / "agenthost.db").read_text().startswith("this is no database")


MOON = """
from agenthost import hookimpl
from agenthost.agents import AgentInfo

class Moon:
    info = AgentInfo()

    async def open(self, spec):
        return self

    async def close(self, grace):
        pass

@hookimpl
def register_placements(register):
    register("moon", Moon())
"""


@pytest.mark.usefixtures("keyed")
def test_environments_are_made_and_one_that_cannot_be_is_a_problem_like_others(
    enter: Type, here: Path, site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("UV_OFFLINE", "1")
    site.install("acme-moon", plugins={"moon": "acme_moon"}, modules={"acme_moon": MOON})
    built = wheel(here, "acme-billing", "2.1")
    (here / "agents.toml").write_text(
        f'[defaults]\nplacement = "moon"\n[agents.good]\nenvironment = {{ requirements = ["./{built.name}"] }}\n'
        '[agents.bad]\nenvironment = { requirements = ["acme-none==1"] }\n'
    )
    ended = enter("check")
    assert ended.code == 1
    assert "agent 'bad' (acme-none==1) failed to load: its environment cannot be made: uv: No solution" in ended.err
    assert "\ngood: environment acme-billing-2-" in "\n" + ended.err
    assert ended.err.endswith("agents.toml: 1 problem; 1 of 2 agents load\n")
