"""`agenthost add`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.commands import ECHO
from tests.distributions import Site

SEE_LIST = "\n  → `agenthost list` shows what is installed\n"


def test_an_installed_agent_is_added_and_everything_else_stays(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme_billing:agent"})
    before = '# ours\n[agents.app]   # the first\nuse = "app.py:agent"\n'
    (here / "agents.toml").write_text(before)
    ended = enter("add", "billing")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "agents.toml: added [agents.billing] (acme-billing 2.1)\n  → agenthost dev\n"
    assert (here / "agents.toml").read_text() == before + "\n[agents.billing]\n"


def test_the_file_is_made_where_there_is_none(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme_billing:agent"})
    ended = enter("add", "billing", "--config", "mine.toml")
    assert (
        ended.out == "mine.toml: made, with [agents.billing] (acme-billing 2.1)\n  → agenthost dev --config mine.toml\n"
    )
    assert (here / "mine.toml").read_text() == "[agents.billing]\n"


def test_a_name_that_is_there_already_is_left_alone(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme_billing:agent"})
    (here / "agents.toml").write_text("[agents.billing]\n")
    ended = enter("add", "billing")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "agents.toml: [agents.billing] is there already\n"
    assert (here / "agents.toml").read_text() == "[agents.billing]\n"


def test_a_name_that_is_not_installed_is_refused_with_the_nearest(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme_billing:agent"})
    ended = enter("add", "biling")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "no agent 'biling' is installed\n  → did you mean 'billing'?, or pip install its distribution, "
        "or say where it is: agenthost add biling --use module:attribute\n"
    )
    assert not (here / "agents.toml").exists()


def test_a_name_that_two_distributions_claim_is_refused_with_the_line_that_settles_it(
    enter: Type, here: Path, site: Site
):
    site.install("acme-search", "1.0", agents={"search": "acme_search:agent"})
    site.install("web-search", "0.3", agents={"search": "web_search:agent"})
    assert enter("add", "search").err == (
        "two distributions claim agent 'search': acme-search 1.0, web-search 0.3\n"
        "  → choose one: agenthost add search --use acme-search:search\n"
    )
    ended = enter("add", "search", "--use", "web-search:search")
    assert ended.out == "agents.toml: made, with [agents.search] (web-search 0.3)\n  → agenthost dev\n"
    assert (here / "agents.toml").read_text() == '[agents.search]\nuse = "web-search:search"\n'


def test_an_agent_of_a_blocked_distribution_is_refused(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme_billing:agent"})
    (here / "agents.toml").write_text('[plugins]\nblock = ["acme-billing"]\n')
    ended = enter("add", "billing")
    assert ended.code == 2
    assert ended.err == (
        "agent 'billing' (acme-billing 2.1) cannot be served: its distribution is blocked\n"
        '  → take "acme-billing" out of [plugins] block\n'
    )


def test_a_file_with_a_mistake_elsewhere_can_be_added_to(enter: Type, here: Path, site: Site):
    site.install("acme-billing", "2.1", agents={"billing": "acme_billing:agent"})
    (here / "agents.toml").write_text('[agents.app]\nuse = { env = "NOT_SET" }\n')
    assert enter("add", "billing").code == 0


def test_an_object_in_a_file_is_added_by_its_use(enter: Type, here: Path):
    (here / "app.py").write_text(ECHO)
    ended = enter("add", "mine", "--use", "app.py:agent")
    assert ended.out == "agents.toml: made, with [agents.mine] (app.py:agent)\n  → agenthost dev\n"
    assert (here / "agents.toml").read_text() == '[agents.mine]\nuse = "app.py:agent"\n'


def test_a_module_is_added_without_importing_it(enter: Type, here: Path):
    assert enter("add", "mine", "--use", "not_there_yet:agent").code == 0


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("ap.py:agent", "there is no file 'ap.py' in {here}\n  → name it as seen from agents.toml\n"),
        ("nobodys", "agent 'mine' is not installed: nothing that is installed is called 'nobodys'" + SEE_LIST),
        ("acme-billing:biling", "agent 'mine' is not installed: acme-billing 2.1 has no agent 'biling'" + SEE_LIST),
    ],
)
def test_a_use_that_leads_nowhere_is_refused(enter: Type, here: Path, site: Site, use: str, said: str):
    site.install("acme-billing", "2.1", agents={"billing": "acme_billing:agent"})
    ended = enter("add", "mine", "--use", use)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == said.format(here=here)
    assert not (here / "agents.toml").exists()


def test_a_name_that_no_address_could_have_is_refused(enter: Type, here: Path):
    (here / "app.py").write_text(ECHO)
    ended = enter("add", "My Agent", "--use", "app.py:agent")
    assert ended.code == 2
    assert ended.err.startswith('"My Agent" ')
    assert not (here / "agents.toml").exists()
