"""What a Locus run says, in the host's words: every event under the name it has on Locus's own wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from locus.core import events as locus

from agenthost import Custom, Event, Interrupt, ModelChunk, Result, Think, ToolComplete, ToolProgress, ToolStart, Usage

COUNTERS = {
    "input_tokens": ("prompt_tokens",),
    "output_tokens": ("completion_tokens",),
    "cached_tokens": ("cached_tokens", "cache_read_input_tokens"),
}
"""A counter of `Usage` → those of Locus that it sums."""

FIELD_TYPES = {"number": "number", "integer": "integer", "boolean": "boolean"}
"""A form field's type in Locus → in JSON Schema; any other is text."""


class Translation:
    """One run's events. `thread` is what Locus calls the thread and `shown` what the caller does.

    `spent` is what was counted in the runs before the pause that this one answers: Locus counts from the turn's start.
    """

    def __init__(self, thread: str | None, shown: str | None, spent: Mapping[str, float] | None = None) -> None:
        self._thread = thread
        self._shown = shown
        self._tools: dict[str, str] = {}
        self.spent: dict[str, float] = dict(spent or {})
        """Tokens and dollars that `Usage` events have told, this turn."""
        self.paused = False
        """Whether the run has asked something."""
        self.ended: locus.TerminateEvent | None = None
        """How Locus says that the run ended, once it has."""

    def of(self, event: Any) -> Sequence[Event | str]:
        """What one event is in the host's words; nothing for the last one, which is `result`.

        Raises `TypeError` for what is no event of Locus: its text may be anything, an address in memory for one.
        What is in the host's words already, of a run that goes on, stays as it is.
        """
        if isinstance(event, Custom | Interrupt):
            return (event,)
        translate = _TRANSLATED.get(type(event))
        if translate is not None:
            return translate(self, event)
        for kind in type(event).__mro__:
            if kind in _TRANSLATED:
                return _TRANSLATED[kind](self, event)
        raise TypeError(f"the agent yielded a {type(event).__name__}, which is no event of Locus")

    def result(self, parse: Callable[[str], Any] | None = None) -> Iterable[Event]:
        """The run's last word; none where Locus gave none. `parse` reads the structured output from the text."""
        ended = self.ended
        if ended is not None:
            message = ended.final_message or ""
            yield Result(message, parse(message) if parse is not None else None, ended.reason or "complete")

    def tool_of(self, tool_call_id: str) -> str:
        """The tool that a call of this run is of; empty for a call that it did not begin."""
        return self._tools.get(tool_call_id, "")

    def _chunk(self, event: locus.ModelChunkEvent) -> Sequence[Event | str]:
        text, reasoning, usage = event.content, event.reasoning, event.usage
        if not reasoning and not usage:
            return (text,) if text else ()
        said = (ModelChunk(text or "", reasoning),) if text or reasoning else ()
        return (*said, *self._count(_counted(usage or {}), event.model))

    def _think(self, event: locus.ThinkEvent) -> Sequence[Event]:
        return (Think(event.reasoning or ""),)

    def _tool_start(self, event: locus.ToolStartEvent) -> Sequence[Event]:
        self._tools[event.tool_call_id] = event.tool_name
        return (ToolStart(event.tool_name, event.tool_call_id, event.arguments),)

    def _tool_complete(self, event: locus.ToolCompleteEvent) -> Sequence[Event]:
        return (ToolComplete(event.tool_name, event.tool_call_id, event.result, event.error),)

    def _tool_progress(self, event: locus.ToolProgressEvent) -> Sequence[Event]:
        body = self._body(event)
        return (ToolProgress(body.pop("tool_call_id"), body),)

    def _interrupt(self, event: locus.InterruptEvent) -> Sequence[Event]:
        return (
            Interrupt(
                event.question, event.options, form(event.fields), self._own(event.metadata) or None, event.interrupt_id
            ),
        )

    def _terminate(self, event: locus.TerminateEvent) -> Sequence[Event]:
        self.ended = event
        total = _counted(event.usage or {})
        cost = event.cost_usd if event.reported_cost_usd is None else event.reported_cost_usd
        if cost is not None:
            total["cost_usd"] = cost
        return self._count({name: count - self.spent.get(name, 0) for name, count in total.items()}, None)

    def _other(self, event: locus.LocusEvent) -> Sequence[Event]:
        body, name = self._body(event), str(event.event_type)
        try:
            return (Custom(name, body, type=name),)
        except ValueError:  # a class of somebody's own with a word of the host's, `done` for one
            return (Custom(f"x-{name}", body),)

    def _count(self, counted: Mapping[str, float], model: str | None) -> Sequence[Event]:
        """Tell what was used, and remember that it was told."""
        more = {name: count for name, count in counted.items() if count > 0}
        if not more:
            return ()
        for name, count in more.items():
            self.spent[name] = self.spent.get(name, 0) + count
        cost = more.pop("cost_usd", None)
        return (Usage(model, cost_usd=cost, **{name: int(count) for name, count in more.items()}),)

    def _body(self, event: locus.LocusEvent) -> dict[str, Any]:
        """An event as Locus's server sends it, without its type; the caller's name for the thread in Locus's place."""
        body: dict[str, Any] = self._own(event.model_dump(mode="json", exclude={"event_type", "timestamp"}))
        return body

    def _own(self, value: Any) -> Any:
        if self._thread is None:
            return value
        if isinstance(value, str):
            return self._shown if value == self._thread else value
        if isinstance(value, Mapping):
            return {key: self._own(item) for key, item in value.items()}
        return [self._own(item) for item in value] if isinstance(value, list | tuple) else value


_TRANSLATED: Mapping[type, Callable[[Translation, Any], Sequence[Event | str]]] = {
    locus.ModelChunkEvent: Translation._chunk,
    locus.ThinkEvent: Translation._think,
    locus.ToolStartEvent: Translation._tool_start,
    locus.ToolCompleteEvent: Translation._tool_complete,
    locus.ToolProgressEvent: Translation._tool_progress,
    locus.InterruptEvent: Translation._interrupt,
    locus.TerminateEvent: Translation._terminate,
    locus.LocusEvent: Translation._other,
}


def _counted(usage: Mapping[str, Any]) -> dict[str, float]:
    return {name: sum(int(usage.get(one) or 0) for one in theirs) for name, theirs in COUNTERS.items()}


def form(fields: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """Locus's list of form fields as a JSON Schema of the answer; `x-fields` keeps the list."""
    if not fields:
        return None
    properties = {
        str(one.get("name")): {
            "type": FIELD_TYPES.get(str(one.get("type")), "string"),
            "title": str(one.get("label") or one.get("name")),
        }
        for one in fields
    }
    required = [str(one.get("name")) for one in fields if one.get("required")]
    return {"type": "object", "properties": properties, "required": required, "x-fields": [dict(one) for one in fields]}
