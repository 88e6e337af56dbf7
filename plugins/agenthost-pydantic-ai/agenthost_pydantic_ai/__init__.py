"""Serves Pydantic AI agents with agenthost, unchanged. Importing this module does not import Pydantic AI."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agenthost import hookimpl

if TYPE_CHECKING:
    from agenthost_pydantic_ai.agent import serve as serve

__all__ = ["serve"]


@hookimpl
def register_adapters(register: Any) -> None:
    """Register how agents of Pydantic AI are served."""
    register("pydantic-ai", _adapt, modules=["pydantic_ai"], accepts=_accepts)


def _adapt(found: Any) -> Any:
    return import_module("agenthost_pydantic_ai.agent").serve(found)


def _accepts(found: Any) -> bool:
    return isinstance(found, import_module("pydantic_ai.agent").AbstractAgent)


def __getattr__(name: str) -> Any:
    if name != "serve":
        raise AttributeError(f"module 'agenthost_pydantic_ai' has no attribute {name!r}")
    return import_module("agenthost_pydantic_ai.agent").serve
