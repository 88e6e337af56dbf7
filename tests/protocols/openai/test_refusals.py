"""Errors in OpenAI's shape."""

from __future__ import annotations

import json

import pytest

from agenthost.errors import (
    AgentError,
    AgentNotReady,
    AlreadyAnswered,
    Cancelled,
    HostError,
    InvalidRequest,
    NotFound,
    ThreadBusy,
    TooManyRuns,
    catalogue,
)
from agenthost.protocols.openai.refusals import failure_body, no_model, render_error


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        (InvalidRequest("input: it is empty"), 400, "invalid_request_error", "input", "invalid_request"),
        (InvalidRequest("it is empty"), 400, "invalid_request_error", None, "invalid_request"),
        (no_model(NotFound()), 404, "invalid_request_error", "model", "model_not_found"),
        (TooManyRuns(), 429, "rate_limit_error", None, "rate_limit_exceeded"),
        (AgentNotReady("agent 'a' is loading"), 503, "server_error", None, "agent_not_ready"),
        (AgentError("secret"), 500, "server_error", None, "agent_error"),
    ],
)
def test_an_error_has_the_words_that_clients_look_for(
    error: HostError, status: int, kind: str, param: str | None, code: str
) -> None:
    told, headers, body = render_error(error, "c1")
    assert told == status
    assert headers["content-type"] == "application/json"
    found = json.loads(body)["error"]
    assert (found["type"], found["param"], found["code"]) == (kind, param, code)
    assert "secret" not in found["message"]


def test_what_went_wrong_on_this_side_is_told_with_what_finds_it_in_the_log() -> None:
    assert json.loads(render_error(AgentError("x"), "c1")[2])["error"]["message"] == (
        "The agent failed (agent_error, correlation id c1)"
    )
    told = {"error": "The run took too long", "code": "timeout", "correlation_id": "c2", "run_id": "r"}
    assert failure_body(told) == {
        "error": {
            "message": "The run took too long (timeout, correlation id c2)",
            "type": "server_error",
            "param": None,
            "code": "timeout",
        }
    }


def test_what_has_run_is_not_to_be_tried_again_by_itself() -> None:
    def again(error: HostError) -> str | None:
        return render_error(error, "c")[1].get("x-should-retry")

    assert [again(error) for error in (AgentError(), Cancelled(), AlreadyAnswered())] == ["false"] * 3
    assert [again(error) for error in (ThreadBusy(), TooManyRuns(), AgentNotReady())] == [None] * 3


def test_every_error_has_a_body_under_4_kb() -> None:
    for kind in catalogue():
        if kind.__init__ is HostError.__init__:
            assert len(render_error(kind("\x00" * 5000), "c" * 32)[2]) <= 4096
