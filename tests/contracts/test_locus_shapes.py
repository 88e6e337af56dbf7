"""Locus 3.0.1's wire, key for key, on `/agents/<name>` and on `AgentServer`: its clients find what they read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agenthost import AgentServer
from tests.actors import SECRET, asks, everything, fail, gives_up, say
from tests.serving import Foreign, Hosted, actors, agents_toml, key, secret
from tests.wire import Reply, ask

AGENTS: dict[str, Any] = {"say": say, "everything": everything, "fail": fail, "gives-up": gives_up, "asks": asks}

Ask = Callable[..., Reply]


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    text = actors(*(name.replace("-", "_") for name in AGENTS)).replace("[agents.gives_up]", "[agents.gives-up]")
    with Hosted(agents_toml(tmp_path_factory.mktemp("locus"), text + key("locus"))) as host:
        yield host


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    """A port for each agent."""
    served = {name: Foreign(AgentServer(agent, api_key=secret("locus")).app) for name, agent in AGENTS.items()}
    for one in served.values():
        one.__enter__()
    yield {name: one.port for name, one in served.items()}
    for one in served.values():
        one.stop()


@pytest.fixture(params=["host", "agent-server"])
def locus(request: pytest.FixtureRequest, hosted: Hosted, servers: dict[str, int]) -> Ask:
    """`locus(agent, method, path, body)`: how a client of one Locus server asks, with its base URL changed."""

    def ask_agent(agent: str, method: str, path: str, body: Any = None, token: str | None = secret("locus")) -> Reply:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if request.param == "host":
            return ask(hosted.port, method, f"/agents/{agent}{path}", headers, body)
        return ask(servers[agent], method, path, headers, body)

    return ask_agent


SIX = {
    "message": str,
    "success": bool,
    "stop_reason": str,
    "iterations": int,
    "tool_calls": int,
    "duration_ms": float,
}


def test_invoke_answers_the_six_fields_with_their_types(locus: Ask) -> None:
    reply = locus("everything", "POST", "/invoke", {"prompt": "why", "metadata": {"trace": "1"}})
    assert reply.status == 200
    assert reply["content-type"] == "application/json"
    body = reply.json
    assert list(body)[:6] == list(SIX)
    assert {name: type(body[name]) for name in SIX} == SIX
    assert body["message"] == "the end"
    assert body["success"] is True
    assert body["stop_reason"] == "complete"
    assert body["tool_calls"] == 2, "tools that completed, with a result or an error"
    assert body["iterations"] == 12, "everything the agent said, and the end"
    assert body["duration_ms"] > 0


@pytest.mark.parametrize(
    ("reason", "success"),
    [
        ("complete", True),
        ("confidence_met", True),
        ("terminal_tool", True),
        ("max_iterations", False),
        ("tool_loop", False),
        ("error", False),
        ("anything", False),
    ],
)
def test_success_is_one_of_three_reasons(locus: Ask, reason: str, success: bool) -> None:
    body = locus("gives-up", "POST", "/invoke", {"prompt": reason}).json
    assert (body["stop_reason"], body["success"]) == (reason, success)
    assert body["message"] == "as far as I got"


def events(reply: Reply) -> list[dict[str, Any]]:
    """The events of a stream, and that `[DONE]` ends it."""
    assert reply.status == 200
    assert reply["content-type"].startswith("text/event-stream")
    *told, end = reply.frames
    assert end.data == "[DONE]"
    return [frame.json for frame in told]


def test_stream_sends_the_shapes_that_clients_know(locus: Ask) -> None:
    told = {event["type"]: event for event in events(locus("everything", "POST", "/stream", {"prompt": "why"}))}
    assert told["think"] == {"type": "think", "content": "let me see"}
    assert told["tool_start"] == {
        "type": "tool_start",
        "tool": "search",
        "tool_call_id": "call-2",
        "arguments": {"q": None},
    }
    assert told["tool_complete"] == {
        "type": "tool_complete",
        "tool": "search",
        "tool_call_id": "call-2",
        "result": None,
        "error": "not found",
    }
    assert told["model_chunk"]["content"] == "end"
    done = told["done"]
    assert list(done)[:3] == ["type", "message", "reason"]
    assert (done["message"], done["reason"]) == ("the end", "complete")


def test_a_stream_that_fails_says_internal_error_and_an_id(locus: Ask) -> None:
    (error,) = events(locus("fail", "POST", "/stream", {"prompt": "now"}))
    assert (error["type"], error["error"]) == ("error", "internal error")
    assert len(error["correlation_id"]) == 32


def test_a_thread_has_the_keys_that_clients_read(locus: Ask) -> None:
    for prompt in ("one", "two"):
        assert locus("everything", "POST", "/invoke", {"prompt": prompt, "thread_id": "t-1"}).status == 200
    thread = locus("everything", "GET", "/threads/t-1").json
    assert list(thread)[:4] == ["thread_id", "iteration", "messages", "tool_executions"]
    assert thread["thread_id"] == "t-1"
    assert isinstance(thread["iteration"], int)
    assert isinstance(thread["metadata"], dict)
    message = {"role", "content", "tool_calls", "tool_call_id", "name", "metadata"}
    assert all(message <= set(one) for one in thread["messages"])
    assert [one["content"] for one in thread["messages"] if one["role"] == "user"] == ["one", "two"]
    execution = {"tool_name", "tool_call_id", "arguments", "result", "error"}
    assert all(execution <= set(one) for one in thread["tool_executions"])
    assert thread["tool_executions"][0]["result"] == "found"
    assert thread["tool_executions"][1]["error"] == "not found"


def test_deleting_a_thread_says_whether_there_was_one(locus: Ask) -> None:
    locus("say", "POST", "/invoke", {"prompt": "x", "thread_id": "gone"})
    assert locus("say", "DELETE", "/threads/gone").json == {"thread_id": "gone", "deleted": True}
    assert locus("say", "DELETE", "/threads/gone").json == {"thread_id": "gone", "deleted": False}
    missing = locus("say", "GET", "/threads/gone")
    assert missing.status == 404
    assert isinstance(missing.json["detail"], str)


def test_health_is_public_and_one_word(locus: Ask) -> None:
    for token in (None, "wrong", secret("locus")):
        reply = locus("say", "GET", "/health", None, token)
        assert reply.status == 200
        assert reply.json["status"] == "ok"
    assert locus("say", "GET", "/health", None, None).json == {"status": "ok"}


def test_401_has_the_detail_and_the_header_that_clients_read(locus: Ask) -> None:
    for path in ("/invoke", "/stream"):
        missing = locus("say", "POST", path, {"prompt": "x"}, None)
        wrong = locus("say", "POST", path, {"prompt": "x"}, "wrong")
        assert missing.status == wrong.status == 401
        assert missing.json["detail"] == "Missing bearer token"
        assert wrong.json["detail"] == "Invalid bearer token"
        assert missing["www-authenticate"].startswith("Bearer")
    for method in ("GET", "DELETE"):
        assert locus("say", method, "/threads/t", None, None).status == 401


def test_a_body_that_is_not_valid_is_422_with_a_detail(locus: Ask) -> None:
    for body in ({}, {"prompt": 1}, {"prompt": "x", "metadata": "x"}, {"prompt": "x", "thread_id": 5}):
        reply = locus("say", "POST", "/invoke", body)
        assert reply.status == 422
        assert reply.json["detail"]


def test_a_run_that_asks_is_no_success_and_goes_on_through_resume(locus: Ask) -> None:
    body = locus("asks", "POST", "/invoke", {"prompt": "buy", "thread_id": "asked"}).json
    assert (body["success"], body["stop_reason"], body["message"]) == (False, "interrupt", "let me ask")
    _said, again = events(locus("asks", "POST", "/stream", {"prompt": "buy", "thread_id": "asked"}))
    assert next(iter(again)) == "type"
    assert again.keys() >= {"question", "options", "interrupt_id"}
    assert (again["type"], again["question"], again["options"]) == ("interrupt", "really?", ["yes", "no"])
    told = events(locus("asks", "POST", "/resume", {"thread_id": "asked", "response": "yes"}))
    assert [one["type"] for one in told] == ["model_chunk", "done"]
    assert told[-1]["message"] == "buy: q0 yes"
    late = locus("asks", "POST", "/resume", {"thread_id": "asked", "response": "yes"})
    assert late.status == 409
    missing = locus("asks", "POST", "/resume", {"thread_id": "never", "response": "yes"})
    assert missing.status == 404
    assert isinstance(missing.json["detail"], str)
    assert locus("asks", "POST", "/resume", {"response": "yes"}).status == 422
    assert locus("asks", "POST", "/resume", {"thread_id": "asked"}, None).status == 401
    assert SECRET not in json.dumps([body, again, told])


def test_a_run_without_a_thread_that_asks_is_answered_by_its_run_id(locus: Ask) -> None:
    body = locus("asks", "POST", "/invoke", {"prompt": "buy"}).json
    assert body["thread_id"] == body["run_id"]
    told = events(locus("asks", "POST", "/resume", {"thread_id": body["thread_id"], "response": "no"}))
    assert told[-1]["message"] == "buy: q0 no"


# ── AgentServer alone ────────────────────────────────────────────────────────────────────────────────────────────────


def split_at_blank_lines(body: str) -> list[dict[str, Any]]:
    """How Locus's own examples read a stream."""
    pieces = (piece for piece in body.split("\n\n") if piece.startswith("data: "))
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces if piece != "data: [DONE]"]


