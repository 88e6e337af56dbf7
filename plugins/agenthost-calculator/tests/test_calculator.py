"""What the calculator says during a run: the exact events, its answer in text and in JSON, and its memory."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import jsonschema_rs
import pytest
from agenthost_calculator import Calculator, CalculatorSettings, agent

from agenthost import (
    Answer,
    Artifact,
    Custom,
    Event,
    Interrupt,
    ModelChunk,
    Principal,
    Result,
    RunContext,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
)


def run(
    prompt: str = "",
    *,
    input_: Mapping[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    answers: Sequence[Answer] = (),
    **settings: int,
) -> list[Event]:
    """The events of one run; `state` is the thread's, and is changed as the agent changes it."""
    calculator = Calculator(CalculatorSettings(**settings))
    ctx = RunContext(
        prompt=prompt,
        run_id="r",
        agent="calculator",
        principal=Principal("ada"),
        input=input_,
        state={} if state is None else state,
        answers=answers,
    )

    async def collect() -> list[Event]:
        return [event async for event in calculator.run(ctx)]

    events = asyncio.run(collect())
    for event in events:
        assert len(json.dumps(event.payload(), allow_nan=False, ensure_ascii=False).encode()) < 1 << 20
    result = events[-1]
    if isinstance(result, Interrupt):
        return events
    assert isinstance(result, Result)
    assert result.message == "".join(event.content for event in events if isinstance(event, ModelChunk))
    assert jsonschema_rs.is_valid(Calculator.output_schema, result.output)
    return events


def ended(prompt: str = "", **given: Any) -> Result:
    """How one run ended."""
    result = run(prompt, **given)[-1]
    assert isinstance(result, Result)
    return result


# ── the events ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_expression_is_one_tool_call() -> None:
    assert run("(2+3)*4") == [
        Think("Compute (2+3)*4"),
        ToolStart("evaluate", "r-1", {"expression": "(2+3)*4"}),
        ToolComplete("evaluate", "r-1", result=20),
        ModelChunk("20"),
        Usage("calculator", input_tokens=7, output_tokens=1),
        Result("20", output={"expression": "(2+3)*4", "value": 20}),
    ]


def test_several_expressions_are_a_tool_call_each_and_a_table_of_steps() -> None:
    assert run("1+1; ans*10 ;") == [
        Think("Compute 2 expressions, up to the first without an answer: 1+1; ans*10"),
        ToolStart("evaluate", "r-1", {"expression": "1+1"}),
        ToolComplete("evaluate", "r-1", result=2),
        ModelChunk("1+1 = 2"),
        ToolStart("evaluate", "r-2", {"expression": "ans*10"}),
        ToolComplete("evaluate", "r-2", result=20),
        ModelChunk("\nans*10 = 20"),
        Artifact("steps.csv", "text/csv", text="expression,value,error\r\n1+1,2,\r\nans*10,20,\r\n"),
        Usage("calculator", input_tokens=8, output_tokens=10),
        Result(
            "1+1 = 2\nans*10 = 20",
            output={
                "expression": "1+1; ans*10 ;",
                "value": 20,
                "steps": [{"expression": "1+1", "value": 2}, {"expression": "ans*10", "value": 20}],
            },
        ),
    ]


def test_a_division_by_zero_is_a_tool_error_and_the_run_completes() -> None:
    assert run("1/0") == [
        Think("Compute 1/0"),
        ToolStart("evaluate", "r-1", {"expression": "1/0"}),
        ToolComplete("evaluate", "r-1", error="division by zero"),
        ModelChunk("division by zero"),
        Usage("calculator", input_tokens=3, output_tokens=3),
        Result(
            "division by zero",
            output={"expression": "1/0", "value": None, "error": "division by zero"},
            reason="complete",
        ),
    ]


def test_the_first_expression_without_an_answer_ends_the_run() -> None:
    events = run("6*7; 1/0; 2+2")

    assert [event.tool_call_id for event in events if isinstance(event, ToolStart)] == ["r-1", "r-2"]
    assert events[-1] == Result(
        "6*7 = 42\n1/0: division by zero",
        output={
            "expression": "6*7; 1/0; 2+2",
            "value": None,
            "error": "division by zero",
            "steps": [
                {"expression": "6*7", "value": 42},
                {"expression": "1/0", "value": None, "error": "division by zero"},
            ],
        },
    )


def test_a_long_computation_reports_its_progress() -> None:
    source = "+".join("1" * 120)

    assert [event for event in run(source) if isinstance(event, ToolProgress)] == [
        ToolProgress("r-1", {"done": 100, "of": 239}),
        ToolProgress("r-1", {"done": 200, "of": 239}),
    ]
    assert ended(source).message == "120"


