"""Which objects are Locus's to run, told without importing Locus."""

from __future__ import annotations

import inspect
from typing import Any

GRAPH = ("locus.multiagent.graph", "StateGraph")
"""Module and name of the class of Locus's graphs."""


def is_of_locus(found: Any) -> bool:
    """Whether an object of Locus's own classes is one that runs: an agent, a `GraphRunnable`, a graph."""
    return is_graph(found) or is_runnable(found)


def is_graph(found: Any) -> bool:
    """Whether it is a `StateGraph`."""
    return any((kind.__module__, kind.__name__) == GRAPH for kind in type(found).__mro__)


def is_runnable(found: Any) -> bool:
    """Whether it has Locus's `run(prompt, *, thread_id, metadata)`.

    The first parameter has that name, or the method names none at all (`*args, **kwargs`): what takes a `ctx` is an
    agent of the host's own kind.
    """
    run = getattr(found, "run", None)
    if inspect.isclass(found) or inspect.isroutine(found) or not callable(run):
        return False
    try:
        signature = inspect.signature(run)
        signature.bind("", thread_id=None, metadata=None)
    except (TypeError, ValueError):
        return False
    first = next(iter(signature.parameters.values()))
    return first.name == "prompt" or first.kind is first.VAR_POSITIONAL


def accepts_keyword(function: Any, name: str) -> bool:
    """Whether a function can be called with this keyword."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
