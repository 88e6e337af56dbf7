"""`AgentServer` in the place of Locus's: the same requests to both, and the same answers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from locus.control import Action, ControlPolicy, InMemoryApprovals, gate_tool
from locus.memory.backends.memory import MemoryCheckpointer
from locus_doubles import agent, text, tool, tool_call

from agenthost import AgentServer

with warnings.catch_warnings():  # newer Starlette would rather have another HTTP client
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

pytestmark = pytest.mark.framework

LOCUS: Any = import_module("locus.server").AgentServer
KEY = "locus-0123456789abcdef"
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module", autouse=True)
def locus_server_works() -> None:
    """Locus's server does not start with every FastAPI that it takes."""
    try:
        _ = LOCUS(agent=agent(), allow_unauthenticated=True).app
    except NameError as broken:
        pytest.skip(f"Locus's own server does not start with this FastAPI: {broken}")


@pytest.fixture(autouse=True)
def no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTHOST_API_KEY", raising=False)
    monkeypatch.delenv("LOCUS_SERVER_API_KEY", raising=False)


@tool
def double(n: int) -> int:
    """Twice as much."""
    return 2 * n


@tool
def send(to: str) -> str:
    """Send a mail."""
    return "sent"


def held(approvals: InMemoryApprovals) -> Any:
    return gate_tool(
        send,
        policy=ControlPolicy(require_verification_score=0.0, require_human_for=frozenset({"outside"})),
        action=lambda name, arguments: Action(name=name, asset=arguments["to"], environment="outside"),
        approval=approvals,
        on_refusal="interrupt",
    )


class Both:
    """Two servers, Locus's and ours, each with an agent of its own that says the same."""

    def __init__(self, *turns: Any, tools: tuple[Any, ...] = (), **server: Any) -> None:
        self.approvals = (InMemoryApprovals(), InMemoryApprovals())
        self.agents = [
            agent(*turns, tools=[double, held(store), *tools], checkpointer=MemoryCheckpointer())
            for store in self.approvals
        ]
        kinds = (LOCUS, AgentServer)
        self.servers = [kind(agent=one, **server) for kind, one in zip(kinds, self.agents, strict=True)]
        self.clients = [TestClient(server.app) for server in self.servers]

    def __call__(self, method: str, path: str, shown: Callable[[Any], Any], **request: Any) -> Any:
        """What both answer, as far as it is `shown`; asserts that it is the same."""
        theirs, ours = [client.request(method, path, **request) for client in self.clients]
        assert ours.status_code == theirs.status_code, ours.text
        assert shown(ours) == shown(theirs)
        return ours


def frames(reply: Any) -> list[Any]:
    """The frames of a stream, without what each run has of its own."""
    parts = reply.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def without_chunks(reply: Any) -> list[Any]:
    return [frame for frame in frames(reply) if frame["type"] != "model_chunk"]


def joined(reply: Any) -> str:
    return "".join(frame["content"] or "" for frame in frames(reply) if frame["type"] == "model_chunk")


SIX = ("message", "success", "stop_reason", "tool_calls")


def test_invoke_and_stream() -> None:
    both = Both(*[tool_call("double", call_id="c", n=2), text("It is four.")] * 2, allow_unauthenticated=True)
    both("POST", "/invoke", lambda reply: [reply.json()[name] for name in SIX], json={"prompt": "x"})
    both("POST", "/stream", without_chunks, json={"prompt": "x"})


def test_the_text_in_pieces() -> None:
    both = Both(text("It is four, as far as I can see."), allow_unauthenticated=True)
    assert joined(both("POST", "/stream", joined, json={"prompt": "x"})) == "It is four, as far as I can see."
    plain = Both(text("plain"), allow_unauthenticated=True, stream_tokens=False)
    said = frames(plain("POST", "/stream", frames, json={"prompt": "x"}))
    assert [frame["type"] for frame in said] == ["think", "done"]


def test_a_held_call_is_asked_about_refused_undecided_and_performed() -> None:
    def decides(request: Any, principal: str, thread_id: str, decision: dict[str, Any]) -> None:
        for store in both.approvals:
            record = store.get(decision["approval_id"])
            if record is not None and record.status == "pending":
                store.decide(decision["approval_id"], decision["verdict"], by=principal)

    def pending(reply: Any) -> Any:
        names = ("type", "thread_id", "interrupt_id", "question", "metadata")
        return [reply.json()[name] for name in names]

    turns = (tool_call("send", call_id="c", to="Bob"), text("Done."))
    both = Both(*turns, allow_unauthenticated=True, decision_handler=decides)
    asked = frames(both("POST", "/stream", without_chunks, json={"prompt": "x", "thread_id": "t"}))[-1]
    assert asked["type"] == "interrupt"
    both("POST", "/resume", pending, json={"thread_id": "t"})
    decision = {"approval_id": asked["metadata"]["approval_id"], "verdict": "approved"}
    went_on = both("POST", "/resume", frames, json={"thread_id": "t", "decision": decision})
    assert [frame["result"] for frame in frames(went_on) if frame["type"] == "tool_complete"] == ["sent"]


def test_threads_are_read_and_deleted() -> None:
    def shown(reply: Any) -> Any:
        thread = reply.json()
        for execution in thread["tool_executions"]:
            for differs in ("timestamp", "duration_ms"):
                execution.pop(differs)
        return {name: thread[name] for name in ("thread_id", "iteration", "messages", "tool_executions", "metadata")}

    both = Both(tool_call("double", call_id="c", n=2), text("Four."), allow_unauthenticated=True)
    both("POST", "/invoke", lambda reply: reply.json()["message"], json={"prompt": "x", "thread_id": "t"})
    both("GET", "/threads/t", shown)
    both("DELETE", "/threads/t", lambda reply: reply.json())
    both("DELETE", "/threads/t", lambda reply: reply.json())
    both("GET", "/threads/t", lambda reply: None)


def test_what_locus_server_kept_ours_goes_on_with() -> None:
    checkpointer, store = MemoryCheckpointer(), InMemoryApprovals()
    turns = [tool_call("send", call_id="c", to="Bob"), text("Done.")]
    before = agent(*turns, tools=[held(store)], checkpointer=checkpointer)
    asked = TestClient(LOCUS(agent=before, api_key=KEY).app).post(
        "/stream", json={"prompt": "x", "thread_id": "t"}, headers=BEARER
    )
    store.decide(frames(asked)[-1]["metadata"]["approval_id"], "approved", by="olga")
    after = agent(text("Done."), tools=[held(store)], checkpointer=checkpointer)
    with TestClient(AgentServer(after, api_key=KEY).app) as client:
        assert client.get("/threads/t", headers=BEARER).json()["messages"][1]["content"] == "x"
        reply = client.post("/resume", json={"thread_id": "t"}, headers=BEARER)
        assert frames(reply)[-1] == {"type": "done", "message": "Done.", "reason": "complete"}
        assert client.post("/resume", json={"thread_id": "t"}, headers=BEARER).status_code == 404


def test_locus_key_is_honoured_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCUS_SERVER_API_KEY", KEY)
    both = Both(text("x"), text("x"))
    for headers in ({}, {"authorization": "Bearer wrong"}):
        both("POST", "/invoke", lambda reply: reply.json()["detail"], json={"prompt": "x"}, headers=headers)
    both("POST", "/invoke", lambda reply: reply.json()["message"], json={"prompt": "x"}, headers=BEARER)