def test_a_rounded_answer_comes_with_the_number_it_was_rounded_from() -> None:
    events = run("0.1+0.2")

    assert ToolComplete("evaluate", "r-1", result=0.3) in events
    assert Custom("x-rounded", {"tool_call_id": "r-1", "unrounded": 0.1 + 0.2, "precision": 10}) in events
    assert not [event for event in run("1/4") if isinstance(event, Custom)]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("", "nothing to compute: send an expression, such as (2+3)*4"),
        (" ;\n; ", "nothing to compute: send an expression, such as (2+3)*4"),
        ("1" * 1001, "too long: a request has at most 1000 characters"),
        ("1+" * 5_000_000, "too long: a request has at most 1000 characters"),
        (";".join("1" * 21), "too many: a request has at most 20 expressions"),
    ],
    ids=["empty", "separators only", "1,001 characters", "10 MB", "21 expressions"],
)
def test_a_request_that_is_no_expression_is_answered_without_a_tool_call(prompt: str, text: str) -> None:
    assert run(prompt) == [
        ModelChunk(text),
        Result(text, output={"expression": prompt[:1000], "value": None, "error": text}),
    ]


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("prompt", "precision", "value"),
    [
        ("6/2", 10, 3),
        ("1/3", 10, 0.3333333333),
        ("2/3", 2, 0.67),
        ("2/3", 0, 1),
        ("0.4", 0, 0),
        ("1/3000", 2, 0.00033),
        ("-1/3000", 2, -0.00033),
        ("2**-50", 10, 8.881784197e-16),
        ("0.0", 10, 0),
        ("-0.0", 10, 0),
        ("1e20", 10, 1e20),
        ("2.5e300", 15, 2.5e300),
        ("2**53", 10, 2**53),
        ("2**53+1", 10, "9007199254740993"),
        ("-2**64", 10, "-18446744073709551616"),
    ],
)
def test_an_answer_is_rounded_and_fits_what_json_readers_keep(prompt: str, precision: int, value: float | str) -> None:
    for result in (ended(prompt, precision=precision), ended(input_={"expression": prompt, "precision": precision})):
        assert result.output["value"] == value
        assert type(result.output["value"]) is type(value)
        assert result.message == str(value)


def test_structured_input_comes_before_the_prompt() -> None:
    assert ended("1+1", input_={"expression": "2*3"}).output == {"expression": "2*3", "value": 6}


def test_a_precision_written_with_a_point_is_an_integer_to_json_schema_and_to_the_calculator() -> None:
    asked = {"expression": "2/3", "precision": 2.0}

    assert jsonschema_rs.is_valid(Calculator.input_schema, asked)
    assert ended(input_=asked).message == "0.67"


@pytest.mark.parametrize(
    "refused",
    [
        {},
        {"expression": ""},
        {"expression": 3},
        {"expression": "1" * 1001},
        {"expression": "1", "precision": 16},
        {"expression": "1", "precision": -1},
        {"expression": "1", "precision": 1.5},
        {"expression": "1", "precison": 2},
    ],
)
def test_the_input_schema_refuses_what_the_calculator_cannot_take(refused: dict[str, Any]) -> None:
    assert not jsonschema_rs.is_valid(Calculator.input_schema, refused)


@pytest.mark.parametrize("max_digits", [1000, 4000])
def test_the_largest_answers_fit_an_event(max_digits: int) -> None:
    largest = 9 ** (max_digits - 1)
    source = ";".join([f"9**{max_digits - 1}", *["ans"] * 19])

    assert ended(source, max_digits=max_digits, ask_above=max_digits).output["value"] == str(largest)


# ── hostile ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "source",
    [
        "(" * 500 + "1" + ")" * 500,
        "-" * 999 + "1",
        "2" + "**2" * 300,
        "sqrt(" * 150 + "1" + ")" * 150,
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "[].__class__",
        "9" * 1001,
        "1e400",
        "9**9**9",
        "9**(9**9)",
        "(-9)**9**9",
        "9**99999999999999999999",
        "0.5**-99999",
        "10**999*10**999",
        "round(5, -1000000000)",
        "0**-1",
        "(-8)**0.5",
        "١+٢",
        "1" + "+1" * 5_000 + "+",
        "=SUM(A1)",
        "1\u20281",
    ],
    ids=lambda source: ascii(source[:20]),
)
def test_hostile_input_gets_an_error_text_in_under_50_ms_of_processor_time(source: str) -> None:
    start = time.thread_time()
    result = ended(source, ask_above=4000)
    took = time.thread_time() - start

    assert result.output["value"] is None
    assert 0 < len(result.output["error"]) < 200
    assert took < 0.05


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ans_is_the_threads_last_answer_exact_and_unrounded() -> None:
    thread: dict[str, Any] = {}

    assert ended("1/3", state=thread, precision=2).message == "0.33"
    assert ended("ans*3", state=thread).message == "1"
    assert ended("2**100", state=thread).message == "1267650600228229401496703205376"
    assert ended("-ans + 1", state=thread).message == "-1267650600228229401496703205375"
    assert ended("ans - 1", state=json.loads(json.dumps(thread))).message == "-1267650600228229401496703205376"


