"""The table: one line per figure, with the goal beside it, as text, Markdown or JSON."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from .processes import Unmeasured

HEADINGS = ("row", "what", "figure", "goal", "reached", "met")


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """The spread of at least one value."""
        found = list(values)
        return cls(median(found), min(found), max(found))

    def text(self) -> str:
        """`1.23 (1.20–1.31)`, to three digits; a single value stands alone."""
        if self.low == self.high:
            return short(self.median)
        return f"{short(self.median)} ({short(self.low)}–{short(self.high)})"


def short(value: float) -> str:
    """A number to three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{round(value, 2) + 0.0:.2f}"


@dataclass(frozen=True)
class Line:
    """One line: a figure in `unit`, and where there is a goal, what was reached of it and whether that meets it.

    `missing` says why there is no figure.
    """

    row: str
    what: str
    unit: str
    value: Spread | None
    goal: str = ""
    reached: Spread | None = None
    met: bool | None = None
    note: str = ""
    missing: str = ""

    def cells(self, reasons: Sequence[str]) -> tuple[str, ...]:
        """The line's texts, one per heading; what is missing is said by its number among `reasons`."""
        value = f"{self.value.text()} {self.unit}" if self.value else ""
        missing = f"not measured [{reasons.index(self.missing) + 1}]" if self.missing else ""
        figure = "; ".join(filter(None, (value, missing, self.note)))
        met = {None: "", True: "yes", False: "no"}[self.met]
        return (self.row, self.what, figure, self.goal, self.reached.text() if self.reached else "", met)


Figure = Callable[[], Spread]


def measured(row: str, what: str, unit: str, value: Figure, note: str = "") -> Line:
    """A line without a goal; what could not be measured says why."""
    try:
        return Line(row, what, unit, value(), note=note)
    except Unmeasured as reason:
        return Line(row, what, unit, None, missing=str(reason))


def against(
    row: str,
    what: str,
    unit: str,
    value: Figure,
    goal: str,
    reached: Figure,
    *,
    high: float,
    low: float = float("-inf"),
    note: str = "",
) -> Line:
    """A line with a goal, met if the median of `reached` lies from `low` to `high`."""
    try:
        figure, found = value(), reached()
    except Unmeasured as reason:
        return Line(row, what, unit, None, goal, missing=str(reason))
    return Line(row, what, unit, figure, goal, found, low <= found.median <= high, note)


def laid_out(lines: Sequence[Line]) -> tuple[list[tuple[str, ...]], str]:
    """The cells under their headings, and below them why a figure is missing, each reason once under its number."""
    reasons = list(dict.fromkeys(line.missing for line in lines if line.missing))
    rows = [line.cells(reasons) for line in lines]
    notes = "".join(f"\n[{number}] {reason}" for number, reason in enumerate(reasons, 1))
    return [HEADINGS, *rows], f"\n{notes}" if notes else ""


def as_text(lines: Sequence[Line]) -> str:
    """Columns padded with spaces."""
    rows, notes = laid_out(lines)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(padded) + notes


def as_markdown(lines: Sequence[Line]) -> str:
    """A Markdown table."""
    (first, *rest), notes = laid_out(lines)
    rows = [first, ("---",) * len(HEADINGS), *rest]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + notes
