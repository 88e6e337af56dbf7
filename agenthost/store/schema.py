"""The tables, portable between SQLite and PostgreSQL.

There are no foreign keys: one writer keeps the order of things, and a check for every event costs more than the event.
JSON is kept as the bytes it was encoded to.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text, literal_column

metadata = MetaData()

_Key = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER primary key is SQLite's own row id
_Exact = Text().with_variant(Text(collation="BINARY"), "sqlite").with_variant(Text(collation="C"), "postgresql")

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

threads = Table(
    "threads",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("principal", _Exact, nullable=False),
    Column("agent", _Exact, nullable=False),
    Column("thread_id", _Exact, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("metadata", LargeBinary),
    Column("state", LargeBinary),
    Column("waiting", Integer),  # 1 where a question of its runs may be open: most threads are never asked for any
    Index("threads_key", "principal", "agent", "thread_id", unique=True),
    Index("threads_by_update", "principal", "agent", "updated", "id"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("thread", _Key, nullable=False),
    Column("run_id", _Exact, nullable=False),
    Column("at", Double, nullable=False),
    Column("role", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("status", Text),  # its run's, where that did not complete and is no longer kept
    Index("messages_of_thread", "thread", "id"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("run_id", _Exact, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("stop_reason", Text),
    Column("code", Text),
    Column("agent", _Exact, nullable=False),
    Column("principal", _Exact, nullable=False),
    Column("thread", _Key),
    Column("created", Double, nullable=False),
    Column("ended", Double),
    Column("agent_version", Text),
    Column("settings_hash", Text),
    Column("idempotency_key", _Exact),
    Column("request_digest", Text),
    Column("resumes", _Exact),
    Column("parent", _Exact),
    Column("detached", Integer, nullable=False),
    Column("resumable", Integer),
    Column("input", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    Index("runs_run_id", "run_id", unique=True),
    Index("runs_of_principal", "agent", "principal", "id"),
    Index("runs_of_thread", "thread", "id"),
)
# PostgreSQL gets these two whole: naming its dialect here would import it at every start, for indexes that work anyway
_keyed = runs.c.idempotency_key.is_not(None)
Index(
    "runs_key",
    runs.c.agent,
    runs.c.principal,
    runs.c.idempotency_key,
    unique=True,
    sqlite_where=_keyed,
)
_going = runs.c.ended.is_(None)
Index("runs_going", runs.c.id, sqlite_where=_going)

events = Table(
    "events",
    metadata,
    Column("run_id", _Exact, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,  # one tree instead of two: a run's events lie together, in order
)

interrupts = Table(
    "interrupts",
    metadata,
    Column("run_id", _Exact, primary_key=True),
    Column("interrupt_id", _Exact, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("status", Text, nullable=False),  # open | claimed | answered | superseded | expired
    Column("claimed_by", _Exact),
    Column("created", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("state", LargeBinary),
    Column("answer", LargeBinary),
)

STILL_OPEN = interrupts.c.status == literal_column("'open'")
"""The condition for questions that nobody has answered, in the words of their index: a bound value would hide that."""

Index("interrupts_open", interrupts.c.expires_at, sqlite_where=STILL_OPEN)
