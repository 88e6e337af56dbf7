"""Hot statements: written in Core, compiled once, run on the driver's cursor.

Core's own `execute` costs as much as SQLite's work for the statement, each time; here it is paid once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.engine.interfaces import DBAPICursor

MAX_ROWS = 64
"""Rows of one INSERT: more gain nothing, and every number of rows is a statement of its own."""

MAX_KEYS = 16
"""Keys of one SELECT or UPDATE: Core needs milliseconds to compile it for more."""

Row = tuple[Any, ...]


class Statement:
    """One statement; its parameters are positional, in the order of `parameters`."""

    def __init__(self, clause: ClauseElement, dialect: Dialect, *parameters: str) -> None:
        """Compile. Raises `RuntimeError` if the clause takes other parameters, or in another order."""
        compiled = clause.compile(dialect=dialect, column_keys=list(parameters))
        taken = tuple(getattr(compiled, "positiontup", None) or ())
        if taken != parameters:
            raise RuntimeError(f"statement takes {taken}, not {parameters}: {compiled}")
        self.sql = str(compiled)

    def execute(self, cursor: DBAPICursor, *values: Any) -> None:
        """Run it once."""
        cursor.execute(self.sql, values)


class Insert(Statement):
    """An INSERT that takes many rows at a time.

    A cursor lets go of the interpreter for each statement and must win it back from a busy event loop: one statement of
    many rows waits once.
    """

    def __init__(self, clause: ClauseElement, dialect: Dialect, *parameters: str) -> None:
        """Compile as `Statement`; `parameters` are the columns."""
        super().__init__(clause, dialect, *parameters)
        start = self.sql.index("(", self.sql.index(" VALUES "))
        end = self.sql.index(")", start) + 1
        self._head, self._row, self._tail = self.sql[:start], self.sql[start:end], self.sql[end:]
        self._texts: dict[int, str] = {}

    def rows(self, cursor: DBAPICursor, rows: Sequence[Row]) -> None:
        """Insert the rows, in order."""
        for start in range(0, len(rows), MAX_ROWS):
            part = rows[start : start + MAX_ROWS]
            text = self._texts.get(len(part))
            if text is None:
                text = self._texts[len(part)] = self._head + ", ".join([self._row] * len(part)) + self._tail
            cursor.execute(text, tuple(chain.from_iterable(part)))


class ForMany:
    """A SELECT or UPDATE for many keys at a time, for the same reason; a key that is given twice counts once."""

    def __init__(self, clause: Callable[[int], ClauseElement], dialect: Dialect) -> None:
        """`clause(n)` is the statement for n keys; their fields are its only parameters, in order."""
        self._clause = clause
        self._dialect = dialect
        self._texts: dict[int, str] = {}

    def select(self, cursor: DBAPICursor, keys: Sequence[Row]) -> list[Row]:
        """Return what is found for the keys."""
        found: list[Row] = []
        for text, values in self._parts(keys):
            cursor.execute(text, values)
            found += cursor.fetchall()
        return found

    def update(self, cursor: DBAPICursor, keys: Sequence[Row]) -> int:
        """Update by the keys; return how many rows there were to update."""
        touched = 0
        for text, values in self._parts(keys):
            cursor.execute(text, values)
            touched += cursor.rowcount
        return touched

    def _parts(self, keys: Sequence[Row]) -> Iterator[tuple[str, Row]]:
        for start in range(0, len(keys), MAX_KEYS):
            part = list(keys[start : start + MAX_KEYS])
            size = 1 << (len(part) - 1).bit_length()  # few sizes, so few statements: the last key fills the gap
            part += part[-1:] * (size - len(part))
            yield self.text(size), tuple(chain.from_iterable(part))

    def text(self, size: int) -> str:
        """The statement for so many keys."""
        text = self._texts.get(size)
        if text is None:
            text = self._texts[size] = str(self._clause(size).compile(dialect=self._dialect))
        return text
