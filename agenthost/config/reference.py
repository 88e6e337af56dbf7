"""The reference of agents.toml in Markdown, made from the models, so that it cannot tell another story than they do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from agenthost.config.keys import SECTIONS, KeyConfig, Section, known_keys
from agenthost.config.values import Kind

_REQUIRED = "required"


def reference() -> str:
    """Return one table per section of the file: every key with its type, its default and its description."""
    tables = []
    for name, section in SECTIONS.items():
        if name == "defaults":
            tables.append(_defaults())
            continue
        tables.append(_table("[agents.NAME]" if name == "agents" else f"[{name}]", name, section))
        if name == "auth":
            tables.append(_table("[[auth.keys]]", "auth.keys", KeyConfig))
    return "\n".join(tables)


def _table(heading: str, table: str, section: type[Section]) -> str:
    rows = "\n".join(_rows(table, section))
    return f"### `{heading}`\n\n| key | type | default | description |\n|---|---|---|---|\n{rows}\n"


def _defaults() -> str:
    keys = ", ".join(f"`{key}`" for key in known_keys("defaults"))
    return f"### `[defaults]`\n\nWhat an agent has that does not say otherwise: {keys}, as under `[agents.NAME]`.\n"


def _rows(table: str, section: type[Section]) -> Iterator[str]:
    for key in known_keys(table):
        field = section.model_fields[key]
        if field.description:
            yield f"| `{key}` | {_kind(field)} | {_default(table, key, field)} | {field.description} |"


def _kind(field: FieldInfo) -> str:
    """The name of the field's kind of value: on the field itself, or inside `kind | None`."""
    inner = (part for option in get_args(field.annotation) for part in getattr(option, "__metadata__", ()))
    return next(part.name for part in (*field.metadata, *inner) if isinstance(part, Kind))


def _default(table: str, key: str, field: FieldInfo) -> str:
    if (table, key) == ("auth.keys", "secret") or field.is_required():
        return _REQUIRED
    value: Any = {} if isinstance(field.default, Section) else field.default
    return "" if value is None else f"`{json.dumps(value)}`"
