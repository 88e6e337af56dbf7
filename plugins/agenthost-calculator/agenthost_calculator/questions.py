"""The question before an expensive power, and how the run that brings the answer goes on behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agenthost import Interrupt, RunContext
from agenthost_calculator.evaluation import Evaluation


def question(expression: str, digits: int, done: Sequence[Evaluation], state: dict[str, Any]) -> Interrupt:
    """Ask whether to compute; what is computed already waits in the interrupt, and so does the last answer."""
    return Interrupt(
        f"{expression} takes a power of about {digits} digits. Compute it?",
        options=["yes", "no"],
        state={"done": [evaluation.output() for evaluation in done], "ans": state.get("ans")},
    )


def taken_up(ctx: RunContext) -> tuple[list[Evaluation], bool | None]:
    """What the paused run had computed, and whether it may go on: no word but `yes` lets it.

    Nothing, and None, where this run answers no question. `ctx.state` gets back the answer that `ans` stood for.
    """
    if ctx.answer is None:
        return [], None
    kept = ctx.answer.interrupt.state
    if kept["ans"] is not None:
        ctx.state["ans"] = kept["ans"]
    return [Evaluation(one["expression"], one["value"]) for one in kept["done"]], ctx.answer.response == "yes"
