"""What `settings` in agents.toml does to a run, and what it refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from agenthost_openai_agents import is_sdk_agent, serve
from agenthost_openai_agents.settings import AgentSettings
from agents import (
    Agent,
    ModelProvider,
    ModelSettings,
    RunConfig,
    Runner,
    function_tool,
    set_trace_processors,
)
from agents.run import CallModelData, ModelInputData
from agents.tracing import TracingProcessor
from openai_doubles import ScriptedModel, Thread, call, outputs_of, scripted

pytestmark = pytest.mark.framework


def told(agent: Any, settings: AgentSettings, **more: Any) -> dict[str, Any]:
    """What the model was told with the first call of a run."""
    asyncio.run(Thread(serve(agent, **more), settings).run("?"))
    found: dict[str, Any] = agent.model.told[-1]
    return found


def test_instructions_take_the_place_of_the_served_agents_own() -> None:
    agent = scripted(lambda items: ["ok"], instructions="Be long.")
    assert told(agent, AgentSettings())["system_instructions"] == "Be long."
    assert told(agent, AgentSettings(instructions="Be brief."))["system_instructions"] == "Be brief."


def test_instructions_are_not_those_of_the_agents_it_hands_over_to() -> None:
    other = scripted(lambda items: ["ok"], name="other", instructions="Be other.")
    agent = scripted(lambda items: [call("transfer_to_other", "c")], handoffs=[other])
    assert told(agent, AgentSettings(instructions="Be brief."))["system_instructions"] == "Be brief."
    assert other.model.told[-1]["system_instructions"] == "Be other."  # type: ignore[union-attr]


def test_the_authors_own_filter_comes_after_the_instructions() -> None:
    def louder(data: CallModelData[Any]) -> ModelInputData:
        return ModelInputData(input=data.model_data.input, instructions=f"{data.model_data.instructions}!")

    agent = scripted(lambda items: ["ok"])
    settings = AgentSettings(instructions="Be brief")
    config = RunConfig(call_model_input_filter=louder)
    assert told(agent, settings, run_config=config)["system_instructions"] == "Be brief!"


def test_model_settings_come_on_top_of_the_agents_and_the_authors() -> None:
    agent = scripted(lambda items: ["ok"], model_settings=ModelSettings(temperature=1.0, top_p=0.5))
    config = RunConfig(model_settings=ModelSettings(max_tokens=10))
    settings = AgentSettings(model_settings={"temperature": 0.25, "reasoning": {"effort": "low"}})
    given = told(agent, settings, run_config=config)["model_settings"]
    assert (given.temperature, given.top_p, given.max_tokens, given.reasoning.effort) == (0.25, 0.5, 10, "low")


def test_a_model_by_name_is_that_of_every_agent_of_the_run() -> None:
    models: dict[str, ScriptedModel] = {}

    class Models(ModelProvider):
        def get_model(self, model_name: str | None) -> ScriptedModel:
            return models.setdefault(str(model_name), ScriptedModel(lambda items: ["by name"]))

    agent = scripted(lambda items: ["its own"])
    served = serve(agent, run_config=RunConfig(model_provider=Models()))
    asyncio.run(Thread(served, AgentSettings(model="gpt-5-mini")).run("?"))
    assert list(models) == ["gpt-5-mini"]
    assert agent.model.asked == []  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('{ modell = "x" }', "unknown key 'modell'; did you mean 'model'?"),
        ("{ max_turns = 0 }", "'max_turns' must be at least 1"),
        ('{ max_turns = "3" }', "'max_turns' must be int, not str"),
        ('{ api = "soap" }', "'api' must be one of responses, chat_completions"),
        ("{ model_settings = 1 }", "'model_settings' must be a table"),
        (
            "{ model_settings = { temprature = 1 } }",
            "unknown key 'model_settings.temprature'; did you mean 'temperature'?",
        ),
        (
            '{ model_settings = { temperature = "hot" } }',
            "'model_settings.temperature': Input should be a valid number, unable to parse string as a number",
        ),
    ],
)
def test_a_setting_that_is_wrong_is_told_when_the_agent_loads(served: Any, settings: str, said: str) -> None:
    client = served('from agents import Agent\nagent = Agent(name="x")\n', settings=settings)
    reason = client.get("/health").json()["agents"]["app"]["reason"]
    assert f"agent 'app' (app.py:agent) does not accept its settings: {said}" in str(reason)


def test_a_key_is_not_shown() -> None:
    assert "sk-123" not in repr(AgentSettings(api_key="sk-123"))


def test_a_factory_with_settings_of_its_own_runs_with_the_defaults(served: Any) -> None:
    client = served(FACTORY, settings='{ word = "mine" }')
    assert client.post("/agents/app/invoke", json={"prompt": "?"}).json()["message"] == "mine"


FACTORY = """
from dataclasses import dataclass

