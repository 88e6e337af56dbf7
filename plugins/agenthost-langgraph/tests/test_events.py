"""What a graph streams is told as the host's events: text, reasoning, tools, usage, progress, and how it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from agenthost_langgraph.graph_agent import GraphAgent
from agenthost_langgraph.plain_values import problem
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from agenthost import (
    AgentUnavailable,
    Artifact,
    Custom,
    Message,
    ModelChunk,
    Part,
    Principal,
    Result,
    RunContext,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
)

pytestmark = pytest.mark.framework

Run = Callable[..., list[Any]]


class Speaker(BaseChatModel):
    """A model that streams given pieces."""

    pieces: list[Any]

    @property
    def _llm_type(self) -> str:
        return "speaker"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(map(str, self.pieces))))])

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self.pieces:
            message = piece if isinstance(piece, AIMessageChunk) else AIMessageChunk(piece)
            yield ChatGenerationChunk(message=message.model_copy(deep=True))


def speaking(*pieces: Any) -> Any:
    """A graph of one node that asks one model."""

    async def speak(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await Speaker(pieces=list(pieces)).ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("speak", speak).add_edge(START, "speak")


def of(kind: type, said: list[Any]) -> list[Any]:
    return [event for event in said if isinstance(event, kind)]


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_with_a_tool_is_told_in_order(reference: ModuleType, run: Run) -> None:
    assert run(reference.agent, "add 2 and 3") == [
        Usage("scripted", input_tokens=3, output_tokens=5),
        ToolStart("add", "call-1", {"a": 2, "b": 3}),
        ToolComplete("add", "call-1", result="5"),
        *["2", " +", " 3", " =", " 5", "."],
        Usage("scripted", input_tokens=9, output_tokens=5),
        Result("2 + 3 = 5."),
    ]


def test_a_graph_that_is_not_compiled_is(run: Run) -> None:
    assert run(speaking("a", "b")) == ["a", "b", Result("ab")]


def test_reasoning_is_told_beside_the_text(run: Run) -> None:
    aside = AIMessageChunk("", additional_kwargs={"reasoning_content": "hm"})
    blocks = [{"type": "reasoning", "reasoning": "so"}, {"type": "text", "text": "yes"}]
    thinking = [{"type": "thinking", "thinking": "well"}]
    summary = [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "then"}]}]
    pieces = [aside, AIMessageChunk(blocks), AIMessageChunk(thinking), AIMessageChunk(summary)]
    assert run(speaking(*pieces))[:-1] == [
        ModelChunk(reasoning="hm"),
        ModelChunk(reasoning="so"),
        "yes",
        ModelChunk(reasoning="well"),
        ModelChunk(reasoning="then"),
    ]


def test_a_message_that_no_model_streamed_is_told_whole(run: Run) -> None:
    graph = StateGraph(MessagesState).add_node("greet", lambda state: {"messages": [AIMessage("Good day.")]})
    assert run(graph.add_edge(START, "greet")) == ["Good day.", Result("Good day.")]


def test_what_a_node_says_again_in_a_message_of_its_own_is_told_once(run: Run) -> None:
    async def speak(state: MessagesState) -> dict[str, Any]:
        said = await Speaker(pieces=["Good ", "day."]).ainvoke(state["messages"])
        return {"messages": [AIMessage(said.content, name="greeter")]}

    graph = StateGraph(MessagesState).add_node("speak", speak).add_edge(START, "speak")
    assert run(graph) == ["Good ", "day.", Result("Good day.")]


def test_nodes_that_speak_at_once_say_it_once_each(run: Run) -> None:
    class Slow(Speaker):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            async for piece in super()._astream(*args, **kwargs):
                await barrier.wait()
                yield piece

    class Meeting:
        """Lets nobody on before both are there."""

        def __init__(self) -> None:
            self.here = 0
            self.turn = asyncio.Event()

        async def wait(self) -> None:
            self.here += 1
            turn = self.turn
            if self.here % 2 == 0:
                self.turn = asyncio.Event()
                turn.set()
            await asyncio.wait_for(turn.wait(), 10)

    def node(name: str) -> Any:
        async def speak(state: MessagesState) -> dict[str, Any]:
            said = await Slow(pieces=[f"{name}1 ", f"{name}2 "]).ainvoke("x")
            return {"messages": [AIMessage(said.content, name=name)]}

        return speak

    barrier = Meeting()
    graph = StateGraph(MessagesState).add_node("a", node("a")).add_node("b", node("b"))
    said = run(graph.add_edge(START, "a").add_edge(START, "b"))
    assert sorted(said[:-1]) == ["a1 ", "a2 ", "b1 ", "b2 "]


@pytest.mark.parametrize("value", [None, True, 7, 0.5, "é", {"a": [datetime(2026, 1, 2)]}, uuid4(), Decimal(1)])
def test_what_an_event_takes_is_no_problem(value: Any) -> None:
    assert problem(value) is None


@pytest.mark.parametrize(
    ("value", "named"), [([b""], "bytes"), ("\ud800", "a str with a lone surrogate"), ({"a": object()}, "object")]
)
def test_what_an_event_does_not_take_is_named(value: Any, named: str) -> None:
    assert problem(value) == named


def test_only_the_named_nodes_speak_where_some_are_named(run: Run) -> None:
    async def think(state: MessagesState) -> None:
        await Speaker(pieces=["aloud"]).ainvoke("x")

    graph = speaking("a").add_node("think", think).add_edge("speak", "think")
    assert run(graph) == ["a", "aloud", Result("a")]
    assert run(graph, settings={"speakers": ["speak"]}) == ["a", Result("a")]


def test_a_nested_graph_is_heard_unless_it_is_not_to_be(run: Run) -> None:
    graph = StateGraph(MessagesState).add_node("inner", speaking("in", "side").compile()).add_edge(START, "inner")
    assert run(graph) == ["in", "side", Result("inside")]
    assert run(graph, settings={"subgraphs": False})[-1] == Result("inside")
    assert run(graph, settings={"subgraphs": False})[0] != "in"


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def calls(*ids: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "look", "args": {"at": one}, "id": one} for one in ids])


def test_a_tool_that_failed_says_so(run: Run) -> None:
    def look(state: MessagesState) -> dict[str, Any]:
        return {"messages": [ToolMessage("not there", tool_call_id="a", status="error")]}

    graph = StateGraph(MessagesState).add_node("ask", lambda state: {"messages": [calls("a")]}).add_node("look", look)
    graph.add_edge(START, "ask").add_edge("ask", "look")
    assert run(graph)[:2] == [ToolStart("look", "a", {"at": "a"}), ToolComplete("look", "a", error="not there")]


def test_a_call_that_stays_inside_its_node_is_no_tool(run: Run) -> None:
    """A model that is asked for structured output answers with a call of a "tool" that is only a form."""
    form = AIMessageChunk("", tool_call_chunks=[{"name": "Form", "args": "{}", "id": "f", "index": 0}])

    async def fill(state: MessagesState) -> dict[str, Any]:
        await Speaker(pieces=[form]).ainvoke("x")
        return {"messages": [AIMessage("filled in")]}

    graph = StateGraph(MessagesState).add_node("fill", fill).add_edge(START, "fill")
    assert run(graph) == ["filled in", Result("filled in")]


def test_a_node_that_returns_the_conversation_tells_none_of_its_tools_again(run: Run) -> None:
    def everything(state: MessagesState) -> dict[str, Any]:
        return {"messages": [*state["messages"], AIMessage("done")]}

    history = [
        Message.of("user", "look"),
        Message("assistant", tool_calls=[{"id": "a", "name": "look", "arguments": {}}]),
        Message.of("tool", "seen", tool_call_id="a", name="look"),
    ]
    graph = StateGraph(MessagesState).add_node("all", everything).add_edge(START, "all")
    assert run(graph, "again", history=history) == ["done", Result("done")]


def test_a_tool_that_answers_with_a_command_is_complete(run: Run) -> None:
    def look(state: MessagesState) -> Command[Any]:
        return Command(update={"messages": [ToolMessage([{"type": "text", "text": "seen"}], tool_call_id="a")]})

    graph = StateGraph(MessagesState).add_node("ask", lambda state: {"messages": [calls("a")]}).add_node("look", look)
    graph.add_edge(START, "ask").add_edge("ask", "look")
    assert run(graph)[1] == ToolComplete("look", "a", result="seen")


# ── progress, usage ─────────────────────────────────────────────────────────────────────────────────────────────────


class Plan(TypedDict, total=False):
    topic: str
    plan: str
    text: str


def test_a_node_that_says_nothing_is_progress(run: Run) -> None:
    graph = StateGraph(Plan).add_node("think", lambda state: {"plan": "p"}).add_node("idle", lambda state: None)
    graph.add_edge(START, "think").add_edge("think", "idle")
    assert of(Custom, run(graph, input={"topic": "t"})) == [
        Custom("node", {"node": "think", "path": [], "keys": ["plan"]})
    ]


def test_what_a_node_writes_is_told_by_its_type(run: Run) -> None:
    def work(state: MessagesState) -> dict[str, Any]:
        write = get_stream_writer()
        write("half")
        write({"type": "progress", "done": 1})
        write({"type": "bad\nname"})
        write({"tool_call_id": "a", "done": 2})
        write(Artifact("a.txt", "text/plain", text="x"))
        write(Result("a node does not end a run"))
        return {"messages": [AIMessage("ok")]}

    graph = StateGraph(MessagesState).add_node("ask", lambda state: {"messages": [calls("a")]}).add_node("work", work)
    graph.add_edge(START, "ask").add_edge("ask", "work")
    assert run(graph)[1:-2] == [
        Custom("custom", "half"),
        Custom("progress", {"type": "progress", "done": 1}),
        Custom("custom", {"type": "bad\nname"}),
        ToolProgress("a", {"done": 2}),
        Artifact("a.txt", "text/plain", text="x"),
        Custom("custom", {"message": "a node does not end a run", "output": None, "reason": "complete"}),
    ]


def test_usage_that_comes_in_pieces_is_one_call(run: Run) -> None:
    def counted(read: int, written: int, **details: Any) -> dict[str, Any]:
        return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written, **details}

    first = AIMessageChunk("a", usage_metadata=counted(10, 0, input_token_details={"cache_read": 4}))
    last = AIMessageChunk(
        "",
        usage_metadata=counted(0, 7, output_token_details={"reasoning": 3}),
        response_metadata={"model_name": "m-1"},
    )
    assert of(Usage, run(speaking(first, last))) == [
        Usage("m-1", input_tokens=10, output_tokens=7, cached_tokens=4, reasoning_tokens=3)
    ]


# ── how it ends ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_functional_entrypoint_gives_what_it_returns(run: Run) -> None:
    @task
    async def double(text: str) -> str:
        return text * 2

    @entrypoint()
    async def workflow(text: str) -> dict[str, str]:
        return {"twice": await double(text)}

    assert run(workflow, "ab") == [
        Custom("node", {"node": "double", "path": [], "keys": []}),
        Result("abab", output={"twice": "abab"}),
    ]


@pytest.mark.parametrize(
    ("returned", "result"),
    [
        ("text", Result("text")),
        (None, Result(None)),
        (AIMessage("said"), Result("said")),
        ([AIMessage("said")], Result("said")),
        ({"messages": [AIMessage("said")], "score": 1}, Result("said", output={"score": 1})),
        ({"a": 1, "b": {2}}, Result('{"a": 1, "b": [2]}', output={"a": 1, "b": [2]})),
        (7, Result("7", output=7)),
    ],
)
def test_what_an_entrypoint_may_return(run: Run, returned: Any, result: Result) -> None:
    @entrypoint()
    async def workflow(text: str) -> Any:
        return returned

    assert run(workflow, "x")[-1] == result


def test_structured_output_stands_beside_the_message(run: Run) -> None:
    class State(MessagesState):
        verdict: dict[str, Any]

    def judge(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage("Fine.")], "verdict": {"ok": True}}

    graph = StateGraph(State).add_node("judge", judge).add_edge(START, "judge")
    assert run(graph, "x")[-1] == Result("Fine.", output={"verdict": {"ok": True}})


def test_a_graph_without_an_end_gives_up_at_its_limit(run: Run) -> None:
    graph = speaking("again ").add_edge("speak", "speak")
    assert run(graph, settings={"recursion_limit": 3}) == ["again "] * 3 + [Result(reason="max_iterations")]


class RateLimitError(Exception):
    status_code = 429


class APIConnectionError(Exception):
    pass


class Down(BaseChatModel):
    """A model that cannot be had."""

    raised: Any

    @property
    def _llm_type(self) -> str:
        return "down"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise self.raised


@pytest.mark.parametrize("raised", [RateLimitError("slow down"), APIConnectionError("no route"), ConnectionError()])
def test_a_provider_that_is_down_is_unavailable_and_nothing_it_said_is_told(run: Run, raised: Exception) -> None:
    async def call(state: MessagesState) -> None:
        await Down(raised=raised).ainvoke("x")

    graph = StateGraph(MessagesState).add_node("call", call).add_edge(START, "call")
    with pytest.raises(AgentUnavailable) as unavailable:
        run(graph, "x")
    assert unavailable.value.message == f"its model's provider cannot be reached: {type(raised).__name__}"


@pytest.mark.parametrize("raised", [ConnectionRefusedError("orders"), RateLimitError("slow down")])
def test_what_a_tool_cannot_reach_is_not_its_models_provider(run: Run, raised: Exception) -> None:
    def order(state: MessagesState) -> None:
        raise raised

    with pytest.raises(type(raised)):
        run(StateGraph(MessagesState).add_node("order", order).add_edge(START, "order"), "x")


def test_a_key_of_the_state_that_is_no_json_is_left_out_and_named(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class State(MessagesState):
        blob: Any
        size: Any
        big: Any

    def take(state: State) -> dict[str, Any]:
        return {"blob": {"a": [b"raw"]}, "size": {1}, "big": 1 << 70, "messages": [AIMessage("yes")]}

    graph = StateGraph(State).add_node("take", take).add_edge(START, "take")
    assert run(graph, "x")[-1].output == {"size": [1]}
    assert [record.getMessage() for record in caplog.records] == [
        "key 'blob' of the state is left out of the output, which is JSON: bytes",
        "key 'big' of the state is left out of the output, which is JSON: an int of more than 64 bits",
    ]


def test_any_other_error_goes_through(reference: ModuleType, run: Run) -> None:
    with pytest.raises(RuntimeError, match="out of order"):
        run(reference.agent, "fail")


def test_a_run_that_is_cancelled_cancels_its_model_and_leaves_no_task() -> None:
    seen = SimpleNamespace(begun=asyncio.Event(), cancelled=False)

    async def wait(state: MessagesState) -> None:
        seen.begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.cancelled = True
            raise

    agent = GraphAgent(StateGraph(MessagesState).add_node("wait", wait).add_edge(START, "wait"))
    ctx = RunContext(prompt="x", run_id="r", agent="graph", principal=Principal("ada"))

    async def main() -> None:
        async def consume() -> None:
            async for _ in agent.run(ctx):
                pass

        running = asyncio.create_task(consume())
        await asyncio.wait_for(seen.begun.wait(), 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert seen.cancelled


def test_a_run_that_is_closed_between_two_tokens_ends_its_model(reference: ModuleType, tmp_path: Any) -> None:
    log = tmp_path / "log"
    agent = GraphAgent(reference.agent)
    ctx = RunContext(prompt="slow", run_id="r", agent="graph", principal=Principal("ada"))

    async def main() -> None:
        events = agent.run(ctx)
        async for _ in events:
            break
        await events.aclose()  # type: ignore[attr-defined]  # the agent's iterator is a generator
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFERENCE_LOG", str(log))
        asyncio.run(main())
    assert log.read_text() == "cancelled\n"


# ── what goes in ────────────────────────────────────────────────────────────────────────────────────────────────────


def given_to(run: Run, prompt: str = "", **given: Any) -> list[Any]:
    """The messages that a graph without a checkpointer is given."""
    seen: list[Any] = []

    def look(state: MessagesState) -> dict[str, Any]:
        seen.extend(state["messages"])
        return {"messages": [AIMessage("seen")]}

    run(StateGraph(MessagesState).add_node("look", look).add_edge(START, "look"), prompt, **given)
    return seen


def test_the_conversation_so_far_comes_with_its_tools(run: Run) -> None:
    history = [
        Message.of("system", "be kind"),
        Message.of("user", "look"),
        Message("assistant", [Part(text="I look.")], tool_calls=[{"id": "a", "name": "look", "arguments": {"at": 1}}]),
        Message.of("assistant", "Waiting for 1 more answer."),
        Message.of("tool", "gone", tool_call_id="a", name="look", metadata={"error": "gone"}),
        Message.of("tool", "of nobody", tool_call_id="z", name="look"),
        Message("assistant", tool_calls=[{"id": "b", "name": "look", "arguments": {}}], status="paused"),
        Message("assistant", tool_calls=[{"id": "c", "name": "look", "arguments": {}}]),
        Message.of("user", ""),
    ]
    said = given_to(run, "well?", history=history)
    assert [(one.type, one.text) for one in said] == [
        ("system", "be kind"),
        ("human", "look"),
        ("ai", "I look."),
        ("tool", "gone"),
        ("ai", "Waiting for 1 more answer."),
        ("ai", ""),
        ("tool", "No result: its run was paused at it, and did not get to one; whether it has run is not known."),
        ("ai", ""),
        ("tool", "No result: it was stopped before it had one, and may have run."),
        ("human", "well?"),
    ]
    assert said[2].tool_calls == [{"name": "look", "args": {"at": 1}, "id": "a", "type": "tool_call"}]
    assert (said[3].tool_call_id, said[3].name, said[3].status) == ("a", "look", "error")


def test_calls_whose_ids_come_again_have_their_own_answers(run: Run) -> None:
    history = []
    for at in (1, 2):
        history += [
            Message("assistant", tool_calls=[{"id": "call_0", "name": "look", "arguments": {"at": at}}]),
            Message.of("tool", f"result {at}", tool_call_id="call_0", name="look"),
        ]
    said = given_to(run, "well?", history=history)
    assert [(one.type, one.text) for one in said if one.type == "tool"] == [("tool", "result 1"), ("tool", "result 2")]


def test_a_file_that_is_named_by_its_address_is_refused_unless_a_setting_lets_it_in(run: Run) -> None:
    address = Part(media_type="image/png", uri="http://10.0.0.1/a.png")
    blocks = [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}]
    refused = [
        Result("This agent takes no files by their address: send what is in them.", reason="unsupported_content")
    ]
    graph = speaking("seen")
    assert run(graph, "look", content=[Part(text="look"), address]) == refused
    assert run(graph, input={"messages": [{"role": "user", "content": blocks}]}) == refused
    text = [
        {"type": "text", "text": "http://example.com"},
        {"type": "image", "base64": "aaaa", "mime_type": "image/png"},
    ]
    assert run(graph, input={"messages": [{"role": "user", "content": text}]})[-1] == Result("seen")
    assert run(graph, "look", content=[address], settings={"urls": True})[-1] == Result("seen")
    before = [Message("user", [Part(text="look"), address]), Message("user", [address])]
    assert [one.content for one in given_to(run, "well?", history=before)] == ["look", "well?"]


def test_files_become_content_blocks(run: Run) -> None:
    content = [
        Part(text="what is this?"),
        Part(media_type="image/png", data=b"\x89PNG"),
        Part(media_type="image/jpeg", uri="https://example.com/a.jpg"),
        Part(media_type="application/pdf", data=b"%PDF"),
        Part(media_type="audio/wav", data=b"RIFF"),
        Part(json={"a": 1}),
    ]
    assert given_to(run, "what is this?", content=content, settings={"urls": True})[0].content == [
        {"type": "text", "text": "what is this?"},
        {"type": "image", "mime_type": "image/png", "base64": "iVBORw=="},
        {"type": "image", "mime_type": "image/jpeg", "url": "https://example.com/a.jpg"},
        {"type": "file", "mime_type": "application/pdf", "base64": "JVBERg=="},
        {"type": "audio", "mime_type": "audio/wav", "base64": "UklGRg=="},
        {"type": "text", "text": '{"a": 1}'},
    ]
