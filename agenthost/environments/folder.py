"""Where environments are kept: a folder for each, with a lock while it is made or used, and a mark once it is whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from agenthost.forked_children import close_in_children

HOME = ".agenthost/environments"
"""The folder of environments, beside agents.toml."""

HOME_VARIABLE = "AGENTHOST_ENVIRONMENTS"
"""Names another one."""

_MARK = "made.json"
_LOCK = "lock"


def home(folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the environments of the agents.toml in `folder` are kept."""
    return folder / (environ.get(HOME_VARIABLE) or HOME)


@dataclass(frozen=True, slots=True)
class Made:
    """What an environment that is whole says of itself: what was asked for, and of which Python it is.

    `at` is when it was made, in seconds since the epoch, `seconds` how long that took.
    """

    asked: str
    python: str
    at: float
    seconds: float


class Hold:
    """A lock on an environment: alone, to make or remove it, or together with others that use it."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        close_in_children(self)

    @property
    def descriptor(self) -> int | None:
        """What keeps the lock, in this process and in those that have it too."""
        return self._descriptor

    def share(self) -> None:
        """Hold it no longer alone."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def detach(self) -> int:
        """Hand over the descriptor, which keeps the lock until it is closed; -1 where the lock was given back."""
        descriptor, self._descriptor = self._descriptor, None
        return -1 if descriptor is None else descriptor

    def release(self) -> None:
        """Give the lock back; the second call does nothing."""
        descriptor = self.detach()
        if descriptor != -1:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Kept:
    """The folder of one environment, made or not."""

    path: Path

    @property
    def name(self) -> str:
        """What it is made of gives it its name."""
        return self.path.name

    @property
    def venv(self) -> Path:
        """The virtual environment itself."""
        return self.path / "venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return python_of(self.venv)

    def made(self) -> Made | None:
        """What it says of itself, or None where it is not whole: not made, made by half, or its Python is gone."""
        try:
            mark = Made(**json.loads((self.path / _MARK).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return mark if self.python.exists() else None

    def mark(self, made: Made) -> None:
        """Say that it is whole: at once, so that a mark is never read by half."""
        draft = self.path / f"{_MARK}.new"
        draft.write_text(json.dumps(asdict(made)))
        draft.replace(self.path / _MARK)

    def clear(self) -> None:
        """Take away what was made of it; the lock is to be held alone."""
        (self.path / _MARK).unlink(missing_ok=True)
        if self.venv.exists():
            shutil.rmtree(self.venv)

    def hold(self, *, alone: bool) -> Hold | None:
        """Take the lock and return it; None where others have it, or it was removed meanwhile. Raises `OSError`.

        To hold it alone its folder is made. An environment that is made and has no lock, in an image that left it out,
        is held by nothing.
        """
        flags = os.O_RDONLY
        if alone:
            self.path.mkdir(parents=True, exist_ok=True)
            _ignored_by_git(self.path.parent)
            flags = os.O_RDWR | os.O_CREAT
        try:
            descriptor = os.open(self.path / _LOCK, flags, 0o644)
        except OSError:
            if alone:
                raise
            return Hold(None)
        hold = Hold(descriptor)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(self.path / _LOCK)):
                return hold
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:
            hold.release()
            raise
        hold.release()
        return None

    def remove(self) -> bool:
        """Remove it whole; False where a host uses it or it is being made. Raises `OSError`."""
        hold = self.hold(alone=True)
        if hold is None:
            return False
        try:
            # The mark goes first: what is left by half, if the rest cannot be removed, does not count as made.
            self.clear()
            shutil.rmtree(self.path)
        finally:
            hold.release()
        return True

    def in_use(self) -> bool:
        """Whether somebody makes or uses it."""
        if not (self.path / _LOCK).exists():
            return False
        with suppress(OSError):
            hold = self.hold(alone=True)
            if hold is None:
                return True
            hold.release()
        return False


def kept(folder: Path) -> list[Kept]:
    """Return the environments kept in `folder`, also those made by half, by name; none where there is no folder."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [Kept(path) for path in found if (path / _LOCK).exists() or (path / _MARK).exists()]


def python_of(venv: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return venv / "bin" / "python"


def _ignored_by_git(folder: Path) -> None:
    file = folder / ".gitignore"
    if not file.exists():
        file.write_text("*\n")
