"""The models: every key is described, and code may build what the file would."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agenthost.config import (
    AgentConfig,
    AuthConfig,
    Config,
    EnvironmentConfig,
    KeyConfig,
    PluginsConfig,
    ServerConfig,
    StoreConfig,
)
from agenthost.config.keys import INNER, ONE_AGENTS_OWN, SECTIONS, known_keys


@pytest.mark.parametrize(
    "section", [ServerConfig, StoreConfig, AuthConfig, KeyConfig, PluginsConfig, AgentConfig, *INNER.values()]
)
def test_every_key_has_a_description_that_is_a_sentence(section):
    for name, field in section.model_fields.items():
        if name != "keys":
            assert field.description[0].isupper() or field.description[0] == "`", name
            assert field.description.endswith("."), name


def test_the_sections_are_the_fields_of_the_configuration():
    assert [*SECTIONS, "path", "files", "base_dir"] == list(Config.model_fields)


def test_defaults_take_what_is_not_one_agents_own():
    assert set(known_keys("agents")) - set(known_keys("defaults")) == set(ONE_AGENTS_OWN)


def test_code_may_build_a_configuration_with_the_values_of_the_file_or_plain_numbers():
    config = Config(agents={"a": AgentConfig(timeout="5m"), "b": AgentConfig(timeout=0.5)}, server=ServerConfig(port=0))
    assert [agent.timeout for agent in config.agents.values()] == [300.0, 0.5]
    key = KeyConfig(id="k", principal="p", secret="0123456789abcdef", agents=["*"])
    assert key.agents == ("*",)
    assert "0123456789abcdef" not in repr(Config(auth=AuthConfig(keys=(key,))))


def test_a_validation_error_shows_no_value():
    with pytest.raises(ValidationError) as caught:
        KeyConfig(id="k", principal="p", secret="too-short", agents=["*"])
    assert "too-short" not in str(caught.value)


@pytest.mark.parametrize("proof", [{}, {"secret": "0123456789abcdef", "sha256": "a" * 64}])
def test_a_key_has_either_a_secret_or_a_digest(proof):
    with pytest.raises(ValidationError, match="a key has either secret or sha256"):
        KeyConfig(id="k", principal="p", agents=["*"], **proof)


def test_an_environment_is_built_in_code_as_in_the_file():
    agent = AgentConfig(environment=EnvironmentConfig(requirements=["acme-billing==2.1"]))
    assert agent == AgentConfig.model_validate({"environment": {"requirements": ("acme-billing==2.1",)}})
    assert known_keys("environment") == ("requirements", "lock", "venv")


@pytest.mark.parametrize(("given", "told"), [({}, "an empty table"), ({"lock": "a", "venv": "b"}, "lock and venv")])
def test_an_environment_is_made_in_one_way(given, told):
    with pytest.raises(ValidationError, match=f"write one of requirements, lock and venv, not {told}"):
        EnvironmentConfig(**given)
