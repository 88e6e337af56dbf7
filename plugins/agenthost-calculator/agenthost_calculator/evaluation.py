"""One expression and what came of it: as JSON, as a line of text, as a row of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Evaluation:
    """One expression, and what came of it: a `value` as JSON holds it, or an `error`."""

    expression: str
    value: int | float | str | None = None
    error: str | None = None

    def output(self) -> dict[str, Any]:
        """Return it as the agent's `output_schema` has it."""
        said: dict[str, Any] = {"expression": self.expression, "value": self.value}
        if self.error is not None:
            said["error"] = self.error
        return said

    def line(self, *, alone: bool) -> str:
        """Return it as the message has it; `alone` where there is no other expression to tell it from."""
        if self.error is not None:
            return self.error if alone else f"{self.expression}: {self.error}"
        return str(self.value) if alone else f"{self.expression} = {self.value}"


def table(evaluations: Sequence[Evaluation]) -> str:
    """Return them as CSV, with a heading."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["expression", "value", "error"])
    rows.writerows([row.expression, row.value, row.error] for row in evaluations)
    return text.getvalue()
