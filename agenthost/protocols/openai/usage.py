"""What a run took, in OpenAI's words; zero where its agent says nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COUNTED = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


class Tally:
    """The sum of a run's `usage` events."""

    __slots__ = _COUNTED

    def __init__(self) -> None:
        self.input_tokens = self.output_tokens = self.cached_tokens = self.reasoning_tokens = 0

    def add(self, told: Mapping[str, Any]) -> None:
        """Add one event."""
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + told.get(name, 0))


def chat_usage(tally: Tally) -> dict[str, Any]:
    """`usage` of a chat completion."""
    return {
        "prompt_tokens": tally.input_tokens,
        "completion_tokens": tally.output_tokens,
        "total_tokens": tally.input_tokens + tally.output_tokens,
        "prompt_tokens_details": {"cached_tokens": tally.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": tally.reasoning_tokens},
    }


def response_usage(tally: Tally) -> dict[str, Any]:
    """`usage` of a response."""
    return {
        "input_tokens": tally.input_tokens,
        "input_tokens_details": {"cached_tokens": tally.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": tally.output_tokens,
        "output_tokens_details": {"reasoning_tokens": tally.reasoning_tokens},
        "total_tokens": tally.input_tokens + tally.output_tokens,
    }
