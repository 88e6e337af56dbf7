"""The framework's errors: what callers see, and what operators read."""

from __future__ import annotations

from typing import Any

import pytest
from agenthost_pydantic_ai.failures import failure
from pydantic_ai import exceptions
from pydantic_ai.exceptions import (
    FallbackExceptionGroup,
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UserError,
)

from agenthost import AgentError, AgentUnavailable

pytestmark = pytest.mark.framework

SECRET = {"error": "sk-1234 is no key, and the prompt was: my name is Ann"}


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (ModelHTTPError(503, "m", SECRET), AgentUnavailable, "model 'm' answered with HTTP status 503"),
        (ModelHTTPError(429, "m", SECRET), AgentUnavailable, "model 'm' answered with HTTP status 429"),
        (ModelHTTPError(400, "m", SECRET), AgentError, "model 'm' answered with HTTP status 400"),
        (ModelHTTPError(401, "m", SECRET), AgentError, "model 'm' answered with HTTP status 401"),
        (ModelAPIError("m", "Connection error."), AgentUnavailable, "model 'm' did not answer: ModelAPIError"),
        (
            UnexpectedModelBehavior("Exceeded maximum output retries (1)", "sk-1234"),
            AgentError,
            "the model did not answer as it must (UnexpectedModelBehavior): Exceeded maximum output retries (1)",
        ),
        (UserError("no model"), AgentError, "the agent is not set up for this: no model"),
        (
            FallbackExceptionGroup("all failed", [ModelHTTPError(400, "a", SECRET), ModelHTTPError(500, "b", SECRET)]),
            AgentUnavailable,
            "no model answered: model 'a' answered with HTTP status 400; model 'b' answered with HTTP status 500",
        ),
        (
            FallbackExceptionGroup("all failed", [ModelHTTPError(400, "a", SECRET)]),
            AgentError,
            "no model answered: model 'a' answered with HTTP status 400",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_a_model_says_which_and_nothing_of_what_was_said(raised: Any, kind: Any, message: str) -> None:
    error = failure(raised)

    assert type(error) is kind
    assert error.message == message


def test_who_can_mend_it_is_told() -> None:
    refused = failure(ModelHTTPError(401, "m", SECRET))

    assert refused is not None
    assert refused.hint == "look at its API key and its account"


def test_what_the_agents_own_code_raises_is_left_to_the_host() -> None:
    assert failure(KeyError("x")) is None


@pytest.mark.skipif(not hasattr(exceptions, "ModelQuotaExceededError"), reason="this release knows statuses alone")
def test_an_account_without_money_is_no_matter_of_waiting() -> None:
    spent = exceptions.ModelQuotaExceededError("m", "spent")
    assert type(failure(spent)) is AgentError
    late = ModelHTTPError(429, "m", SECRET)
    late.retry_after = 7.0
    told = failure(late)
    assert told is not None
    assert told.retry_after == 7.0


APP = """
import os
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai_doubles import model

def say(messages):
    raise ModelHTTPError(int(messages[-1].parts[-1].content), "gpt", {"error": "my name is Ann"})

agent = Agent(model(say))
"""


def test_over_http_a_model_that_is_down_is_not_available_and_one_that_refuses_is_an_error(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = served(APP)
    down = client.post("/agents/app/invoke", json={"prompt": "503"})
    refused = client.post("/agents/app/invoke", json={"prompt": "400"})

    assert (down.status_code, down.json()["code"]) == (503, "agent_unavailable")
    assert (refused.status_code, refused.json()["code"]) == (500, "agent_error")
    assert "Ann" not in down.text + refused.text
    assert "model 'gpt' answered with HTTP status 503" in caplog.text