def test_agent_server_frames_are_the_data_line_alone_and_done_has_three_keys(servers: dict[str, int]) -> None:
    headers = {"authorization": f"Bearer {secret('locus')}"}
    for agent, prompt in (("everything", "why"), ("say", "a\r\n\r\ndata: b\u2028c\u0085d"), ("fail", "later")):
        body = ask(servers[agent], "POST", "/stream", headers, {"prompt": prompt}).body.decode()
        assert body.endswith("data: [DONE]\n\n")
        assert all(line == "" or line.startswith("data: ") for line in body.split("\n"))
        assert len(body.splitlines()) == len(body.split("\n")) - 1
        told = split_at_blank_lines(body)
        if agent == "fail":
            assert told[-1]["type"] == "error"
        else:
            assert list(told[-1]) == ["type", "message", "reason"]
            assert told[-1]["message"] == ("the end" if agent == "everything" else prompt)


def test_a_host_of_many_has_ids_and_event_names_besides(hosted: Hosted) -> None:
    headers = {"authorization": f"Bearer {secret('locus')}"}
    first = ask(hosted.port, "POST", "/agents/say/stream", headers, {"prompt": "x"}).body.split(b"\n\n")[0]
    assert first == b'id: 1\nevent: model_chunk\ndata: {"type":"model_chunk","content":"x"}'


