"""What installed distributions declare: found without importing, whatever state their metadata is in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthost.distributions import Declared, normalise, scan
from tests.distributions import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


def found(*groups: str) -> list[str]:
    """`name of distribution version` for what these tests installed."""
    declared = scan()
    entries = [*(declared.agents if "agents" in groups else ()), *(declared.plugins if "plugins" in groups else ())]
    return [f"{entry.name} of {entry.label}" for entry in entries if "acme" in entry.distribution.lower()]


def test_both_groups_are_read_without_importing_anything(site: Site) -> None:
    site.install("acme-billing", "2.1", plugins={"p": "acme_never"}, agents={"billing": "acme_never:agent"})
    assert found("agents", "plugins") == ["billing of acme-billing 2.1", "p of acme-billing 2.1"]
    entry = next(entry for entry in scan().agents if entry.name == "billing")
    assert entry == Declared(
        "agenthost.agents", "billing", "acme_never:agent", "acme-billing", "2.1", "acme-billing for tests"
    )
    assert "acme_never" not in sys.modules


def test_entries_are_sorted_by_name_then_by_distribution(site: Site) -> None:
    site.install("zzz-acme", agents={"a": "m:x", "c": "m:x"})
    site.install("aaa-acme", agents={"b": "m:x", "c": "m:x"})
    assert found("agents") == ["a of zzz-acme 1.0", "b of aaa-acme 1.0", "c of aaa-acme 1.0", "c of zzz-acme 1.0"]


def test_other_groups_are_none_of_our_business(site: Site) -> None:
    site.install("acme", entry_points="[console_scripts]\nacme = acme:main\n[agenthost.other]\nx = y\n")
    assert found("agents", "plugins") == []


def test_of_two_copies_the_first_on_the_path_counts(site: Site, tmp_path: Path) -> None:
    site.install("acme-twice", "1.0", agents={"old": "m:x"})
    with Site(tmp_path / "newer") as newer:
        newer.install("Acme_Twice", "2.0", agents={"new": "m:x"})
        assert found("agents") == ["new of Acme_Twice 2.0"]


def test_a_copy_that_declares_nothing_hides_the_one_behind_it(site: Site, tmp_path: Path) -> None:
    site.install("acme-twice", "1.0", agents={"old": "m:x"})
    with Site(tmp_path / "newer") as newer:
        newer.install("acme-twice", "2.0")
        assert found("agents") == []


def test_without_metadata_the_folders_name_is_used_and_that_is_reported(site: Site) -> None:
    site.install("acme-bare", "0.3", agents={"bare": "m:x"}, metadata="")
    assert found("agents") == ["bare of acme-bare 0.3"]
    (problem,) = scan().problems
    assert problem.message.startswith("distribution 'acme-bare' (acme-bare 0.3) has an unusable METADATA: ")
    assert problem.hint == "pip install --force-reinstall acme-bare"
    assert (problem.distribution, problem.version) == ("acme-bare", "0.3")


def test_metadata_without_a_name_is_reported(site: Site) -> None:
    site.install("acme-nameless", agents={"x": "m:x"}, metadata="Metadata-Version: 2.1\n")
    assert found("agents") == ["x of acme-nameless 1.0"]
    (problem,) = scan().problems
    assert problem.message.endswith("has an unusable METADATA: METADATA has no Name or no Version")


@pytest.mark.parametrize("raw", ["[agenthost.agents]\nnonsense\n", b"[agenthost.agents]\nx = \xff\xfe\n"])
def test_entry_points_that_cannot_be_read_are_reported_and_the_others_found(raw: str | bytes, site: Site) -> None:
    site.install("acme-garbled", "0.1", entry_points=raw)
    site.install("acme-good", agents={"good": "m:x"})
    assert found("agents") == ["good of acme-good 1.0"]
    (problem,) = scan().problems
    assert problem.message.startswith(
        "distribution 'acme-garbled' (acme-garbled 0.1) has an unusable entry_points.txt: "
    )


@pytest.mark.parametrize("raw", ["nonsense\n", b"\xff\xfe\n"])
def test_broken_files_of_others_are_not_reported(raw: str | bytes, site: Site) -> None:
    site.install("stranger", entry_points=raw)
    assert scan().problems == ()


@pytest.mark.parametrize("name", ["Bad Name", "UPPER", "-dash", "under_score", "a" * 64, "../up", "naïve"])
def test_a_bad_agent_name_is_reported(name: str, site: Site) -> None:
    site.install("acme-bad", "0.9", agents={name: "m:x"})
    (problem,) = scan().problems
    assert problem.describe() == (
        f"agent {name!r} (acme-bad 0.9) cannot be served: an agent's name is made of a-z, 0-9 and '-', "
        "at most 63 of them, not '-' first\n  → rename it in the entry points of acme-bad"
    )


def test_names_of_distributions_compare_as_pip_compares_them() -> None:
    assert {normalise(name) for name in ("Acme.Billing", "acme_billing", "ACME--billing")} == {"acme-billing"}
