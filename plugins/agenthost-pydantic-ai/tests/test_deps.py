"""An agent's dependencies: made for each run, and put away with it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from agenthost_pydantic_ai import serve
from pydantic_ai import Agent
from pydantic_ai import RunContext as ToolContext
from pydantic_ai_doubles import call, context, model, of, returns, text_of, told

from agenthost import RunContext

pytestmark = pytest.mark.framework


@dataclass
class Deps:
    """What the tools of these tests need."""

    user: str


def agent_with_deps(deps_type: Any = Deps, show: Callable[[Any], str] = lambda deps: deps.user) -> Agent[Any, Any]:
    """An agent that says what its tool finds in its dependencies."""
    agent: Agent[Any, Any] = Agent(
        model(lambda messages: [str(returns(messages)["c"])] if returns(messages) else [call("who", "c")]),
        deps_type=deps_type,
    )

    @agent.tool
    def who(ctx: ToolContext[Any]) -> str:
        return show(ctx.deps)

    return agent


def plainly(ctx: RunContext) -> Deps:
    return Deps(ctx.principal.id)


async def awaited(ctx: RunContext) -> Deps:
    await asyncio.sleep(0)
    return Deps(ctx.principal.id)


@asynccontextmanager
async def within(ctx: RunContext) -> AsyncIterator[Deps]:
    yield Deps(ctx.principal.id)


async def yielded(ctx: RunContext) -> AsyncIterator[Deps]:
    yield Deps(ctx.principal.id)


@pytest.mark.parametrize("make", [plainly, awaited, within, yielded], ids=lambda make: make.__name__)
def test_a_function_makes_them_for_each_run(make: Any) -> None:
    assert text_of(of(str, told(serve(agent_with_deps(), deps=make)))) == "ann"


def test_they_are_put_away_when_the_run_ends_however_it_ends() -> None:
    put_away: list[str] = []

    @asynccontextmanager
    async def make(ctx: RunContext) -> AsyncIterator[Deps]:
        try:
            yield Deps(ctx.prompt)
        finally:
            put_away.append(ctx.prompt)

    def fail(_deps: Deps) -> str:
        raise KeyError("broken")

    async def left_early() -> None:
        served = serve(agent_with_deps(), deps=make)
        events = served.run(context(served, "left early"))
        await anext(events)
        await events.aclose()

    told(serve(agent_with_deps(), deps=make), "done")
    with pytest.raises(KeyError):
        told(serve(agent_with_deps(show=fail), deps=make), "failed")
    asyncio.run(left_early())
    assert put_away == ["done", "failed", "left early"]


class Shared:
    """A client that outlives a run, and happens to be a context manager."""

    closed = False

    async def __aenter__(self) -> Shared:
        raise AssertionError("nobody has said that a run may enter it")

    async def __aexit__(self, *raised: object) -> None:
        self.closed = True


def test_what_a_plain_function_returns_is_not_entered() -> None:
    shared = Shared()
    served = serve(agent_with_deps(Shared, lambda deps: f"closed: {deps.closed}"), deps=lambda ctx: shared)

    assert text_of(of(str, told(served))) == "closed: False"


def test_an_agent_may_take_the_hosts_context_itself() -> None:
    assert text_of(of(str, told(agent_with_deps(RunContext, lambda ctx: f"{ctx.agent} for {ctx.principal.id}")))) == (
        "app for ann"
    )


APP = """
from dataclasses import dataclass
from pydantic_ai import Agent, RunContext
from pydantic_ai_doubles import call, model, returns

@dataclass
class Deps:
    region: str

def say(messages):
    return [returns(messages)["c"]] if returns(messages) else [call("where", "c")]

agent = Agent(model(say), deps_type=Deps)

@agent.tool
def where(ctx: RunContext[Deps]) -> str:
    return ctx.deps.region
"""

MAKE = """
from types import SimpleNamespace

def make(ctx):
    return SimpleNamespace(region=f"eu for {ctx.principal.id}")
"""


def test_agents_toml_can_name_the_function_so_that_the_agent_stays_as_it_is(served: Any, tmp_path: Path) -> None:
    (tmp_path / "deps_of_a_test.py").write_text(MAKE)
    client = served(APP, settings='{ deps = "deps_of_a_test:make" }')

    assert client.post("/agents/app/invoke", json={"prompt": "x"}).json()["message"].startswith("eu for ")


def test_an_agent_that_takes_deps_says_at_load_that_nobody_makes_them(served: Any) -> None:
    reason = served(APP).get("/health").json()["agents"]["app"]["reason"]

    assert (
        'the agent takes deps of type Deps: say deps = "module:function" here, or offer serve(agent, deps=function) of '
        "agenthost_pydantic_ai instead of the agent" in reason
    )


@pytest.mark.parametrize(
    ("deps_type", "name"),
    [(dict[str, str], "dict[str, str]"), (int | str, "int | str"), (Annotated[int, []], "Annotated[int, []]")],
)
def test_deps_may_be_of_a_type_that_is_no_class(deps_type: Any, name: str) -> None:
    served = serve(Agent("test", deps_type=deps_type))
    with pytest.raises(ValueError, match=re.escape(f"{name}: say deps =")):
        served.Settings()
    assert serve(Agent("test", deps_type=deps_type), deps=lambda ctx: 1).Settings().deps is None


@pytest.mark.parametrize("deps_type", [type(None), object, Any, Shared | None, Optional[Shared]])  # noqa: UP045 - a kind of its own
def test_deps_that_may_be_none_need_nobody_to_make_them(deps_type: Any) -> None:
    assert serve(Agent("test", deps_type=deps_type)).Settings().deps is None
