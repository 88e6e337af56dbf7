"""Every event of Locus has on the host's wire the shape that Locus's own server gives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agenthost_locus.translating import Translation, form
from locus.core import events as locus
from locus.core.errors import ModelThrottledError
from locus.server.app import _event_payload
from locus_doubles import Thread, adapt, agent, of, text, tool, tool_call
from pydantic import BaseModel

from agenthost import AgentUnavailable, Custom, ModelChunk, Result, Think, ToolComplete, ToolProgress, ToolStart, Usage

pytestmark = pytest.mark.framework

SCOPED = "ann:t"

SAME: list[locus.LocusEvent] = [
    locus.ThinkEvent(iteration=1, reasoning="so"),
    locus.ThinkEvent(iteration=1),
    locus.ToolStartEvent(tool_name="add", tool_call_id="c", arguments={"a": 1}),
    locus.ToolCompleteEvent(tool_name="add", tool_call_id="c", result="2", duration_ms=1.0),
    locus.ToolCompleteEvent(tool_name="add", tool_call_id="c", error="broken"),
    locus.ReflectEvent(iteration=1, assessment="stuck", confidence_delta=0.1, new_confidence=0.2),
    locus.GroundingEvent(score=0.5, claims_evaluated=2, ungrounded_claims=["x"]),
    locus.FinalAnswerVerificationEvent(passed=True, attempt=0),
    locus.ModelRetryEvent(attempt=1, delay_seconds=1.0, reason="rate_limit", error="429"),
    locus.CompactionEvent(
        iteration=1, stage="prune", tokens_before=9, tokens_after=1, threshold=5, context_window=10,
        messages_before=3, messages_after=1,
    ),
    locus.ModelCompleteEvent(content="x", usage={"prompt_tokens": 1}),
    locus.SpecialistStartEvent(specialist_id="s", specialist_type="t", task="x"),
    locus.SpecialistCompleteEvent(specialist_id="s", specialist_type="t", confidence=0.5, duration_ms=1.0),
    locus.OrchestratorDecisionEvent(decision="finalize"),
    locus.CausalNodeEvent(node_id="n", label="l", node_type="symptom"),
    locus.CausalEdgeEvent(source_id="a", target_id="b", relationship="causes", confidence=1.0),
    locus.BeforeInvocationEvent(prompt="p"),
    locus.AfterInvocationEvent(success=True, iterations=1, confidence=1.0, duration_ms=1.0),
    locus.BeforeToolCallEvent(tool_name="add", arguments={}),
    locus.AfterToolCallEvent(tool_name="add", duration_ms=1.0),
    locus.CustomEvent(name="hotels", data={"n": 1}, thread_id=SCOPED),
    locus.SubagentEvent(tool_call_id="c", tool_name="task", event=locus.ThinkEvent(iteration=1, reasoning="inner")),
]  # fmt: skip


@pytest.mark.parametrize("event", SAME, ids=lambda event: event.event_type)
def test_an_event_is_sent_as_locus_sends_it(event: locus.LocusEvent) -> None:
    [said] = Translation(SCOPED, "t").of(event)
    sent = said.payload()  # type: ignore[union-attr]  # none of these is a bare text
    assert json.loads(json.dumps(sent)) == _event_payload(event, scoped_thread_id=SCOPED, thread_id="t")


def test_every_event_of_locus_is_one_of_those_or_told_below() -> None:
    def leaves(kind: type) -> set[str]:
        below = kind.__subclasses__()
        return set().union(*map(leaves, below)) if below else {kind.__name__}

    told_below = {"ModelChunkEvent", "ToolProgressEvent", "InterruptEvent", "TerminateEvent"}
    ours = {type(event).__name__ for event in SAME} | told_below
    assert {name for name in leaves(locus.LocusEvent) if hasattr(locus, name)} == ours


def test_the_hosts_own_words_where_it_has_them() -> None:
    translation = Translation(SCOPED, "t")
    assert translation.of(locus.ModelChunkEvent(content="hi")) == ("hi",)
    assert translation.of(locus.ModelChunkEvent(content="hi", reasoning="so")) == (ModelChunk("hi", "so"),)
    assert translation.of(locus.ModelChunkEvent(done=True)) == ()
    progress = locus.ToolProgressEvent(tool_name="add", tool_call_id="c", progress=0.5, message=SCOPED)
    [said] = translation.of(progress)
    assert isinstance(said, ToolProgress)
    assert (said.tool_call_id, said.data["progress"], said.data["message"]) == ("c", 0.5, "t")


def test_where_locus_has_the_threads_own_name_the_caller_reads_theirs() -> None:
    inner = locus.CustomEvent(name="x", data={"where": SCOPED, "more": [SCOPED, 1]}, thread_id=SCOPED)
    [said] = Translation(SCOPED, "t").of(locus.SubagentEvent(tool_call_id="c", tool_name="task", event=inner))
    assert SCOPED not in json.dumps(said.payload())  # type: ignore[union-attr]  # not a bare text


def test_an_event_class_of_ones_own_keeps_its_name_unless_it_is_a_word_of_the_hosts() -> None:
    class Price(locus.LocusEvent):
        event_type: str = "price"
        amount: int = 5

    class Done(locus.LocusEvent):
        event_type: str = "done"

    [price], [done] = Translation(None, None).of(Price()), Translation(None, None).of(Done())
    assert price == Custom("price", {"agent_name": None, "amount": 5}, type="price")
    assert done.payload()["type"] == "x-done"  # type: ignore[union-attr]  # not a bare text


def test_what_is_no_event_is_refused_by_the_name_of_its_type() -> None:
    with pytest.raises(TypeError, match=r"^the agent yielded a dict, which is no event of Locus$"):
        Translation(None, None).of({"secret": 1})


def test_form_fields_become_a_schema_that_keeps_them() -> None:
    fields = [{"name": "amount", "label": "Amount", "type": "number", "required": True}, {"name": "why"}]
    assert form(fields) == {
        "type": "object",
        "properties": {
            "amount": {"type": "number", "title": "Amount"},
            "why": {"type": "string", "title": "why"},
        },
        "required": ["amount"],
        "x-fields": fields,
    }
    assert form(None) is None


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@tool
def double(n: int) -> int:
    """Twice as much."""
    return 2 * n


def test_a_run_streams_tokens_tools_and_usage() -> None:
    served = adapt(agent(tool_call("double", call_id="c", n=2), text("It is four, as I see it."), tools=[double]))
    events = asyncio.run(Thread(served).run("double 2"))
    assert "".join(event for event in events if isinstance(event, str)) == "It is four, as I see it."
    assert len([event for event in events if isinstance(event, str)]) > 1
    assert of(ToolStart, events) == [ToolStart("double", "c", {"n": 2})]
    assert of(ToolComplete, events) == [ToolComplete("double", "c", "4")]
    assert of(Usage, events) == [Usage(None, 10, 20), Usage(None, 10, 20)], "one per model call, and none twice"
    assert events[-1] == Result("It is four, as I see it.", None, "complete")


def test_without_tokens_usage_is_told_once() -> None:
    served = adapt(agent(text("plain")))
    served.serve_alone(stream_tokens=False)
    events = asyncio.run(Thread(served).run("x"))
    assert [type(event) for event in events] == [Think, Usage, Result]
    assert of(Usage, events) == [Usage(None, 10, 20)]


def test_structured_output_is_published_and_parsed() -> None:
    class Answer(BaseModel):
        n: int

    served = adapt(agent(text('{"n": 4}'), output_schema=Answer))
    assert served.output_schema["properties"]["n"]["type"] == "integer"
    assert asyncio.run(Thread(served).run("x"))[-1].output == {"n": 4}
    vague = adapt(agent(text("four"), output_schema=Answer))
    assert asyncio.run(Thread(vague).run("x"))[-1] == Result("four", None, "complete")


@pytest.mark.parametrize("reason", ["max_iterations", "tool_loop", "terminal_tool", "cancelled", "error"])
def test_how_locus_ended_is_how_the_run_did(reason: str) -> None:
    class Ends:
        async def run(self, prompt: str, *, thread_id: Any = None, metadata: Any = None) -> AsyncIterator[Any]:
            yield locus.TerminateEvent(reason=reason, iterations_used=1, final_confidence=1.0, total_tool_calls=0)

    assert asyncio.run(Thread(adapt(Ends())).run("x"))[-1] == Result("", None, reason)


def test_its_own_limit_is_no_success_and_says_what_came_of_it() -> None:
    model = [tool_call("double", call_id=f"c{n}", n=n) for n in range(2)]
    served = adapt(agent(*model, text("As far as I got."), tools=[double], max_iterations=2, tool_loop_threshold=9))
    assert asyncio.run(Thread(served).run("x"))[-1] == Result("As far as I got.", None, "max_iterations")


def test_a_model_that_raises_fails_the_run_with_what_it_raised() -> None:
    class Broken:
        async def complete(self, messages: Any, tools: Any = None, **options: Any) -> Any:
            raise RuntimeError("out of order")

        async def stream(self, messages: Any, tools: Any = None, **options: Any) -> Any:
            raise RuntimeError("out of order")
            yield

    broken = agent()
    broken._model = Broken()

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"^out of order$"):
            await Thread(adapt(broken)).run("x")

    asyncio.run(main())


def test_a_provider_that_refuses_is_an_agent_that_is_not_available() -> None:
    class Throttled:
        async def run(self, prompt: str, *, thread_id: Any = None, metadata: Any = None) -> AsyncIterator[Any]:
            raise ModelThrottledError("quota of acme used up")
            yield

    async def main() -> None:
        with pytest.raises(AgentUnavailable, match=r"^the provider of its model refused: model_throttled$"):
            await Thread(adapt(Throttled())).run("x")

    asyncio.run(main())
