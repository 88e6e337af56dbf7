"""`register_agents(register, config)`: agents by code."""

from __future__ import annotations

import pytest

from agenthost.distributions import AGENT_NAME_RULE
from tests.hooks.conftest import Install

REGISTER = "@hookimpl\ndef register_agents(register):\n    register({})\n"


def test_agents_are_offered_by_name_with_their_distribution(load: Install) -> None:
    plugins = load(
        "@hookimpl\ndef register_agents(register, config):\n"
        "    for region in ('eu', 'us'):\n        register(f'support-{region}', config.word)\n"
    )
    assert list(plugins.agents) == ["support-eu", "support-us"]
    (registered,) = plugins.agents["support-eu"]
    assert (registered.value, registered.name, registered.plugin) == ("from the configuration", "support-eu", "one")
    assert registered.label == "acme-one 1.0"


def test_two_plugins_may_offer_one_name_because_agents_toml_chooses(load: Install) -> None:
    plugins = load(REGISTER.format("'search', 1"), REGISTER.format("'search', 2"))
    assert [registered.distribution for registered in plugins.agents["search"]] == ["acme-one", "acme-two"]
    assert plugins.problems == []


@pytest.mark.parametrize("name", ["Support", "support_eu", "-x", "", "a" * 64, "a/b", "naïve", "x\n"])
def test_a_bad_name_fails_the_hook(name: str, load: Install) -> None:
    plugins = load(REGISTER.format(f"{name!r}, object()"))
    (problem,) = plugins.problems
    assert problem.hook == "register_agents"
    assert problem.error.message == (
        f"plugin 'one' (acme-one 1.0) failed in register_agents: ValueError: {name!r}: {AGENT_NAME_RULE}"
    )


def test_no_agent_at_all_fails_the_hook(load: Install) -> None:
    (problem,) = load(REGISTER.format("'x', None")).problems
    assert problem.error.message.endswith("TypeError: an agent is any object but None, not NoneType")


def test_a_failure_leaves_the_other_plugins_agents(load: Install) -> None:
    plugins = load("@hookimpl\ndef register_agents(register):\n    1 / 0\n", REGISTER.format("'well', 1"))
    assert list(plugins.agents) == ["well"]
    assert plugins.authenticator_problem is None
