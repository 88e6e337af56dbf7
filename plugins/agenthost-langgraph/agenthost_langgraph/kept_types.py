"""The types in what a paused graph holds: LangGraph makes a dict of one that it does not find, and says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from itertools import chain
from typing import Any


def types_in(value: Any) -> list[list[str]]:
    """The models, dataclasses and enums among plain containers, each as `[module, name]`.

    What is in a model is not looked at: it comes back with the model.
    """
    return [list(one) for one in sorted(set(_types(value)))]


def _types(value: Any) -> Iterator[tuple[str, str]]:
    inner: Iterable[Any] = ()
    kind = type(value)
    own = hasattr(kind, "model_validate") or is_dataclass(kind)
    if own or (isinstance(value, Enum) and not isinstance(value, str | int)):
        yield kind.__module__, kind.__name__
    if isinstance(value, Mapping):
        inner = chain(value.keys(), value.values())
    elif isinstance(value, list | tuple | AbstractSet):
        inner = value
    elif is_dataclass(value):
        inner = [getattr(value, field.name, None) for field in fields(value)]
    for one in inner:
        yield from _types(one)


def not_found(types: Iterable[Sequence[str]]) -> list[str]:
    """Which of these types cannot be had here, by their full names."""
    return [f"{module}.{name}" for module, name in types if not _is_there(module, name)]


def _is_there(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name)
    except Exception:  # noqa: BLE001 - a module may raise anything as it is imported; it is not there then
        return False
