"""A graph that has a checkpointer keeps its own threads and pauses there; one that has none has the host's."""

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from agenthost_langgraph.graph_agent import GraphAgent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph

from agenthost import Answer, Interrupt, Message, Result, ThreadKey

pytestmark = pytest.mark.framework

Run = Callable[..., list[Any]]
Serve = Callable[..., Any]
KEY = ThreadKey("ada", "graph", "t")


class Blocking(InMemorySaver):
    """A saver that can only be called on a thread, as those for databases often are."""

    async def aget_tuple(self, config: Any) -> Any:
        raise NotImplementedError("use the synchronous methods")

    aput = aput_writes = adelete_thread = aget_tuple  # type: ignore[assignment]

    async def alist(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("use the synchronous methods")
        yield


def message_texts(messages: Any) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in messages]


@pytest.mark.parametrize("saver", [InMemorySaver, Blocking])
def test_a_conversation_is_kept_in_the_graphs_own_checkpointer(reference: ModuleType, run: Run, saver: Any) -> None:
    kept = saver()
    agent = GraphAgent(reference.builder.compile(checkpointer=kept))
    run(agent, "my name is Ann", thread=KEY)
    assert run(agent, "add 2 and 3", thread=KEY, history=[])[-1] == Result("2 + 3 = 5.")
    assert run(agent, "who am I", thread=KEY, history=[])[-1] == Result("You are Ann.")
    assert run(agent, "who am I", thread=ThreadKey("bob", "graph", "t"))[-1] == Result("I do not know.")
    assert KEY.digest in kept.storage

    thread = read(agent)
    assert thread is not None
    assert message_texts(thread) == [
        ("user", "my name is Ann"),
        ("assistant", "Hello Ann."),
        ("user", "add 2 and 3"),
        ("assistant", ""),
        ("tool", "5"),
        ("assistant", "2 + 3 = 5."),
        ("user", "who am I"),
        ("assistant", "You are Ann."),
    ]
    assert thread[3].tool_calls == [{"id": "call-3", "name": "add", "arguments": {"a": 2, "b": 3}}]
    assert (thread[4].tool_call_id, thread[4].name) == ("call-3", "add")


def read(agent: GraphAgent) -> list[Message] | None:
    return asyncio.run(agent.get_thread(KEY))


@pytest.mark.parametrize("saver", [InMemorySaver, Blocking])
def test_a_conversation_is_deleted_from_it(reference: ModuleType, run: Run, saver: Any) -> None:
    agent = GraphAgent(reference.builder.compile(checkpointer=saver()))
    run(agent, "my name is Ann", thread=KEY)

    async def delete() -> tuple[bool, bool]:
        return await agent.delete_thread(KEY), await agent.delete_thread(KEY)

    assert asyncio.run(delete()) == (True, False)
    assert read(agent) is None
    assert run(agent, "who am I", thread=KEY)[-1] == Result("I do not know.")


@pytest.mark.parametrize("saver", [InMemorySaver, Blocking])
def test_a_pause_is_kept_in_it_and_not_in_the_question(reference: ModuleType, run: Run, saver: Any) -> None:
    kept = saver()
    question = run(reference.builder.compile(checkpointer=kept), "mail Bob about lunch", thread=KEY)[-1]
    assert "graph" not in question.state
    again = reference.builder.compile(checkpointer=kept)
    assert run(again, thread=KEY, answers=[Answer(question, "approve")])[-1] == Result("Mail to Bob sent.")


def test_a_run_without_a_thread_leaves_nothing_in_it_unless_it_pauses(reference: ModuleType, run: Run) -> None:
    kept = InMemorySaver()
    agent = GraphAgent(reference.builder.compile(checkpointer=kept))
    run(agent, "my name is Ann")
    with pytest.raises(RuntimeError):
        run(agent, "fail")
    assert not kept.storage
    question = run(agent, "mail Bob about lunch", run_id="r1")[-1]
    place = ThreadKey("ada", "graph", "r1")
    assert list(kept.storage) == [place.digest]
    assert run(agent, thread=place, answers=[Answer(question, "deny")])[-1] == Result("Mail to Bob not sent.")


def test_a_conversation_goes_on_past_a_call_that_was_never_answered(reference: ModuleType, run: Run) -> None:
    seen: list[Any] = []

    def chat(state: MessagesState) -> dict[str, Any]:
        seen[:] = state["messages"]
        return {"messages": [reference.answer(state["messages"])]}

    builder = StateGraph(MessagesState).add_node("chat", chat).add_node("tools", reference.ToolNode(reference.TOOLS))
    builder.add_edge(START, "chat").add_edge("tools", "chat")
    builder.add_conditional_edges("chat", reference.tools_condition)
    agent = GraphAgent(builder.compile(checkpointer=InMemorySaver()))
    assert isinstance(run(agent, "mail Bob about lunch", thread=KEY)[-1], Interrupt)
    assert run(agent, "who am I", thread=KEY)[-1] == Result("I do not know.")
    assert [(one.type, one.text) for one in seen] == [
        ("human", "mail Bob about lunch"),
        ("ai", ""),
        ("tool", "Not run: the conversation went on without it."),
        ("human", "who am I"),
    ]


