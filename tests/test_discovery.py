"""From agents.toml, entry points and hooks to the agents that are asked for, each with its source or its problem."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import AgentSpec
from agenthost.config import Config
from agenthost.discovery import discover
from agenthost.errors import LoadError
from agenthost.importing import Importer
from agenthost.plugins import Plugins
from tests.distributions import GATE, Site

AGENT = "async def agent(ctx):\n    yield 'hello'\n"
BY_CODE = "from agenthost import hookimpl\n@hookimpl\ndef register_agents(register):\n    register({!r}, 'by code')\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


def plugins_of(config: Config, patience: float = 1.0, **options: Any) -> Plugins:
    plugins = Plugins(config.plugins.block)
    plugins.load(config, importer=Importer(patience), **options)
    return plugins


def specs(site: Site, agents: dict[str, dict[str, Any]], **sections: Any) -> dict[str, AgentSpec]:
    config = Config.model_validate({"agents": agents, "base_dir": site.folder, **sections})
    return {spec.name: spec for spec in discover(config, plugins_of(config))}


def spec(site: Site, name: str, use: str | None = None, **sections: Any) -> AgentSpec:
    return specs(site, {name: {"use": use} if use else {}}, **sections)[name]


def problem(found: AgentSpec) -> LoadError:
    assert isinstance(found.problem, LoadError)
    with pytest.raises(LoadError) as raised:
        found.source.load()
    assert raised.value is found.problem
    return found.problem


def load_error(found: AgentSpec) -> LoadError:
    assert found.problem is None
    with pytest.raises(LoadError) as raised:
        found.source.load()
    return raised.value


def test_an_agent_is_the_entry_point_of_its_name_and_is_imported_only_by_load(site: Site) -> None:
    site.install("acme-echo", "2.1", agents={"parrot": "acme_echo:agent"}, modules={"acme_echo": AGENT})
    found = spec(site, "parrot")
    assert "acme_echo" not in sys.modules
    assert (found.source.use, found.source.distribution, found.source.version) == ("parrot", "acme-echo", "2.1")
    assert found.source.label == "acme-echo 2.1"
    assert found.source.load() is import_module("acme_echo").agent


def test_use_names_another_entry_point_and_one_may_be_served_twice(site: Site) -> None:
    site.install("acme-echo", agents={"parrot": "acme_echo:agent"}, modules={"acme_echo": AGENT})
    found = specs(
        site,
        {
            "one": {"use": "parrot", "settings": {"loud": True}},
            "two": {"use": "acme_echo:parrot", "settings": {"loud": False}},
        },
    )
    assert {name: one.source.label for name, one in found.items()} == {"one": "acme-echo 1.0", "two": "acme-echo 1.0"}
    assert found["one"].source.load() is found["two"].source.load()
    assert [one.settings["loud"] for one in found.values()] == [True, False]


def test_a_distribution_is_named_as_pip_would_take_it(site: Site) -> None:
    site.install("Acme.Echo", agents={"echo": "acme_echo:agent"}, modules={"acme_echo": AGENT})
    assert spec(site, "mine", "acme-echo:echo").source.distribution == "Acme.Echo"


def test_a_distribution_with_that_entry_point_wins_over_a_module_with_that_attribute(site: Site) -> None:
    site.install("acme", agents={"agent": "acme_other:agent"}, modules={"acme_other": AGENT, "acme": AGENT})
    assert spec(site, "mine", "acme:agent").source.load() is import_module("acme_other").agent


def test_extras_of_an_entry_point_are_nothing_to_import(site: Site) -> None:
    site.install("acme-echo", agents={"parrot": "acme_echo:agent [fast]"}, modules={"acme_echo": AGENT})
    assert spec(site, "parrot").source.load() is import_module("acme_echo").agent


def test_a_module_or_a_file_needs_no_packaging(site: Site) -> None:
    site.write({"my_module": AGENT, "apps/app.py": AGENT})
    found = specs(site, {"one": {"use": "my_module:agent"}, "two": {"use": "apps/app.py:agent"}})
    assert [one.source.load().__name__ for one in found.values()] == ["agent", "agent"]
    assert [one.source.label for one in found.values()] == ["my_module:agent", "apps/app.py:agent"]
    assert found["one"].source.distribution is None


def test_agents_registered_by_code_are_found_by_name_and_by_distribution(site: Site) -> None:
    source = {"acme_support": BY_CODE.format("support-eu")}
    site.install("acme-support", plugins={"support": "acme_support"}, modules=source)
    found = specs(site, {"support-eu": {}, "mine": {"use": "acme-support:support-eu"}})
    assert [one.source.load() for one in found.values()] == ["by code", "by code"]
    assert found["mine"].source.label == "acme-support 1.0"


def test_every_key_of_an_agent_comes_through(site: Site) -> None:
    keys = {
        "title": "Billing",
        "description": "Answers",
        "owner": "finance",
        "required": False,
        "protocols": ["native"],
        "settings": {"model": "m"},
        "placement": "cluster",
        "timeout": "2m",
        "load_timeout": 5,
        "interrupt_ttl": 60,
        "concurrency": 7,
        "queue": 8,
        "on_busy_thread": "queue",
    }
    found = specs(site, {"billing": {"use": "my_module:agent", **keys}})["billing"]
    expected = keys | {"protocols": ("native",), "timeout": 120.0, "load_timeout": 5.0, "interrupt_ttl": 60.0}
    assert {key: getattr(found, key) for key in keys} == expected
    assert found.enabled
    assert found.problem is None


def test_agents_are_sorted_by_name(site: Site) -> None:
    assert list(specs(site, {"b": {}, "c": {}, "a": {}})) == ["a", "b", "c"]


def test_an_agent_that_is_switched_off_is_listed_and_need_not_be_there(site: Site) -> None:
    site.write({"my_module": "raise SystemExit"})
    found = specs(site, {"off": {"use": "my_module:agent", "enabled": False}, "gone": {"enabled": False}})
    assert [(one.enabled, one.problem) for one in found.values()] == [(False, None), (False, None)]
    assert "my_module" not in sys.modules


def test_two_distributions_that_claim_one_name_are_both_refused_and_both_named(site: Site) -> None:
    site.install("web-search", "0.3", agents={"search": "web_search:agent"}, modules={"web_search": AGENT})
    site.install("acme-search", "1.0", agents={"search": "acme_search:agent"}, modules={"acme_search": AGENT})
    assert problem(spec(site, "search")).describe() == (
        "two distributions claim agent 'search': acme-search 1.0, web-search 0.3\n"
        '  → choose one: [agents.search] use = "acme-search:search"'
    )
    assert spec(site, "search", "web-search:search").source.load() is import_module("web_search").agent


def test_the_line_that_settles_a_collision_names_the_agent_that_was_asked_for(site: Site) -> None:
    for distribution in ("acme-a", "acme-b", "acme-c"):
        site.install(distribution, agents={"search": "m:agent"})
    assert problem(spec(site, "find", "search")).describe() == (
        "three distributions claim agent 'search': acme-a 1.0, acme-b 1.0, acme-c 1.0\n"
        '  → choose one: [agents.find] use = "acme-a:search"'
    )


def test_an_entry_point_and_an_agent_by_code_collide_as_well(site: Site) -> None:
    site.install("acme-a", agents={"search": "m:agent"})
    site.install("acme-b", plugins={"b": "acme_b"}, modules={"acme_b": BY_CODE.format("search")})
    assert problem(spec(site, "search")).message == "two distributions claim agent 'search': acme-a 1.0, acme-b 1.0"


def test_one_distribution_that_offers_a_name_twice_is_told_so(site: Site) -> None:
    site.install(
        "acme", agents={"search": "m:agent"}, plugins={"acme": "acme_m"}, modules={"acme_m": BY_CODE.format("search")}
    )
    assert problem(spec(site, "search")).describe() == (
        "acme 1.0 offers agent 'search' two times\n"
        "  → an entry point and register_agents must not share a name, or set enabled = false under [agents.search]"
    )


def test_blocking_one_of_two_claims_settles_it(site: Site) -> None:
    site.install("acme-a", agents={"search": "m:agent"})
    site.install("acme-b", agents={"search": "m:agent"})
    found = spec(site, "search", plugins={"block": ["acme-a"]})
    assert found.problem is None
    assert found.source.distribution == "acme-b"


def test_an_agent_of_a_blocked_distribution_says_so(site: Site) -> None:
    site.install("acme-search", agents={"search": "m:agent"})
    error = problem(spec(site, "search", plugins={"block": ["acme_search"]}))
    assert error.describe() == (
        "agent 'search' (acme-search 1.0) cannot be served: its distribution is blocked\n"
        '  → take "acme-search" out of [plugins] block'
    )


def test_an_agent_that_is_not_installed_says_what_to_do(site: Site) -> None:
    error = problem(spec(site, "billing"))
    assert error.message == "agent 'billing' is not installed"
    assert error.hint == (
        'pip install its distribution, or say where it is: [agents.billing] use = "module:attribute", or '
        "set enabled = false under [agents.billing]"
    )


def test_an_agent_that_is_not_installed_is_compared_with_those_that_are(site: Site) -> None:
    site.install("acme-billing", agents={"billing": "m:agent"})
    error = problem(spec(site, "mine", "biling"))
    assert error.message == "agent 'mine' is not installed: nothing that is installed is called 'biling'"
    assert str(error.hint).startswith("did you mean 'billing'?, or pip install its distribution")


def test_a_distribution_that_is_not_installed_is_named(site: Site) -> None:
    error = problem(spec(site, "billing", "acme-billing:billing"))
    assert error.message == "agent 'billing' is not installed: there is no distribution 'acme-billing'"
    assert error.hint == "pip install acme-billing, or set enabled = false under [agents.billing]"


def test_a_misspelt_distribution_is_compared_with_those_there_are(site: Site) -> None:
    site.install("acme-billing", agents={"billing": "m:agent"})
    assert str(problem(spec(site, "b", "acme-biling:billing")).hint).startswith("did you mean 'acme-billing'?, or ")


def test_a_distribution_without_that_agent_is_named(site: Site) -> None:
    site.install("acme-billing", "2.1", agents={"billing": "m:agent"})
    error = problem(spec(site, "billing", "acme-billing:biling"))
    assert error.message == "agent 'billing' is not installed: acme-billing 2.1 has no agent 'biling'"
    assert error.hint == "did you mean 'billing'?, or set enabled = false under [agents.billing]"


def test_a_plugin_that_failed_is_named_where_an_agent_is_missing(site: Site) -> None:
    site.install("acme-support", "0.9", plugins={"support": "acme_s"}, modules={"acme_s": "1 / 0"})
    error = problem(spec(site, "support-eu"))
    assert error.describe() == (
        "agent 'support-eu' is not installed; plugin 'support' (acme-support 0.9) may have it and failed to load\n"
        "  → mend that plugin, or set enabled = false under [agents.support-eu]"
    )
    assert (error.distribution, error.version) == ("acme-support", "0.9")
    by_distribution = problem(spec(site, "eu", "acme-support:support-eu"))
    assert by_distribution.message == (
        "agent 'eu' is not installed: acme-support 0.9 has no agent 'support-eu'; "
        "plugin 'support' (acme-support 0.9) may have it and failed to load"
    )


def test_a_plugin_whose_hook_failed_is_named_where_an_agent_is_missing(site: Site) -> None:
    source = "from agenthost import hookimpl\n@hookimpl\ndef register_agents(register):\n    1 / 0\n"
    site.install("acme-support", plugins={"support": "acme_s"}, modules={"acme_s": source})
    assert problem(spec(site, "support-eu")).message.endswith(
        "; plugin 'support' (acme-support 1.0) may have it and failed in register_agents"
    )


def test_a_blocked_plugin_is_named_where_an_agent_is_missing(site: Site) -> None:
    site.install("acme-support", plugins={"support": "acme_s"}, modules={"acme_s": BY_CODE.format("support-eu")})
    error = problem(spec(site, "support-eu", plugins={"block": ["acme-support"]}))
    assert error.message.endswith("plugin 'support' (acme-support 1.0) may have it and is blocked")
    assert str(error.hint).startswith('take "acme-support" out of [plugins] block, or ')


def test_a_failed_plugin_whose_name_is_a_module_too_is_named_in_the_hint(site: Site) -> None:
    site.install("acme", plugins={"acme": "acme"}, modules={"acme": "1 / 0"})
    error = load_error(spec(site, "support", "acme:support"))
    assert error.message == "agent 'support' (acme:support) failed to load: ZeroDivisionError: division by zero"
    assert error.hint == ("mend plugin 'acme' (acme 1.0) if that has it, or set enabled = false under [agents.support]")


def test_an_agent_of_a_late_plugin_is_found_once_it_has_come(site: Site) -> None:
    site.write({"gate": GATE})
    source = "import gate\ngate.opened.wait(20)\n" + BY_CODE.format("support-eu")
    site.install("acme-support", plugins={"support": "acme_s"}, modules={"acme_s": source})
    config = Config.model_validate({"agents": {"support-eu": {}}})
    arrived = threading.Event()
    plugins = plugins_of(config, 0.05, on_late=lambda plugin: arrived.set())
    (before,) = discover(config, plugins)
    assert problem(before).describe() == (
        "agent 'support-eu' is not installed; "
        "plugin 'support' (acme-support 1.0) may have it and is still being imported\n"
        "  → wait for that plugin, or set enabled = false under [agents.support-eu]"
    )
    import_module("gate").opened.set()
    assert arrived.wait(10)
    (after,) = discover(config, plugins)
    assert after.source.load() == "by code"


def test_an_agent_that_cannot_be_imported_is_blamed_with_its_distribution(site: Site) -> None:
    site.install(
        "acme-billing",
        "2.1",
        agents={"billing": "acme_billing:agent"},
        modules={"acme_billing": "import torch_not_there\n"},
    )
    error = load_error(spec(site, "billing"))
    assert error.describe() == (
        "agent 'billing' (acme-billing 2.1) failed to load: "
        "ModuleNotFoundError: No module named 'torch_not_there'\n"
        "  → pip install torch_not_there, or set enabled = false under [agents.billing]"
    )
    assert (error.distribution, error.version) == ("acme-billing", "2.1")
    assert f'File "{site.folder}/acme_billing.py", line 1' in str(error.traceback)
    assert "importlib" not in str(error.traceback)


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        ("my_module", "'my_module' is not of the form module:attribute or file.py:attribute"),
        ("app.py", "'app.py' is not of the form module:attribute or file.py:attribute"),
        ("gone_module:agent", "there is no module 'gone_module'"),
        ("my_module:agnet", "module 'my_module' has no attribute 'agnet'"),
        ("exits:agent", "SystemExit: 4"),
    ],
)
def test_a_use_that_leads_nowhere_is_blamed_on_that_agent(use: str, reason: str, site: Site) -> None:
    site.write({"my_module": AGENT, "exits": "import sys; sys.exit(4)"})
    assert load_error(spec(site, "mine", use)).message == f"agent 'mine' ({use}) failed to load: {reason}"


def test_installed_is_not_served(site: Site) -> None:
    site.install("acme-echo", agents={"echo": "acme_echo:agent"})
    assert specs(site, {}) == {}


def test_serve_all_serves_whatever_is_installed_with_the_defaults(site: Site) -> None:
    site.install("acme-echo", agents={"acme-echo": "m:agent", "Bad Name": "m:agent"})
    site.install("acme-support", plugins={"support": "acme_s"}, modules={"acme_s": BY_CODE.format("acme-support")})
    site.install("acme-blocked", agents={"acme-blocked": "m:agent"})
    found = specs(
        site,
        {},
        server={"serve": "all"},
        defaults={"timeout": "7s"},
        plugins={"block": ["acme-blocked"]},
    )
    ours = {name: one for name, one in found.items() if "acme" in one.source.label}
    assert list(ours) == ["acme-echo", "acme-support"]
    assert {one.timeout for one in ours.values()} == {7.0}


def test_serve_all_does_not_serve_again_what_is_configured_under_another_name(site: Site) -> None:
    site.install("acme-echo", agents={"acme-echo": "m:agent", "acme-other": "m:agent"})
    found = specs(
        site,
        {"mine": {"use": "acme-echo:acme-echo"}, "not": {"use": "acme-other", "enabled": False}},
        server={"serve": "all"},
    )
    assert {"mine", "not"} <= found.keys()
    assert not {"acme-echo", "acme-other"} & found.keys()


def test_serve_all_names_a_collision(site: Site) -> None:
    site.install("acme-a", agents={"acme-search": "m:agent"})
    site.install("acme-b", agents={"acme-search": "m:agent"})
    found = specs(site, {}, server={"serve": "all"})["acme-search"]
    assert problem(found).message == "two distributions claim agent 'acme-search': acme-a 1.0, acme-b 1.0"


def test_an_agent_with_an_environment_is_not_looked_for_here_and_runs_in_a_process(site: Site) -> None:
    asked = {"environment": {"requirements": ["acme-billing==2.1"]}}
    found = specs(
        site, {"billing": asked, "eu": {"use": "acme-billing:billing", **asked}, "moon": {"placement": "moon", **asked}}
    )
    billing = found["billing"]
    assert billing.problem is None
    assert (billing.source.use, billing.source.label, billing.placement) == ("billing", "billing", "process")
    assert billing.environment is not None
    assert (billing.environment.requirements, billing.environment.folder) == (("acme-billing==2.1",), str(site.folder))
    assert billing.environment == found["eu"].environment
    assert (found["eu"].source.use, found["moon"].placement) == ("acme-billing:billing", "moon")
    error = load_error(billing)
    assert error.message == (
        "agent 'billing' (billing) has an environment of its own and cannot be loaded into the host"
    )
    assert error.hint == 'placement = "process" under [agents.billing]'


def test_paths_of_an_environment_count_from_agents_toml(site: Site) -> None:
    site.folder.mkdir(exist_ok=True)
    found = specs(
        site,
        {
            "lock": {"environment": {"lock": "locks/../a.lock"}},
            "venv": {"environment": {"venv": "envs/a"}},
            "absolute": {"environment": {"venv": "/envs/a"}},
        },
    )
    environments = {name: one.environment for name, one in found.items()}
    assert environments["lock"].lock == f"{site.folder}/a.lock"
    assert environments["venv"].venv == f"{site.folder}/envs/a"
    assert environments["absolute"].venv == "/envs/a"


def test_a_lock_file_that_changed_is_another_agent_asked_for_and_one_that_is_gone_is_found_out_later(
    site: Site,
) -> None:
    asked = {"billing": {"environment": {"lock": "billing.lock"}}}
    gone = specs(site, asked)["billing"]
    (site.folder / "billing.lock").write_text("six==1.16.0\n")
    before, same = specs(site, asked)["billing"], specs(site, asked)["billing"]
    (site.folder / "billing.lock").write_text("six==1.17.0\n")
    after = specs(site, asked)["billing"]
    assert (gone.problem, gone.environment.name) == (None, "")
    assert before.environment == same.environment != after.environment


def test_an_installed_agent_of_that_name_does_not_count_where_there_is_an_environment(site: Site) -> None:
    site.install("acme-a", agents={"search": "m:agent"})
    site.install("acme-b", agents={"search": "m:agent"})
    found = specs(site, {"search": {"environment": {"requirements": ["acme-c"]}}}, server={"serve": "all"})
    assert (found["search"].problem, found["search"].source.distribution) == (None, None)
