"""What the framework's stream says, as events of the host."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import pydantic_ai
import pytest
from agenthost_pydantic_ai.telling import MAX_ARTIFACT, MAX_SHOWN, Spent, Story
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import (
    BinaryContent,
    FilePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    PartStartEvent,
)
from pydantic_ai.models.function import DeltaThinkingPart
from pydantic_ai.usage import RunUsage
from pydantic_ai_doubles import call, model, of, returns, text_of, told

from agenthost import Artifact, Custom, ModelChunk, Result, ToolComplete, ToolProgress, ToolStart, Usage

pytestmark = [
    pytest.mark.framework,
    # releases before 2.0 make events of an old kind, which warn of themselves
    pytest.mark.filterwarnings("ignore:`BuiltinTool.*Event` is deprecated"),
]


def test_text_and_reasoning_come_as_they_are_said() -> None:
    words = [{0: DeltaThinkingPart(content="Hm. ")}, {0: DeltaThinkingPart(content="Yes.")}, "Hel", "lo"]
    events = told(Agent(model(lambda messages: words)))

    assert events[:-1] == [ModelChunk(reasoning="Hm. "), ModelChunk(reasoning="Yes."), "Hel", "lo"]
    assert isinstance(events[-1], Usage)


def calls_a_tool(tool: str, **arguments: Any) -> Any:
    return model(lambda messages: ["done"] if returns(messages) else ["One moment. ", call(tool, "c", **arguments)])


def test_a_tool_call_is_told_when_it_begins_and_when_it_ends() -> None:
    agent = Agent(calls_a_tool("add", a=2, b=3))

    @agent.tool_plain
    def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    events = [event for event in told(agent) if not isinstance(event, Usage)]
    assert events == [
        "One moment. ",
        ToolStart("add", "c", {"a": 2, "b": 3}),
        ToolComplete("add", "c", {"sum": 5}),
        "done",
        Result("done"),  # the answer is what was said last, not all that was said
    ]


def test_a_tool_that_asks_for_another_try_is_an_error_of_that_call() -> None:
    tries: list[int] = []

    def say(_messages: Any) -> list[Any]:
        return ["done"] if len(tries) == 2 else [call("pick", f"c{len(tries)}", n=len(tries))]

    agent = Agent(model(say))

    @agent.tool_plain(retries=3)
    def pick(n: int) -> str:
        tries.append(n)
        if n == 0:
            raise ModelRetry("pick another")
        return "picked"

    first, second = of(ToolComplete, told(agent))
    assert (first.tool_call_id, first.result) == ("c0", None)
    assert first.error is not None
    assert "pick another" in first.error
    assert (second.tool_call_id, second.result, second.error) == ("c1", "picked", None)


def test_a_tool_that_is_not_there_is_an_error_of_that_call() -> None:
    asked: list[int] = []

    def say(_messages: Any) -> list[Any]:
        asked.append(1)
        return ["done"] if len(asked) == 2 else [call("nothing", "c")]

    events = told(Agent(model(say)))
    assert of(ToolStart, events) == [ToolStart("nothing", "c", {})]
    (complete,) = of(ToolComplete, events)
    assert "Unknown tool name: 'nothing'" in (complete.error or "")


def test_a_tool_that_raises_fails_the_run_as_it_is() -> None:
    agent = Agent(calls_a_tool("broken"))

    @agent.tool_plain
    def broken() -> str:
        raise KeyError("of the agent's own")

    with pytest.raises(KeyError, match="of the agent's own"):
        told(agent)


def test_tools_that_run_at_the_provider_are_told_too() -> None:
    words = [
        {0: NativeToolCallPart("web_search", {"q": "x"}, "n")},
        {1: NativeToolReturnPart("web_search", {"hits": 1}, "n")},
        "found",
    ]
    events = told(Agent(model(lambda messages: words)))

    assert events[:3] == [
        ToolStart("web_search", "n", {"q": "x"}),
        ToolComplete("web_search", "n", {"hits": 1}),
        "found",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * MAX_SHOWN, "x" * MAX_SHOWN),
        ("x" * 2_000_000, "x" * (MAX_SHOWN - 1) + "…"),
        (["x" * 2_000_000], '["' + "x" * (MAX_SHOWN - 3) + "…"),
    ],
    ids=["as long as may be", "longer", "longer, and no text"],
)
def test_what_a_tool_returns_is_cut_on_the_wire_and_the_model_has_it_whole(value: Any, shown: Any) -> None:
    given: list[Any] = []

    def say(messages: Any) -> list[Any]:
        given.extend(returns(messages).values())
        return ["done"] if given else [call("read", "c")]

    agent = Agent(model(say))

    @agent.tool_plain
    def read() -> Any:
        return value

    assert of(ToolComplete, told(agent)) == [ToolComplete("read", "c", shown)]
    assert given == [value]


def tell(event: Any) -> list[Any]:
    return list(Story(lambda tool: "function", ()).tell(event))


def test_a_file_that_the_model_makes_is_an_artifact_unless_no_event_can_hold_it() -> None:
    picture = BinaryContent(b"\x89PNG", media_type="image/png")
    (made,) = tell(PartStartEvent(index=0, part=FilePart(picture)))

    assert isinstance(made, Artifact)
    assert made.name.endswith(".png")
    assert (made.media_type, made.data) == ("image/png", base64.b64encode(b"\x89PNG").decode())

    large = BinaryContent(bytes(MAX_ARTIFACT + 1), media_type="image/png")
    assert tell(PartStartEvent(index=0, part=FilePart(large))) == [
        Custom("file-too-large", {"media_type": "image/png", "bytes": MAX_ARTIFACT + 1})
    ]


WITH_EVENTS = """
from dataclasses import dataclass
from pydantic_ai import Agent, CustomEvent, RunContext
from pydantic_ai_doubles import call, model, returns

