"""`agenthost dev --debug`: room for a debugger. Nothing has a time limit, and agents run where the terminal is."""

from __future__ import annotations

import os
import pdb
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from agenthost.config import AgentConfig, Config

ADDRESS = ("127.0.0.1", 5678)
"""Where debugpy listens, which is where editors look for it."""

ENDLESS = 365 * 86400.0
"""Seconds that nobody sits at a breakpoint."""


def without_limits(config: Config) -> Config:
    """The configuration with agents that may take as long as they like, to load and to run."""

    def patient(agent: AgentConfig) -> AgentConfig:
        return agent.model_copy(update={"timeout": ENDLESS, "load_timeout": ENDLESS})

    agents = {name: patient(agent) for name, agent in config.agents.items()}
    return config.model_copy(update={"agents": agents, "defaults": patient(config.defaults)})


def begin_debugging() -> str:
    """Have debugpy listen, if it is installed, and `breakpoint()` stop where somebody is; says where that is."""
    attached, listens = None, ""
    if find_spec("debugpy") is not None:
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # it warns of the interpreter's own frozen modules
        attached = import_module("debugpy")
        listens = f"debugpy listens at {ADDRESS[0]}:{ADDRESS[1]}; "
        try:
            attached.listen(ADDRESS)
        except (RuntimeError, OSError) as refused:
            listens = f"debugpy cannot listen at {ADDRESS[0]}:{ADDRESS[1]} ({refused}); "
    if "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = stopping(attached)
    return f"{listens}breakpoint() stops here; no time limits, and code is not reloaded"


def stopping(debugpy: Any) -> Callable[..., None]:
    """What `breakpoint()` does: it stops in the debugger that is attached, else in pdb, at this terminal."""

    def stop(*_arguments: Any, **_named: Any) -> None:
        if debugpy is not None and debugpy.is_client_connected():
            debugpy.breakpoint()
        else:
            pdb.Pdb().set_trace(sys._getframe(1))

    return stop