def test_a_checkpointer_that_has_lost_a_thread_gets_what_the_host_has_of_it(reference: ModuleType, run: Run) -> None:
    history = [Message.of("user", "my name is Ann"), Message.of("assistant", "Hello Ann.")]
    agent = GraphAgent(reference.builder.compile(checkpointer=InMemorySaver()))
    assert run(agent, "who am I", thread=KEY, history=history)[-1] == Result("You are Ann.")


def test_a_dialect_that_brings_the_conversation_itself_is_heard(reference: ModuleType, run: Run) -> None:
    history = [Message.of("user", "my name is Ann"), Message.of("assistant", "Hello Ann.")]
    agent = GraphAgent(reference.builder.compile(checkpointer=InMemorySaver()))
    assert run(agent, "who am I", history=history)[-1] == Result("You are Ann.")


def test_an_entrypoint_has_what_it_returned_before(run: Run) -> None:
    @entrypoint(checkpointer=InMemorySaver())
    async def counter(text: str, *, previous: Any = None) -> int:
        return (previous or 0) + 1

    agent = GraphAgent(counter)
    assert [run(agent, "x", thread=KEY)[-1].output for _ in range(3)] == [1, 2, 3]
    assert read(agent) is None


# ── over HTTP ───────────────────────────────────────────────────────────────────────────────────────────────────────

KEEPING = """
import json, pickle
from pathlib import Path

from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


def ask(state):
    answer = interrupt({"question": "Shall I?", "options": ["yes", "no"]})
    return {"messages": [AIMessage(f"You said {answer}, after {len(state['messages'])}.")]}


class OnDisk(InMemorySaver):
    file = Path(__file__).with_name("kept")

    def __init__(self):
        super().__init__()
        if self.file.exists():
            storage, writes, self.blobs = pickle.loads(self.file.read_bytes())
            for thread, namespaces in storage.items():
                self.storage[thread].update(namespaces)
            self.writes.update(writes)

    def keep(self):
        storage = {thread: dict(namespaces) for thread, namespaces in self.storage.items()}
        self.file.write_bytes(pickle.dumps((storage, dict(self.writes), self.blobs)))

    def put(self, *args):
        config = super().put(*args)
        self.keep()
        return config

    def put_writes(self, *args):
        super().put_writes(*args)
        self.keep()


builder = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
own = builder.compile(checkpointer=OnDisk())
none = builder.compile()
"""


@pytest.mark.parametrize("name", ["own", "none"])
def test_a_question_and_its_thread_outlive_the_host(serve: Serve, name: str) -> None:
    host = serve(KEEPING, name)
    paused = host.invoke(name, "hello", thread_id="t")
    assert (paused["status"], paused["interrupt"]["question"]) == ("paused", "Shall I?")

    host = serve(KEEPING, name)
    assert host.client.post(f"/agents/{name}/resume", json={"thread_id": "t", "response": "maybe"}).status_code == 422
    events = host.resume(name, "t", response="yes")
    assert [event["type"] for event in events] == ["x-answered", "model_chunk", "done"]
    assert events[-1]["message"] == "You said yes, after 1."

    host = serve(KEEPING, name)
    thread = host.client.get(f"/agents/{name}/threads/t").json()
    assert [(one["role"], one["content"]) for one in thread["messages"] if one["content"]] == [
        ("user", "hello"),
        ("assistant", "You said yes, after 1."),
    ]
    assert host.invoke(name, "again", thread_id="t")["status"] == "paused"
    assert host.resume(name, "t", response="no")[-1]["message"] == "You said no, after 3."
    assert host.client.delete(f"/agents/{name}/threads/t").json()["deleted"]
    assert host.client.get(f"/agents/{name}/threads/t").status_code == 404


def test_a_run_without_a_thread_that_pauses_gets_one_in_either(serve: Serve) -> None:
    host = serve(KEEPING, "own", "none")
    for name in ("own", "none"):
        paused = host.invoke(name, "hello")
        assert host.resume(name, paused["thread_id"], response="yes")[-1]["message"] == "You said yes, after 1."


# ── runs that are stopped ───────────────────────────────────────────────────────────────────────────────────────────

