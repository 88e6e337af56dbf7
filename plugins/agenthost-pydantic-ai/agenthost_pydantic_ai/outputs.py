"""What an agent's run ends with: its output types, their JSON Schema, and an output as the host's `Result`."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import PydanticUserError
from pydantic_ai.agent import AbstractAgent, WrapperAgent
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelResponse, TextPart
from pydantic_ai.tools import DeferredToolRequests
from pydantic_core import PydanticSerializationError, to_jsonable_python

from agenthost import AgentError, Result


class Outputs:
    """An agent's output types. `spec` is what a run is told: the agent's own, and that its tools may wait for somebody.

    It is None where the agent has said so itself, or has output validators, with which no run may have its own types:
    then its tools can only wait if the agent says so.
    """

    def __init__(self, agent: AbstractAgent[Any, Any]) -> None:
        said = _flat(agent.output_type)
        own = [one for one in said if one is not DeferredToolRequests]
        validated = _has_validators(agent)
        self.structured = own != [str]
        self.schema = _schema(agent, own) if self.structured else None
        self.spec: Any = None if validated or len(own) < len(said) else [*own, DeferredToolRequests]

    def result(self, output: Any, messages: Sequence[ModelMessage]) -> Result | None:
        """How a run ended with `output`, after its own `messages`; None where the text that was streamed says it all.

        Raises `AgentError` for an output that is not JSON.
        """
        streamed = "".join(
            part.content
            for message in messages
            if isinstance(message, ModelResponse)
            for part in message.parts
            if isinstance(part, TextPart)
        )
        plain = None if isinstance(output, BinaryContent) else _plain(output)  # a file is an artifact, told already
        if isinstance(plain, str):
            message = None if plain == streamed else plain
        else:
            message = None if plain is None else json.dumps(plain, ensure_ascii=False)
        if message is None and not self.structured:
            return None
        return Result(message=message, output=plain if self.structured else None)


def _has_validators(agent: AbstractAgent[Any, Any]) -> bool:
    while isinstance(agent, WrapperAgent):
        agent = agent.wrapped
    # there is no public way to ask
    return bool(getattr(agent, "_output_validators", ()))


def _flat(spec: Any) -> list[Any]:
    if isinstance(spec, list | tuple):
        return [one for each in spec for one in _flat(each)]
    if get_origin(spec) in {Union, types.UnionType} and DeferredToolRequests in get_args(spec):
        return list(get_args(spec))
    return [spec]


def _schema(agent: AbstractAgent[Any, Any], own: Sequence[Any]) -> Mapping[str, Any] | None:
    try:
        return agent.output_json_schema(own[0] if len(own) == 1 else list(own))
    except (PydanticUserError, NameError, TypeError):
        return None  # a type that has no JSON Schema, or is known to a type checker alone


def _plain(output: Any) -> Any:
    try:
        return to_jsonable_python(output)
    except (PydanticSerializationError, ValueError):
        raise AgentError(f"the agent's output, of type {type(output).__name__}, is not JSON") from None
