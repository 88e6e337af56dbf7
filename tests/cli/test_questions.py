"""What a paused run asks, put to a person."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from agenthost.cli.questions import answered, ask, read_line
from agenthost.client import Interrupt

Typist = Callable[..., Callable[[str], str]]


@pytest.fixture
def typing() -> Typist:
    """`typing("a", "b")` types these lines; `typing.prompts` are what was shown before each."""

    def typing(*lines: str) -> Callable[[str], str]:
        left = list(lines)
        prompts: list[str] = []

        def read(prompt: str) -> str:
            prompts.append(prompt)
            if not left:
                raise EOFError
            return left.pop(0)

        read.prompts = prompts  # type: ignore[attr-defined]  # a note on a function, for the tests
        return read

    return typing


def _asked(*, options: Sequence[Any] | None = None, fields: Mapping[str, Any] | None = None) -> Interrupt:
    return Interrupt("q", "Really?", options, fields)


def test_a_question_without_more_is_answered_by_a_line(typing: Typist, capsys: pytest.CaptureFixture[str]):
    assert ask(_asked(), typing("as you like")) == "as you like"
    assert capsys.readouterr() == ("", "Really?\n")


@pytest.mark.parametrize(
    ("options", "typed", "chosen"),
    [
        (["yes", "no"], "no", "no"),
        (["yes", "no"], " 2 ", "no"),
        (["2", "1"], "2", "2"),
        ([10, 20], "20", 20),
        ([10, 20], "2", 20),
        ([True, False], "false", False),
        ([{"to": "a"}, None], '{"to": "a"}', {"to": "a"}),
        ([{"to": "a"}, None], "2", None),
    ],
)
def test_an_option_is_chosen_by_its_number_or_as_it_is_written(
    options: list[Any], typed: str, chosen: Any, typing: Typist
):
    assert ask(_asked(options=options), typing(typed)) == chosen


def test_what_is_no_option_is_asked_again(typing: Typist, capsys: pytest.CaptureFixture[str]):
    read = typing("maybe", "0", "3", "", "1")
    assert ask(_asked(options=["yes", "no"]), read) == "yes"
    said = "choose one of them, by its number or as it is written: yes, no\n"
    assert capsys.readouterr().err == "Really?\n  1  yes\n  2  no\n" + 4 * said


FIELDS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "who"},
        "count": {"type": "integer"},
        "price": {"type": "number"},
        "wrap": {"type": "boolean"},
        "size": {"enum": ["S", "M"]},
        "tags": {"type": "array"},
        "colour": {"type": "string", "default": "red"},
        "note": {"type": "string"},
        "anything": {},
    },
    "required": ["name", "count", "price", "wrap", "size", "tags", "colour", "anything"],
}


def test_fields_are_asked_one_by_one_by_their_schema(typing: Typist):
    read = typing("Ann", "3", "1.5", "Yes", "M", '["a"]', "", "", "just text")
    assert ask(_asked(fields=FIELDS), read) == {
        "name": "Ann",
        "count": 3,
        "price": 1.5,
        "wrap": True,
        "size": "M",
        "tags": ["a"],
        "colour": "red",
        "anything": "just text",
    }
    assert read.prompts == [  # type: ignore[attr-defined]  # see `typing`
        "name (who)> ",
        "count> ",
        "price> ",
        "wrap> ",
        "size (S | M)> ",
        "tags> ",
        "colour (empty for red)> ",
        "note (may be empty)> ",
        "anything> ",
    ]


@pytest.mark.parametrize(
    ("schema", "wrong", "right", "value", "said"),
    [
        ({"type": "integer"}, ["1.5", "x", "true", ""], "7", 7, "n: a whole number, please\n"),
        ({"type": "number"}, ["NaN", "true", '"1"'], "2", 2, "n: a number, please\n"),
        ({"type": "boolean"}, ["1", "maybe"], "N", False, "n: yes or no, please\n"),
        ({"enum": [1, "b"]}, ["2"], "1", 1, "n: one of 1, b, please\n"),
        ({"type": "object"}, ["[]", "{"], "{}", {}, "n: JSON (object), please\n"),
    ],
)
def test_what_is_not_of_a_fields_type_is_asked_again(
    schema: dict[str, Any],
    wrong: list[str],
    right: str,
    value: Any,
    said: str,
    typing: Typist,
    capsys: pytest.CaptureFixture[str],
):
    fields = {"type": "object", "properties": {"n": schema}, "required": ["n"]}
    assert ask(_asked(fields=fields), typing(*wrong, right)) == {"n": value}
    assert capsys.readouterr().err == "Really?\n" + len(wrong) * said


def test_a_schema_of_one_value_is_asked_as_one(typing: Typist):
    assert ask(_asked(fields={"type": "integer"}), typing("5")) == 5
    assert ask(_asked(fields={"type": ["string", "null"]}), typing("null")) is None


def test_one_question_is_answered_by_its_id_and_several_together(typing: Typist):
    one, two = Interrupt("q", "First?", ["yes", "no"]), Interrupt("p", "Second?")
    assert answered([one], typing("yes")) == {"interrupt_id": "q", "response": "yes"}
    assert answered([one, two], typing("yes", "so")) == {
        "answers": [{"interrupt_id": "q", "response": "yes"}, {"interrupt_id": "p", "response": "so"}]
    }


def test_a_question_that_nobody_answers_ends_the_asking(typing: Typist):
    with pytest.raises(EOFError):
        answered([_asked(options=["yes"])], typing("no"))


def test_lines_of_a_pipe_are_read_without_a_prompt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\r\n\ntwo"))
    assert [read_line("> ") for _ in range(3)] == ["one", "", "two"]
    with pytest.raises(EOFError):
        read_line("> ")
    assert capsys.readouterr() == ("", "")
