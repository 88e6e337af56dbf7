"""`register_placements(register, config)`: places where agents run."""

from __future__ import annotations

import pytest

from tests.hooks.conftest import Install

CLUSTER = "class Cluster:\n    async def open(self, spec): ...\n"
HOOK = "@hookimpl\ndef register_placements(register):\n    register({})\n"


def test_a_placement_is_kept_by_name(load: Install) -> None:
    plugins = load(CLUSTER + HOOK.format("'cluster', Cluster()"))
    registered = plugins.placements["cluster"]
    assert (type(registered.value).__name__, registered.plugin) == ("Cluster", "one")


@pytest.mark.parametrize(
    ("arguments", "given"), [("'cluster', object()", "object"), ("'cluster', Cluster", "type"), ("'cluster', 1", "int")]
)
def test_what_cannot_be_a_placement_fails_the_hook(arguments: str, given: str, load: Install) -> None:
    plugins = load(CLUSTER + HOOK.format(arguments))
    (problem,) = plugins.problems
    assert problem.error.message == (
        "plugin 'one' (acme-one 1.0) failed in register_placements: "
        f"TypeError: a placement is an object with open(spec), not {given}"
    )
    assert plugins.placements == {}


def test_two_plugins_with_one_name_are_both_refused(load: Install) -> None:
    plugins = load(*[CLUSTER + HOOK.format("'cluster', Cluster()")] * 2)
    assert plugins.placements == {}
    assert plugins.problems[0].error.message == "two plugins register placement 'cluster': acme-one 1.0, acme-two 1.0"
