"""No statement of the hot path walks through a table."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.store.hot import hot_statements
from agenthost.store.statements import ForMany, Statement

STATEMENTS: dict[str, Any] = vars(hot_statements()) | vars(hot_statements().questions)
del STATEMENTS["questions"]


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_hot_statement_finds_its_rows_by_an_index(open_store, rows, name):
    open_store().close()
    statement = STATEMENTS[name]
    texts = [statement.text(keys) for keys in (1, 8)] if isinstance(statement, ForMany) else [statement.sql]
    for text in texts:
        filled = text.replace("?", "NULL")
        plan = [detail for *_, detail in rows(f"EXPLAIN QUERY PLAN {filled}")]
        walked = [step for step in plan if step.startswith("SCAN") and step not in {"SCAN CONSTANT ROW", "SCAN given"}]
        assert walked == []
        assert isinstance(statement, Statement | ForMany)
