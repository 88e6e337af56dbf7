"""What the SDK streams, in the host's words: text, reasoning, tool calls, handoffs, usage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agents import Agent, ItemHelpers, StreamEvent
from agents.items import HandoffOutputItem, MessageOutputItem, ReasoningItem, ToolCallItem, ToolCallOutputItem

from agenthost import Artifact, Custom, Event, ModelChunk, ToolComplete, ToolStart, Usage
from agenthost_openai_agents.conversation import plain
from agenthost_openai_agents.tool_calls import arguments_of, call_id_of, hosted_result, is_hosted, tool_of

MAX_PICTURE = 1_000_000
"""Characters of a picture in base64 that one event can carry."""


@dataclass(slots=True)
class OpenCall:
    """A tool call without an output yet; `told` where its `ToolStart` has been said."""

    tool: str
    arguments: Mapping[str, Any]
    told: bool

    to_json = asdict


@dataclass(slots=True)
class Teller:
    """Puts one run's stream into events.

    `speaker` is the agent that is taken to speak, `calls` are the open tool calls by id, `denied` those of them that
    a person has denied. `told` counts the tokens told of: input, output, cached, reasoning.
    """

    speaker: Agent[Any]
    calls: dict[str, OpenCall] = field(default_factory=dict)
    denied: Collection[str] = ()
    told: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    spoke: bool = False
    """Whether the response that comes has streamed text, and so need not say it again where it is whole."""
    reasoned: bool = False
    last_spoke: bool = False
    """The same of the response before it, whose items may come after its end."""
    last_reasoned: bool = False

    def tell(self, event: StreamEvent) -> Iterable[Event | str]:
        """Say what an event of the SDK means; many mean nothing to a reader."""
        if event.type == "raw_response_event":
            tell = _RAW.get(event.data.type)
            return () if tell is None else tell(self, event.data)
        if event.type == "run_item_stream_event":
            tell = _ITEMS.get(event.name)
            return () if tell is None else tell(self, event.item)
        if event.new_agent is self.speaker:
            return ()
        self.speaker = event.new_agent
        return (Custom("x-agent", {"agent": event.new_agent.name}),)

    def begin(self, call_id: str) -> Iterator[Event]:
        """Say that an open call starts, unless that is said already."""
        call = self.calls[call_id]
        if not call.told:
            call.told = True
            yield ToolStart(call.tool, call_id, call.arguments)

    def usage_beyond(self, before: list[int], now: list[int]) -> Iterator[Usage]:
        """What was used and not streamed: by agents that ran as tools, and by calls that were tried again."""
        rest = [max(0, after - start - told) for after, start, told in zip(now, before, self.told, strict=True)]
        if any(rest):
            yield Usage(None, *rest)

    def _text(self, data: Any) -> Iterable[str]:
        self.spoke = True
        return (data.delta,) if data.delta else ()

    def _reasoning(self, data: Any) -> Iterable[Event]:
        self.reasoned = True
        return (ModelChunk(reasoning=data.delta),) if data.delta else ()

    def _created(self, _data: Any) -> Iterable[Event]:
        self.last_spoke = self.last_reasoned = False
        return ()

    def _completed(self, data: Any) -> Iterator[Event]:
        self.last_spoke, self.last_reasoned = self.spoke, self.reasoned
        self.spoke = self.reasoned = False
        usage = data.response.usage
        if usage is not None:
            used = tokens(usage)
            self.told = [before + now for before, now in zip(self.told, used, strict=True)]
            yield Usage(data.response.model, *used)

    def _message(self, item: MessageOutputItem) -> Iterator[str]:
        if not (self.spoke or self.last_spoke) and (text := ItemHelpers.text_message_output(item)):
            yield text

    def _reasoned(self, item: ReasoningItem) -> Iterator[Event]:
        text = "\n".join(part.text for part in item.raw_item.summary)
        if text and not (self.reasoned or self.last_reasoned):
            yield ModelChunk(reasoning=text)

    def _called(self, item: ToolCallItem) -> Iterator[Event]:
        call, call_id = item.raw_item, call_id_of(item.raw_item)
        if is_hosted(call):
            yield ToolStart(tool_of(call), call_id, arguments_of(call))
            yield from _hosted_output(call)
            return
        self.calls[call_id] = OpenCall(tool_of(call), arguments_of(call), told=False)
        if not _may_ask(item):
            yield from self.begin(call_id)

    def _output(self, item: ToolCallOutputItem) -> Iterator[Event]:
        call_id = call_id_of(item.raw_item)
        if call_id not in self.calls:
            return  # a handoff that was not taken, which is no tool
        yield from self.begin(call_id)
        tool = self.calls.pop(call_id).tool
        if call_id in self.denied:
            yield ToolComplete(tool, call_id, error=str(item.output))
        else:
            yield ToolComplete(tool, call_id, plain(item.output))

    def _handoff(self, item: HandoffOutputItem) -> Iterator[Event]:
        yield Custom("x-handoff", {"from": item.source_agent.name, "to": item.target_agent.name})


_RAW: Mapping[str, Callable[[Teller, Any], Iterable[Event | str]]] = {
    "response.created": Teller._created,
    "response.output_text.delta": Teller._text,
    "response.refusal.delta": Teller._text,
    "response.reasoning_summary_text.delta": Teller._reasoning,
    "response.reasoning_text.delta": Teller._reasoning,
    "response.completed": Teller._completed,
}
_ITEMS: Mapping[str, Callable[[Teller, Any], Iterable[Event | str]]] = {
    "message_output_created": Teller._message,
    "reasoning_item_created": Teller._reasoned,
    "tool_called": Teller._called,
    "tool_output": Teller._output,
    "handoff_occured": Teller._handoff,
}


def tokens(usage: Any) -> list[int]:
    """Input, output, cached and reasoning tokens of a usage, the API's or the SDK's own."""
    read, written = usage.input_tokens_details, usage.output_tokens_details
    return [
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        getattr(read, "cached_tokens", 0) or 0,
        getattr(written, "reasoning_tokens", 0) or 0,
    ]


def _may_ask(item: ToolCallItem) -> bool:
    """Whether a person may be asked before this call runs, so that it does not start yet."""
    name = tool_of(item.raw_item)
    return any(getattr(tool, "needs_approval", False) for tool in item.agent.tools if tool.name == name)


def _hosted_output(call: Any) -> Iterator[Event]:
    tool, call_id, result = tool_of(call), call_id_of(call), hosted_result(call)
    picture = result.get("result")
    if tool == "image_generation" and isinstance(picture, str):
        if len(picture) > MAX_PICTURE:
            yield ToolComplete(tool, call_id, error="the picture is larger than one event can carry")
            return
        yield Artifact(f"{call_id}.png", "image/png", data=picture)
        result = {}
    yield ToolComplete(tool, call_id, result.get("output", result), result.get("error"))
