"""What graphs hold, as JSON values: messages, pydantic models, dataclasses and sets among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

MAX_DEPTH = 100
"""Levels that an event may be deep, with room for what is around a value."""


def plain(value: Any) -> Any:
    """Return `value` as containers and values that an event takes; what is none of them stays, and fails the run."""
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | AbstractSet):
        return [plain(item) for item in value]
    if callable(getattr(value, "model_dump", None)):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def problem(value: Any, depth: int = 0) -> str | None:
    """What there is in a value of `plain` that an event does not take, or None."""
    if value is None or isinstance(value, bool | float | date | time | UUID | Decimal):
        return None
    if isinstance(value, int):
        return None if -(1 << 63) <= value < 1 << 64 else "an int of more than 64 bits"
    if isinstance(value, str):
        return "a str with a lone surrogate" if any("\ud800" <= one <= "\udfff" for one in value) else None
    if isinstance(value, Enum):
        return problem(value.value, depth)
    if not isinstance(value, dict | list):
        return type(value).__name__
    if depth >= MAX_DEPTH:
        return f"more than {MAX_DEPTH} levels deep"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return next((found for one in inner if (found := problem(one, depth + 1)) is not None), None)
