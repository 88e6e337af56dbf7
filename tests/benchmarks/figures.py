"""From rounds to lines: one figure of each round, two sides put together round by round, and the goal for the two."""

from collections.abc import Callable, Sequence
from operator import attrgetter

from .driver import Round, Rounds
from .processes import Unmeasured
from .table import Figure, Line, Spread, against

Read = Callable[[Round], float]
Values = Sequence[float] | Unmeasured

PER_REQUEST: Read = attrgetter("cpu_per_request")
PER_EVENT: Read = attrgetter("cpu_per_event")


def latency_ms(one: Round) -> float:
    """Half of the replies were whole within this many milliseconds."""
    return one.latency_p50 * 1000


def first_event_ms(one: Round) -> float:
    """Of a hundred streams, 99 had sent their first event within this many milliseconds."""
    return one.first_p99 * 1000


def read(found: Rounds, what: Read) -> Values:
    """One figure of every round."""
    return found if isinstance(found, Unmeasured) else [what(one) for one in found]


def combine(left: Values, right: Values, how: Callable[[float, float], float]) -> Figure:
    """The spread of what two sides make together, round by round; `Unmeasured` where one has nothing."""

    def spread() -> Spread:
        if isinstance(left, Unmeasured):
            raise left
        if isinstance(right, Unmeasured):
            raise right
        return Spread.of(how(a, b) for a, b in zip(left, right, strict=True))

    return spread


def figure(values: Values) -> Figure:
    """The spread of one side's figures."""
    return combine(values, values, lambda value, _: value)


def ratio(values: Values, reference: Values) -> Figure:
    """The spread of one side's ratio to the other."""
    return combine(values, reference, lambda value, other: value / other)


def at_most(row: str, what: str, unit: str, values: Values, limit: float, name: str, reference: Values) -> Line:
    """A line whose goal is `limit` times a reference called `name`."""
    goal = f"≤ {limit:g} {name}"
    return against(row, what, unit, figure(values), goal, ratio(values, reference), high=limit)
