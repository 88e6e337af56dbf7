"""What the commands that talk to a running host share."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.cli.calling import Told, as_text, explanation, how_to_answer, shown, tell
from agenthost.client import CallFailed, Event, HostUnreachable, Interrupt

CHUNK = {"type": "model_chunk", "content": "to be"}
DONE = {"type": "done", "message": "to be", "reason": "complete"}


def _events(*events: dict[str, Any]) -> list[Event]:
    return [Event(event, number, "r1") for number, event in enumerate(events, 1)]


def _tools(number: int = 1) -> list[dict[str, Any]]:
    call = {"tool": "look_up", "tool_call_id": str(number)}
    return [
        {"type": "think", "content": "hm,\nlet me see"},
        {"type": "tool_start", **call, "arguments": {"of": "x" * 300}},
        {"type": "tool_complete", **call, "result": [1], "error": None},
        {"type": "tool_complete", **call, "result": None, "error": "no such thing"},
        {"type": "usage", "input_tokens": 1},
    ]


def test_an_answer_is_printed_as_it_comes_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    told = Told()
    tell(_events(*_tools(), CHUNK, {**CHUNK, "content": " or not"}, DONE), told)
    assert capsys.readouterr() == ("to be or not\n", "")
    assert (told.run_id, told.success) == ("r1", True)


def test_thoughts_and_tool_calls_are_told_beside_it(capsys: pytest.CaptureFixture[str]):
    tell(_events(CHUNK, *_tools(), CHUNK, DONE), Told(), tools=True)
    out, err = capsys.readouterr()
    assert out == "to be\nto be\n"
    assert err.splitlines() == [
        "· hm, let me see",
        '· look_up {"of": "' + "x" * 191 + "…",
        "· look_up → [1]",
        "· look_up failed: no such thing",
    ]


def test_a_message_that_was_never_streamed_is_printed_and_so_is_output(capsys: pytest.CaptureFixture[str]):
    tell(_events({**DONE, "output": {"n": "ü"}}), Told())
    assert capsys.readouterr().out == 'to be\n{"n": "ü"}\n'


def test_what_a_run_asks_is_kept(capsys: pytest.CaptureFixture[str]):
    told = Told()
    tell(_events(CHUNK, {"type": "interrupt", "interrupt_id": "q", "question": "Really?"}), told)
    assert capsys.readouterr().out == "to be\n"
    assert told.interrupts == [Interrupt("q", "Really?")]
    assert not told.success


def test_a_run_that_breaks_off_leaves_no_open_line(capsys: pytest.CaptureFixture[str]):
    def breaking() -> Any:
        yield from _events(CHUNK)
        raise CallFailed("it failed")

    told = Told()
    with pytest.raises(CallFailed):
        tell(breaking(), told)
    assert capsys.readouterr().out == "to be\n"
    assert told.run_id == "r1"


def test_an_answer_that_ends_its_own_line_gets_no_other(capsys: pytest.CaptureFixture[str]):
    tell(_events({**CHUNK, "content": "line\n"}, DONE), Told())
    assert capsys.readouterr().out == "line\n"


@pytest.mark.parametrize(
    ("interrupt", "line"),
    [
        (Interrupt("q", "Really?"), "Really?"),
        (Interrupt("q", "Which?", ["a", 2, None]), "Which? (a, 2, null)"),
        (Interrupt("q", "Who?", fields={"properties": {"name": {}, "age": {}}}), "Who? (name, age)"),
        (Interrupt("q", "Who?", fields={"type": "string"}), "Who?"),
    ],
)
def test_a_question_is_shown_with_what_may_be_answered(interrupt: Interrupt, line: str):
    assert shown(interrupt) == line


def test_how_to_answer_can_be_typed_as_it_is():
    assert how_to_answer("echo", "a b'c") == """agenthost chat echo --thread 'a b'"'"'c'"""


def test_values_are_written_as_people_write_them():
    assert [as_text(value) for value in ("a", 1, None, {"ü": True})] == ["a", "1", "null", '{"ü": true}']


@pytest.mark.parametrize(
    ("failed", "key", "text"),
    [
        (CallFailed("no"), None, "no"),
        (
            CallFailed("no", code="x", correlation_id="c", run_id="r", status=500),
            None,
            "no (code x, correlation id c, run r)",
        ),
        (CallFailed("no", status=401), "k", "no\n  → that host does not know this key"),
        (CallFailed("no", status=401), None, "no\n  → give a key: --key or AGENTHOST_API_KEY"),
        (
            HostUnreachable("nothing answers"),
            None,
            "nothing answers\n  → start a host: agenthost dev, or say where one is: --url or AGENTHOST_URL",
        ),
    ],
)
def test_a_failure_says_what_to_do(failed: CallFailed, key: str | None, text: str):
    assert explanation(failed, key) == text
