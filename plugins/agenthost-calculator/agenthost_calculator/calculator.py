"""The agent: expressions in, one tool call each, an answer in text and one in JSON out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from agenthost import (
    Artifact,
    Custom,
    Event,
    ModelChunk,
    Result,
    RunContext,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
)
from agenthost_calculator.arithmetic import Arithmetic, CannotCompute, Expensive, Number
from agenthost_calculator.evaluation import Evaluation, table
from agenthost_calculator.expression import parse, tokens
from agenthost_calculator.questions import question, taken_up

MAX_LENGTH = 1000
"""Characters of one request."""

MAX_EXPRESSIONS = 20
"""Expressions in one request; each answer may have thousands of digits, and one event holds at most 1 MiB."""

MAX_PRECISION = 15
"""Decimals; a float has no more that mean anything."""

MAX_DIGITS = 4000
"""The most that `max_digits` may be; Python itself refuses to write a whole number of over 4,300 digits."""

PROGRESS_EVERY = 100
"""Operations between two `ToolProgress` events."""

_SAFE_INTEGER = 2**53
"""Beyond it many JSON readers (every browser) round whole numbers without a word."""

_VALUE = {
    "type": ["number", "string", "null"],
    "description": "A string of digits where a whole number is beyond 2**53; null where there is an error",
}
_ERROR = {"type": "string", "description": "Why there is no value"}


@dataclass(frozen=True, slots=True)
class CalculatorSettings:
    """What `settings` in agents.toml may say; raises `ValueError` for a number out of range.

    `precision`: decimals of an answer where the request does not say. `max_digits`: of a whole number; more is an
    error to the caller. `ask_above`: digits of a power above which somebody is asked first.
    """

    precision: int = 10
    max_digits: int = 1000
    ask_above: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.precision <= MAX_PRECISION:
            raise ValueError(f"'precision' must be from 0 to {MAX_PRECISION}")
        if not 1 <= self.max_digits <= MAX_DIGITS:
            raise ValueError(f"'max_digits' must be from 1 to {MAX_DIGITS}")
        if not 1 <= self.ask_above <= MAX_DIGITS:
            raise ValueError(f"'ask_above' must be from 1 to {MAX_DIGITS}")


class Calculator:
    """Computes expressions separated by `;`, one tool call each, up to the first that has no answer.

    An expression without an answer (a division by zero, a mistyped name, a number too large) is a tool error, and the
    run still completes with reason `complete`: the agent did its work, and its answer is that there is no value.
    Before an expensive power it asks: the run pauses, and a resume goes on behind what is computed already.
    """

    title: ClassVar[str] = "Calculator"
    description: ClassVar[str] = (
        "Computes arithmetic: + - * / // % ** and parentheses, sqrt abs round min max, pi e, ans for the last answer"
    )
    Settings = CalculatorSettings
    input_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_LENGTH,
                "description": "What to compute, such as (2+3)*4; several are separated by ;",
            },
            "precision": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_PRECISION,
                "description": "Decimals of the answer",
            },
        },
        "required": ["expression"],
        "additionalProperties": False,
    }
    output_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "expression": {"type": "string", "description": "What was asked"},
            "value": _VALUE,
            "error": _ERROR,
            "steps": {
                "type": "array",
                "description": "Where several expressions were given: those computed, in order; the last is the answer",
                "items": {
                    "type": "object",
                    "properties": {"expression": {"type": "string"}, "value": _VALUE, "error": _ERROR},
                    "required": ["expression", "value"],
                },
            },
        },
        "required": ["expression", "value"],
    }

    def __init__(self, settings: CalculatorSettings) -> None:
        self._precision = settings.precision
        self._arithmetic = Arithmetic(settings.max_digits)
        self._careful = Arithmetic(settings.max_digits, settings.ask_above)

    async def run(self, ctx: RunContext) -> AsyncIterator[Event]:
        """Compute `ctx.input`, or else `ctx.prompt`; the thread's last answer is kept in `ctx.state["ans"]`."""
        source, precision = self._asked(ctx)
        expressions = [part.strip() for part in source.split(";") if part.strip()]
        problem = _problem(source, expressions)
        if problem is not None:
            yield ModelChunk(problem)
            yield Result(problem, output=Evaluation(source[:MAX_LENGTH], error=problem).output())
            return
        done, allowed = taken_up(ctx)
        if not done and allowed is None:
            yield Think(_plan(expressions))
        message = ""
        for number, expression in enumerate(expressions):
            if number < len(done):
                evaluation = done[number]
            else:
                evaluation = Evaluation(expression)
                try:
                    events = self._evaluate(evaluation, f"{ctx.run_id}-{number + 1}", precision, ctx.state, allowed)
                except Expensive as power:
                    yield question(expression, power.digits, done, ctx.state)
                    return
                allowed = None  # the answer was for the first that is computed here
                for event in events:
                    yield event
                done.append(evaluation)
            chunk = ("\n" if message else "") + evaluation.line(alone=len(expressions) == 1)
            yield ModelChunk(chunk)
            message += chunk
            if evaluation.error is not None:
                break
        for event in _ending(source, expressions, done, message):
            yield event

    def _asked(self, ctx: RunContext) -> tuple[str, int]:
        if ctx.input is None:
            return ctx.prompt, self._precision
        # JSON Schema takes 2.0 for an integer, and round() does not
        return ctx.input["expression"], int(ctx.input.get("precision", self._precision))

    def _evaluate(
        self, evaluation: Evaluation, call_id: str, precision: int, state: dict[str, Any], allowed: bool | None
    ) -> list[Event]:
        """Compute, and return what there is to say of it; `evaluation` and `state` keep what came of it.

        `allowed` is what somebody answered. None: nobody was asked; then it raises `Expensive`, having done nothing,
        where somebody is to be.
        """
        said: list[Event] = [ToolStart("evaluate", call_id, {"expression": evaluation.expression})]
        arithmetic = self._careful if allowed is None else self._arithmetic
        stack: list[Number] = []
        try:
            if allowed is False:
                raise CannotCompute("not computed: the answer was no")
            program = parse(evaluation.expression, _restored(state.get("ans")))
            for done, step in enumerate(program, 1):
                arithmetic.execute(step, stack)
                if done % PROGRESS_EVERY == 0:
                    said.append(ToolProgress(call_id, {"done": done, "of": len(program)}))
        except CannotCompute as problem:
            evaluation.error = str(problem)
            return [*said, ToolComplete("evaluate", call_id, error=evaluation.error)]
        exact = stack.pop()
        state["ans"] = repr(exact)
        evaluation.value = _shown(exact, precision)
        said.append(ToolComplete("evaluate", call_id, result=evaluation.value))
        if isinstance(exact, float) and evaluation.value != exact:
            said.append(Custom("x-rounded", {"tool_call_id": call_id, "unrounded": exact, "precision": precision}))
        return said