def test_agent_server_hands_decisions_to_its_handler_and_takes_none_without_one() -> None:
    handed: list[tuple[str, str, dict[str, Any]]] = []

    async def decided(_request: Any, principal: str, thread_id: str, decision: dict[str, Any]) -> None:
        handed.append((principal, thread_id, decision))

    headers = {"authorization": f"Bearer {secret('locus')}"}
    decision = {"type": "approve", "tool_call_id": "c"}
    for handler, status in ((None, 400), (decided, 200)):
        server = AgentServer(asks, api_key=secret("locus"), decision_handler=handler)
        with Foreign(server.app) as running:
            ask(running.port, "POST", "/invoke", headers, {"prompt": "buy", "thread_id": "t"})
            body = {"thread_id": "t", "response": "yes", "decision": decision}
            reply = ask(running.port, "POST", "/resume", headers, body)
            assert reply.status == status
            if handler is None:
                assert reply.json["detail"] == "this server does not accept decisions on /resume"
                body = {"thread_id": "t", "answers": [{"interrupt_id": "q0", "response": "yes", "decision": decision}]}
                assert ask(running.port, "POST", "/resume", headers, body).status == 400
                assert (
                    ask(running.port, "POST", "/resume", headers, {"thread_id": "t", "response": "yes"}).status == 200
                )
    ((principal, thread_id, given),) = handed
    assert (thread_id, given) == ("t", decision)
    assert len(principal) == 12


def test_agent_server_lays_what_it_vouches_for_over_the_metadata_of_a_resume() -> None:
    seen: list[Any] = []

    async def looks(ctx: Any) -> Any:
        seen.append((bool(ctx.answers), dict(ctx.metadata)))
        async for said in asks(ctx):
            yield said

    headers = {"authorization": f"Bearer {secret('locus')}"}
    server = AgentServer(
        looks, api_key=secret("locus"), metadata_resolver=lambda _request, principal: {"tenant": principal}
    )
    with Foreign(server.app) as running:
        forged = {"tenant": "somebody else", "own": 1}
        ask(running.port, "POST", "/invoke", headers, {"prompt": "buy", "thread_id": "t", "metadata": forged})
        ask(running.port, "POST", "/resume", headers, {"thread_id": "t", "response": "yes", "metadata": forged})
    (_no, first), (_yes, second) = seen
    assert first == second
    assert (len(first["tenant"]), first["own"]) == (12, 1)


def test_agent_server_hands_a_decision_over_once_whoever_else_sends_one() -> None:
    handed: list[str] = []

    async def decided(_request: Any, _principal: str, _thread_id: str, decision: dict[str, Any]) -> None:
        handed.append(decision["by"])
        await asyncio.sleep(0.01)  # it writes it down

    headers = {"authorization": f"Bearer {secret('locus')}"}
    server = AgentServer(asks, api_key=secret("locus"), decision_handler=decided)
    with Foreign(server.app) as running:

        def answer(by: str, **more: str) -> Reply:
            body = {"thread_id": "t", "response": "yes", "decision": {"by": by}}
            return ask(running.port, "POST", "/resume", {**headers, **more}, body)

        assert answer("nobody was asked").status == 404
        ask(running.port, "POST", "/invoke", headers, {"prompt": "buy", "thread_id": "t"})
        with ThreadPoolExecutor(20) as pool:
            replies = list(pool.map(answer, map(str, range(20))))
        assert sorted(reply.status for reply in replies) == [200] + [409] * 19
        assert [str(place) for place, reply in enumerate(replies) if reply.status == 200] == handed
        ask(running.port, "POST", "/invoke", headers, {"prompt": "buy", "thread_id": "t"})
        for _ in range(3):
            assert answer("with a key", **{"idempotency-key": "k"}).status == 200
        assert handed[1:] == ["with a key"]
