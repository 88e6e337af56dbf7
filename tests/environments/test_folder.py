"""The folder of an environment: whole or not, locked, used by others, removed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agenthost.environments import home, kept
from agenthost.environments.folder import Kept, Made

MADE = Made("six", "3.11.7", 1_800_000_000.0, 2.5)

HOLDING = """
import fcntl, sys
lock = open(sys.argv[1])
try:
    fcntl.flock(lock, fcntl.LOCK_NB | (fcntl.LOCK_EX if sys.argv[2] == "alone" else fcntl.LOCK_SH))
    print("held", flush=True)
except BlockingIOError:
    print("not held", flush=True)
sys.stdin.read()
"""


class Other:
    """Another process that holds an environment within `with`; `held` is whether it could."""

    def __init__(self, one: Kept, how: str) -> None:
        self._command = [sys.executable, "-S", "-c", HOLDING, str(one.path / "lock"), how]

    def __enter__(self) -> Other:
        self.process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.held = self.process.stdout.readline() == "held\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate("")


@pytest.fixture
def one(tmp_path: Path) -> Kept:
    """An environment that is whole, and that nobody holds."""
    one = Kept(tmp_path / "environments" / "six-0123456789ab")
    hold = one.hold(alone=True)
    assert hold is not None
    one.python.parent.mkdir(parents=True)
    one.python.symlink_to(sys.executable)
    one.mark(MADE)
    hold.release()
    return one


def test_they_are_kept_beside_agents_toml_unless_a_variable_says_where(tmp_path: Path) -> None:
    assert home(tmp_path, {}) == tmp_path / ".agenthost" / "environments"
    assert home(tmp_path, {"AGENTHOST_ENVIRONMENTS": "/var/envs"}) == Path("/var/envs")
    assert home(tmp_path, {"AGENTHOST_ENVIRONMENTS": "envs"}) == tmp_path / "envs"


def test_one_is_whole_once_it_is_marked_and_while_its_python_is_there(one: Kept) -> None:
    assert one.made() == MADE
    one.python.unlink()
    assert one.made() is None


@pytest.mark.parametrize("mark", ["", "{", "[]", '{"asked": "six"}'])
def test_a_mark_that_cannot_be_read_is_none(one: Kept, mark: str) -> None:
    (one.path / "made.json").write_text(mark)
    assert one.made() is None


def test_what_is_cleared_is_whole_no_more(one: Kept) -> None:
    one.clear()
    assert one.made() is None
    assert not one.venv.exists()
    one.clear()


def test_git_and_whoever_lists_them_see_environments_only(one: Kept) -> None:
    assert (one.path.parent / ".gitignore").read_text() == "*\n"
    assert kept(one.path.parent) == [one]
    assert kept(one.path) == []


def test_many_use_it_together_and_nobody_makes_or_removes_it_meanwhile(one: Kept) -> None:
    with Other(one, "shared") as first, Other(one, "shared") as second, Other(one, "alone") as third:
        assert (first.held, second.held, third.held) == (True, True, False)
        assert one.in_use()
        assert not one.remove()
        assert one.made() == MADE
    assert not one.in_use()


def test_whoever_makes_it_is_alone_until_it_shares(one: Kept) -> None:
    hold = one.hold(alone=True)
    assert hold is not None
    with Other(one, "shared") as other:
        assert not other.held
    hold.share()
    with Other(one, "shared") as other:
        assert other.held
    hold.release()
    hold.release()


def test_removed_it_is_gone_with_its_lock(one: Kept) -> None:
    assert one.remove()
    assert not one.path.exists()
    assert kept(one.path.parent) == []


def test_a_lock_that_was_removed_meanwhile_is_none(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody removes and makes it again between the opening of the lock and the lock itself."""
    lock = one.path / "lock"
    real = sys.modules["fcntl"].flock

    def replaced_first(descriptor: int, how: int) -> None:
        lock.unlink()
        lock.touch()
        real(descriptor, how)

    monkeypatch.setattr("fcntl.flock", replaced_first)
    assert one.hold(alone=False) is None


def test_one_without_a_lock_as_an_image_may_have_it_is_used_all_the_same(one: Kept) -> None:
    (one.path / "lock").unlink()
    hold = one.hold(alone=False)
    assert hold is not None
    assert hold.descriptor is None
    hold.share()
    hold.release()
    assert kept(one.path.parent) == [one]
    assert not one.in_use()
