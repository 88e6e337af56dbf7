"""`register_authenticators(register, config)`: a door whose lock is broken stays shut."""

from __future__ import annotations

import pytest

from tests.hooks.conftest import Install

STAFF = "class Staff:\n    def authenticate(self, credentials): ...\n"
HOOK = "@hookimpl\ndef register_authenticators(register):\n    "


def test_an_authenticator_is_kept_by_name(load: Install) -> None:
    plugins = load(STAFF + HOOK + "register('staff', Staff())")
    assert type(plugins.authenticators["staff"].value).__name__ == "Staff"
    assert plugins.authenticator_problem is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            HOOK + "register('staff', object())",
            "TypeError: an authenticator is an object with authenticate(credentials)",
        ),
        (STAFF + HOOK + "register('staff', Staff)", "TypeError: an authenticator is an object with"),
        (
            STAFF.replace("def", "async def") + HOOK + "register('staff', Staff())",
            "TypeError: an authenticator's authenticate is a plain function, not an async one",
        ),
        (HOOK + "raise OSError('no directory')", "OSError: no directory"),
    ],
)
def test_a_failing_hook_is_what_the_host_refuses_to_start_for(source: str, reason: str, load: Install) -> None:
    plugins = load(source)
    problem = plugins.authenticator_problem
    assert problem is not None
    assert problem.error.message.startswith(f"plugin 'one' (acme-one 1.0) failed in register_authenticators: {reason}")
    assert plugins.authenticators == {}


@pytest.mark.parametrize(
    "source",
    [
        "@hookimpl\ndef register_authenticators(registrar): ...\n",
        "@hookimpl\ndef register_authenticator(register): ...\n",
        "@hookimpl(wrapper=True)\ndef register_authenticators(register): ...\n",
    ],
)
def test_a_lock_that_is_misspelt_is_a_broken_lock(source: str, load: Install) -> None:
    assert load(source).authenticator_problem is not None


def test_a_clash_of_names_is_a_broken_lock_too(load: Install) -> None:
    plugins = load(*[STAFF + HOOK + "register('staff', Staff())"] * 2)
    assert plugins.authenticators == {}
    problem = plugins.authenticator_problem
    assert problem is not None
    assert problem.error.message == "two plugins register authenticator 'staff': acme-one 1.0, acme-two 1.0"


def test_failures_elsewhere_are_no_reason_to_refuse_the_start(load: Install) -> None:
    plugins = load("@hookimpl\ndef register_protocols(register):\n    1 / 0\n", "1 / 0")
    assert len(plugins.problems) == 2
    assert plugins.authenticator_problem is None
