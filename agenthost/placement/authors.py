"""Where `agenthost dev` runs agents that agents.toml does not place: an author's own in processes that can be replaced.

Code is imported once into a process, so new code needs a new one. What is installed does not change, and stays in the
host's.
"""

from __future__ import annotations

from pathlib import Path

from agenthost.agents import AgentRef, AgentSpec, Placement
from agenthost.own_code import own_code

DEV = "dev"
"""The placement's name."""


class AuthorsPlacement:
    """Opens through `own` what is an author's own, through `others` everything else.

    `base_dir` is where the files are that `use` names.
    """

    def __init__(self, base_dir: Path, own: Placement, others: Placement) -> None:
        self._base_dir = base_dir
        self._own = own
        self._others = others

    async def open(self, spec: AgentSpec) -> AgentRef:
        """Load the agent; raises `LoadError`."""
        is_own = own_code(spec.source.module, self._base_dir) is not None
        return await (self._own if is_own else self._others).open(spec)
