"""JSON Schema of an agent's input, compiled once: what is wrong with a value, said without repeating the value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema_rs


def input_check(schema: Mapping[str, Any], name: str = "input", *, needed: bool = False) -> Callable[[Any], str | None]:
    """Compile `schema` (2020-12 unless it says otherwise); the result says where in `name` and which rule, or None.

    Where it is `needed`, None is told as what is missing.

    Raises `ValueError` for a schema that is not one. References to other documents are not followed: the host fetches
    nothing.
    """

    def refuse(uri: str) -> Any:
        raise ValueError(f"input_schema refers to another document: {uri}")

    validator = jsonschema_rs.validator_for(dict(schema), retriever=refuse)

    def check(value: Any) -> str | None:
        if needed and value is None:
            return f"this agent takes structured {name} only: give it as `{name}`"
        error = next(iter(validator.iter_errors(value)), None)
        if error is None:
            return None
        rule, expected = _rule(schema, error.schema_path)
        return f"{name}{_place(getattr(error, 'evaluation_path', error.schema_path))} does not meet '{rule}'{expected}"

    return check


def _place(schema_path: Sequence[str | int]) -> str:
    """Where in the value, spelled from the schema's own words: a caller's keys are never sent back.

    The path of evaluation goes through every `$ref`; older releases know only where the rule stands.
    """
    steps = []
    names = iter(schema_path)
    for step in names:
        if step == "properties":
            steps.append(f".{next(names, '')}")
        elif step in {"items", "prefixItems", "contains"}:
            steps.append("[]")
        elif step in {"additionalProperties", "patternProperties"}:
            steps.append(".*")
    return "".join(steps[:-1] if schema_path and schema_path[-1] == "additionalProperties" else steps)


def _rule(schema: Any, schema_path: Sequence[str | int]) -> tuple[str, str]:
    """The keyword that failed, and what it asks for where that is short."""
    for step in schema_path:
        try:
            schema = schema[step]
        except (KeyError, IndexError, TypeError):
            return str(schema_path[-1]), ""  # behind a $ref: the keyword alone must do
    text = repr(schema)
    return str(schema_path[-1]) if schema_path else "schema", f" ({text})" if len(text) <= 120 else ""
