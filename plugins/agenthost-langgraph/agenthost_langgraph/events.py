"""What a graph streams, as agenthost's events: text, reasoning, tool calls, usage, and the progress of nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import add_usage
from langgraph.types import Command

from agenthost import Custom, Event, Interrupt, ModelChunk, Result, ToolComplete, ToolProgress, ToolStart, Usage
from agenthost_langgraph.conversation import reasoning_of, tool_result
from agenthost_langgraph.plain_values import plain

MODES = ("messages", "updates", "custom", "values")
"""Everything that is listened to: tokens, what nodes return, what they write, and the state."""

INTERRUPT = "__interrupt__"
METADATA = "__metadata__"

TASK = "langgraph_checkpoint_ns"
"""Where a message's metadata says which task it is of; those of a graph in a node begin with the node's and `|`."""

Call = dict[str, Any]
"""A tool call that has begun and not ended: `{"tool", "arguments"}`."""


class Listener:
    """Turns one run's stream into events.

    `calls` are the tool calls that have begun, by their ids; a run that goes on begins with those of the one that
    paused. A call is told when the message that makes it has come out of a node: a model that is asked for structured
    output also "calls" something, and that never leaves the node.
    """

    def __init__(self, calls: dict[str, Call], speakers: Collection[str], silent: Collection[str]) -> None:
        """`speakers`: the nodes whose text is told (none: all); `silent`: nodes whose end is no progress."""
        self.calls = calls
        self.values: Any = None
        """The state, as the graph last told it."""
        self.paused = False
        self.interrupts: list[Any] = []
        """What the graph asks, as LangGraph has it; none where it `paused` at a breakpoint."""
        self._speakers = frozenset(speakers)
        self._silent = frozenset(silent)
        self._heard: set[str] = set()
        self._made: dict[str, Call] = {}
        self._said: dict[str, list[str]] = defaultdict(list)
        """The text that was told, by the task it is of: nodes may speak at once."""
        self._usage: dict[str | None, tuple[str | None, Any]] = {}

    def hear(self, namespace: Sequence[str], mode: str, payload: Any) -> Sequence[Event | str]:
        """The events of one part of the stream; `namespace` is empty for the graph itself."""
        if mode == "messages":
            message, about = payload
            if isinstance(message, AIMessageChunk):
                return self._piece(message, about)
            if isinstance(message, AIMessage):
                return self._whole(message, about)
            return self._tool_ended(message) if isinstance(message, ToolMessage) else ()
        if mode == "values":
            if not namespace:
                self.values = payload
            return ()
        return [*self.rest(), *(self._update(namespace, payload) if mode == "updates" else self._custom(payload))]

    def rest(self) -> Sequence[Event]:
        """What is told once a model call is over: its usage."""
        if not self._usage:
            return ()
        told = [_usage(model, counted) for model, counted in self._usage.values()]
        self._usage.clear()
        return told

    def _piece(self, message: AIMessageChunk, about: Mapping[str, Any]) -> Sequence[Event | str]:
        """A token, by far the most common part: it must cost little."""
        content = message.content
        if message.tool_call_chunks:
            self._heard.update(chunk["id"] for chunk in message.tool_call_chunks if chunk["id"])
        if message.usage_metadata is not None:
            self._count(message, about)
        if type(content) is str and not message.additional_kwargs:
            if not content or (self._speakers and about.get("langgraph_node") not in self._speakers):
                return ()
            self._said[about.get(TASK, "")].append(content)
            return (content,)
        return self._spoken(message, about)

    def _spoken(self, message: AIMessage, about: Mapping[str, Any]) -> Sequence[Event | str]:
        if self._speakers and about.get("langgraph_node") not in self._speakers:
            return ()
        text, reasoning = str(message.text), reasoning_of(message)
        if text:
            self._said[about.get(TASK, "")].append(text)
        events: list[Event | str] = [ModelChunk(reasoning=reasoning)] if reasoning else []
        return [*events, text] if text else events

    def _whole(self, message: AIMessage, about: Mapping[str, Any]) -> Sequence[Event | str]:
        """A message that was not streamed; its text is not told twice where a node says again what its model said."""
        self._heard.update(call["id"] for call in message.tool_calls if call["id"])
        if message.usage_metadata is not None:
            self._count(message, about)
        task = about.get(TASK, "")
        inside = [one for one in self._said if one == task or one.startswith(f"{task}|")]
        said = "".join(text for one in inside for text in self._said.pop(one))
        if said and str(message.text) == said:
            return ()
        return self._spoken(message, about)

    def _count(self, message: AIMessage, about: Mapping[str, Any]) -> None:
        """Add to the usage of one model call: some models tell it in several pieces."""
        model, counted = self._usage.get(message.id, (None, None))
        named = message.response_metadata.get("model_name") or model or about.get("ls_model_name")
        self._usage[message.id] = (named, add_usage(counted, message.usage_metadata))

    def _tool_ended(self, message: ToolMessage) -> Sequence[Event]:
        call_id = message.tool_call_id
        call = self.calls.pop(call_id, None)
        begun: list[Event] = []
        if call is None:
            call = self._made.pop(call_id, None)
            if call is None:
                return ()  # a node returned the conversation it was given
            begun = [ToolStart(call["tool"], call_id, call["arguments"])]
        result = tool_result(message)
        if message.status == "error":
            return [*begun, ToolComplete(call["tool"], call_id, error=result if type(result) is str else str(result))]
        return [*begun, ToolComplete(call["tool"], call_id, result=result)]

    def _update(self, namespace: Sequence[str], payload: Any) -> Iterator[Event]:
        if not isinstance(payload, Mapping):
            return
        if INTERRUPT in payload:
            if not namespace:
                self.paused = True
                known = {one.id for one in self.interrupts}
                self.interrupts += [one for one in payload[INTERRUPT] if one.id not in known]
            return
        again = METADATA in payload  # what a node returned before the run paused
        for node, value in payload.items():
            messages = _messages(value)
            yield from self._tools_begun(messages)
            if not again and not messages and value and node not in self._silent:
                path = [step.partition(":")[0] for step in namespace]
                yield Custom("node", {"node": node, "path": path, "keys": _keys(value)})

    def _tools_begun(self, messages: Sequence[BaseMessage]) -> Iterator[Event]:
        for message in messages:
            for call in message.tool_calls if isinstance(message, AIMessage) else ():
                call_id = call["id"]
                if not call_id or call_id in self.calls or call_id in self._made:
                    continue
                made = {"tool": call["name"], "arguments": plain(call["args"])}
                if call_id not in self._heard:
                    self._made[call_id] = made  # of the conversation so far, unless its answer is heard
                    continue
                self._heard.discard(call_id)
                self.calls[call_id] = made
                yield ToolStart(made["tool"], call_id, made["arguments"])

    def _custom(self, payload: Any) -> Iterator[Event]:
        if isinstance(payload, Event) and not isinstance(payload, Interrupt | Result):
            yield payload
            return
        name = "custom"
        if isinstance(payload, Mapping):
            call_id, kind = payload.get("tool_call_id"), payload.get("type")
            if call_id in self.calls:
                yield ToolProgress(call_id, plain({key: payload[key] for key in payload if key != "tool_call_id"}))
                return
            if isinstance(kind, str) and kind.isascii() and kind.isprintable() and 0 < len(kind) < 90:
                name = kind
        yield Custom(name, plain(payload))


def _messages(value: Any) -> list[BaseMessage]:
    """The messages in what a node returned: it, or a value of the state it updates, or one in a list there."""
    if isinstance(value, list | tuple):
        updates = [item.update if isinstance(item, Command) else item for item in value]
    else:
        updates = [value.update if isinstance(value, Command) else value]
    found: list[BaseMessage] = []
    for update in updates:
        for item in update.values() if isinstance(update, Mapping) else (update,):
            found += [one for one in (item if isinstance(item, list) else (item,)) if isinstance(one, BaseMessage)]
    return found


def _keys(value: Any) -> list[str]:
    return [key for key in value if isinstance(key, str)] if isinstance(value, Mapping) else []


def _usage(model: str | None, counted: Mapping[str, Any]) -> Usage:
    read: Mapping[str, Any] = counted.get("input_token_details") or {}
    written: Mapping[str, Any] = counted.get("output_token_details") or {}
    return Usage(
        model,
        input_tokens=counted["input_tokens"],
        output_tokens=counted["output_tokens"],
        cached_tokens=read.get("cache_read") or 0,
        reasoning_tokens=written.get("reasoning") or 0,
    )
