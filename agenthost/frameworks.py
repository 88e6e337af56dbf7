"""Which distribution serves a known framework's objects, so that its absence is told by a line to type."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from agenthost.agents import AgentSpec
from agenthost.errors import LoadError

ADAPTERS = {
    "agents": ("openai-agents", "agenthost-openai-agents"),
    "langgraph": ("langgraph", "agenthost-langgraph"),
    "locus": ("locus-sdk", "agenthost-locus"),
    "pydantic_ai": ("pydantic-ai-slim", "agenthost-pydantic-ai"),
}
"""Top-level module of a framework → the distribution it is of, and the one that adapts it."""


def missing_adapter(found: Any, spec: AgentSpec) -> LoadError | None:
    """What to do where `found` is of a known framework and no adapter has claimed it; None for any other object."""
    for kind in type(found).__mro__:
        framework, adapter = ADAPTERS.get(kind.__module__.partition(".")[0], ("", ""))
        if framework and _is_of(kind, framework):
            return LoadError(
                f"agent '{spec.name}' ({spec.source.label}) is a {kind.__name__} of {framework} and needs an adapter",
                hint=_remedy(adapter),
                distribution=spec.source.distribution,
                version=spec.source.version,
            )
    return None


def _is_of(kind: type, distribution: str) -> bool:
    """Whether a class is that distribution's, and not of somebody's own module of the same name."""
    try:
        folder = metadata.distribution(distribution).locate_file(kind.__module__.partition(".")[0])
    except metadata.PackageNotFoundError:
        return False
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is not None and Path(file).is_relative_to(str(folder))


def _remedy(adapter: str) -> str:
    try:
        metadata.version(adapter)
    except metadata.PackageNotFoundError:
        return f"pip install {adapter}"
    return f"{adapter} is installed and takes no such object, or did not load: `agenthost plugins` tells"
