"""The reference agent, as somebody who knows LangGraph and not agenthost would write it; its model needs no network."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt


def note(line: str) -> None:
    """Write down what happened outside of the conversation."""
    if log := os.environ.get("REFERENCE_LOG"):
        with Path(log).open("a") as file:
            file.write(f"{line}\n")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def send_mail(to: str, text: str) -> str:
    """Send a mail, once somebody has approved it."""
    request = {"name": "send_mail", "args": {"to": to, "text": text}}
    decision = interrupt({"action_requests": [request]})["decisions"][0]
    if decision["type"] == "reject":
        return decision.get("message", "not sent")
    if decision["type"] == "edit":
        to = decision["edited_action"]["args"]["to"]
    note(f"mail {to}")
    return "sent"


def call(call_id: str, name: str, **arguments: Any) -> AIMessage:
    """A message that calls a tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": call_id}])


def answer(messages: Sequence[BaseMessage]) -> AIMessage:
    """What the model says, by what the conversation says and by nothing else."""
    last, asked = messages[-1], [str(message.text) for message in messages if isinstance(message, HumanMessage)]
    if isinstance(last, ToolMessage):
        called = next(message for message in reversed(messages) if isinstance(message, AIMessage)).tool_calls[0]["args"]
        if last.name == "add":
            return AIMessage(f"{called['a']} + {called['b']} = {last.text}.")
        return AIMessage(f"Mail to {called['to']} {'sent' if last.text == 'sent' else 'not sent'}.")
    if numbers := re.fullmatch(r"add (\d+) and (\d+)", asked[-1]):
        return call(f"call-{len(messages)}", "add", a=int(numbers[1]), b=int(numbers[2]))
    if mail := re.fullmatch(r"mail (\S+) about (.+)", asked[-1]):
        return call(f"call-{len(messages)}", "send_mail", to=mail[1], text=mail[2])
    names = [found[1] for text in asked if (found := re.fullmatch(r"my name is (\S+)", text))]
    if asked[-1] == "who am I":
        return AIMessage(f"You are {names[-1]}." if names else "I do not know.")
    if asked[-1] == "fail":
        raise RuntimeError("out of order at 10.0.0.1")
    return AIMessage(f"Hello {names[-1]}." if names else "Hello.")


class ScriptedModel(BaseChatModel):
    """A model that costs nothing and always says the same; it streams."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=answer(messages))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = str(messages[-1].text)
        if asked == "slow":
            async for tick in self._ticks():
                yield tick
        elif count := re.fullmatch(r"count (\d+)", asked):
            for number in range(1, int(count[1]) + 1):
                yield piece(f"{number} ")
        else:
            for chunk in pieces(answer(messages)):
                yield chunk
        usage = {"input_tokens": 3 * len(messages), "output_tokens": 5, "total_tokens": 3 * len(messages) + 5}
        yield piece("", usage_metadata=usage, response_metadata={"model_name": "scripted"}, chunk_position="last")

    async def _ticks(self) -> AsyncIterator[ChatGenerationChunk]:
        try:
            for _ in range(3000):
                yield piece("tick ")
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note("cancelled")
            raise


def piece(text: str, **more: Any) -> ChatGenerationChunk:
    """A piece of a message, as models stream it."""
    return ChatGenerationChunk(message=AIMessageChunk(text, **more))


def pieces(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    """A message in pieces: its words and punctuation, then what it calls."""
    for text in re.findall(r"\s*\w+|\s*\W", str(message.text)):
        yield piece(text)
    for place, called in enumerate(message.tool_calls):
        arguments = str(called["args"]).replace("'", '"')
        yield piece("", tool_call_chunks=[{"name": called["name"], "args": "", "id": called["id"], "index": place}])
        for text in (arguments[:5], arguments[5:]):
            yield piece("", tool_call_chunks=[{"name": None, "args": text, "id": None, "index": place}])


TOOLS = [add, send_mail]
model = ScriptedModel().bind_tools(TOOLS)


async def chat(state: MessagesState) -> dict[str, Any]:
    """Ask the model."""
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("chat", chat)
builder.add_node("tools", ToolNode(TOOLS))
builder.add_edge(START, "chat")
builder.add_conditional_edges("chat", tools_condition)
builder.add_edge("tools", "chat")
agent = builder.compile()
