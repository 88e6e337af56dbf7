"""`register_protocols(register, config)`: dialects, for every agent or for the host."""

from __future__ import annotations

import pytest

from tests.hooks.conftest import Install

REGISTER = "from agenthost import Dialect\n@hookimpl\ndef register_protocols(register):\n    register({})\n"


def test_a_dialect_is_kept_under_its_own_name(load: Install) -> None:
    plugins = load(REGISTER.format("Dialect('acme', prefix='/acme', endpoints=print)"))
    registered = plugins.dialects["acme"]
    assert (registered.value.prefix, registered.value.scope, registered.label) == ("/acme", "agent", "acme-one 1.0")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("'acme'", "TypeError: a protocol is a Dialect, not str"),
        ("Dialect", "TypeError: a protocol is a Dialect, not type"),
        (
            "Dialect('acme', prefix='', endpoints=[])",
            "TypeError: a protocol is served by a function, endpoints(host, agent), not list",
        ),
        (
            "Dialect('acme', prefix='', endpoints=print, scope='world')",
            "ValueError: protocol 'acme' has scope 'world'; it is 'agent' or 'host'",
        ),
        (
            "Dialect('', prefix='', endpoints=print)",
            "ValueError: '' is not a name for a protocol: use letters, digits, '-', '_' and '.'",
        ),
    ],
)
def test_what_cannot_be_a_dialect_fails_the_hook(argument: str, reason: str, load: Install) -> None:
    plugins = load(REGISTER.format(argument))
    (problem,) = plugins.problems
    assert problem.error.message == f"plugin 'one' (acme-one 1.0) failed in register_protocols: {reason}"
    assert plugins.dialects == {}


def test_two_plugins_with_one_name_are_both_refused(load: Install) -> None:
    plugins = load(*[REGISTER.format("Dialect('acme', prefix='/acme', endpoints=print)")] * 3)
    assert plugins.dialects == {}
    assert plugins.problems[0].error.message == (
        "three plugins register protocol 'acme': acme-one 1.0, acme-three 1.0, acme-two 1.0"
    )
