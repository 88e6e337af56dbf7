"""How a run of a graph ended: its message, its structured output, and which errors are its provider's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.messages import BaseMessage

from agenthost import AgentUnavailable, Result
from agenthost_langgraph.conversation import answer_text
from agenthost_langgraph.plain_values import plain
from agenthost_langgraph.schemas import MESSAGES


def messages_in(values: Any) -> list[Any]:
    """The conversation in a graph's state."""
    found = values.get(MESSAGES) if isinstance(values, Mapping) else None
    return found if isinstance(found, list) else []


def result_of(graph: Any, values: Any) -> Result:
    """How a run ended: the last message, or what a graph without messages gives; and its structured output."""
    named = graph.output_channels
    if isinstance(named, str) or not isinstance(values, Mapping):
        return _returned(values)
    output = {name: plain(values[name]) for name in named if name in values and name != MESSAGES}
    if MESSAGES in graph.channels:
        return Result(answer_text(messages_in(values)), output=output or None)
    return _structured(output)


def _returned(value: Any) -> Result:
    """What a functional entrypoint returned."""
    if value is None or isinstance(value, str):
        return Result(value)
    said = [value] if isinstance(value, BaseMessage) else value
    if isinstance(said, list) and said and all(isinstance(one, BaseMessage) for one in said):
        return Result(answer_text(said))
    if isinstance(value, Mapping) and messages_in(value):
        output = {name: plain(item) for name, item in value.items() if name != MESSAGES}
        return Result(answer_text(messages_in(value)), output=output or None)
    return _structured(plain(value))


def _structured(output: Any) -> Result:
    """An output that is the message as well: itself where it is one text, else as JSON."""
    values = list(output.values()) if isinstance(output, dict) else []
    if len(values) == 1 and isinstance(values[0], str):
        return Result(values[0], output=output)
    try:
        return Result(json.dumps(output, ensure_ascii=False), output=output)
    except (TypeError, ValueError):
        return Result("", output=output)  # the event's own encoding fails the run and names the type


@contextmanager
def provider_errors() -> Iterator[None]:
    """Raise `AgentUnavailable` for an error that says that the model's provider is down, or takes no more for now."""
    try:
        yield
    except Exception as raised:
        if _is_unavailable(raised):
            raise AgentUnavailable(f"its model's provider cannot be reached: {type(raised).__name__}") from raised
        raise


def _is_unavailable(raised: Exception) -> bool:
    status = getattr(raised, "status_code", None)
    if isinstance(status, int):
        return status in {408, 429} or status >= 500
    names = {kind.__name__ for kind in type(raised).__mro__}
    return bool(names & {"ConnectionError", "APIConnectionError", "ConnectError", "ConnectTimeout"})
