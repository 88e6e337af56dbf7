"""What agents.toml may set for a Locus agent, for what only runs like one, and for a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CALLER, ELSEWHERE = "caller", "elsewhere"

_CONFIGURED = {
    "model": "model",
    "instructions": "system_prompt",
    "max_iterations": "max_iterations",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
}
"""Setting → the field of the agent's own configuration whose place it takes."""


@dataclass(frozen=True)
class RunnableSettings:
    """`settings` of what is no Locus `Agent` and only runs like one."""

    stream_tokens: bool = True


@dataclass(frozen=True)
class Settings(RunnableSettings):
    """`settings` of a Locus agent; what is left out stays as the agent has it."""

    model: str = ""
    instructions: str = ""
    max_iterations: int = 0
    max_tokens: int = 0
    temperature: float | None = None
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For every model call, as `Agent.run` takes them; a run that goes on after a pause has none (Locus's `resume`)."""
    approvals: str = ""
    """Who decides held calls: `caller`, by the answer; `elsewhere`; without it, `caller` where they are in memory."""

    def __post_init__(self) -> None:
        if self.approvals not in {"", CALLER, ELSEWHERE}:
            raise ValueError(f"'approvals' is '{CALLER}' or '{ELSEWHERE}'")
        if not isinstance(self.temperature, int | float | None):
            raise TypeError("'temperature' is a number")

    @property
    def configured(self) -> dict[str, Any]:
        """The fields of the agent's configuration that are set here."""
        values = {field: getattr(self, name) for name, field in _CONFIGURED.items()}
        return {field: value for field, value in values.items() if value or (field == "temperature" and value == 0)}


@dataclass(frozen=True)
class GraphSettings:
    """`settings` of a graph."""

    input_key: str = "prompt"
    """Where in the graph's state the prompt goes."""
    output_key: str = ""
    """What of the final state is the message; without it, the whole state as JSON."""
