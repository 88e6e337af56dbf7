"""Calling one plugin's hooks; what each hook takes has a test file of its own, in hooks/."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agenthost import hookimpl
from agenthost.blame import Blame
from agenthost.hookspecs import RegisterAgent
from agenthost.registering import REGISTRARS, Outcome, call_hooks

BLAME = Blame("plugin 'acme' (acme 1.0)", "acme", "1.0")


def call(plugin: object, hooks: Any = tuple(REGISTRARS)) -> Outcome:
    return call_hooks(plugin, "acme", BLAME, SimpleNamespace(), hooks)


def test_hooks_are_called_in_a_fixed_order_with_the_arguments_they_ask_for() -> None:
    called = []

    class Plugin:
        @hookimpl
        def register_placements(self) -> None:
            called.append("placements")

        @hookimpl
        def register_agents(self, config: Any, register: RegisterAgent) -> None:
            called.append("agents")
            register("x", config)

    outcome = call(Plugin())
    assert called == ["agents", "placements"]
    assert outcome.hooks == ("register_agents", "register_placements")
    assert list(outcome.offers["register_agents"]) == ["x"]
    assert outcome.failures == ()


def test_a_hook_that_is_not_asked_for_is_known_and_not_called() -> None:
    class Plugin:
        @hookimpl
        def register_agents(self) -> None:
            raise SystemExit

    assert call(Plugin(), hooks=["register_adapters"]) == Outcome(hooks=("register_agents",))


def test_a_wrapper_may_return_anything() -> None:
    class Plugin:
        @hookimpl(wrapper=True)
        def register_agents(self, register: RegisterAgent) -> Any:
            yield
            register("x", 1)

    outcome = call(Plugin())
    assert outcome.failures == ()
    assert dict(outcome.offers["register_agents"]) == {"x": 1}


@pytest.mark.parametrize("raised", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), OSError("gone")])
def test_whatever_a_hook_raises_is_its_failure(raised: BaseException) -> None:
    class Plugin:
        @hookimpl
        def register_agents(self) -> None:
            raise raised

    (failure,) = call(Plugin()).failures
    assert failure.hook == "register_agents"
    assert failure.error.message.startswith("plugin 'acme' (acme 1.0) failed in register_agents: ")


def test_every_unknown_hook_is_named() -> None:
    class Plugin:
        @hookimpl
        def register_agent(self) -> None: ...

        @hookimpl
        def on_request(self) -> None: ...

    failures = {failure.hook: failure.error for failure in call(Plugin()).failures}
    assert failures["register_agents"].hint == "did you mean 'register_agents'?"
    assert failures[None].hint == (
        "the hooks are register_agents, register_adapters, register_authenticators, register_protocols, "
        "register_placements"
    )


def test_an_object_whose_attributes_cannot_be_read_is_a_failure() -> None:
    class Plugin:
        def __dir__(self) -> list[str]:
            raise RuntimeError("closed")

    (failure,) = call(Plugin()).failures
    assert failure.error.message == "plugin 'acme' (acme 1.0) failed to load: RuntimeError: closed"
