"""`agenthost list` and `agenthost plugins`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Type
from tests.commands import agenthost
from tests.distributions import Site

AUTHENTICATOR = """
from agenthost import hookimpl

class Badges:
    def authenticate(self, credentials):
        return None

@hookimpl
def register_authenticators(register):
    register("badges", Badges())
"""


def _row(table: str, first: str) -> list[str]:
    """The cells of the row that begins so."""
    line = next(line for line in table.splitlines() if line.split("  ")[0] == first)
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_without_agents_toml_each_agent_comes_with_the_line_that_adds_it(enter: Type, here: Path, site: Site):
    site.install("aaa-billing", "2.1", agents={"aaa": "aaa_billing:agent"})
    ended = enter("list")
    assert (ended.code, ended.err) == (0, "")
    assert _row(ended.out, "agent") == ["agent", "from", "served as", "what it is"]
    assert _row(ended.out, "aaa") == [
        "aaa",
        "aaa-billing 2.1",
        "not served: agenthost add aaa",
        "aaa-billing for tests",
    ]
    assert ended.out.endswith("\nnothing is served: there is no agents.toml here\n  → agenthost add aaa\n")


def test_each_agent_is_shown_with_every_name_it_is_served_under(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme:agent", "dunning": "acme:dunning"})
    (here / "agents.toml").write_text(
        '[agents.billing]\n[agents.billing-eu]\nuse = "acme-billing:billing"\n'
        '[agents.old]\nuse = "billing"\nenabled = false\n[agents.mine]\nuse = "app.py:agent"\n'
    )
    ended = enter("list")
    assert (ended.code, ended.err) == (0, "")
    assert _row(ended.out, "billing")[2] == "billing, billing-eu, old (disabled)"
    assert _row(ended.out, "dunning")[2] == "not served: agenthost add dunning"
    assert _row(ended.out, "mine") == ["mine", "app.py:agent", "mine"]
    assert "nothing is served" not in ended.out


def test_an_agent_with_an_environment_of_its_own_is_shown_with_what_that_is(enter: Type, here: Path, site: Site):
    (here / "agents.toml").write_text(
        '[agents.billing]\nenvironment = { requirements = ["acme-billing==2.1", "six"] }\n'
    )
    ended = enter("list")
    assert (ended.code, ended.err) == (0, "")
    assert _row(ended.out, "billing") == ["billing", "its own environment: acme-billing==2.1, six", "billing"]


def test_an_agent_whose_name_is_taken_is_shown_with_a_line_that_works(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme:agent"})
    (here / "agents.toml").write_text('[agents.billing]\nuse = "app.py:agent"\n')
    ended = enter("list")
    assert _row(ended.out, "billing")[2] == "not served: agenthost add NAME --use acme-billing:billing"


def test_what_cannot_be_served_is_said_with_its_reason(enter: Type, here: Path, site: Site):
    site.install("acme-search", "1.0", agents={"search": "acme:agent"})
    site.install("web-search", "0.3", agents={"search": "web:agent"})
    site.install("blocked-one", "1.0", agents={"hidden": "blocked:agent"})
    (here / "agents.toml").write_text('[plugins]\nblock = ["blocked-one"]\n[agents.search]\n[agents.gone]\n')
    ended = enter("list")
    assert ended.code == 0
    assert _row(ended.out, "hidden")[2] == "cannot be served"
    assert _row(ended.out, "gone") == ["gone", "gone", "gone (cannot be served)"]
    assert "agent 'gone' is not installed\n  → pip install its distribution" in ended.err
    assert "two distributions claim agent 'search': acme-search 1.0, web-search 0.3\n" in ended.err
    assert "agent 'hidden' (blocked-one 1.0) cannot be served: its distribution is blocked\n" in ended.err


def test_a_list_that_a_program_reads_is_not_wrapped(tmp_path: Path):
    with Site(tmp_path / "site") as site:
        site.install("acme-" + "long-" * 15 + "name", agents={"a" * 60: "acme:agent"})
    ended = agenthost("list", cwd=tmp_path, site=tmp_path / "site", env={"COLUMNS": "40"})
    assert ended.code == 0
    assert f"not served: agenthost add {'a' * 60}" in _row(ended.out, "a" * 60)


def test_plugins_shows_what_each_distribution_registered(enter: Type, here: Path, site: Site):
    site.install("acme-badges", "0.4", plugins={"badges": "acme_badges"}, modules={"acme_badges": AUTHENTICATOR})
    site.install("acme-billing", "2.1", agents={"billing": "acme:agent"})
    ended = enter("plugins")
    assert (ended.code, ended.err) == (0, "")
    assert _row(ended.out, "acme-badges") == ["acme-badges", "0.4", "authenticators: badges", "loaded"]
    assert _row(ended.out, "acme-billing") == ["acme-billing", "2.1", "billing", "installed"]
    assert _row(ended.out, "agenthost")[2:] == [
        "authenticators: api-keys; dialects: native, openai; placements: in-process, process",
        "loaded",
    ]


def test_plugins_shows_what_is_wrong_with_one_and_the_rest_all_the_same(enter: Type, here: Path, site: Site):
    broken = AUTHENTICATOR.replace("register(", "no_such_name(")
    site.install("acme-badges", "0.4", plugins={"badges": "acme_badges"}, modules={"acme_badges": broken})
    site.install("acme-other", "1.0", plugins={"other": "acme_other"})
    (here / "agents.toml").write_text('[plugins]\nblock = ["acme-other"]\n')
    ended = enter("plugins")
    assert ended.code == 0
    assert _row(ended.out, "acme-badges") == ["acme-badges", "0.4", "failed"]
    assert _row(ended.out, "acme-other") == ["acme-other", "1.0", "blocked"]
    assert ended.err == (
        "plugin 'badges' (acme-badges 0.4) failed in register_authenticators: NameError: "
        "name 'no_such_name' is not defined\n  → [plugins] block = [\"acme-badges\"]\n"
    )
