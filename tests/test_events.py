"""The vocabulary: what agents may say, how it is called on the wire, and that no agent can spell the host's words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agenthost import events
from agenthost.events import (
    SUCCESS_REASONS,
    Artifact,
    Custom,
    Done,
    Error,
    Event,
    Interrupt,
    ModelChunk,
    Result,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
    bad_event,
)

ALL: list[Any] = [
    ModelChunk("c"),
    Think("c"),
    ToolStart("t", "c", {}),
    ToolProgress("c", 1),
    ToolComplete("t", "c"),
    Interrupt("q"),
    Usage(),
    Artifact("n", "m", text="t"),
    Custom("n"),
    Result(),
    Done("m", "complete"),
    Error("e", "c", "i", "r"),
]


def test_these_are_all_the_events_there_are() -> None:
    assert {type(event).__name__ for event in ALL} == {kind.__name__ for kind in Event.__subclasses__()}


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_an_events_type_is_its_class_in_snake_case_and_comes_first(event: Any) -> None:
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    assert event.kind == snake
    sent = event.payload()
    assert next(iter(sent)) == "type"
    assert sent["type"] == ("x-n" if snake == "custom" else snake)


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_an_event_is_frozen_and_has_no_room_for_more(event: Any) -> None:
    for name in ("kind", "another"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(event, name, 1)
    assert not hasattr(event, "__dict__")


def test_what_is_none_is_left_out_but_where_clients_count_on_it() -> None:
    assert Interrupt("q").payload() == {"type": "interrupt", "question": "q"}
    assert Result().payload() == {"type": "result", "reason": "complete"}
    assert Done("", "complete").payload() == {"type": "done", "message": "", "reason": "complete"}
    nothing = {"type": "tool_complete", "tool": "t", "tool_call_id": "c", "result": None, "error": None}
    assert ToolComplete("t", "c").payload() == nothing


def test_an_interrupts_state_is_never_sent() -> None:
    assert "state" not in Interrupt("q", ["a"], {"f": 1}, {"m": 1}, "i", state={"s": 1}).payload()


@pytest.mark.parametrize(
    "name",
    ["model_chunk", "think", "tool_start", "tool_progress", "tool_complete", "interrupt", "usage", "artifact", "result",
     "done", "error", "", "line\nend", "line\rend", "nul\0", "é", "x" * 101],
)  # fmt: skip
def test_no_custom_event_can_be_called_like_the_hosts_own_or_break_a_frame(name: str) -> None:
    with pytest.raises(ValueError, match="a custom event cannot be called"):
        Custom("anything", type=name)


def test_a_custom_event_is_called_x_and_its_name() -> None:
    assert Custom("done").wire_type == "x-done"
    assert Custom("x-done").wire_type == "x-done"
    assert Custom("anything", type="messages/partial").wire_type == "messages/partial"


def test_a_run_succeeds_for_three_reasons() -> None:
    assert frozenset({"complete", "confidence_met", "terminal_tool"}) == SUCCESS_REASONS


def test_a_bad_event_says_what_to_yield_instead() -> None:
    error = bad_event("object")
    assert (error.code, error.status) == ("bad_event", 500)
    assert error.message == "the agent yielded what cannot be sent: object"


def test_one_line_leaves_what_is_ascii_alone() -> None:
    assert events.one_line(b'{"a":"b"}') == b'{"a":"b"}'
