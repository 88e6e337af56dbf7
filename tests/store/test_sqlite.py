"""Where the file is, and what is said and left untouched when it cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from agenthost.store import Store, StoreOpenError
from agenthost.store.sqlite import Database, locate

URL_HINT = (
    'use url = "sqlite:///agenthost.db" (below the working directory), "sqlite:////var/lib/agenthost.db" (absolute) '
    'or "memory:"'
)

AS_NOBODY = """
import os, sys
from agenthost.store import Store, StoreOpenError
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    Store.open(sys.argv[1]).close()
except StoreOpenError as error:
    print(error.message)
    print(error.hint)
"""


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "[store] url '' names no store this version can use"),
        ("agenthost.db", "[store] url 'agenthost.db' names no store this version can use"),
        ("sqlite://", "[store] url 'sqlite://' names no store this version can use"),
        ("sqlite:///:memory:", "[store] url 'sqlite:///:memory:' names no store this version can use"),
        ("sqlite://file.db", "[store] url 'sqlite://file.db' names no store this version can use"),
        ("sqlite:///x.db?mode=ro", "[store] url 'sqlite:///x.db?mode=ro' names no store this version can use"),
        ("sqlite:///a\nb", "[store] url 'sqlite:///a\\nb' names no store this version can use"),
        ("sqlite+aiosqlite:///x.db", "[store] url 'sqlite+aiosqlite:///x.db' names no store this version can use"),
        ("postgresql://me:secret@h/d", "[store] url 'postgresql://…' names no store this version can use"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_what_would(url, text):
    with pytest.raises(StoreOpenError) as refused:
        Store.open(url)
    assert (refused.value.message, refused.value.hint) == (text, URL_HINT)


def test_a_url_names_a_file_below_the_working_directory_or_an_absolute_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert locate("memory:") is None
    assert locate("sqlite:///a%20b.db") == Path(tmp_path / "a%20b.db")
    assert locate("sqlite:////var/lib/x.db") == Path("/var/lib/x.db")


def test_a_durability_is_full_or_normal():
    with pytest.raises(StoreOpenError) as refused:
        Store.open("memory:", "paranoid")
    assert refused.value.message == "[store] durability 'paranoid' is unknown"
    assert refused.value.hint == 'use "full" or "normal"'


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
def test_the_writer_syncs_as_the_durability_says_and_keeps_a_write_ahead_log(path, durability, level):
    database = Database(path, durability)
    database.create()
    with database.connect() as connection:
        database.use_write_ahead_log(connection)
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_reader_cannot_write(open_store, path):
    open_store()
    with Database(path, "full").connect_reader() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM meta")


@pytest.mark.parametrize("name", ["a b.db", "a?b#c%20.db", "späß.db"])
def test_a_file_may_have_any_name(open_store, tmp_path, name):
    Database(tmp_path / name, "full").create()
    with Database(tmp_path / name, "full").connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).stat().st_size > 0


def left_as_it_is(path: Path, open_store) -> StoreOpenError:
    """Open what cannot be used; nothing may have changed but that there is a lock file."""
    before = path.read_bytes()
    with pytest.raises(StoreOpenError) as refused:
        open_store()
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {path.name, path.name + ".lock"}
    return refused.value


@pytest.mark.parametrize("content", [b"x", b"# agents.toml\n" * 300, b"SQLite format 4\0" + bytes(5000)])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(open_store, path, content):
    path.write_bytes(content)
    refused = left_as_it_is(path, open_store)
    assert refused.message == (
        f"the store {path} cannot be used: it is not a SQLite database, or its first page is damaged"
    )
    assert refused.hint == "name another file, or restore a backup; the file was left as it is"


def test_a_damaged_file_is_refused_and_left_as_it_is(open_store, path):
    open_store().close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    refused = left_as_it_is(path, open_store)
    assert refused.message == f"the store {path} cannot be used: it is damaged"
    assert refused.hint == "stop the host and restore a backup; the file was left as it is"


def test_a_database_of_another_program_is_refused_and_left_as_it_is(open_store, path):
    for table in ("notes (text)", "meta (key, value)"):
        with sqlite3.connect(path) as connection:
            connection.execute(f"CREATE TABLE {table}")
        connection.close()
        refused = left_as_it_is(path, open_store)
        assert refused.message == f"the store {path} is a database of another program"
        assert refused.hint == "name a file of agenthost's own; this one was left as it is"


def test_a_directory_that_is_not_there_is_not_made(open_store, tmp_path):
    with pytest.raises(StoreOpenError) as refused:
        open_store(f"sqlite:///{tmp_path}/no/such/x.db")
    assert refused.value.message == f"the store {tmp_path}/no/such/x.db has no directory to be in"
    assert refused.value.hint == f"mkdir -p {tmp_path}/no/such"


def test_a_directory_in_the_files_place_is_refused(open_store, path):
    path.mkdir()
    with pytest.raises(StoreOpenError) as refused:
        open_store()
    assert refused.value.message == f"the store {path} cannot be created or opened: Is a directory"


@pytest.fixture
def public():
    """A directory that every user can reach; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp()).resolve()
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def test_a_directory_or_file_that_cannot_be_written_is_refused(child, public, open_store):
    path = public / "x.db"
    hint = "make the file and its directory writable for the host's user, or name another file in [store] url"
    public.chmod(0o555)
    other = child(AS_NOBODY, f"sqlite:///{path}")
    assert other.line() == f"the store {path} cannot be created or opened: Permission denied"
    assert other.line() == hint
    public.chmod(0o777)
    open_store(f"sqlite:///{path}").close()
    path.chmod(0o444)
    path.with_name("x.db.lock").chmod(0o666)
    content = path.read_bytes()
    other = child(AS_NOBODY, f"sqlite:///{path}")
    assert other.line() == f"the store {path} cannot be created or opened: Permission denied"
    assert other.line() == hint
    assert path.read_bytes() == content
    public.chmod(0o700)
    other = child(AS_NOBODY, f"sqlite:///{path}")
    assert other.line() == f"the store {path} cannot be created or opened: Permission denied"
