"""What ends a run of the SDK early, in the host's words: a reason where it is the run's own limit, else an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import agents
import openai
from agents import (
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
    UserError,
)

from agenthost import AgentError, AgentUnavailable, Custom, Event, HostError, Result

GUARDRAILS = (
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)

_Refusal: Any = getattr(agents, "ModelRefusalError", None)
_Timeout: Any = getattr(agents, "ModelTimeoutError", None)


def gave_up(raised: Exception) -> Sequence[Event]:
    """How a run ends that its own rules have stopped; nothing for an error."""
    if isinstance(raised, MaxTurnsExceeded):
        return [Result(reason="max_iterations")]
    if isinstance(raised, GUARDRAILS):
        return [Custom("x-guardrail", _tripped(raised)), Result(message="", reason="guardrail")]
    if _Refusal is not None and isinstance(raised, _Refusal):
        return [Result(message=raised.refusal, reason="refused")]
    return ()


def _tripped(raised: Any) -> dict[str, str]:
    """Which guardrail, and what it looked at; its own findings may quote what it stopped."""
    kind = type(raised).__name__.removesuffix("GuardrailTripwireTriggered")
    looked_at = {"Input": "input", "Output": "output", "ToolInput": "tool_input", "ToolOutput": "tool_output"}[kind]
    guardrail = raised.guardrail_result.guardrail if hasattr(raised, "guardrail_result") else raised.guardrail
    return {"guardrail": guardrail.get_name(), "of": looked_at}


def host_error(raised: Exception) -> HostError | None:
    """The host's error for one of the SDK's or of its client's; None for what the agent's own code raised.

    Neither has the provider's message, which may quote the prompt or the key, but what identifies it.
    """
    if isinstance(raised, openai.AuthenticationError | openai.PermissionDeniedError):
        return AgentError(f"the model's provider refused the key: {_named(raised)}", hint=_KEY)
    if isinstance(raised, openai.RateLimitError | openai.InternalServerError | openai.APIConnectionError):
        return AgentUnavailable(f"the model's provider does not answer now: {_named(raised)}")
    if isinstance(raised, openai.APIError):
        return AgentError(f"the model's provider refused the request: {_named(raised)}")
    if isinstance(raised, openai.OpenAIError):
        return AgentError("the model's provider cannot be asked: no key is given", hint=_KEY)
    if _Timeout is not None and isinstance(raised, _Timeout):
        return AgentUnavailable(f"the model did not answer within {raised.timeout_seconds:g} s")
    if isinstance(raised, ModelBehaviorError):
        return AgentError("the model answered with what the SDK cannot use: no such tool, or JSON that does not fit")
    if isinstance(raised, UserError):
        return AgentError(f"the agent is set up wrongly: {raised}")
    return None


_KEY = "set OPENAI_API_KEY for the host, or settings.api_key of this agent"


def _named(raised: openai.APIError) -> str:
    """`RateLimitError, status 429, code rate_limit_exceeded, request req_123`."""
    facts = {
        "status": getattr(raised, "status_code", None),
        "code": raised.code,
        "parameter": raised.param,
        "request": getattr(raised, "request_id", None),
    }
    return ", ".join([type(raised).__name__, *(f"{name} {fact}" for name, fact in facts.items() if fact)])
