"""What a response is asked with: text or items, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.errors import InvalidRequest
from agenthost.protocols.openai.input_wire import ResponseBody
from tests.protocols.openai.conftest import Api, refusal

RUN = "0" * 32
ANSWER = {"type": "function_call_output", "call_id": f"call_{RUN}_q", "output": "yes"}
APPROVED = {"type": "mcp_approval_response", "approval_request_id": f"mcpr_{RUN}_q", "approve": True, "reason": "so"}


def said(*items: Any, **fields: Any) -> Any:
    return ResponseBody.model_validate({"model": "a", "input": list(items), **fields}).said()


def test_items_become_the_conversation() -> None:
    found = said(
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at": 1}'},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "rain"}]},
        {"type": "mcp_call", "id": "m", "name": "rm", "arguments": "{}", "server_label": "x", "output": "gone"},
        {"type": "mcp_approval_request", "id": "r", "name": "rm", "arguments": "{}", "server_label": "x"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}], "id": "msg"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "developer", "content": "hush"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "https://a/b.png", "detail": "auto"},
                {"type": "input_file", "file_url": "https://a/b.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
            ],
        },
        instructions="be brief",
    )
    roles = ["system", "user", "assistant", "tool", "assistant", "tool", "assistant", "assistant", "system"]
    assert [message.role for message in found.history] == roles
    assert [message.text for message in found.history if message.text] == [
        "be brief", "hi", "rain", "gone", "so", "no", "hush",
    ]  # fmt: skip
    assert found.history[2].tool_calls == ({"id": "c", "name": "look", "arguments": {"at": 1}},)
    assert found.prompt == "see"
    assert [part.media_type for part in found.content[1:]] == ["image/png", "application/pdf", "audio/mpeg"]


def test_answers_are_those_behind_the_last_message_where_the_client_brings_the_conversation() -> None:
    user, assistant = {"role": "user", "content": "x"}, {"role": "assistant", "content": "so"}
    assert [given.interrupt_id for given in said(user, ANSWER).answers] == ["q"]
    later = said(user, ANSWER, assistant, user)
    assert (later.answers, [message.role for message in later.history]) == ([], ["user", "tool", "assistant"])
    approved = said(APPROVED).answers[0]
    assert (approved.approved, approved.reason) == (True, "so")


def test_where_the_host_knows_the_conversation_every_answer_is_one() -> None:
    with pytest.raises(InvalidRequest, match="answer what was asked, or say something new; not both at once"):
        said(ANSWER, {"role": "user", "content": "x"}, previous_response_id="resp_x")


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"input": "x"}, "model: name an agent, or a response to go on from", "model"),
        ({"model": "echo"}, "input: Field required", "input"),
        ({"model": "", "input": "x"}, "model: String should have at least 1 character", "model"),
        ({"model": "echo", "input": []}, "input: the last message is the user's, or answers what the agent asked",
         "input"),
        ({"model": "echo", "input": "x", "conversation": "c", "previous_response_id": "resp_x"},
         "conversation: give either it or previous_response_id", "conversation"),
        ({"model": "echo", "input": "x", "store": False, "background": True},
         "store: what runs in the background, or in a conversation, is stored", "store"),
        ({"model": "echo", "input": [{"content": "x"}]}, "input: a message has a role", "input"),
        ({"model": "echo", "input": [{"type": "item_reference", "id": "x"}]}, None, "input"),
        ({"model": "echo", "input": [{"type": "mcp_approval_response", "approval_request_id": "x", "approve": True}]},
         "input: an approval names the request that it answers, and says approve or not", "input"),
        ({"model": "echo", "input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
         "input: an image comes with its URL; this host stores none", "input"),
        ({"model": "echo", "input": "x", "conversation": "a\nb"},
         "a thread id holds no control, bidirectional or surrogate characters", None),
        ({"model": "echo", "input": [ANSWER, {**ANSWER, "call_id": "call_" + "1" * 32 + "_q"}]},
         "the answers belong to two paused runs; answer one at a time", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_field_it_is_in(api: Api, body: Any, message: str | None, param: str) -> None:
    error = refusal(api.post("/responses", body), 400)
    assert error["param"] == param
    assert message in (None, error["message"])
