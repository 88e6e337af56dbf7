"""What a chat completion is asked with: messages of every role, in parts, and what is for the agent to read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthost.errors import InvalidRequest
from agenthost.protocols.openai.chat_wire import ChatBody, parsed
from tests.protocols.openai.conftest import Api, refusal
from tests.wire import ask

RUN = "0" * 32


def shown(api: Api, *messages: Any, **fields: Any) -> Any:
    """What an agent is given."""
    found = api.chat("shows", *messages, response_format={"type": "json_object"}, **fields)
    return parsed(found["message"]["content"])


def test_the_messages_are_the_conversation(api: Api) -> None:
    given = shown(
        api,
        {"role": "developer", "content": "be brief"},
        "weather?",
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "rain"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        "and now?",
    )["messages"]
    assert [message["role"] for message in given] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert given[2]["tool_calls"] == [{"id": "c", "name": "look", "arguments": {"at": 1}}]
    assert (given[3]["tool_call_id"], given[3]["content"][0]["text"]) == ("c", "rain")
    assert given[-1]["content"] == [{"type": "text", "text": "and now?"}]


def test_images_audio_and_files_come_as_parts(api: Api) -> None:
    given = shown(
        api,
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AP8=", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://a/b.jpeg"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_data": "AA==", "filename": "a.pdf"}},
            ],
        },
    )["messages"]
    assert given[-1]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "file", "media_type": "image/png", "data": "AP8="},
        {"type": "file", "media_type": "image/jpeg", "uri": "https://a/b.jpeg"},
        {"type": "file", "media_type": "audio/wav", "data": "AA=="},
        {"type": "file", "media_type": "application/pdf", "data": "AA=="},
    ]


def test_what_the_host_does_not_act_on_is_for_the_agent_to_read(api: Api) -> None:
    metadata = shown(api, "x", temperature=0.5, metadata={"tag": "a"}, tools=[{"type": "function"}], user=None)[
        "metadata"
    ]
    assert metadata == {
        "tag": "a",
        "openai": {"temperature": 0.5, "tools": [{"type": "function"}], "response_format": {"type": "json_object"}},
    }


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"messages": [{"role": "user"}], "n": 2}, "n: an agent gives one answer", "n"),
        ({"messages": [{"role": "robot", "content": "x"}]},
         "messages: Input should be 'system', 'developer', 'user', 'assistant' or 'tool'", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
         "messages: Input should be a valid string; messages: Input is none of the types that are expected",
         "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]},
         "messages: the last message is the user's, or answers what the agent asked", "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "metadata": {"openai": "x"}},
         "metadata: the name 'openai' is the host's own", "metadata"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
         "messages: a file comes with its data or its URL; this host stores none", "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "metadata": {"a": 1}},
         "metadata: Input should be a valid string", "metadata"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_field_it_is_in(api: Api, fields: Any, message: str, param: str) -> None:
    error = refusal(api.post("/chat/completions", {"model": "echo", **fields}), 400)
    assert (error["message"], error["param"]) == (message, param)


def test_only_answers_at_the_end_are_answers() -> None:
    ours, other = (
        {"role": "tool", "tool_call_id": name, "content": "yes"} for name in (f"call_{RUN}_q", "call_of_another")
    )
    asked = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None}]

    def said(*messages: Any) -> Any:
        return ChatBody.model_validate({"model": "a", "messages": [*asked, *messages]}).conversation()

    assert [given.text for given in said(ours, ours).answers] == ["yes", "yes"]
    later = said(ours, {"role": "assistant", "content": "so"}, {"role": "user", "content": "on"})
    assert (later.answers, later.prompt, len(later.history)) == ([], "on", 4)
    with pytest.raises(InvalidRequest, match="the last message is the user's"):
        said(other)


def test_arguments_that_are_no_json_stay_as_they_are() -> None:
    assert parsed('{"a": 1}') == {"a": 1}
    assert parsed("{") == "{"


@pytest.mark.parametrize("form", [[], {}, {"type": []}, {"type": None}, {"type": "text"}])
def test_a_form_of_answer_that_is_none_asks_for_text(api: Api, form: Any) -> None:
    body = {"model": "everything", "messages": [{"role": "user", "content": "x"}], "response_format": form}
    reply = api.post("/chat/completions", body)
    assert reply.status == (400 if form == [] else 200)
    if reply.status == 200:
        assert reply.json["choices"][0]["message"]["content"] == "the end"


def test_what_json_cannot_carry_is_refused_wherever_it_stands(api: Api) -> None:
    bad = "\ud800"
    call = {"id": bad, "type": "function", "function": {"name": "n", "arguments": "{}"}}
    for message in (
        {"role": "user", "content": bad},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{RUN}_q", "content": bad},
    ):
        body = b'{"model": "echo", "messages": [{"role": "user", "content": "x"}, %b]}'
        raw = body % json.dumps(message).encode()
        sent = {"authorization": "Bearer root-0123456789abcdef", "content-type": "application/json"}
        error = refusal(ask(api.hosted.port, "POST", "/v1/chat/completions", sent, raw), 400)
        assert error["code"] in {"invalid_request", "bad_request"}