def test_an_error_leaves_ans_as_it_was() -> None:
    thread: dict[str, Any] = {}

    ended("6*7", state=thread)
    ended("1/0", state=thread)

    assert ended("ans", state=thread).message == "42"


def test_without_an_earlier_answer_ans_is_an_error() -> None:
    assert ended("ans+1").output["error"] == "there is no ans yet: it is the last answer of the thread"


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def asked(prompt: str, **given: Any) -> Interrupt:
    """What a run paused with."""
    question = run(prompt, **given)[-1]
    assert isinstance(question, Interrupt)
    return question


def test_an_expensive_power_is_asked_about_before_anything_of_it_is_said() -> None:
    *before, question = run("2**1000")

    assert before == [Think("Compute 2**1000")]
    assert question == Interrupt(
        "2**1000 takes a power of about 302 digits. Compute it?",
        options=["yes", "no"],
        state={"done": [], "ans": None},
    )


def test_after_a_yes_it_is_computed_as_if_nobody_had_asked() -> None:
    result = ended("2**1000", answers=[Answer(asked("2**1000"), "yes")])

    assert result.output == {"expression": "2**1000", "value": str(2**1000)}


@pytest.mark.parametrize("response", ["no", "Yes", True, None])
def test_after_anything_but_a_yes_the_answer_says_that_it_was_not_computed(response: Any) -> None:
    result = ended("2**1000", answers=[Answer(asked("2**1000"), response)])

    error = "not computed: the answer was no"
    assert result.output == {"expression": "2**1000", "value": None, "error": error}
    assert result.reason == "complete"


def test_what_was_computed_before_a_question_is_kept_and_not_computed_again() -> None:
    thread: dict[str, Any] = {}
    source = "6*7; ans**300; ans%10"
    question = asked(source, state=thread)
    events = run(source, state={"ans": "5"}, answers=[Answer(question, "yes")])

    assert thread == {"ans": "42"}
    assert question.state == {"done": [{"expression": "6*7", "value": 42}], "ans": "42"}
    assert [event.arguments["expression"] for event in events if isinstance(event, ToolStart)] == [
        "ans**300",
        "ans%10",
    ]
    assert [step["value"] for step in events[-1].output["steps"]] == [42, str(42**300), 6]
    assert events[-1].message == f"6*7 = 42\nans**300 = {42**300}\nans%10 = 6"


def test_each_expensive_power_is_a_question_of_its_own() -> None:
    source = "2**1000; 3**700"
    second = asked(source, answers=[Answer(asked(source), "yes")])

    assert second.question == "3**700 takes a power of about 334 digits. Compute it?"
    result = ended(source, answers=[Answer(second, "yes")])
    assert [step["value"] for step in result.output["steps"]] == [str(2**1000), str(3**700)]


def test_a_power_is_asked_about_wherever_it_stands_in_an_expression_and_once_for_all_of_it() -> None:
    source = "2**1000 % 7 + 3**700 % 5"
    question = asked(source)

    assert question.question == f"{source} takes a power of about 302 digits. Compute it?"
    assert ended(source, answers=[Answer(question, "yes")]).output["value"] == 2**1000 % 7 + 3**700 % 5


@pytest.mark.parametrize("source", ["2**990", "2**-1000", "1**100000", "(-1)**100001", "2.5**700", "10**150 * 10**200"])
def test_what_is_not_expensive_is_computed_without_a_question(source: str) -> None:
    assert ended(source).output["value"] is not None


def test_how_large_is_expensive_is_a_setting() -> None:
    assert asked("2**10", ask_above=3).question == "2**10 takes a power of about 4 digits. Compute it?"
    assert ended("2**10", ask_above=4).message == "1024"


def test_what_is_too_large_is_an_error_and_not_a_question() -> None:
    assert ended("9**9**9").output["error"] == "too large: a whole number of more than 1000 digits"


# ── settings and packaging ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"precision": 16}, "'precision' must be from 0 to 15"),
        ({"precision": -1}, "'precision' must be from 0 to 15"),
        ({"max_digits": 0}, "'max_digits' must be from 1 to 4000"),
        ({"max_digits": 4001}, "'max_digits' must be from 1 to 4000"),
        ({"ask_above": 0}, "'ask_above' must be from 1 to 4000"),
        ({"ask_above": 4001}, "'ask_above' must be from 1 to 4000"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        CalculatorSettings(**settings)


def test_both_schemas_are_valid_json_schema() -> None:
    for schema in (Calculator.input_schema, Calculator.output_schema):
        jsonschema_rs.meta.validate(schema)


def test_the_installed_distribution_offers_this_agent_as_calculator() -> None:
    (found,) = entry_points(group="agenthost.agents", name="calculator")

    assert found.dist is not None
    assert found.dist.name == "agenthost-calculator"
    assert found.load() is agent
    assert agent is Calculator
