"""What is installed, and what an agent's `use` stands for, as a worker finds it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthost.config import Config
from agenthost.errors import LoadError
from agenthost.finding import find_source, installed, unloadable
from agenthost.importing import Importer
from agenthost.plugins import Plugins
from tests.distributions import Site

AGENT = "async def agent(ctx):\n    yield 'hello'\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


def plugins_of(site: Site) -> Plugins:
    plugins = Plugins()
    plugins.load(Config(base_dir=site.folder), importer=Importer(1.0))
    return plugins


def test_what_is_installed_is_listed_without_being_imported(site: Site) -> None:
    site.install("acme-echo", "2.1", agents={"acme-echo": "acme_echo:agent"}, modules={"acme_echo": "raise SystemExit"})
    site.install("acme-bad", agents={"Acme Bad": "m:agent"})
    site.install("acme-blocked", agents={"acme-blocked": "m:agent"})
    listed = {agent.name: agent for agent in installed(["ACME_blocked"]) if "acme" in agent.distribution}
    echo = listed["acme-echo"]
    assert (echo.distribution, echo.version, echo.value) == ("acme-echo", "2.1", "acme_echo:agent")
    assert (echo.summary, echo.problem) == ("acme-echo for tests", None)
    assert str(listed["Acme Bad"].problem).startswith(
        "agent 'Acme Bad' (acme-bad 1.0) cannot be served: an agent's name"
    )
    blocked = "agent 'acme-blocked' (acme-blocked 1.0) cannot be served: its distribution is blocked"
    assert str(listed["acme-blocked"].problem) == blocked


# ── environments of agents' own ───────────────────────────────────────────────────────────────────────────────────────


def test_a_source_is_found_again_by_its_use(site: Site) -> None:
    site.install("acme-find", agents={"find": "acme_find:agent"}, modules={"acme_find": AGENT})
    site.write({"found_here": AGENT})
    plugins = plugins_of(site)
    found = find_source("mine", "acme-find:find", plugins, site.folder)
    assert (found.distribution, found.version, found.load().__name__) == ("acme-find", "1.0", "agent")
    assert find_source("mine", "found_here.py:agent", plugins, site.folder).load().__name__ == "agent"


def test_a_source_that_is_not_there_is_refused(site: Site) -> None:
    with pytest.raises(LoadError, match=r"^agent 'mine' is not installed: nothing that is installed is called 'gone'"):
        find_source("mine", "gone", plugins_of(site), site.folder)


def test_to_load_what_cannot_be_loaded_raises_why() -> None:
    problem = LoadError("no", distribution="acme", version="1.0")
    source = unloadable("acme:agent", problem)
    assert (source.use, source.distribution, source.version) == ("acme:agent", "acme", "1.0")
    with pytest.raises(LoadError) as raised:
        source.load()
    assert raised.value is problem