@dataclass(kw_only=True)
class StepEvent(CustomEvent):
    done: int

@dataclass(kw_only=True)
class AuditEvent(CustomEvent, ui=False):
    secret: str

agent = Agent(model(lambda messages: ["done"] if returns(messages) else [call("work", "c")]))

@agent.tool
async def work(ctx: RunContext[None]) -> str:
    await ctx.emit(StepEvent(done=1))
    await ctx.emit(AuditEvent(secret="not for clients"))
    return "worked"
"""


@pytest.mark.skipif(not hasattr(pydantic_ai, "CustomEvent"), reason="this release has no events of the user's own")
def test_what_a_tool_emits_is_progress_of_its_call(served: Any) -> None:
    stream = served(WITH_EVENTS).post("/agents/app/stream", json={"prompt": "x"}).text

    assert '{"type":"tool_progress","tool_call_id":"c","data":{"name":"step","data":{"done":1}}}' in stream
    assert "not for clients" not in stream


class Emitted:
    """An event of the user's own outside any tool."""

    event_kind, ui, name, tool_call_id = "custom", True, "step", None

    def to_payload(self) -> dict[str, int]:
        return {"done": 1}


def test_what_other_code_emits_is_an_event_of_its_own_name() -> None:
    assert tell(Emitted()) == [Custom("step", {"done": 1})]
    assert not of(ToolProgress, tell(Emitted()))


# ── usage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_usage_is_told_for_each_request_to_the_model() -> None:
    agent = Agent(calls_a_tool("look"))

    @agent.tool_plain
    def look() -> str:
        return "seen"

    events = told(agent)
    usages = of(Usage, events)
    counted = [(one.model, one.input_tokens > 0, one.output_tokens > 0) for one in usages]
    assert counted == [("scripted", True, True)] * 2
    assert events.index(usages[0]) < events.index(of(ToolStart, events)[0])
    assert text_of([event for event in events if isinstance(event, str)]) == "One moment. done"


def test_usage_has_what_was_cached_what_was_thought_and_what_it_cost() -> None:
    spent = Spent()
    usage = RunUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, details={"reasoning_tokens": 3})
    assert list(spent.more(usage, "m")) == [Usage("m", 10, 5, 4, 3)]
    assert list(spent.more(usage, "m")) == []

    usage.input_tokens = 12
    usage.output_reasoning_tokens = 4  # newer releases count it themselves
    usage.cost = Decimal("0.25")  # and what it cost
    assert list(spent.more(usage, None)) == [Usage(None, 2, 0, 0, 1, 0.25)]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"request_limit": 1}, "max_iterations"),
        ({"tool_calls_limit": 0}, "max_iterations"),
        ({"output_tokens_limit": 3}, "usage_limit"),
    ],
)
def test_a_limit_of_the_frameworks_ends_the_run_and_says_so(limits: dict[str, int], reason: str) -> None:
    agent = Agent(calls_a_tool("look"))

    @agent.tool_plain
    def look() -> str:
        return "seen"

    assert told(agent, settings={"usage_limits": limits})[-1] == Result(reason=reason)
