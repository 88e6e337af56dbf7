"""The framework's errors as the host's: what an operator reads, without a prompt, an answer or a key in it."""

from __future__ import annotations

from typing import Any

from pydantic_ai import exceptions
from pydantic_ai.exceptions import (
    ConcurrencyLimitExceeded,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UserError,
)

from agenthost import AgentError, AgentUnavailable, HostError

_LATER = frozenset({408, 425, 429})
"""HTTP statuses, besides those of a failing server, after which the same request may do."""

_REJECTED: Any = tuple(
    getattr(exceptions, name)
    for name in ("ModelRequestRejectedError", "ModelQuotaExceededError")
    if hasattr(exceptions, name)  # older releases tell these by their status alone
)


def failure(error: Exception) -> HostError | None:
    """The host's error for one that the framework raised; None where it is the agent's own code that failed."""
    if isinstance(error, ModelHTTPError):
        return _answered(error)
    if isinstance(error, ModelAPIError):
        text = f"model '{error.model_name}' did not answer: {_kind(error)}"
        return AgentError(text) if isinstance(error, _REJECTED) else AgentUnavailable(text)
    if isinstance(error, FallbackExceptionGroup):
        found = [failure(one) for one in error.exceptions]
        kind = AgentUnavailable if any(isinstance(one, AgentUnavailable) for one in found) else AgentError
        return kind("no model answered: " + "; ".join(one.message for one in found if one is not None))
    if isinstance(error, ConcurrencyLimitExceeded):
        return AgentUnavailable("the agent's own limit of concurrent requests is reached")
    if isinstance(error, UnexpectedModelBehavior):
        return AgentError(f"the model did not answer as it must ({_kind(error)}): {error.message}")
    if isinstance(error, UserError):
        return AgentError(f"the agent is not set up for this: {error.message}")
    return None


def _answered(error: ModelHTTPError) -> HostError:
    text = f"model '{error.model_name}' answered with HTTP status {error.status_code}"
    if not isinstance(error, _REJECTED) and (error.status_code in _LATER or error.status_code >= 500):
        return AgentUnavailable(text, retry_after=getattr(error, "retry_after", None))
    hint = "look at its API key and its account" if error.status_code in {401, 402, 403} else None
    return AgentError(text, hint=hint)


def _kind(error: Exception) -> str:
    return type(error).__name__.removeprefix("_HTTP")
