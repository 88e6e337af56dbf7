"""The fold of a run's events: its message, usage, tool calls and result, and what goes into its thread."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agenthost.encoding import encode_event, encode_json
from agenthost.events import (
    Custom,
    Entry,
    Event,
    Interrupt,
    ModelChunk,
    Result,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
)
from agenthost.outcome import MAX_COUNT, Outcome


def folded(*said: Any, as_bytes: bool = False) -> Outcome:
    outcome = Outcome()
    for seq, event in enumerate(said, 1):
        entry = encode_event(seq, event)
        if as_bytes:
            assert isinstance(entry.event, Event | str)
            payload = entry.event.payload() if isinstance(entry.event, Event) else {"content": entry.event}
            entry = Entry(seq, entry.type, encode_json({**payload, "type": entry.type}))
        outcome.add(entry)
    return outcome


def messages(outcome: Outcome) -> list[tuple[str, str, list[str]]]:
    return [
        (message.role, message.text, [call["id"] for call in message.tool_calls])
        for message in outcome.final_messages()
    ]


FOLDS: list[tuple[str, list[Any], str, list[tuple[str, str, list[str]]]]] = [
    ("nothing", [], "", [("assistant", "", [])]),
    ("chunks", ["a", ModelChunk("b"), Think("hm"), Custom("x"), "c"], "abc", [("assistant", "abc", [])]),
    ("a result without a message", ["a", "b", Result(output=1)], "ab", [("assistant", "ab", [])]),
    ("a result with one", ["a", "b", Result("c")], "c", [("assistant", "c", [])]),
    ("a question alone", [Interrupt("really?", interrupt_id="q")], "", []),
    ("a result with an empty one", ["a", Result("")], "", [("assistant", "", [])]),
    (
        "a tool",
        ["see. ", ToolStart("t", "1", {}), ToolProgress("1", 5), ToolComplete("t", "1", result="r"), "so."],
        "see. so.",
        [("assistant", "see. ", ["1"]), ("tool", "r", []), ("assistant", "so.", [])],
    ),
    (
        "a tool, and a result that says it all",
        ["see. ", ToolStart("t", "1", {}), ToolComplete("t", "1", result="r"), Result("the answer")],
        "the answer",
        [("assistant", "see. ", ["1"]), ("tool", "r", []), ("assistant", "the answer", [])],
    ),
    (
        "two tools at once",
        [ToolStart("t", "1", {}), ToolStart("t", "2", {}), ToolComplete("t", "2"), ToolComplete("t", "1")],
        "",
        [("assistant", "", ["1", "2"]), ("tool", "null", []), ("tool", "null", [])],
    ),
    (
        "two tools with a word between",
        [ToolStart("t", "1", {}), "then ", ToolStart("t", "2", {})],
        "then ",
        [("assistant", "", ["1"]), ("assistant", "then ", ["2"])],
    ),
    (
        "two tools one after the other",
        [ToolStart("t", "1", {}), ToolComplete("t", "1", result=1), ToolStart("t", "2", {}), ToolComplete("t", "2")],
        "",
        [("assistant", "", ["1"]), ("tool", "1", []), ("assistant", "", ["2"]), ("tool", "null", [])],
    ),
    ("an answer to no call", [ToolComplete("t", "1", error="no")], "", [("tool", "no", [])]),
]


@pytest.mark.parametrize("as_bytes", [False, True], ids=["events", "bytes"])
@pytest.mark.parametrize(("said", "message", "kept"), [row[1:] for row in FOLDS], ids=[row[0] for row in FOLDS])
def test_what_is_said_becomes_a_message_and_the_threads_messages(
    said: list[Any], message: str, kept: Any, as_bytes: bool
) -> None:
    outcome = folded(*said, as_bytes=as_bytes)
    assert outcome.message == message
    assert messages(outcome) == kept


def test_a_tools_message_says_which_call_it_answers_and_its_error() -> None:
    outcome = folded(
        ToolStart("add", "1", {"pair": (1, Decimal("2.5"))}),
        ToolComplete("add", "1", result={"sum": 3}),
        ToolComplete("add", "2", error="no"),
        ToolComplete("add", "3", error=Decimal("4")),  # type: ignore[arg-type]  # frameworks do that
    )
    asks, one, two, three = outcome.final_messages()
    assert asks.tool_calls == ({"id": "1", "name": "add", "arguments": {"pair": [1, "2.5"]}},)
    assert (one.name, one.tool_call_id, one.text, one.metadata) == ("add", "1", '{"sum":3}', {})
    assert (two.name, two.tool_call_id, two.text, two.metadata) == ("add", "2", "no", {"error": "no"})
    assert (three.text, three.metadata) == ('"4"', {"error": "4"})
    assert outcome.tool_calls == 3


@pytest.mark.parametrize("as_bytes", [False, True], ids=["events", "bytes"])
def test_usage_is_the_sum_and_costs_only_where_they_are_known(as_bytes: bool) -> None:
    assert folded("a").usage is None
    first = folded(Usage("m", 1, 2, 3, 4), as_bytes=as_bytes)
    assert first.usage == {"input_tokens": 1, "output_tokens": 2, "cached_tokens": 3, "reasoning_tokens": 4}
    both = folded(Usage(input_tokens=1, cost_usd=0.25), Usage(input_tokens=2, cost_usd=0.5), as_bytes=as_bytes)
    assert both.usage is not None
    assert (both.usage["input_tokens"], both.usage["cost_usd"]) == (3, 0.75)


def test_usage_counts_no_further_than_a_number_that_every_client_can_read() -> None:
    usage = folded(Usage(input_tokens=MAX_COUNT), Usage(input_tokens=1)).usage
    assert usage is not None
    assert usage["input_tokens"] == MAX_COUNT == 2**63 - 1


def test_an_output_is_plain_and_a_copy() -> None:
    output = {"pair": (1, 2), "cost": Decimal("1.5"), "nan": float("nan")}
    outcome = folded(Result(output=output))
    output["pair"] = object()  # type: ignore[assignment]  # the agent's to change, not the host's to notice
    assert outcome.result is not None
    assert outcome.result.output == {"pair": [1, 2], "cost": "1.5", "nan": None}


def test_the_last_word_is_a_result_or_an_interrupt() -> None:
    assert not folded("a").last_word
    assert folded(Result()).last_word
    assert folded(Interrupt("q?")).last_word
    assert folded(Interrupt("q?", ["a"], {"f": 1}), as_bytes=True).interrupts[0].question == "q?"
