"""Serves Locus agents and graphs with agenthost, unchanged."""

from importlib import import_module
from typing import Any

from agenthost import hookimpl
from agenthost_locus.recognising import is_of_locus, is_runnable

__all__ = ["register_adapters"]


@hookimpl
def register_adapters(register: Any) -> None:
    """Register Locus's own objects, and whatever else runs as they do. Locus is imported when one is adapted."""
    register("locus", _adapted, modules=["locus"], accepts=is_of_locus)
    register("locus-runnable", _adapted, modules=["*"], accepts=is_runnable)


def _adapted(found: Any) -> Any:
    return import_module("agenthost_locus.adapting").adapt(found)
