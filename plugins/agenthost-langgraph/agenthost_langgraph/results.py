"""How a run of a graph ended: its message, its structured output, and which errors are its provider's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import Logger, LoggerAdapter
from traceback import walk_tb
from typing import Any

from langchain_core.messages import BaseMessage

from agenthost import AgentUnavailable, Result
from agenthost_langgraph.conversation import answer_text
from agenthost_langgraph.plain_values import plain, problem
from agenthost_langgraph.schemas import MESSAGES

CLIENTS_OWN = {"APIConnectionError", "APIStatusError"}
"""What providers' own clients raise, which nodes may call themselves."""

MODELS = "langchain_core.language_models"


def messages_in(values: Any) -> list[Any]:
    """The conversation in a graph's state."""
    found = values.get(MESSAGES) if isinstance(values, Mapping) else None
    return found if isinstance(found, list) else []


def result_of(graph: Any, values: Any, log: LoggerAdapter[Any] | Logger) -> Result:
    """How a run ended: the last message, or what a graph without messages gives; and its structured output.

    A key of it that is no JSON is left out, and the log says which.
    """
    named = graph.output_channels
    if isinstance(named, str) or not isinstance(values, Mapping):
        return _returned(values, log)
    output = _output({name: values[name] for name in named if name in values}, log)
    if MESSAGES in graph.channels:
        return Result(answer_text(messages_in(values)), output=output or None)
    return _structured(output)


def _output(values: Mapping[str, Any], log: LoggerAdapter[Any] | Logger) -> dict[str, Any]:
    output: dict[str, Any] = {}
    for name, value in values.items():
        if name == MESSAGES:
            continue
        try:
            shown = plain(value)
            wrong = problem(shown)
        except (TypeError, ValueError, RecursionError) as raised:  # a model with a field of what pydantic cannot dump
            wrong = type(raised).__name__
        if wrong is None:
            output[name] = shown
        else:
            log.warning("key '%s' of the state is left out of the output, which is JSON: %s", name, wrong)
    return output


def _returned(value: Any, log: LoggerAdapter[Any] | Logger) -> Result:
    """What a functional entrypoint returned."""
    if value is None or isinstance(value, str):
        return Result(value)
    said = [value] if isinstance(value, BaseMessage) else value
    if isinstance(said, list) and said and all(isinstance(one, BaseMessage) for one in said):
        return Result(answer_text(said))
    if isinstance(value, Mapping) and messages_in(value):
        return Result(answer_text(messages_in(value)), output=_output(value, log) or None)
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
    names = {kind.__name__ for kind in type(raised).__mro__}
    if not (names & CLIENTS_OWN or _in_a_model_call(raised)):
        return False  # a tool's service, or a database
    status = getattr(raised, "status_code", None)
    if isinstance(status, int):
        return status in {408, 429} or status >= 500
    return bool(names & {"ConnectionError", "APIConnectionError", "ConnectError", "ConnectTimeout"})


def _in_a_model_call(raised: Exception) -> bool:
    """Whether it came through LangChain's models."""
    frames = (frame for frame, _line in walk_tb(raised.__traceback__))
    return any(str(frame.f_globals.get("__name__")).startswith(MODELS) for frame in frames)
