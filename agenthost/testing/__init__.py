"""What a plugin's own tests need: a real host in a process of its own, and the contract that every placement keeps."""

from agenthost.testing.hosts import HostProcess, serving
from agenthost.testing.placement_contract import PlacementContract

__all__ = ["HostProcess", "PlacementContract", "serving"]
