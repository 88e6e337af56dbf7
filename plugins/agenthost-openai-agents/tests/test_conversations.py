"""What a run says, and what the next one on its thread is given."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from agenthost_openai_agents import serve
from agents import Agent, function_tool
from openai.types.responses import ResponseFunctionWebSearch, ResponseReasoningItem
from openai.types.responses.response_function_web_search import ActionSearch
from openai.types.responses.response_output_item import ImageGenerationCall
from openai.types.responses.response_reasoning_item import Summary
from openai_doubles import Thread, asked_for, call, message_of, of, outputs_of, reference, scripted
from pydantic import BaseModel

from agenthost import (
    Artifact,
    Message,
    ModelChunk,
    Part,
    Principal,
    Result,
    RunContext,
    ToolComplete,
    ToolStart,
    Usage,
)

pytestmark = pytest.mark.framework


class Sum(BaseModel):
    """What a tool returns."""

    total: int


@function_tool
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(total=a + b)


@function_tool
def broken() -> str:
    """Fail."""
    raise OSError("out of paper")


def conversation(agent: Any) -> list[Any]:
    """What the model was given last."""
    return agent._agent.model.asked[-1]  # type: ignore[no-any-return]  # it is the double's


def test_text_tools_and_usage_are_told_as_they_come() -> None:
    def answer(items: list[Any]) -> list[Any]:
        if outputs_of(items):
            return ["2 + 3 is 5"]
        return ["Let me add.", call("add", "c1", a=2, b=3)]

    async def main() -> None:
        assert await Thread(serve(scripted(answer, tools=[add]))).run("add") == [
            ModelChunk("Let "),
            ModelChunk("me "),
            ModelChunk("add."),
            Usage("scripted", 10, 2, 1, 0),
            ToolStart("add", "c1", {"a": 2, "b": 3}),
            ToolComplete("add", "c1", {"total": 5}),
            ModelChunk("2 "),
            ModelChunk("+ "),
            ModelChunk("3 "),
            ModelChunk("is "),
            ModelChunk("5"),
            Usage("scripted", 10, 2, 1, 0),
            Result("2 + 3 is 5"),
        ]

    asyncio.run(main())


def test_reasoning_is_told_apart_from_text() -> None:
    thought = ResponseReasoningItem(id="r", type="reasoning", summary=[Summary(type="summary_text", text="Hm.")])

    async def main() -> None:
        events = await Thread(serve(scripted(lambda items: [thought, "Yes."]))).run("?")
        assert of(ModelChunk, events) == [ModelChunk(reasoning="Hm."), ModelChunk("Yes.")]
        assert message_of(events) == "Yes."

    asyncio.run(main())


def test_a_model_that_does_not_stream_is_told_whole() -> None:
    class Whole(reference.ScriptedModel):  # type: ignore[name-defined, misc]  # loaded by its path
        async def stream_response(self, *args: Any, **more: Any) -> Any:
            async for event in super().stream_response(*args, **more):
                if event.type == "response.completed":
                    yield event

    async def main() -> None:
        agent = Agent(name="Whole", model=Whole())
        events = await Thread(serve(agent)).run("my name is Ann")
        assert of(ModelChunk, events) == [ModelChunk("Hello Ann.")]

    asyncio.run(main())


def test_what_a_tool_raised_is_what_the_model_reads_of_it() -> None:
    def answer(items: list[Any]) -> list[Any]:
        return ["Sorry."] if outputs_of(items) else [call("broken", "c")]

    async def main() -> None:
        (done,) = of(ToolComplete, await Thread(serve(scripted(answer, tools=[broken]))).run("print"))
        assert done.result.startswith("An error occurred while running the tool.")

    asyncio.run(main())


def test_tools_that_the_provider_runs_are_told_with_their_results() -> None:
    search = ResponseFunctionWebSearch(
        id="ws", type="web_search_call", status="completed", action=ActionSearch(type="search", query="rain")
    )
    picture = ImageGenerationCall(id="ig", type="image_generation_call", status="completed", result="aGk=")
    large = ImageGenerationCall(id="big", type="image_generation_call", status="completed", result="a" * 1_000_004)

    async def main() -> None:
        thread = Thread(serve(scripted(lambda items: [search, picture, large, "It rains."])))
        events = await thread.run("?")
        start = events[[type(event) for event in events].index(ToolStart)]
        assert (start.tool, start.tool_call_id, start.arguments["action"]["query"]) == ("web_search", "ws", "rain")
        assert Artifact("ig.png", "image/png", data="aGk=") in events
        assert [(done.tool_call_id, done.error) for done in of(ToolComplete, events)] == [
            ("ws", None),
            ("ig", None),
            ("big", "the picture is larger than one event can carry"),
        ]
        assert message_of(events) == "It rains."

    asyncio.run(main())


def test_a_thread_is_remembered_with_all_that_the_sdk_has_in_it() -> None:
    thought = ResponseReasoningItem(id="r", type="reasoning", summary=[], encrypted_content="xyz")

    def answer(items: list[Any]) -> list[Any]:
        if asked_for(items) == "add":
            return ["5"] if outputs_of(items) else [thought, call("add", "c1", a=2, b=3)]
        return [str(len(items))]

    async def main() -> None:
        thread = Thread(serve(scripted(answer, tools=[add])))
        await thread.run("add")
        assert message_of(await thread.run("and?")) == "6"
        given = conversation(thread.agent)
        assert [item.get("type") for item in given] == [
            None,
            "reasoning",
            "function_call",
            "function_call_output",
            "message",
            None,
        ]
        assert given[1]["encrypted_content"] == "xyz"
        assert given[-1] == {"role": "user", "content": "and?"}

    asyncio.run(main())


def test_what_was_said_in_a_run_that_failed_is_given_to_the_next() -> None:
    def answer(items: list[Any]) -> list[Any]:
        if asked_for(items) == "fail":
            raise RuntimeError("out of order")
        return ["ok"]

    async def main() -> None:
        thread = Thread(serve(scripted(answer)))
        await thread.run("one")
        for prompt in ("fail", "fail"):
            with pytest.raises(RuntimeError, match="out of order"):
                await thread.run(prompt)
        await thread.run("two")
        assert [reference.text_of(item) for item in conversation(thread.agent)] == ["one", "ok", "fail", "fail", "two"]
        await thread.run("three")
        assert len(conversation(thread.agent)) == 7

    asyncio.run(main())


def test_more_than_the_state_holds_is_made_of_the_messages_again() -> None:
    async def main() -> None:
        thread = Thread(serve(scripted(lambda items: ["x" * 300_000])))
        for number in range(5):
            await thread.run(str(number))
            assert ("items" in thread.state) == (number < 3)
        assert [len(reference.text_of(item)) for item in conversation(thread.agent)] == [1, 300_000] * 4 + [1]

    asyncio.run(main())


def test_a_conversation_that_a_dialect_brings_is_given_as_it_is_without_what_was_never_answered() -> None:
    async def main() -> None:
        agent = serve(scripted(lambda items: ["ok"]))
        calls = [{"id": "c1", "name": "add", "arguments": {"a": 2}}, {"id": "lost", "name": "add", "arguments": {}}]
        ctx = RunContext(
            prompt="and?",
            run_id="r",
            agent="app",
            principal=Principal("ada"),
            history=[
                Message.of("system", "Be brief."),
                Message.of("user", "add"),
                Message("assistant", tool_calls=calls),
                Message.of("tool", "5", tool_call_id="c1", name="add"),
                Message.of("tool", "6", tool_call_id="unknown", name="add"),
                Message.of("assistant", ""),
                Message.of("assistant", "5"),
            ],
        )
        async for _said in agent.run(ctx):
            pass
        assert [item for item in conversation(agent) if item.get("role") != "assistant"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "add"},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 2}'},
            {"type": "function_call_output", "call_id": "c1", "output": "5"},
            {"role": "user", "content": "and?"},
        ]

    asyncio.run(main())


def test_pictures_files_and_data_are_content_of_the_message() -> None:
    parts = [
        Part(text="Look:"),
        Part(media_type="image/png", data=b"hi"),
        Part(media_type="image/png", uri="https://example.org/a.png"),
        Part(media_type="application/pdf", data=b"hi"),
        Part(media_type="application/pdf", uri="https://example.org/a.pdf"),
        Part(json={"a": 1}),
    ]

    async def main() -> None:
        thread = Thread(serve(scripted(lambda items: ["ok"])))
        await thread.run("Look:", content=parts, input={"b": 2})
        assert conversation(thread.agent)[-1]["content"] == [
            {"type": "input_text", "text": "Look:"},
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
            {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
            {"type": "input_file", "filename": "file.pdf", "file_data": "data:application/pdf;base64,aGk="},
            {"type": "input_file", "file_url": "https://example.org/a.pdf"},
            {"type": "input_text", "text": '{"a": 1}'},
            {"type": "input_text", "text": '{"b": 2}'},
        ]
        await thread.run("", input={"c": 3})
        assert conversation(thread.agent)[-1]["content"] == [{"type": "input_text", "text": '{"c": 3}'}]

    asyncio.run(main())


def test_a_context_is_made_for_each_run_by_a_plain_or_an_async_function() -> None:
    seen: list[Any] = []

    def instructions(wrapper: Any, agent: Any) -> str:
        seen.append(wrapper.context)
        return "Be brief."

    async def later(ctx: RunContext) -> str:
        return f"{ctx.principal.id} {ctx.run_id}"

    async def main() -> None:
        agent = scripted(lambda items: ["ok"], instructions=instructions)
        for make in (lambda ctx: ctx.principal, later, None):
            await Thread(serve(agent, context=make)).run("?")
        assert seen == [Principal("ada"), "ada run-1", None]

    asyncio.run(main())


def test_over_http_a_thread_of_three_turns_is_one_conversation(served: Any) -> None:
    client = served("from openai_doubles import reference\nagent = reference.agent\n")

    def invoke(prompt: str, thread_id: str) -> dict[str, Any]:
        body = {"prompt": prompt, "thread_id": thread_id}
        found: dict[str, Any] = client.post("/agents/app/invoke", json=body).json()
        return found

    assert invoke("my name is Ann", "t")["message"] == "Hello Ann."
    added = invoke("add 2 and 3", "t")
    assert (added["message"], added["tool_calls"]) == ("2 + 3 = 5.", 1)
    assert added["usage"] == {"input_tokens": 40, "output_tokens": 10, "cached_tokens": 2, "reasoning_tokens": 0}
    assert invoke("who am I", "t")["message"] == "You are Ann."
    assert invoke("who am I", "u")["message"] == "I do not know."
    messages = client.get("/agents/app/threads/t").json()["messages"]
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert json.loads(messages[4]["content"]) == 5
    assert client.delete("/agents/app/threads/t").status_code == 200
    assert invoke("who am I", "t")["message"] == "I do not know."
