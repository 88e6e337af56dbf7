"""The reference agent: two tools, one of which asks first, and a model that answers offline by what it is given."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from agents import Agent, ItemHelpers, Model, ModelResponse, Usage, function_tool
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

TICKS = 3000
"""Of the answer to "slow", one every 20 ms: a minute."""


def log(line: str) -> None:
    """Append a line to the file that `REFERENCE_LOG` names."""
    if path := os.environ.get("REFERENCE_LOG"):
        with Path(path).open("a") as file:
            file.write(f"{line}\n")


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@function_tool(needs_approval=True)
def send_mail(to: str, text: str) -> str:
    """Send a mail."""
    log(f"mail {to}")
    return "sent"


def text_of(item: Any) -> str:
    """The text of an input item."""
    content = item.get("content", "")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def words_of(items: Sequence[Any]) -> list[str] | ResponseFunctionToolCall:
    """The answer in pieces, or the tool call that comes before it."""
    asked = max(place for place, item in enumerate(items) if item.get("role") == "user")
    prompt = text_of(items[asked])
    outputs = [item["output"] for item in items[asked:] if item.get("type") == "function_call_output"]
    if prompt == "fail":
        raise RuntimeError("out of order at 10.0.0.1")
    if found := re.fullmatch(r"my name is (\w+)", prompt):
        return ["Hello ", found[1], "."]
    if found := re.fullmatch(r"add (\d+) and (\d+)", prompt):
        if not outputs:
            return call("add", f"add-{asked}", a=int(found[1]), b=int(found[2]))
        return [f"{found[1]} + ", f"{found[2]} = ", f"{outputs[-1]}."]
    if prompt == "who am I":
        said = re.findall(r"my name is (\w+)", " ".join(text_of(item) for item in items if item.get("role") == "user"))
        return ["You ", "are ", f"{said[-1]}."] if said else ["I ", "do ", "not know."]
    if found := re.fullmatch(r"mail (\w+) about (\w+)", prompt):
        if not outputs:
            return call("send_mail", f"mail-{asked}", to=found[1], text=found[2])
        return ["Mail ", f"to {found[1]} ", "sent." if outputs[-1] == "sent" else "not sent."]
    if found := re.fullmatch(r"count (\d+)", prompt):
        return [f"{number} " for number in range(1, int(found[1]) + 1)]
    return ["tick "] * TICKS if prompt == "slow" else ["You said: ", prompt]


def call(tool: str, call_id: str, **arguments: Any) -> ResponseFunctionToolCall:
    """A call of a tool, as the model makes it."""
    return ResponseFunctionToolCall(
        type="function_call", id=f"fc-{call_id}", call_id=call_id, name=tool, arguments=json.dumps(arguments)
    )


def message(text: str) -> ResponseOutputMessage:
    """What the model says, whole."""
    said = ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])
    return ResponseOutputMessage(id="msg", type="message", role="assistant", status="completed", content=[said])


def completed(output: ResponseOutputItem, *, read: int, written: int) -> Response:
    """The response a model call ends with."""
    return Response(
        id="resp",
        created_at=0,
        model="scripted",
        object="response",
        output=[output],
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=True,
        usage=ResponseUsage(
            input_tokens=read,
            output_tokens=written,
            total_tokens=read + written,
            input_tokens_details=InputTokensDetails.model_construct(cached_tokens=1, cache_write_tokens=0),
            output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
        ),
    )


class ScriptedModel(Model):
    """Answers by the conversation it is given; nothing leaves the process."""

    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002 - the SDK's own name for it
        *args: Any,
        **kwargs: Any,
    ) -> ModelResponse:
        words = words_of(ItemHelpers.input_to_new_input_list(input))
        output = words if isinstance(words, ResponseFunctionToolCall) else message("".join(words))
        return ModelResponse(
            output=[output], usage=Usage(requests=1, input_tokens=1, output_tokens=1), response_id=None
        )

    async def stream_response(
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002 - the SDK's own name for it
        *args: Any,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        items = ItemHelpers.input_to_new_input_list(input)
        words = words_of(items)
        numbers = iter(range(1 << 30))
        if isinstance(words, list):
            slow = len(words) == TICKS
            try:
                for event in deltas(words, numbers):
                    if slow:
                        await asyncio.sleep(0.02)
                    yield event
            except asyncio.CancelledError:
                log("cancelled")
                raise
        output = words if isinstance(words, ResponseFunctionToolCall) else message("".join(words))
        response = completed(output, read=5 * len(items), written=len(words) if isinstance(words, list) else 7)
        yield ResponseCompletedEvent(type="response.completed", sequence_number=next(numbers), response=response)


def deltas(words: Sequence[str], numbers: Iterator[int]) -> Iterator[ResponseTextDeltaEvent]:
    """Each piece of the answer as the API's event."""
    for word in words:
        yield ResponseTextDeltaEvent(
            type="response.output_text.delta",
            sequence_number=next(numbers),
            item_id="msg",
            output_index=0,
            content_index=0,
            delta=word,
            logprobs=[],
        )


agent = Agent(name="Reference", instructions="Be brief.", model=ScriptedModel(), tools=[add, send_mail])
