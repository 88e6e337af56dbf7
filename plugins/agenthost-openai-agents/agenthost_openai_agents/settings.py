"""What `settings` in agents.toml may say of an agent of the SDK, and the SDK's `RunConfig` that comes of it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agents import Agent, ModelSettings, MultiProvider, RunConfig
from agents.run import CallModelData, ModelInputData
from pydantic import TypeAdapter, ValidationError

APIS = ("responses", "chat_completions")


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The settings; raises `ValueError` for what the SDK would not take. What is left out stays as the code has it.

    `model` names the model of every agent of the run, handoffs included, as the SDK's `RunConfig` does;
    `instructions` are the served agent's alone. `max_turns` is model calls in one run. `model_settings` are fields of
    the SDK's `ModelSettings`, on top of each agent's own. `api_key`, `base_url` and `api` (`"responses"` or
    `"chat_completions"`) say where models that are given by name are called. `tracing` lets the SDK send traces of
    runs, with what was said in them, to where its trace processors send them: by default to OpenAI.
    """

    model: str = ""
    instructions: str = ""
    max_turns: int = 10
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    base_url: str = ""
    api: str = ""
    tracing: bool = False

    def __post_init__(self) -> None:
        if self.max_turns < 1:
            raise ValueError("'max_turns' must be at least 1")
        if self.api and self.api not in APIS:
            raise ValueError(f"'api' must be one of {', '.join(APIS)}")
        self.sdk_model_settings()

    def sdk_model_settings(self) -> ModelSettings | None:
        """`model_settings` as the SDK has them, or None where there are none."""
        if not isinstance(self.model_settings, Mapping):
            raise ValueError("'model_settings' must be a table")
        known = [known.name for known in dataclasses.fields(ModelSettings)]
        for name in self.model_settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(
                    f"unknown key 'model_settings.{name}'" + (f"; did you mean '{near[0]}'?" if near else "")
                )
        try:
            found = TypeAdapter(ModelSettings).validate_python(dict(self.model_settings))
        except ValidationError as invalid:
            wrong = invalid.errors(include_input=False, include_url=False, include_context=False)[0]
            place = ".".join(["model_settings", *(str(part) for part in wrong["loc"])])
            raise ValueError(f"'{place}': {wrong['msg']}") from None
        return found if self.model_settings else None

    def provider(self) -> MultiProvider | None:
        """Where models given by name are called, or None where the SDK's own defaults say it."""
        if not (self.api_key or self.base_url or self.api):
            return None
        return MultiProvider(
            openai_api_key=self.api_key or None,
            openai_base_url=self.base_url or None,
            openai_use_responses=self.api == "responses" if self.api else None,
        )

    def run_config(self, given: RunConfig | None, served: Agent[Any]) -> RunConfig:
        """What each run of `served` begins with: `given` by its author, and these settings on top."""
        config = given or RunConfig()
        changes: dict[str, Any] = {"tracing_disabled": config.tracing_disabled or not self.tracing}
        if self.model:
            changes["model"] = self.model
        if model_settings := self.sdk_model_settings():
            changes["model_settings"] = (config.model_settings or ModelSettings()).resolve(model_settings)
        if provider := self.provider():
            changes["model_provider"] = provider
        if self.instructions:
            changes["call_model_input_filter"] = _instructed(served, self.instructions, config)
        return dataclasses.replace(config, **changes)


def _instructed(served: Agent[Any], instructions: str, config: RunConfig) -> Any:
    """The filter before each model call that gives `served` other instructions, and then the author's own filter.

    A copy of the agent with other instructions would not be the one that other agents hand over to.
    """
    after = config.call_model_input_filter

    async def told(call: CallModelData[Any]) -> ModelInputData:
        if call.agent is served:
            call = dataclasses.replace(call, model_data=dataclasses.replace(call.model_data, instructions=instructions))
        if after is None:
            return call.model_data
        filtered = after(call)
        return filtered if isinstance(filtered, ModelInputData) else await filtered

    return told
