"""Hot statements: written in Core, compiled once, run on the driver's cursor.

Core's own `execute` costs as much as SQLite's work for the statement, each time; here it is paid once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.engine.interfaces import DBAPICursor

MAX_ROWS = 64
"""Rows of one INSERT: more gain nothing, and every number of rows is a statement of its own."""

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

    def each(self, cursor: DBAPICursor, rows: Sequence[Row]) -> int:
        """Run it for each row; return how many rows of the table it touched in all."""
        if not rows:
            return 0
        cursor.executemany(self.sql, rows)
        return cursor.rowcount


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
