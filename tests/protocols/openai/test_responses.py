"""Responses that go on from one another, wait for an answer, run in the background, are joined, cancelled, deleted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.actors import CANCELLED, GATES, HOLDING, wait_for
from tests.protocols.openai.conftest import ROOT, Api, numbered, refusal, text_of
from tests.wire import Wire, ask, request


def native(api: Api, path: str, method: str = "GET") -> Any:
    return ask(api.hosted.port, method, f"/agents/{path}", ROOT)


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_response_goes_on_from_the_one_before_on_the_same_thread(api: Api) -> None:
    first = api.respond("echo", "one")
    second = api.respond("echo", "two", previous_response_id=first["id"])
    third = api.respond(input="three", previous_response_id=second["id"])
    assert [text_of(one) for one in (first, second, third)] == ["one", "(2) two", "(3) three"]
    assert second["previous_response_id"] == first["id"]
    assert first["conversation"] == second["conversation"] == third["conversation"]
    thread = native(api, f"echo/threads/{first['conversation']['id']}").json
    assert [message["content"] for message in thread["messages"]][::2] == ["one", "two", "three"]


def test_from_an_older_response_another_conversation_begins_with_what_was_said_until_then(api: Api) -> None:
    first = api.respond("echo", "one")
    api.respond(input="two", previous_response_id=first["id"])
    other = api.respond(input="other", previous_response_id=first["id"])
    assert other["conversation"] != first["conversation"]
    assert text_of(other) == "(2) other"
    assert text_of(api.respond(input="more", previous_response_id=other["id"])) == "(3) more"


def test_another_agent_may_go_on_with_a_conversation(api: Api) -> None:
    first = api.respond("late", "one")
    other = api.respond("echo", "two", previous_response_id=first["id"])
    assert (text_of(other), other["model"]) == ("(2) two", "echo")
    assert other["conversation"] != first["conversation"]


def test_an_agent_that_keeps_its_threads_goes_on_from_the_newest_alone(api: Api) -> None:
    first = api.respond("keeper", "one")
    api.respond(input="two", previous_response_id=first["id"])
    error = refusal(api.post("/responses", {"input": "x", "previous_response_id": first["id"]}), 400)
    assert error["message"] == (
        "previous_response_id: this agent keeps its conversations itself, and goes on from the newest response"
    )


def test_a_conversation_is_a_thread_by_its_name(api: Api) -> None:
    assert text_of(api.respond("echo", "one", conversation="mine")) == "one"
    assert text_of(api.respond("echo", "two", conversation={"id": "mine"})) == "(2) two"
    assert text_of(api.respond("echo", "one", conversation="mine", caller="carol")) == "one", "it is each caller's own"


def test_what_is_not_stored_is_nowhere(api: Api) -> None:
    found = api.respond("echo", "one", store=False)
    assert (found["conversation"], found["store"]) == (None, False)
    assert refusal(api.get(f"/responses/{found['id']}"), 404)["message"] == "no such response"
    kept = api.respond("echo", "one")
    aside = api.respond(input="two", previous_response_id=kept["id"], store=False)
    assert text_of(aside) == "(2) two"
    assert text_of(api.respond(input="two", previous_response_id=kept["id"])) == "(2) two", "nothing was added"


def test_instructions_hold_for_one_response(api: Api) -> None:
    wanted = {"text": {"format": {"type": "json_object"}}}
    first = api.respond("shows", "one", instructions="be brief", **wanted)
    assert '"be brief"' in text_of(first)
    second = api.respond(input="two", previous_response_id=first["id"], **wanted)
    assert '"be brief"' not in text_of(second)
    assert '"one"' in text_of(second)


def test_items_before_the_message_are_kept_with_it(api: Api) -> None:
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    first = api.respond("echo", [*before, {"role": "user", "content": "c"}])
    assert text_of(first) == "(2) c"
    assert text_of(api.respond(input="d", previous_response_id=first["id"])) == "(3) d"


def test_a_request_that_is_sent_again_under_its_key_is_the_same_response(api: Api) -> None:
    first, again = (api.post("/responses", {"model": "echo", "input": "x"}, **{"idempotency-key": "r"}) for _ in "ab")
    assert first.json == again.json


# ── what agents ask ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("background", [False, True])
def test_a_question_is_a_function_call_and_its_output_the_answer(api: Api, background: bool) -> None:
    asked = api.respond("asks", "x")
    call = asked["output"][-1]
    assert (asked["status"], call["type"], call["name"], call["status"]) == (
        "completed", "function_call", "ask_user", "completed",
    )  # fmt: skip
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "yes"}
    found = api.respond(input=[output], previous_response_id=asked["id"], background=background)
    if background:
        found = settled(api, found["id"])
    assert text_of(found) == "x: q0 yes"
    assert (found["conversation"], found["background"]) == (asked["conversation"], background)
    assert refusal(api.post("/responses", {"input": [output], "previous_response_id": asked["id"]}), 409)


def test_several_questions_are_answered_together(api: Api) -> None:
    thread = "several"
    ask(api.hosted.port, "POST", "/agents/asks/invoke", ROOT, {"prompt": "x", "input": 2, "thread_id": thread})
    run = native(api, f"asks/runs?thread_id={thread}").json["runs"][0]["run_id"]
    asked = api.get(f"/responses/resp_{run}").json
    calls = [item for item in asked["output"] if item["type"] == "function_call"]
    outputs = [{"type": "function_call_output", "call_id": call["call_id"], "output": "no"} for call in calls]
    assert text_of(api.respond("asks", outputs)) == "x: q0 no, q1 no"


@pytest.mark.parametrize("approve", [True, False])
def test_whether_a_tool_may_run_is_an_approval_request(api: Api, approve: bool) -> None:
    asked = api.respond("approves", "x")
    held, request = asked["output"][-2:]
    assert (held["type"], held["status"]) == ("mcp_call", "incomplete")
    assert (request["type"], request["name"], request["arguments"]) == (
        "mcp_approval_request", "delete", '{"path":"/x"}',
    )  # fmt: skip
    answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approve, "reason": "no"}
    found = api.respond(input=[answer], previous_response_id=asked["id"])
    assert text_of(found) == f"approved: {approve}"
    assert found["output"][0]["status"] == ("completed" if approve else "failed")


def test_something_new_takes_the_place_of_a_question(api: Api) -> None:
    asked = api.respond("listens", "x")
    api.respond(input="never mind", previous_response_id=asked["id"])
    output = {"type": "function_call_output", "call_id": asked["output"][-1]["call_id"], "output": "so"}
    error = refusal(api.post("/responses", {"model": "listens", "input": [output]}), 409)
    assert error["message"] == "this question is no longer open: a newer run on this thread took its place"


def test_what_is_not_stored_can_pause_and_then_it_is(api: Api) -> None:
    asked = api.respond("listens", "x", store=False)
    assert asked["conversation"] is not None
    output = {"type": "function_call_output", "call_id": asked["output"][-1]["call_id"], "output": "so"}
    assert text_of(api.respond(input=[output], previous_response_id=asked["id"])) == "'so'"


# ── in the background, joined, cancelled, deleted ────────────────────────────────────────────────────────────────────


def settled(api: Api, response_id: str) -> Any:
    """The response once it has ended: its stream does not end before."""
    api.get(f"/responses/{response_id}?stream=true")
    return api.get(f"/responses/{response_id}").json


def test_a_response_in_the_background_goes_on_and_can_be_joined_from_any_event_on(api: Api) -> None:
    begun = api.respond("gated", "joined", background=True)
    assert begun["status"] in {"queued", "in_progress"}
    wait_for(HOLDING, "joined")
    with Wire(api.hosted.port) as wire:
        wire.send(request("GET", f"/v1/responses/{begun['id']}?stream=true&starting_after=4", ROOT))
        wire.head()
        first = next(wire.chunks())
        assert b'"delta":"begun "' in first
        assert api.get(f"/responses/{begun['id']}").json["status"] == "in_progress"
        api.hosted.loop.call_soon_threadsafe(GATES["joined"].set)
    ended = settled(api, begun["id"])
    assert (ended["status"], text_of(ended), ended["background"]) == ("completed", "begun ended", True)
    assert native(api, f"gated/runs/{begun['id'].removeprefix('resp_')}").json["message"] == "begun ended"


def test_a_stream_in_the_background_outlives_who_reads_it(api: Api) -> None:
    with Wire(api.hosted.port) as wire:
        body = {"model": "gated", "input": "left", "background": True, "stream": True}
        wire.send(request("POST", "/v1/responses", ROOT, body))
        run_id = wire.head()["x-run-id"]
        wait_for(HOLDING, "left")
    api.hosted.loop.call_soon_threadsafe(GATES["left"].set)
    assert text_of(settled(api, f"resp_{run_id}")) == "begun ended"
    told = numbered(api.get(f"/responses/resp_{run_id}?stream=true").frames, 0)
    assert [event["type"] for event in told[:3]] == ["response.created", "response.queued", "response.in_progress"]


def test_who_leaves_cancels_what_is_not_in_the_background(api: Api) -> None:
    for stream in (True, False):
        prompt = f"abandoned {stream}"
        with Wire(api.hosted.port) as wire:
            wire.send(request("POST", "/v1/responses", ROOT, {"model": "hold", "input": prompt, "stream": stream}))
            wait_for(HOLDING, prompt)
        wait_for(CANCELLED, prompt)


def test_a_response_is_cancelled_and_says_so(api: Api) -> None:
    begun = api.respond("hold", "cancelled", background=True)
    wait_for(HOLDING, "cancelled")
    ended = api.post(f"/responses/{begun['id']}/cancel").json
    assert (ended["status"], ended["error"]["code"]) == ("cancelled", "server_error")
    assert api.post(f"/responses/{begun['id']}/cancel").json == ended, "again is no error"
    assert api.get(f"/responses/{begun['id']}").json == ended
    assert native(api, f"hold/runs/{begun['id'].removeprefix('resp_')}").json["status"] == "cancelled"


def test_the_native_protocol_cancels_it_too(api: Api) -> None:
    begun = api.respond("hold", "elsewhere", background=True)
    wait_for(HOLDING, "elsewhere")
    assert native(api, f"hold/runs/{begun['id'].removeprefix('resp_')}/cancel", "POST").status == 202
    assert settled(api, begun["id"])["status"] == "cancelled"


def test_a_response_is_deleted_and_with_the_last_its_thread(api: Api) -> None:
    first = api.respond("echo", "one")
    second = api.respond(input="two", previous_response_id=first["id"])
    place = f"echo/threads/{first['conversation']['id']}"

    def delete(response: Any) -> Any:
        return ask(api.hosted.port, "DELETE", f"/v1/responses/{response['id']}", ROOT)

    assert delete(second).json == {"id": second["id"], "object": "response", "deleted": True}
    assert refusal(api.get(f"/responses/{second['id']}"), 404)
    assert refusal(delete(second), 404)
    assert native(api, place).status == 200
    alone = api.respond("echo", "one")
    assert delete(alone).status == 200
    assert native(api, f"echo/threads/{alone['conversation']['id']}").status == 404
    going = api.respond("hold", "undeleted", background=True)
    wait_for(HOLDING, "undeleted")
    assert refusal(delete(going), 409)["message"] == "this run is going"
    api.post(f"/responses/{going['id']}/cancel")


@pytest.mark.parametrize("path", ["/resp_" + "0" * 32, "/" + "0" * 32, "/resp_"])
def test_what_is_not_there_is_404(api: Api, path: str) -> None:
    assert refusal(api.get(f"/responses{path}"), 404)["message"] == "no such response"
    assert refusal(api.post("/responses", {"input": "x", "previous_response_id": path[1:]}), 404)


def test_anothers_response_is_not_there(api: Api) -> None:
    mine = api.respond("echo", "mine")
    for caller in ("carol", "bob"):
        assert refusal(api.get(f"/responses/{mine['id']}", caller), 404)
        assert refusal(api.post(f"/responses/{mine['id']}/cancel", caller=caller), 404)
        body = {"input": "x", "previous_response_id": mine["id"]}
        assert refusal(api.post("/responses", body, caller), 404)


def test_one_thread_has_one_run_at_a_time(api: Api) -> None:
    api.respond("hold", "busy", background=True, conversation="busy")
    wait_for(HOLDING, "busy")
    refused = api.post("/responses", {"model": "hold", "input": "x", "conversation": "busy"})
    assert refusal(refused, 409)["code"] == "thread_busy"
    run = native(api, "hold/runs?thread_id=busy").json["runs"][0]["run_id"]
    api.post(f"/responses/resp_{run}/cancel")


def test_many_may_read_one_response(api: Api) -> None:
    begun = api.respond("gated", "many", background=True)
    wait_for(HOLDING, "many")
    told: list[Any] = []

    def read() -> None:
        told.append([frame.data for frame in api.get(f"/responses/{begun['id']}?stream=true").frames])

    readers = [threading.Thread(target=read) for _ in range(5)]
    for reader in readers:
        reader.start()
    api.hosted.loop.call_soon_threadsafe(GATES["many"].set)
    for reader in readers:
        reader.join(20)
    assert len(told) == 5
    assert all(one[2:-2] == told[0][2:-2] for one in told)
