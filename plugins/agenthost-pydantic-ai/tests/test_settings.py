"""What agents.toml says of an agent: checked at load, and handed to each run."""

from __future__ import annotations

from typing import Any

import pytest
from agenthost_pydantic_ai.settings import Settings, settings_for
from pydantic_ai import Agent
from pydantic_ai_doubles import model, of, told

pytestmark = pytest.mark.framework

APP = """
from pydantic_ai import Agent
from pydantic_ai_doubles import model

SEEN = []

def say(messages):
    info = SEEN.pop()
    return [f"{messages[-1].instructions} | {dict(info.model_settings or {})}"]

agent = Agent(model(say, SEEN), instructions="Be kind.", model_settings={"temperature": 1.0, "seed": 7})
"""


def test_instructions_are_added_and_model_settings_go_over_the_agents(served: Any) -> None:
    settings = '{ instructions = "Be brief.", model_settings = { temperature = 0.5, openai_user = "ann" } }'
    message = served(APP, settings=settings).post("/agents/app/invoke", json={"prompt": "x"}).json()["message"]

    instructions, _, said = message.partition(" | ")
    assert instructions.split() == ["Be", "kind.", "Be", "brief."]
    assert said == "{'temperature': 0.5, 'seed': 7, 'openai_user': 'ann'}"


def test_a_model_is_found_by_its_name(served: Any) -> None:
    client = served(APP, settings='{ model = "test" }')

    assert client.post("/agents/app/invoke", json={"prompt": "x"}).json()["message"] == "success (no tool calls)"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ('{ modle = "test" }', "settings: unknown key 'modle'; did you mean 'model'?"),
        ("{ colour = 1 }", "settings: unknown key 'colour'"),
        (
            "{ model_settings = { temprature = 1 } }",
            "model_settings: unknown key 'temprature'; did you mean 'temperature'?",
        ),
        ("{ model_settings = { colour = 1 } }", "model_settings: unknown key 'colour'"),
        ("{ model_settings = 3 }", "model_settings: Input should be a valid dictionary"),
        (
            "{ usage_limits = { requests_limit = 1 } }",
            "usage_limits: unknown key 'requests_limit'; did you mean 'request_limit'?",
        ),
        (
            '{ usage_limits = { request_limit = "many" } }',
            "usage_limits.request_limit: Input should be a valid integer, unable to parse string as an integer",
        ),
        ('{ instructions = ["a"] }', "instructions: Input should be a valid string"),
        ('{ model = "nobody:m" }', "model: cannot use 'nobody:m': Unknown "),
        ('{ deps = "nowhere:make" }', "deps: cannot import 'nowhere:make': No module"),
        ('{ deps = "json:make" }', "deps: cannot import 'json:make': module 'json'"),
        ('{ deps = "json" }', "deps: 'json' is not of the form module:function"),
        ('{ deps = "sys:path" }', "deps: Input should be callable"),
        ('{ urls = "perhaps" }', "urls: Input should be a valid boolean"),
    ],
)
def test_a_mistake_is_shown_at_load(served: Any, settings: str, problem: str) -> None:
    client = served(APP, settings=settings)
    reason = client.get("/health").json()["agents"]["app"]["reason"]

    assert f"agent 'app' (app.py:agent) does not accept its settings: {problem}" in reason


def test_a_model_that_lacks_its_package_or_key_is_shown_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"cannot use 'groq:llama': (Please install|Set the `GROQ_API_KEY`)"):
        Settings(model="groq:llama")


def test_nothing_has_to_be_said() -> None:
    assert Settings().model is None
    assert settings_for(object, None) is Settings


def test_limits_hold_for_each_run() -> None:
    agent = Agent(model(lambda messages: ["ok"]))

    assert of(str, told(agent, settings={"usage_limits": {"request_limit": 1}})) == ["ok"]
    assert of(str, told(agent, settings={"usage_limits": {"request_limit": 1}})) == ["ok"]
