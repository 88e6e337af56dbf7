"""The tables mean the same on PostgreSQL: exact text, bytes, whole numbers, unique keys."""

from __future__ import annotations

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from agenthost.store.schema import events, metadata, runs, threads


def test_every_table_and_index_can_be_made_on_postgresql():
    dialect = postgresql.dialect()
    made = {
        **{table.name: str(CreateTable(table).compile(dialect=dialect)) for table in metadata.tables.values()},
        **{
            str(index.name): str(CreateIndex(index).compile(dialect=dialect))
            for table in metadata.tables.values()
            for index in table.indexes
        },
    }
    assert 'thread_id TEXT COLLATE "C" NOT NULL' in made[threads.name]
    assert "id BIGSERIAL NOT NULL" in made[threads.name]
    assert "data BYTEA NOT NULL" in made[events.name]
    assert "created DOUBLE PRECISION NOT NULL" in made[runs.name]
    assert made["runs_key"] == "CREATE UNIQUE INDEX runs_key ON runs (agent, principal, idempotency_key)"