PAYING = """
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

paid = []


def pay(n: int) -> str:
    "Pay."
    if interrupt({"tool": "pay", "arguments": {"n": n}})["approved"]:
        paid.append(n)
        raise LookupError("no receipt")
    return "denied"


def model(state):
    last = state["messages"][-1]
    if last.type == "tool":
        return {"messages": [AIMessage(last.text)]}
    if last.text != "pay":
        return {"messages": [AIMessage(f"{len(paid)}: " + " | ".join(one.text for one in state["messages"]))]}
    return {"messages": [AIMessage("", tool_calls=[{"name": "pay", "args": {"n": 5}, "id": "c1"}])]}


tools = ToolNode([pay], handle_tool_errors=False)
builder = StateGraph(MessagesState).add_node("model", model).add_node("tools", tools)
builder.add_edge(START, "model").add_edge("tools", "model").add_conditional_edges("model", tools_condition)
none = builder.compile()
own = builder.compile(checkpointer=InMemorySaver())
nested = StateGraph(MessagesState).add_node("inner", builder.compile()).add_edge(START, "inner").compile(
    checkpointer=InMemorySaver()
)
"""


@pytest.mark.parametrize("name", ["none", "own", "nested"])
def test_an_answer_that_the_graph_went_on_with_stands_though_the_run_failed(serve: Serve, name: str) -> None:
    host = serve(PAYING, name)
    assert host.invoke(name, "pay", thread_id="t")["status"] == "paused"
    assert host.resume(name, "t", response="approve")[-1]["code"] == "agent_error"
    for response in ("deny", "approve"):
        again = host.client.post(f"/agents/{name}/resume", json={"thread_id": "t", "response": response})
        assert (again.status_code, again.json()["code"]) == (409, "already_answered")
    assert host.invoke(name, "how often?", thread_id="t")["message"].startswith("1: ")


STOPPED = "No result: it was stopped before it had one, and may have run."
ASKED = "Not run: the conversation went on without it."
PAUSED = "No result: its run was paused at it, and did not get to one; whether it has run is not known."


@pytest.mark.parametrize(
    ("name", "answered", "told"),
    [("own", True, STOPPED), ("own", False, ASKED), ("none", True, PAUSED), ("none", False, PAUSED)],
)
def test_a_tool_that_may_have_run_is_not_told_as_one_that_has_not(
    serve: Serve, name: str, answered: bool, told: str
) -> None:
    host = serve(PAYING, name)
    host.invoke(name, "pay", thread_id="t")
    if answered:
        host.resume(name, "t", response="approve")
    said = host.invoke(name, "how often?", thread_id="t")["message"]
    assert said == f"{int(answered)}: pay |  | {told} | how often?"


# ── what the host's thread has no place for ─────────────────────────────────────────────────────────────────────────


def test_every_message_of_a_run_is_in_the_conversation_of_the_next(run: Run) -> None:
    seen: list[str] = []

    def say(text: str) -> Any:
        def node(state: MessagesState) -> dict[str, Any]:
            seen[:] = [message.text for message in state["messages"]]
            return {"messages": [AIMessage(text, name=text)]}

        return node

    builder = StateGraph(MessagesState).add_sequence([(name, say(name)) for name in ("search", "check", "report")])
    agent, state = GraphAgent(builder.add_edge(START, "search")), dict[str, Any]()
    run(agent, "one", thread=KEY, run_id="r1", state=state)
    assert state == {"langgraph_said": {"r1": [["search", "search"], ["check", "check"]]}}
    history = [Message.of("user", "one", run_id="r1"), Message.of("assistant", "report", run_id="r1")]
    run(agent, "two", thread=KEY, run_id="r2", state=state, history=history)
    assert seen == ["one", "search", "check", "report", "two", "search", "check"]


def test_what_a_run_says_that_only_waits_is_no_part_of_the_conversation(run: Run) -> None:
    state: dict[str, Any] = {"langgraph_said": {"r1": None}}
    seen: list[str] = []

    def look(given: MessagesState) -> dict[str, Any]:
        seen[:] = [message.text for message in given["messages"]]
        return {"messages": [AIMessage("seen")]}

    waits = Message.of("assistant", "Waiting for 1 more answer.", run_id="r1")
    graph = StateGraph(MessagesState).add_node("look", look).add_edge(START, "look")
    run(graph, "next", thread=KEY, history=[Message.of("user", "ask", run_id="r0"), waits], state=state)
    assert seen == ["ask", "next"]


def test_what_is_kept_of_runs_stays_small(run: Run) -> None:
    def say(text: str) -> Any:
        return lambda state: {"messages": [AIMessage(text * 100_000)]}

    builder = StateGraph(MessagesState).add_sequence([("a", say("a")), ("b", say("b"))])
    agent, state = GraphAgent(builder.add_edge(START, "a")), dict[str, Any]()
    for number in range(4):
        run(agent, "x", thread=KEY, run_id=f"r{number}", state=state)
    assert list(state["langgraph_said"]) == ["r2", "r3"]
