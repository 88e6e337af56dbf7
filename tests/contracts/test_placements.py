"""The contract of placements, over those that the host brings."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.config import Config, StoreConfig
from agenthost.host import Host
from agenthost.testing import PlacementContract


class TestInProcess(PlacementContract):
    placement = "in-process"
    isolates = False


class TestProcess(PlacementContract):
    placement = "process"


@pytest.mark.fault
class TestTwoWorkers(PlacementContract):
    """How many workers share an agent's runs is nothing that anybody sees."""

    placement = "process"

    def stage(self, *agents: str, **keys: Any) -> Any:
        return super().stage(*agents, process={"workers": 2}, **keys)


def test_the_contract_is_played_over_every_placement_that_the_host_brings() -> None:
    host = Host(Config(store=StoreConfig(url="memory:")))
    host.load()
    assert set(host.plugins.placements) == {TestInProcess.placement, TestProcess.placement}
