"""What `settings` in agents.toml may say of a Pydantic AI agent: its model, instructions, limits, dependencies."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits
from pydantic_core import PydanticCustomError

from agenthost import RunContext

MakeDeps = Callable[[RunContext], Any]
"""Makes an agent's dependencies for one run: a function, an async one, or one marked `@asynccontextmanager`."""


def _problem(text: str) -> PydanticCustomError:
    return PydanticCustomError("agenthost", "{problem}", {"problem": text})


def _only(known: Collection[str], given: Any, passed_on: Callable[[str], bool] = lambda key: False) -> Any:
    """`given`, where each key is a known one, or may be passed on unknown; the nearest one is named otherwise."""
    for key in given if isinstance(given, Mapping) else ():
        near = difflib.get_close_matches(str(key), known, 1, cutoff=0.75)
        if key not in known and (near or not passed_on(key)):
            raise _problem(f"unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
    return given


def _model(name: Any) -> Any:
    """The model of that name, made at load, so that a missing provider or key is shown at start."""
    if not isinstance(name, str):
        return name
    try:
        return infer_model(name)
    except (ImportError, UserError, ValueError) as refused:
        raise _problem(f"cannot use {name!r}: {refused}") from None


def _named(text: Any) -> Any:
    """The object that `module:attribute` names."""
    if not isinstance(text, str):
        return text
    module, _, attribute = text.partition(":")
    if not module or not attribute:
        raise _problem(f"{text!r} is not of the form module:function")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as absent:
        raise _problem(f"cannot import {text!r}: {absent}") from None


def _model_settings(given: Any) -> Any:
    # what is a provider's own is written provider_key, and is not known here
    return _only(ModelSettings.__annotations__, given, passed_on=lambda key: "_" in key)


def _usage_limits(given: Any) -> Any:
    return _only([field.name for field in dataclasses.fields(UsageLimits)], given)


class Settings(BaseModel):
    """What agents.toml may say; what it leaves out is as the agent has it.

    `model` takes the place of the agent's model. `instructions` are added to its own. `model_settings` (temperature,
    max_tokens, …) go over the agent's. `usage_limits` hold for each run. `deps` is `module:function`, called with the
    run's context. `urls` lets the model have files that callers name by address.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())

    model: Annotated[Model | None, BeforeValidator(_model)] = None
    instructions: str | None = None
    model_settings: Annotated[dict[str, Any] | None, BeforeValidator(_model_settings)] = None
    usage_limits: Annotated[UsageLimits | None, BeforeValidator(_usage_limits)] = None
    deps: Annotated[Callable[..., Any] | None, BeforeValidator(_named)] = None
    urls: bool = False

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        return _only(cls.model_fields, given)


def _may_be_none(deps_type: Any) -> bool:
    return get_origin(deps_type) in {Union, types.UnionType} and type(None) in get_args(deps_type)


def settings_for(deps_type: Any, make_deps: MakeDeps | None) -> type[Settings]:
    """`Settings`, or one that insists on `deps` where the agent takes some and nobody has said where from."""
    # equality, since not every type has a hash
    if make_deps is not None or deps_type in (None, type(None), object, Any, RunContext) or _may_be_none(deps_type):
        return Settings
    name = deps_type.__name__ if isinstance(deps_type, type) else str(deps_type)

    class NeedsDeps(Settings):
        @model_validator(mode="after")
        def _has_deps(self) -> NeedsDeps:
            if self.deps is None:
                raise _problem(
                    f'the agent takes deps of type {name}: say deps = "module:function" here, '
                    "or offer serve(agent, deps=function) of agenthost_pydantic_ai instead of the agent"
                )
            return self

    return NeedsDeps
