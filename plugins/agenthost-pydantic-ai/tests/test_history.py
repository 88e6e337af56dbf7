"""The conversation as the model gets it: whole where it is kept, made of the host's thread where it is not."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from agenthost_pydantic_ai import serve
from agenthost_pydantic_ai.history import ASKED, MAX_KEPT, STOPPED, conversation, dumped, keep, loaded
from pydantic_ai import Agent
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import DeltaThinkingPart
from pydantic_ai_doubles import Thread, context, model, prompts, text_of, told

from agenthost import Message, Part, RunContext

pytestmark = pytest.mark.framework


def ctx_of(*history: Message, state: dict[str, Any] | None = None) -> RunContext:
    return context(serve(Agent("test")), history=history, state=state or {})


def parts_of(messages: list[ModelMessage]) -> list[tuple[str, Any]]:
    return [(part.part_kind, getattr(part, "content", None)) for message in messages for part in message.parts]


def before(ctx: RunContext) -> list[tuple[str, Any]]:
    return parts_of(conversation(ctx, ctx.history, urls=False))


def test_a_thread_keeps_what_the_hosts_messages_cannot() -> None:
    seen: list[list[ModelMessage]] = []

    def say(messages: list[ModelMessage]) -> list[Any]:
        seen.append(messages)
        return [{0: DeltaThinkingPart(content="Hm.", signature="sig")}, "Yes."]

    thread = Thread(Agent(model(say)))
    for prompt in ("one", "two", "three"):
        asyncio.run(thread.run(prompt))

    assert prompts(seen[-1]) == ["one", "two", "three"]
    thoughts = [part for message in seen[-1] for part in message.parts if isinstance(part, ThinkingPart)]
    assert [(one.content, one.signature) for one in thoughts] == [("Hm.", "sig")] * 2


def test_without_what_was_kept_the_conversation_is_made_of_the_thread() -> None:
    picture = Part(data=b"\x89PNG", media_type="image/png")
    ctx = ctx_of(
        Message.of("system", "Be brief."),
        Message("user", (Part(text="What is this?"), picture), run_id="a"),
        Message("assistant", (Part(text="I look."),), tool_calls=[{"id": "c", "name": "look", "arguments": {"n": 1}}]),
        Message.of("tool", "a cat", tool_call_id="c", name="look"),
        Message.of("assistant", "A cat."),
        Message("user", (Part(uri="https://example.com/cat.png"), Part(text="And this?"))),
    )
    messages = conversation(ctx, ctx.history, urls=False)

    assert parts_of(messages) == [
        ("system-prompt", "Be brief."),
        ("user-prompt", ["What is this?", BinaryContent(b"\x89PNG", media_type="image/png")]),
        ("text", "I look."),
        ("tool-call", None),
        ("tool-return", "a cat"),
        ("text", "A cat."),
        ("user-prompt", "And this?"),
    ]
    (call,) = [part for message in messages for part in message.parts if isinstance(part, ToolCallPart)]
    assert (call.tool_name, call.tool_call_id, call.args) == ("look", "c", {"n": 1})


def test_what_failed_or_was_stopped_is_not_taken_up_again() -> None:
    ctx = ctx_of(
        Message.of("user", "delete it all", run_id="a", status="cancelled"),
        Message.of("user", "hello", run_id="b", status="failed"),
        Message.of("user", "send it", run_id="c", status="paused"),
    )
    assert before(ctx) == [("user-prompt", "send it")]


def test_every_call_gets_one_answer_and_every_answer_has_its_call() -> None:
    ctx = ctx_of(
        Message.of("user", "go", run_id="a"),
        Message("assistant", tool_calls=[{"id": one, "name": "do", "arguments": {}} for one in ("c1", "c2")]),
        Message.of("tool", "done", tool_call_id="c1", name="do"),
        Message.of("tool", "done again", tool_call_id="c1", name="do"),
        Message.of("tool", "of no call", tool_call_id="c9", name="do"),
        Message.of("user", "well?", run_id="b"),
    )
    assert before(ctx) == [
        ("user-prompt", "go"),
        ("tool-call", None),
        ("tool-call", None),
        ("tool-return", "done"),
        ("tool-return", STOPPED),
        ("user-prompt", "well?"),
    ]


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "made of the thread"])
@pytest.mark.parametrize(("status", "told"), [("paused", ASKED), (None, STOPPED)])
def test_of_a_call_without_a_result_nothing_is_said_that_is_not_known(
    kept: bool, status: str | None, told: str
) -> None:
    state: dict[str, Any] = {}
    if kept:
        ctx = ctx_of(state=state)
        keep(ctx, [ModelRequest([UserPromptPart("pay")]), ModelResponse([ToolCallPart("pay", {}, "c")])])
    ctx = ctx_of(
        Message.of("user", "pay", run_id="run-1", status=status),
        Message("assistant", tool_calls=[{"id": "c", "name": "pay", "arguments": {}}], run_id="run-1", status=status),
        Message.of("user", "well?", run_id="run-2"),
        state=state,
    )

    assert before(ctx) == [
        ("user-prompt", "pay"),
        ("tool-call", None),
        ("tool-return", told),
        ("user-prompt", "well?"),
    ]
    assert "may have run" in told


def test_what_the_agent_does_not_take_is_left_out_of_what_was_said() -> None:
    bad, good = Part(uri="data:text/plain,hi"), Part(uri="data:text/plain;base64,aGk=")
    ctx = ctx_of(
        Message("user", (Part(text="See:"), bad, good)),
        Message("user", (bad,)),
        Message("user", (Part(uri="https://example.com/cat.png", media_type="image/png"),)),
    )
    seen = [("user-prompt", ["See:", BinaryContent(b"hi", media_type="text/plain")])]

    assert before(ctx) == seen
    assert len(conversation(ctx, ctx.history, urls=True)) == 2


def test_the_newest_runs_are_kept_and_older_ones_are_made_of_the_thread() -> None:
    state: dict[str, Any] = {}
    history: list[Message] = []
    for number in range(6):
        ctx = ctx_of(state=state)
        ctx.run_id = f"run-{number}"
        text = f"{number}" * (200 << 10)
        keep(ctx, [ModelRequest([UserPromptPart(text)]), ModelResponse([ThinkingPart("Hm."), TextPart("ok")])])
        state = json.loads(json.dumps(ctx.state))
        history += [Message.of("user", text, run_id=ctx.run_id), Message.of("assistant", "ok", run_id=ctx.run_id)]

    assert [run_id for run_id, _text in state["pydantic_ai"]["runs"]] == ["run-3", "run-4", "run-5"]
    kinds = [kind for kind, _content in before(ctx_of(*history, state=state))]
    assert kinds == ["user-prompt", "text"] * 3 + ["user-prompt", "thinking", "text"] * 3


@pytest.mark.parametrize("character", ["x", '"', "\\", "\n", "é", "𝄞"])
def test_what_is_kept_fits_the_hosts_limit_whatever_it_is_made_of(character: str) -> None:
    ctx = ctx_of()
    for number in range(40):
        ctx.run_id = f"run-{number}"
        keep(ctx, [ModelRequest([UserPromptPart(character * 30_000)])])

    assert MAX_KEPT // 4 < len(json.dumps(ctx.state, ensure_ascii=False).encode()) < 1 << 20


def test_runs_of_no_messages_have_a_size_too() -> None:
    ctx = ctx_of(state={"pydantic_ai": {"runs": [[f"{number:032}", "[]"] for number in range(40_000)]}})
    keep(ctx, [])

    assert len(json.dumps(ctx.state).encode()) < 1 << 20
    assert ctx.state["pydantic_ai"]["runs"][-1] == ["run-1", "[]"]


def test_messages_that_are_not_json_are_not_kept_and_do_not_fail_the_run(caplog: pytest.LogCaptureFixture) -> None:
    ctx = ctx_of()
    with caplog.at_level(logging.WARNING):
        keep(ctx, [ModelRequest([ToolReturnPart("look", object(), "c")])])

    assert ctx.state["pydantic_ai"]["runs"] == []
    assert "the run's messages are not kept as they are: PydanticSerializationError" in caplog.text


def test_numbers_that_the_store_has_no_room_for_pass_in_a_text() -> None:
    large: list[ModelMessage] = [ModelRequest([ToolReturnPart("count", {"n": 10**30, "x": float("nan")}, "c")])]
    (request,) = loaded(json.loads(json.dumps(dumped(large))))
    (part,) = request.parts

    assert isinstance(part, ToolReturnPart)
    assert part.content["n"] == 10**30


def test_a_conversation_that_comes_without_the_system_prompt_gets_it() -> None:
    seen: list[list[ModelMessage]] = []

    def say(messages: list[ModelMessage]) -> list[Any]:
        seen.append(messages)
        return ["ok"]

    agent = Agent(model(say), system_prompt="Be brief.", instructions="Be kind.")
    told(agent, "now", history=(Message.of("user", "before"), Message.of("assistant", "ok")))
    thread = Thread(agent)
    for prompt in ("one", "two"):
        asyncio.run(thread.run(prompt))

    for messages in (seen[0], seen[2]):
        system = [part for message in messages for part in message.parts if isinstance(part, SystemPromptPart)]
        assert [part.content for part in system] == ["Be brief."]
        assert isinstance(messages[0].parts[0], SystemPromptPart)
        assert messages[-1].instructions == "Be kind."


COUNTS = """
from pydantic_ai import Agent
from pydantic_ai_doubles import model, prompts

agent = Agent(model(lambda messages: [f"{len(messages)} messages, {sum(map(len, prompts(messages)))} characters"]))
"""


def test_over_http_a_thread_of_more_than_a_megabyte_loses_nothing(served: Any) -> None:
    client = served(COUNTS)
    for turn in range(1, 6):
        reply = client.post("/agents/app/invoke", json={"prompt": "x" * 400_000, "thread_id": "t"})
        assert reply.json()["message"] == f"{2 * turn - 1} messages, {400_000 * turn} characters"

    assert client.delete("/agents/app/threads/t").json()["deleted"]
    reply = client.post("/agents/app/invoke", json={"prompt": "x", "thread_id": "t"})
    assert reply.json()["message"] == "1 messages, 1 characters"


def test_a_run_without_a_thread_keeps_nothing() -> None:
    served = serve(Agent(model(lambda messages: ["ok"])))
    ctx = context(served)

    async def main() -> str:
        return text_of([event async for event in served.run(ctx)])

    assert asyncio.run(main()) == "ok"
    assert ctx.state == {}
