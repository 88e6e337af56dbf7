"""What the plugin registers, without importing Locus, and which objects it takes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from unittest.mock import MagicMock

import pytest
from agenthost_locus.recognising import accepts_keyword, is_of_locus, is_runnable
from locus.multiagent.graph import StateGraph
from locus.multiagent.swarm import Swarm
from locus.server import GraphRunnable
from locus_doubles import agent

from agenthost import RunContext

pytestmark = pytest.mark.framework

LISTED = """
import sys
import agenthost_locus

registered = []
agenthost_locus.register_adapters(lambda name, adapt, modules, accepts: registered.append((name, *modules)))
print(registered, "locus" in sys.modules)
"""


def test_the_plugin_is_loaded_without_locus() -> None:
    told = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=True).stdout
    assert told == "[('locus', 'locus'), ('locus-runnable', '*')] False\n"


class Named:
    async def run(self, prompt: str, *, thread_id: Any = None, metadata: Any = None) -> Any:
        yield prompt


class Loose:
    async def run(self, prompt: str, **options: Any) -> Any:
        yield prompt


class OfTheHost:
    async def run(self, ctx: RunContext, **options: Any) -> Any:
        yield ctx.prompt


class WithoutThreads:
    async def run(self, prompt: str) -> Any:
        yield prompt


def test_what_runs_as_locus_does_is_taken() -> None:
    graph = StateGraph(name="steps")
    for found in (agent(), GraphRunnable(graph), graph):
        assert is_of_locus(found)
    for found in (Named(), Loose(), MagicMock()):
        assert is_runnable(found)


def test_nothing_else_is() -> None:
    for found in (OfTheHost(), WithoutThreads(), Named, Named().run, 5, object()):
        assert not is_runnable(found)
    assert not is_of_locus(Swarm())


def test_whether_a_function_takes_a_keyword() -> None:
    assert accepts_keyword(lambda *, stream_tokens=False: None, "stream_tokens")
    assert accepts_keyword(lambda **options: None, "stream_tokens")
    assert not accepts_keyword(lambda prompt: None, "stream_tokens")
    assert not accepts_keyword(1, "stream_tokens")
