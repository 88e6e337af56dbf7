"""Errors as OpenAI's API tells them: `{"error": {"message", "type", "param", "code"}}`, under the statuses it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from agenthost.errors import HostError, InvalidRequest, NotFound, RunError, ThreadBusy

BAD_KEY, NO_MODEL, TOO_MANY, FAILED = "invalid_api_key", "model_not_found", "rate_limit_exceeded", "server_error"
"""The codes that OpenAI's own clients, and programs written against them, look for."""

MAX_MESSAGE = 600
"""Characters of a message."""

_FIELD = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)*): ")


def render_error(error: HostError, correlation_id: str) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body. What does not fit the body's form is a 400 here, as OpenAI answers it.

    `x-should-retry: false` keeps OpenAI's clients, which try again by themselves, from running an agent again that has
    run, or from giving an answer again.
    """
    status = 400 if error.status == InvalidRequest.status else error.status
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if isinstance(error, RunError) or (status == 409 and not isinstance(error, ThreadBusy)):
        headers["x-should-retry"] = "false"
    return status, headers, orjson.dumps(error_body(error, correlation_id))


def error_body(error: HostError, correlation_id: str) -> dict[str, Any]:
    """The body for an error of the host."""
    detail = error.detail[:MAX_MESSAGE]
    named = _FIELD.match(detail)
    param = error.members.get("param") or (named[1] if named and isinstance(error, InvalidRequest) else None)
    if error.status >= 500 or isinstance(error, RunError):
        detail = failure_text(detail, error.code, correlation_id)
    code = error.members.get("code") or {401: BAD_KEY, 429: TOO_MANY}.get(error.status, error.code)
    return {"error": {"message": detail, "type": _kind(error.status), "param": param, "code": code}}


def failure_body(told: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the `error` event that a run ended with, inside of a stream."""
    text = failure_text(told["error"], told["code"], told["correlation_id"])
    return {"error": {"message": text, "type": FAILED, "param": None, "code": told["code"]}}


def failure_text(text: str, code: str, correlation_id: str) -> str:
    """What went wrong, with what finds it in the host's log."""
    return f"{text} ({code}, correlation id {correlation_id})"


def no_model(error: NotFound) -> NotFound:
    """That there is no such agent, as clients know that a model is unknown."""
    refusal = NotFound("there is no model (agent) of that name here that you may use")
    refusal.members = {"param": "model", "code": NO_MODEL}
    refusal.__cause__ = error
    return refusal


def _kind(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    if status >= 500:
        return FAILED
    return "permission_error" if status == 403 else "invalid_request_error"
