"""Chat completions over a real socket: whole and in chunks, with questions, errors and what it took."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.protocols.openai.conftest import ROOT, Api, refusal
from tests.wire import ask


def test_a_completion_is_the_agents_message(api: Api) -> None:
    found = api.completion("echo", "hello  world")
    assert found["id"].startswith("chatcmpl-")
    assert (found["object"], found["model"], type(found["created"])) == ("chat.completion", "echo", int)
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello  world", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


def test_chunks_are_the_same_text_with_a_beginning_and_an_end(api: Api) -> None:
    first, *pieces, last = api.chunks("echo", "hello  world")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [piece["choices"][0]["delta"]["content"] for piece in pieces] == ["hello  ", "world"]
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert len({(one["id"], one["created"], one["model"], one["object"]) for one in (first, *pieces, last)}) == 1
    assert "usage" not in first


def test_nothing_is_kept_of_a_conversation(api: Api) -> None:
    def threads() -> Any:
        return ask(api.hosted.port, "GET", "/agents/echo/threads", ROOT).json["threads"]

    before = threads()
    assert api.chat("echo", "one", {"role": "assistant", "content": "one"}, "two")["message"]["content"] == "(2) two"
    assert threads() == before


def test_what_it_took_ends_a_stream_that_asks_for_it(api: Api) -> None:
    *chunks, last = api.chunks("ponders", "x", stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 6)
    assert api.completion("ponders", "x")["usage"] == last["usage"]


def test_thoughts_come_beside_the_text_and_line_ends_that_are_none_stay_in_it(api: Api) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in api.chunks("ponders", "x")]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "first then"
    assert "".join(delta.get("content", "") for delta in deltas) == 'a\u2028b "c"\n'
    assert api.chat("ponders", "x")["message"]["reasoning_content"] == "first then"


def test_the_agents_own_tools_are_not_for_the_client_to_run(api: Api) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in api.chunks("everything", "x")]
    assert not [delta for delta in deltas if "tool_calls" in delta]
    assert api.chat("everything", "x")["message"]["content"] == "the end"


@pytest.mark.parametrize("stream", [False, True])
def test_a_structured_answer_is_json_where_json_is_asked_for(api: Api, stream: bool) -> None:
    wanted = {"response_format": {"type": "json_object"}}
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in api.chunks("everything", "x", **wanted)]
        text = "".join(delta.get("content", "") for delta in deltas)
    else:
        text = api.chat("everything", "x", **wanted)["message"]["content"]
    assert json.loads(text) == {"seen": "x"}


def test_an_answer_that_comes_all_at_once_is_one_chunk(api: Api) -> None:
    contents = [chunk["choices"][0]["delta"].get("content") for chunk in api.chunks("late", "x")]
    assert contents == ["", "at last: x", None]


def test_an_agent_that_gave_up_did_not_stop(api: Api) -> None:
    assert api.chat("gives-up", "complete")["finish_reason"] == "stop"
    assert api.chat("gives-up", "max_iterations")["finish_reason"] == "length"
    assert api.chunks("gives-up", "max_iterations")[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_is_a_call_and_its_tool_message_the_answer(api: Api, stream: bool) -> None:
    if stream:
        *_, asked, last = api.chunks("asks", "x")
        (call,) = asked["choices"][0]["delta"]["tool_calls"]
        assert (call.pop("index"), last["choices"][0]["finish_reason"]) == (0, "tool_calls")
    else:
        choice = api.chat("asks", "x")
        assert (choice["message"]["content"], choice["finish_reason"]) == ("let me ask", "tool_calls")
        (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "ask_user")
    assert json.loads(call["function"]["arguments"]) == {"question": "really?", "options": ["yes", "no"]}
    conversation = ["x", {"role": "assistant", "content": None, "tool_calls": [call]}]
    answer = {"role": "tool", "tool_call_id": call["id"], "content": "yes"}
    assert api.chat("asks", *conversation, answer)["message"]["content"] == "x: q0 yes"
    body = {"model": "asks", "messages": [{"role": "user", "content": "x"}, conversation[1], answer]}
    again = api.post("/chat/completions", body)
    assert refusal(again, 409)["code"] == "already_answered"
    assert again["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("model", "answer", "said"),
    [
        ("approves", "approve", "approved: True"),
        ("approves", '{"verdict": "denied", "message": "no"}', "approved: False"),
        ("fills", '{"count": 3}', "count 3"),
        ("listens", "42", "'42'"),
    ],
)
def test_an_answer_is_taken_as_the_question_has_it(api: Api, model: str, answer: str, said: str) -> None:
    (call,) = api.chat(model, "x")["message"]["tool_calls"]
    replied = {"role": "tool", "tool_call_id": call["id"], "content": answer}
    assert api.chat(model, "x", replied)["message"]["content"] == said


def test_an_answer_that_is_none_is_refused_and_anothers_question_is_not_there(api: Api) -> None:
    (call,) = api.chat("asks", "x")["message"]["tool_calls"]

    def answered(content: str, caller: str) -> Any:
        messages = [{"role": "tool", "tool_call_id": call["id"], "content": content}]
        return api.post("/chat/completions", {"model": "asks", "messages": messages}, caller)

    assert refusal(answered("perhaps", "root"), 400)["message"] == "response: it is none of the interrupt's options"
    assert refusal(answered("yes", "carol"), 404)["code"] == "not_found"
    assert answered("yes", "root").status == 200


def test_a_run_that_fails_is_an_error_and_in_a_stream_one_inside_of_it(api: Api) -> None:
    body = {"model": "fail", "messages": [{"role": "user", "content": "later"}]}
    reply = api.post("/chat/completions", body)
    error = refusal(reply, 500)
    assert error["code"] == "agent_error"
    assert error["message"].startswith("The agent failed (agent_error, correlation id ")
    assert "hunter2" not in reply.body.decode()
    assert (reply["x-should-retry"], len(reply["x-run-id"])) == ("false", 32)
    *chunks, last = api.chunks("fail", "later")
    assert chunks[-1]["choices"][0]["delta"]["content"] == "so far so good"
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "agent_error")


def test_an_agent_that_takes_no_prompt_gets_the_json_in_it(api: Api) -> None:
    assert api.chat("orders", '{"item": "tea"}')["message"]["content"] == "one tea"
    body = {"model": "orders", "messages": [{"role": "user", "content": "tea"}]}
    error = refusal(api.post("/chat/completions", body), 400)
    assert error["message"] == "this agent takes structured input: send it as JSON, in the message's text"


def test_a_run_has_the_headers_by_which_the_native_protocol_finds_it(api: Api) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    reply = api.post("/chat/completions", body, **{"idempotency-key": "chat-1"})
    place = reply["content-location"]
    assert place == f"/agents/echo/runs/{reply['x-run-id']}"
    assert ask(api.hosted.port, "GET", place, ROOT).json["message"] == "x"
    again = api.post("/chat/completions", body, **{"idempotency-key": "chat-1"})
    assert again.json == reply.json
    other = {"model": "echo", "messages": [{"role": "system", "content": "y"}, {"role": "user", "content": "x"}]}
    assert refusal(api.post("/chat/completions", other, **{"idempotency-key": "chat-1"}), 400)["code"] == (
        "idempotency_key_reused"
    )
