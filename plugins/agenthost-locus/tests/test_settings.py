"""`settings` in agents.toml: what they change, for whom, and what they may not be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from locus.testing import FunctionModel
from locus_doubles import Agent, Thread, adapt

pytestmark = pytest.mark.framework

APP = """
from locus.agent import Agent
from locus.testing import FunctionModel

class Tells(FunctionModel):
    async def complete(self, messages, tools=None, **options):
        self.options = options
        return await super().complete(messages, tools, **options)

model = Tells(lambda messages, tools: f"{messages[0].content} {sorted(model.options.items())}")
agent = Agent(model=model, system_prompt="As written.", name="Teller")
"""


def test_settings_take_the_place_of_the_agents_own(served: Callable[..., Any]) -> None:
    settings = '{ instructions = "As set.", temperature = 0.0, max_tokens = 9, model_kwargs = { seed = 7 } }'
    client = served(APP, settings=settings)
    reply = client.post("/agents/app/invoke", json={"prompt": "x"}).json()
    assert reply["message"] == "As set. [('max_tokens', 9), ('seed', 7), ('temperature', 0.0)]"
    assert client.get("/agents/app/").json()["title"] == "Teller"


def test_without_settings_the_agent_is_served_as_it_is(served: Callable[..., Any]) -> None:
    reply = served(APP).post("/agents/app/invoke", json={"prompt": "x"}).json()
    assert reply["message"] == "As written. []"


def test_one_agent_is_served_twice_with_settings_of_each_name() -> None:
    async def main() -> None:
        locus_agent = Agent(model=FunctionModel(lambda messages, _: messages[0].content or ""), system_prompt="own")
        plain, changed = adapt(locus_agent), adapt(locus_agent)
        settings = changed.Settings(instructions="set")
        assert (await Thread(changed, settings=settings).run("x"))[-1].message == "set"
        assert (await Thread(plain).run("x"))[-1].message == "own"
        assert locus_agent.config.system_prompt == "own"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ('{ instructons = "x" }', "unknown key 'instructons'; did you mean 'instructions'?"),
        ('{ max_iterations = "3" }', "'max_iterations' must be int, not str"),
        ('{ temperature = "warm" }', "'temperature' is a number"),
        ('{ approvals = "anybody" }', "'approvals' is 'caller' or 'elsewhere'"),
    ],
)
def test_a_mistake_is_told(served: Callable[..., Any], settings: str, problem: str, caplog: Any) -> None:
    assert served(APP, settings=settings).get("/agents/app/health").status_code == 503
    assert problem in caplog.text
