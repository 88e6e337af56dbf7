"""What the host registers itself, through the door that plugins use."""

from __future__ import annotations

from agenthost.config import Config, StoreConfig
from agenthost.host import Host


def placements(*, authenticating: bool) -> set[str]:
    host = Host(Config(store=StoreConfig(url="memory:")), authenticating=authenticating)
    host.load()
    return set(host.plugins.placements)


def test_a_host_that_tells_callers_apart_has_two_placements() -> None:
    assert placements(authenticating=True) == {"in-process", "process"}


def test_one_that_only_its_author_can_reach_has_a_placement_for_what_can_be_replaced() -> None:
    assert placements(authenticating=False) == {"in-process", "process", "dev"}


def test_its_authenticator_is_registered_as_those_of_plugins_are() -> None:
    host = Host(Config(store=StoreConfig(url="memory:")))
    host.load()
    assert set(host.plugins.authenticators) == {"api-keys"}
