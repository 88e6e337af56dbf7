"""A plugin's own `Settings` type, applied to what agents.toml says under `settings`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from agenthost.agents import AgentSpec
from agenthost.errors import LoadError


def validate_settings(kind: type | None, spec: AgentSpec) -> Any:
    """Validate `spec.settings` by the plugin's own type; raises `LoadError` naming every bad key, never a value.

    A pydantic model validates as it does, a dataclass by its fields' names and plain types; without a type, the
    settings reach the agent as the dict they are.
    """
    given = dict(spec.settings)
    if kind is None:
        return given
    if hasattr(kind, "model_validate"):
        try:
            return kind.model_validate(given)
        except ValueError as invalid:
            raise _bad_settings(spec, _pydantic_problems(invalid)) from None
    if dataclasses.is_dataclass(kind):
        problems = _dataclass_problems(kind, given)
        if problems:
            raise _bad_settings(spec, problems)
    try:
        return kind(**given)
    except (TypeError, ValueError) as invalid:
        raise _bad_settings(spec, [str(invalid)]) from None


def _pydantic_problems(invalid: Any) -> list[str]:
    try:
        errors = invalid.errors(include_input=False, include_url=False, include_context=False)
    except (AttributeError, TypeError):
        return [str(invalid)]
    return [f"{'.'.join(str(place) for place in error['loc']) or 'settings'}: {error['msg']}" for error in errors]


def _dataclass_problems(kind: Any, given: Mapping[str, Any]) -> list[str]:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    problems = []
    for key in given:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            problems.append(f"unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            problems.append(f"'{name}' is missing")
        label = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        if name in given and not _fits(given[name], label):
            problems.append(f"'{name}' must be {label}, not {type(given[name]).__name__}")
    return problems


def _fits(value: Any, label: str) -> bool:
    """Whether a value from TOML fits a plain annotation; any other annotation is the dataclass's own business."""
    plain: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
    wanted = plain.get(label)
    return wanted is None or (isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool)))


def _bad_settings(spec: AgentSpec, problems: Sequence[str]) -> LoadError:
    return LoadError(
        f"agent '{spec.name}' ({spec.source.label}) does not accept its settings: {'; '.join(problems)}",
        hint=f"correct [agents.{spec.name}.settings]",
        distribution=spec.source.distribution,
        version=spec.source.version,
    )
