"""One host per file, also between two stores of one process, and free again however the holder ended."""

from __future__ import annotations

import os

import pytest

from agenthost.store import StoreOpenError
from agenthost.store.lock import FileLock, LockHeld

HOLD = """
import sys
from agenthost.store import Store
store = Store.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
store.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def test_a_lock_says_who_holds_it_and_is_free_once_released(tmp_path):
    path = tmp_path / "x.lock"
    lock = FileLock(path)
    with pytest.raises(LockHeld) as held:
        FileLock(path)
    assert held.value.pid == str(os.getpid())
    lock.release()
    lock.release()
    FileLock(path).release()


def test_a_second_host_on_one_file_is_refused_until_the_first_has_closed_it(open_store, path, child):
    url = f"sqlite:///{path}"
    other = child(HOLD, url)
    assert other.line() == "open"
    with pytest.raises(StoreOpenError) as refused:
        open_store(url)
    assert refused.value.message == f"the store {path} is in use by another host (process {other.process.pid})"
    assert refused.value.hint == (
        "stop that one, or give each host a store of its own: one [store] url per agents.toml"
    )
    other.go_on()
    assert other.line() == "closed"
    open_store(url)


def test_a_host_that_was_killed_leaves_the_file_free(open_store, path, child):
    other = child(HOLD, f"sqlite:///{path}")
    assert other.line() == "open"
    other.kill()
    open_store()


def test_another_name_for_the_same_file_does_not_get_around_the_lock(open_store, path, tmp_path):
    open_store()
    (tmp_path / "alias.db").symlink_to(path)
    with pytest.raises(StoreOpenError, match="in use by another host"):
        open_store(f"sqlite:///{tmp_path}/alias.db")
