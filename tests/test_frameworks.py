"""Objects of known frameworks without their adapter: what is said, and that nobody else's object is taken for one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthost.adapters import adapt
from agenthost.agents import AgentSource, AgentSpec
from agenthost.errors import LoadError
from agenthost.frameworks import ADAPTERS
from agenthost.hookspecs import Adapter
from tests.distributions import Site
from tests.house.tree import PLUGINS

GRAPH = {
    "acme_graphs/__init__.py": "",
    "acme_graphs/graphs.py": "class Graph:\n    def run(self, prompt):\n        return prompt\n",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setitem(ADAPTERS, "acme_graphs", ("acme-graphs", "agenthost-acme-graphs"))
    with Site(tmp_path / "site") as made:
        yield made


def graph() -> Any:
    return importlib.import_module("acme_graphs.graphs").Graph()


def refused(found: Any) -> LoadError:
    source = AgentSource("app.py:graph", lambda: found)
    with pytest.raises(LoadError) as raised:
        adapt(found, AgentSpec(name="mine", source=source))
    return raised.value


def test_an_object_of_a_framework_without_its_adapter_is_refused_with_the_line_to_type(site: Site) -> None:
    site.install("acme-graphs", "3.0.1", modules=GRAPH)
    error = refused(graph())
    assert error.message == "agent 'mine' (app.py:graph) is a Graph of acme-graphs and needs an adapter"
    assert error.hint == "pip install agenthost-acme-graphs"


def test_an_adapter_that_is_there_and_takes_it_not_is_named(site: Site) -> None:
    site.install("acme-graphs", "3.0.1", modules=GRAPH)
    site.install("agenthost-acme-graphs", "0.1.0")
    hint = "agenthost-acme-graphs is installed and takes no such object, or did not load: `agenthost plugins` tells"
    assert refused(graph()).hint == hint


def test_an_object_that_an_adapter_claims_is_its(site: Site) -> None:
    site.install("acme-graphs", "3.0.1", modules=GRAPH)

    async def agent(ctx: Any) -> str:
        return str(ctx.prompt)

    spec = AgentSpec(name="mine", source=AgentSource("app.py:graph", graph))
    assert adapt(graph(), spec, [Adapter("acme_graphs", ("acme_graphs",), lambda _found: agent)]).once is agent


def test_ones_own_module_of_a_frameworks_name_is_ones_own(site: Site) -> None:
    site.write(GRAPH)
    source = AgentSource("app.py:graph", graph)
    assert adapt(graph(), AgentSpec(name="mine", source=source)).info.title == ""


def test_there_is_a_distribution_in_this_repository_for_each() -> None:
    assert {adapter for _framework, adapter in ADAPTERS.values()} <= {path.name for path in PLUGINS.iterdir()}
