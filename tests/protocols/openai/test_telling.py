"""A run as a response: its items, its events, and the same events for who comes late."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocols.openai.conftest import Api, numbered, text_of


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_text_begins_grows_and_ends_as_one_message(api: Api) -> None:
    events = api.events("echo", "hello  world")
    assert kinds(events) == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [event["delta"] for event in events if "delta" in event] == ["hello  ", "world"]
    (item,) = events[-1]["response"]["output"]
    assert item == events[-2]["item"]
    assert item["content"] == [{"type": "output_text", "text": "hello  world", "annotations": [], "logprobs": []}]


def test_thoughts_tools_and_text_are_items_in_the_order_they_came(api: Api) -> None:
    events = api.events("everything", "x")
    output = events[-1]["response"]["output"]
    assert [(item["type"], item["status"]) for item in output] == [
        ("reasoning", "completed"),
        ("mcp_call", "completed"),
        ("mcp_call", "failed"),
        ("message", "completed"),
        ("reasoning", "completed"),
        ("message", "completed"),
    ]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "let me see"}]
    assert (output[1]["name"], output[1]["arguments"], output[1]["output"]) == ("search", '{"q":"x"}', "found")
    assert output[2]["error"]["content"][0]["text"] == "not found"
    ended = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert ended == output, "each is told as it ended"
    begun = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    assert begun == [item["id"] for item in output]


def test_the_whole_response_is_what_the_stream_ends_with(api: Api) -> None:
    def bare(response: Any) -> Any:
        run_id = response["id"].removeprefix("resp_")
        return eval(repr(response).replace(run_id, "RUN")) | {"created_at": 0, "completed_at": 0, "conversation": None}

    for model in ("echo", "everything", "ponders", "late", "asks", "approves"):
        assert bare(api.respond(model, "x")) == bare(api.events(model, "x")[-1]["response"]), model


def test_an_answer_that_comes_all_at_once_is_one_message(api: Api) -> None:
    events = api.events("late", "x")
    assert [event["delta"] for event in events if "delta" in event] == ["at last: x"]


def test_a_structured_answer_is_json_where_json_is_asked_for(api: Api) -> None:
    wanted = {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}
    assert text_of(api.respond("everything", "x", **wanted)) == '{"seen":"x"}'
    assert text_of(api.events("everything", "x", **wanted)[-1]["response"]) == '{"seen":"x"}'


def test_an_agent_that_gave_up_leaves_the_response_incomplete(api: Api) -> None:
    found = api.respond("gives-up", "max_iterations")
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert kinds(api.events("gives-up", "max_iterations"))[-1] == "incomplete"


def test_a_run_that_fails_ends_its_stream_with_its_failure(api: Api) -> None:
    *_, item, last = api.events("fail", "later")
    assert (item["item"]["status"], last["type"]) == ("incomplete", "response.failed")
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"]["code"] == "server_error"
    assert last["response"]["error"]["message"].startswith("internal error (agent_error, correlation id ")


@pytest.mark.parametrize("model", ["everything", "asks", "approves", "fail"])
def test_who_comes_late_is_told_the_same_under_the_same_numbers(api: Api, model: str) -> None:
    events = api.events(model, "later")
    found = api.get(f"/responses/{events[0]['response']['id']}?stream=true").frames
    told = numbered(found, 0)
    assert kinds(told) == kinds(events)
    assert told[2:-1] == events[2:-1]
    for after in (0, 4, len(events) - 2):
        rest = api.get(f"/responses/{events[0]['response']['id']}?stream=true&starting_after={after}").frames
        assert numbered(rest, after + 1) == told[after + 1 :]
