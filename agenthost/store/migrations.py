"""The schema's versions: which one a database has, and the steps from each to the next, all in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, LargeBinary, insert, inspect, select, update

from agenthost.store.records import StoreOpenError
from agenthost.store.schema import meta, metadata
from agenthost.store.sqlite import BEGIN_WRITE

VERSION_ROW = "schema"
PROBE_ROW = "probe"

Step = Callable[[Connection], None]


def create(connection: Connection) -> None:
    """Make every table of the newest schema in an empty database."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(meta).values(name=VERSION_ROW, value="0"))
    connection.execute(insert(meta).values(name=PROBE_ROW, value=""))


def keep_answers(connection: Connection) -> None:
    """To version 2: what was answered, which threads wait, which runs may begin again, how a run that is gone ended."""
    blob = LargeBinary().compile(connection.dialect)
    for table, column in (
        ("threads", "waiting INTEGER"),
        ("messages", "status TEXT"),
        ("runs", "resumable INTEGER"),
        ("interrupts", f"answer {blob}"),
    ):
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
    connection.exec_driver_sql("CREATE INDEX interrupts_open ON interrupts (expires_at) WHERE status = 'open'")
    connection.exec_driver_sql(
        "UPDATE threads SET waiting = 1 WHERE id IN (SELECT runs.thread FROM runs JOIN interrupts "
        "ON interrupts.run_id = runs.run_id WHERE interrupts.status = 'open')"
    )


STEPS: tuple[Step, ...] = (create, keep_answers)
"""Step n leads from version n to n + 1; but the first makes the newest schema, and a new database takes no other."""


def version_of(connection: Connection, name: str, newest: int = len(STEPS)) -> int:
    """Return the version of a database's schema, 0 if it is empty.

    Raises `StoreOpenError` for a database of another program, and for one that a newer agenthost made.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return 0
    found = None
    if meta.name in tables and {column["name"] for column in inspect(connection).get_columns(meta.name)} == set(
        meta.c.keys()
    ):
        found = connection.scalar(select(meta.c.value).where(meta.c.name == VERSION_ROW))
    if found is None or not found.isdecimal():
        raise StoreOpenError(
            f"{name} is a database of another program",
            hint="name a file of agenthost's own; this one was left as it is",
        )
    if int(found) > newest:
        raise StoreOpenError(
            f"{name} was written by a newer agenthost (schema {found}, this one knows {newest})",
            hint="upgrade agenthost, or name another file; this one was left as it is",
        )
    return int(found)


def migrate(connection: Connection, version: int, steps: Sequence[Step] = STEPS) -> None:
    """Bring a database from `version` to the newest schema, whole or not at all. Raises what a step raises."""
    if version == len(steps):
        return
    connection.exec_driver_sql(BEGIN_WRITE)
    try:
        for step in steps[version : version + 1 if version == 0 else None]:
            step(connection)
        connection.execute(update(meta).where(meta.c.name == VERSION_ROW).values(value=str(len(steps))))
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
