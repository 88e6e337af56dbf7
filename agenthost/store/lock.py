"""The lock file beside a database: one host per file, given back by the kernel however the host ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from agenthost.forked_children import close_in_children


class LockHeld(Exception):
    """Another host holds the lock; `pid` is what it wrote, empty if it had no time to."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self.pid = pid


class FileLock:
    """A lock held until `release`. The file stays: removing it would let two hosts hold two files of one name."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises `LockHeld`, and `OSError` where the file cannot be made."""
        self._descriptor: int | None = None
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise LockHeld(pid) from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        close_in_children(self)

    def detach(self) -> int:
        """Hand over the descriptor, which keeps the lock until it is closed; -1 where the lock was given back."""
        descriptor, self._descriptor = self._descriptor, None
        return -1 if descriptor is None else descriptor

    def release(self) -> None:
        """Give the lock back; the second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
