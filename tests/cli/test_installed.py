"""What commands say of what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenthost.cli.installed import agent_plugins, config_or_default, label, not_installed, on_offer, what_to_add
from agenthost.config import default_config
from agenthost.errors import ConfigError, LoadError
from agenthost.finding import InstalledAgent
from tests.distributions import Site

ACME = InstalledAgent("acme", "acme-agents", "1.2", "acme:agent")


def test_agents_by_entry_point_and_by_hook_are_on_offer_in_the_order_of_their_names(site: Site):
    site.install("zz-code", "0.3", plugins={"zz": "zz_code"}, modules={"zz_code": HOOK})
    site.install("yy-meta", "0.2", agents={"zb": "yy_meta:agent"})
    offers = on_offer(agent_plugins(default_config({})))
    mine = [(offer.name, label(offer)) for offer in offers if offer.name.startswith("z")]
    assert mine == [("za", "zz-code 0.3"), ("zb", "yy-meta 0.2")]


HOOK = """
from agenthost import hookimpl

async def agent(ctx):
    yield "x"

@hookimpl
def register_agents(register):
    register("za", agent)
"""


def test_a_file_that_was_named_has_to_be_there(here: Path, monkeypatch: pytest.MonkeyPatch):
    assert config_or_default(None).path is None
    with pytest.raises(ConfigError, match="no such file"):
        config_or_default(Path("mine.toml"))
    monkeypatch.setenv("AGENTHOST_CONFIG", "theirs.toml")
    with pytest.raises(ConfigError, match="named by AGENTHOST_CONFIG"):
        config_or_default(None)


def test_the_line_to_add_names_an_agent_that_can_be_served():
    bad = InstalledAgent("a-bad-one", "bad", "1", "bad:agent", problem=LoadError("its distribution is blocked"))
    assert what_to_add([bad, ACME]) == ("installed: acme (acme-agents 1.2)", "agenthost add acme")


def test_of_many_only_some_are_told():
    many = [InstalledAgent(f"a{number}", "many", "1", "m:a") for number in range(12)]
    what, _line = what_to_add(many)
    assert what.endswith("a9 (many 1), and 2 more (`agenthost list`)")


def test_where_nothing_is_installed_it_says_what_to_install():
    what, line = what_to_add([])
    assert what == "no agent is installed"
    assert line == (
        "pip install agenthost-echo, then `agenthost add echo`; "
        "or `agenthost dev FILE.py:OBJECT` for an agent in a file"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("acne", "did you mean 'acme'?, or pip install its distribution, or say where it is: agenthost add acne"),
        ("xyz", "pip install its distribution, or say where it is: agenthost add xyz"),
    ],
)
def test_a_name_that_is_not_installed_is_answered_with_the_nearest(name: str, hint: str):
    assert not_installed(name, [ACME]).describe() == (
        f"no agent '{name}' is installed\n  → {hint} --use module:attribute"
    )
