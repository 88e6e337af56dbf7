"""The response object: every field that its open schema asks for, and what was asked said back."""

from __future__ import annotations

from tests.protocols.openai.conftest import ROOT, Api, text_of
from tests.wire import ask

REQUIRED = {
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "user", "usage",
    "max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier",
    "prompt_cache_key",
}  # fmt: skip
"""What the Open Responses schema (of 2026-04-24) requires of a response."""


def test_every_field_that_the_open_schema_requires_is_there_whatever_the_status(api: Api) -> None:
    for event in api.events("echo"):
        assert set(event.get("response", REQUIRED)) >= REQUIRED, event["type"]
    found = api.respond("hold", background=True)
    assert set(found) >= REQUIRED
    assert (found["completed_at"], found["usage"], found["background"]) == (None, None, True)
    assert set(api.post(f"/responses/{found['id']}/cancel").json) >= REQUIRED


def test_what_was_asked_is_said_back_also_when_it_is_asked_for_again(api: Api) -> None:
    asked = {
        "instructions": "be brief",
        "temperature": 0.5,
        "max_output_tokens": 100,
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "user": "u",
        "reasoning": {"effort": "low"},
        "truncation": "auto",
    }
    found = api.respond("echo", **asked)
    assert {name: found[name] for name in asked} == {**asked, "reasoning": {"effort": "low", "summary": None}}
    assert api.get(f"/responses/{found['id']}").json == found


def test_a_run_that_the_native_protocol_began_is_a_response_too(api: Api) -> None:
    run = ask(api.hosted.port, "POST", "/agents/echo/invoke", ROOT, {"prompt": "hi", "thread_id": "native"}).json
    found = api.get(f"/responses/resp_{run['run_id']}").json
    assert (text_of(found), found["conversation"], found["metadata"]) == ("hi", {"id": "native"}, {})
    assert text_of(api.respond(input="more", previous_response_id=found["id"])) == "(2) more"