def _ending(source: str, expressions: Sequence[str], done: Sequence[Evaluation], message: str) -> Iterator[Event]:
    """What is said when all is computed, or cannot be."""
    last = done[-1]
    output = Evaluation(source, last.value, last.error).output()
    if len(expressions) > 1:
        output["steps"] = [evaluation.output() for evaluation in done]
        yield Artifact("steps.csv", "text/csv", text=table(done))
    yield Usage("calculator", input_tokens=len(tokens(source)), output_tokens=len(tokens(message)))
    yield Result(message, output=output, reason="complete")


def _problem(source: str, expressions: Sequence[str]) -> str | None:
    """Say why nothing of this is computed, or None."""
    if len(source) > MAX_LENGTH:
        return f"too long: a request has at most {MAX_LENGTH} characters"
    if not expressions:
        return "nothing to compute: send an expression, such as (2+3)*4"
    if len(expressions) > MAX_EXPRESSIONS:
        return f"too many: a request has at most {MAX_EXPRESSIONS} expressions"
    return None


def _plan(expressions: Sequence[str]) -> str:
    if len(expressions) == 1:
        return f"Compute {expressions[0]}"
    return f"Compute {len(expressions)} expressions, up to the first without an answer: {'; '.join(expressions)}"


def _shown(value: Number, precision: int) -> int | float | str:
    """Round a float to `precision` decimals and make the number one that JSON readers keep.

    What is too small for that many decimals keeps that many significant digits instead of becoming 0.
    """
    if isinstance(value, float):
        rounded = round(value, precision)
        if rounded == 0 and value and precision:
            rounded = float(f"{value:.{precision}g}")
        if not rounded.is_integer() or abs(rounded) > _SAFE_INTEGER:
            return rounded
        value = int(rounded)
    return value if abs(value) <= _SAFE_INTEGER else str(value)


def _restored(ans: str | None) -> Number | None:
    """Read back what `repr` wrote: as text, an answer of any size stays exact in `ctx.state`."""
    if ans is None:
        return None
    return int(ans) if ans.removeprefix("-").isdigit() else float(ans)
