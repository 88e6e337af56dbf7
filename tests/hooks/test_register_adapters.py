"""`register_adapters(register, config)`: how a framework's objects become agents."""

from __future__ import annotations

import pytest

from tests.hooks.conftest import Install

REGISTER = "@hookimpl\ndef register_adapters(register):\n    register({})\n"


def test_an_adapter_is_kept_with_its_modules(load: Install) -> None:
    plugins = load(REGISTER.format("'acme', str, modules=['acme_agents'], accepts=bool"))
    adapter = plugins.adapters["acme"].value
    assert (adapter.name, adapter.modules, adapter.adapt, adapter.accepts) == ("acme", ("acme_agents",), str, bool)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("'acme', str, modules=[]", "ValueError: adapter 'acme' names no modules, so no object would ever be its own"),
        ("'acme', str, modules='acme'", "TypeError: an adapter is given a list of modules, not str"),
        ("'acme', str, modules=[1]", "TypeError: an adapter is given a list of modules, not list"),
        ("'acme', 'x', modules=['a']", "TypeError: an adapter is a function of the framework's object, not str"),
        (
            "'acme', str, modules=['a'], accepts=1",
            "TypeError: an adapter is narrowed by a function, accepts(obj), not int",
        ),
        (
            "'a b', str, modules=['a']",
            "ValueError: 'a b' is not a name for an adapter: use letters, digits, '-', '_' and '.'",
        ),
        (
            "'any', str, modules=['*']",
            "ValueError: adapter 'any' takes objects of any module, so it needs accepts(obj)",
        ),
        ("5, str, modules=['a']", "ValueError: 5 is not a name for an adapter: use letters, digits, '-', '_' and '.'"),
    ],
)
def test_what_cannot_be_an_adapter_fails_the_hook(arguments: str, reason: str, load: Install) -> None:
    plugins = load(REGISTER.format(arguments))
    (problem,) = plugins.problems
    assert problem.error.message == f"plugin 'one' (acme-one 1.0) failed in register_adapters: {reason}"
    assert not [one for one in plugins.adapters.values() if one.plugin in {"one", "two"}]


def test_two_plugins_with_one_name_are_both_refused_and_both_named(load: Install) -> None:
    plugins = load(*[REGISTER.format("'acme', str, modules=['a']")] * 2, REGISTER.format("'well', str, modules=['b']"))
    assert "acme" not in plugins.adapters
    assert "well" in plugins.adapters
    assert [problem.distribution for problem in plugins.problems] == ["acme-one", "acme-two"]
    for problem in plugins.problems:
        assert problem.error.message == "two plugins register adapter 'acme': acme-one 1.0, acme-two 1.0"
        assert problem.error.hint == 'keep one: [plugins] block = ["acme-two"]'