from openai_doubles import scripted

from agenthost import agent as marked


@dataclass
class Mine:
    word: str


@marked(settings=Mine)
def agent(settings):
    return scripted(lambda items: [settings.word])
"""


# ── traces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Traces(TracingProcessor):
    """Notes every trace and span that would have been sent."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_trace_start(self, trace: Any) -> None:
        self.seen.append(trace.name)

    def on_trace_end(self, trace: Any) -> None:
        """Nothing more."""

    def on_span_start(self, span: Any) -> None:
        self.seen.append(type(span.span_data).__name__)

    def on_span_end(self, span: Any) -> None:
        """Nothing more."""

    def shutdown(self) -> None:
        """Nothing to close."""

    def force_flush(self) -> None:
        """Nothing to send."""


@pytest.fixture
def traces() -> Iterator[Traces]:
    """The only place where traces go; afterwards they go nowhere."""
    found = Traces()
    set_trace_processors([found])
    yield found
    set_trace_processors([])


def test_nothing_is_traced_unless_the_settings_say_so(traces: Traces) -> None:
    inner = scripted(lambda items: ["inner"], name="inner")

    @function_tool
    async def by_itself() -> str:
        """Run an agent as one would outside of a run."""
        return str((await Runner.run(inner, "?")).final_output)

    def answer(items: list[Any]) -> list[Any]:
        return ["ok"] if outputs_of(items) else [call("by_itself", "a"), call("inner", "b", input="?")]

    agent = scripted(answer, tools=[by_itself, inner.as_tool("inner", "Another agent.")])
    told(agent, AgentSettings())
    assert traces.seen == []
    assert len(inner.model.asked) == 2  # type: ignore[union-attr]
    told(agent, AgentSettings(), run_config=RunConfig(workflow_name="mine"))
    assert traces.seen == []
    told(agent, AgentSettings(tracing=True), run_config=RunConfig(workflow_name="mine"))
    assert traces.seen[0] == "mine"
    traces.seen.clear()
    told(agent, AgentSettings(tracing=True), run_config=RunConfig(tracing_disabled=True))
    assert traces.seen == []


# ── the plugin ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_plugin_is_found_and_does_not_import_the_sdk() -> None:
    (entry_point,) = entry_points(group="agenthost.plugins", name="openai-agents")
    assert entry_point.value == "agenthost_openai_agents"
    code = "import sys, agenthost_openai_agents\nassert not {'agents', 'openai', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_the_sdks_own_class_is_taken() -> None:
    class Sub(Agent[Any]):
        """One of the author's own."""

    namesake = type("Agent", (), {"__module__": "agents.agent", "__qualname__": "Agent"})
    assert is_sdk_agent(Agent(name="x"))
    assert is_sdk_agent(Sub(name="x"))
    assert not is_sdk_agent(namesake())
    assert not is_sdk_agent(Agent)
    assert not is_sdk_agent(ModelSettings())


def test_the_card_has_the_agents_name_and_what_it_says_of_itself_and_no_instructions(served: Any) -> None:
    client = served(
        'from agents import Agent\nagent = Agent(name="Ann", handoff_description="Knows all.", instructions="Hush.")\n'
    )
    card = client.get("/agents/app")
    assert (card.json()["title"], card.json()["description"]) == ("Ann", "Knows all.")
    assert "Hush" not in card.text
