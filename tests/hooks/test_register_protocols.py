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
        (
            "Dialect('acme', prefix='acme', endpoints=print)",
            "ValueError: protocol 'acme' has prefix 'acme'; it is '' or like '/acme'",
        ),
        (
            "Dialect('acme', prefix='/acme/', endpoints=print)",
            "ValueError: protocol 'acme' has prefix '/acme/'; it is '' or like '/acme'",
        ),
        (
            "Dialect('acme', prefix=None, endpoints=print)",
            "ValueError: protocol 'acme' has prefix None; it is '' or like '/acme'",
        ),
        (
            "Dialect('acme', prefix='/threads/x', endpoints=print)",
            "ValueError: protocol 'acme' has prefix '/threads/x', and '/threads' is the host's own",
        ),
        (
            "Dialect('acme', prefix='/agents', endpoints=print, scope='host')",
            "ValueError: protocol 'acme' has prefix '/agents', and '/agents' is the host's own",
        ),
        (
            "Dialect('acme', prefix='/acme', endpoints=print, lifespan=1)",
            "TypeError: a protocol is given a function as lifespan(host), not int",
        ),
        (
            "Dialect('acme', prefix='/acme', endpoints=print, fast=[('POST', '/x')])",
            "TypeError: a protocol is given its fast handlers as a mapping, not list",
        ),
        (
            "Dialect('acme', prefix='/acme', endpoints=print, fast={('post', '/x'): print})",
            "ValueError: protocol 'acme' has fast handler ('post', '/x'); it is like ('POST', '/path')",
        ),
        (
            "Dialect('acme', prefix='/acme', endpoints=print, fast={'/x': print})",
            "ValueError: protocol 'acme' has fast handler '/x'; it is like ('POST', '/path')",
        ),
        (
            "Dialect('acme', prefix='/acme', endpoints=print, fast={('POST', '/x'): None})",
            "TypeError: a protocol is answered at ('POST', '/x') by a function, not NoneType",
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


def test_a_prefix_is_one_dialects_and_the_first_by_name_keeps_it(load: Install) -> None:
    taken = REGISTER.format("Dialect('zoo', prefix='/x', endpoints=print)")
    plugins = load(taken, REGISTER.format("Dialect('acme', prefix='/x/y', endpoints=print)"))
    assert list(plugins.dialects) == ["acme"]
    (problem,) = plugins.problems
    assert problem.hook == "register_protocols"
    assert problem.error.message == (
        "plugin 'one' (acme-one 1.0) cannot register protocol 'zoo': "
        "prefix '/x' is taken by protocol 'acme' (acme-two 1.0)"
    )
    assert problem.error.hint == 'give it another prefix, or [plugins] block = ["acme-one"]'


def test_dialects_of_two_scopes_share_no_addresses(load: Install) -> None:
    plugins = load(
        REGISTER.format("Dialect('one', prefix='/x', endpoints=print)"),
        REGISTER.format("Dialect('two', prefix='/x', endpoints=print, scope='host')"),
        REGISTER.format("Dialect('three', prefix='/xy', endpoints=print)"),
    )
    assert sorted(plugins.dialects) == ["one", "three", "two"]
    assert plugins.problems == []
