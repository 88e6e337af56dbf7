"""Imports, one after another and guarded: whatever a module does while it is imported ends as a `LoadError`.

`import_object` finds an object by its text; `Importer` runs imports in daemon threads, so that one that hangs holds up
neither the host nor, for long, the next. Standard library and contracts only: workers import with it as well.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from agenthost.blame import Blame, did_you_mean, plugin_frames
from agenthost.errors import LoadError

T = TypeVar("T")

MODULE_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
"""What may stand on either side of the colon in `module:attribute`."""


class Importer:
    """Runs imports in the order they were submitted, one at a time: parallel imports break packages with cycles.

    An import that takes longer than `patience` seconds gives up its turn: the next begins in another daemon thread
    while the slow one goes on until its own time limit. Every thread ends when there is nothing left to do. May be used
    from any thread, and by several hosts.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self.patience = patience
        self._changed = threading.Condition()
        self._waiting: deque[_Import] = deque()
        self._running: list[_Import] = []
        self._watched = False

    def submit(self, subject: Blame | str, load: Callable[[], T], *, timeout: float | None = None) -> Future[T]:
        """Run `load()` when its turn comes; `subject` says whose it is (`agent 'billing' (acme-billing 2.1)`).

        The future holds what `load` returned or a `LoadError`, whatever was raised (`SystemExit` too). `timeout`, in
        seconds from the moment the import begins, makes it a `LoadError` then; the thread is left to itself.
        """
        blame = subject if isinstance(subject, Blame) else Blame(subject)
        job = _Import(blame, load, timeout)
        with self._changed:
            self._waiting.append(job)
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="agenthost-imports", daemon=True).start()
            self._changed.notify_all()
        return job.future

    def settle(self, futures: Collection[Future[Any]]) -> None:
        """Wait until each of these imports has ended or has run for longer than `patience`; blocks the thread."""
        asked = set(futures)

        def settled() -> bool:
            open_ones = [*self._waiting, *(job for job in self._running if not job.slow)]
            return not any(job.future in asked and not job.future.done() for job in open_ones)

        with self._changed:
            self._changed.wait_for(settled)

    def _watch(self) -> None:
        """Start what may start and end what took too long, until nothing waits or runs."""
        while True:
            with self._changed:
                now = time.monotonic()
                overdue = [job for job in self._running if job.deadline <= now]
                self._running = [job for job in self._running if job not in overdue]
                self._mark_slow(now)
                if job := self._next():
                    threading.Thread(target=self._work, args=(job,), name=f"import {job.name}", daemon=True).start()
                elif not overdue:
                    if not self._running:
                        self._watched = False
                        return
                    self._changed.wait(self._until_next_look(now))
            # Outside the lock: a future's callbacks run here, and are not ours.
            for late in overdue:
                late.expire()

    def _mark_slow(self, now: float) -> None:
        for job in self._running:
            if not job.slow and now - job.started >= self.patience:
                job.slow = True
                self._changed.notify_all()

    def _next(self) -> _Import | None:
        """Take the next import if it is its turn; called with the lock held."""
        while self._waiting and all(job.slow for job in self._running):
            job = self._waiting.popleft()
            if job.begin():
                self._running.append(job)
                return job
        return None

    def _until_next_look(self, now: float) -> float | None:
        looks = [job.deadline for job in self._running]
        looks += [job.started + self.patience for job in self._running if not job.slow]
        earliest = min(looks)
        return None if earliest == float("inf") else max(0.0, earliest - now)

    def _work(self, job: _Import | None) -> None:
        """Run an import and, as long as none is quicker, the ones after it: a thread for each would cost 0.1 ms."""
        while job is not None:
            threading.current_thread().name = f"import {job.name}"
            job.run()
            with self._changed:
                if job in self._running:
                    self._running.remove(job)
                job = self._next()
                self._changed.notify_all()


class _Import:
    """One import: what to run, whom to blame, since when it runs."""

    def __init__(self, blame: Blame, load: Callable[[], Any], timeout: float | None) -> None:
        self.name = blame.subject
        self.future: Future[Any] = Future()
        self.started = 0.0
        self.deadline = float("inf")
        self.slow = False
        self._blame = blame
        self._load = load
        self._timeout = timeout

    def begin(self) -> bool:
        """Start the clock; false if whoever asked has cancelled."""
        self.started = time.monotonic()
        if self._timeout is not None:
            self.deadline = self.started + self._timeout
        return self.future.set_running_or_notify_cancel()

    def run(self) -> None:
        result, failure = None, None
        try:
            result = self._load()
        except LoadError as error:
            failure = error.with_traceback(None)
        except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit included
            failure = self._blame.error(error)
        # An import that was given up as overdue has its answer already.
        with suppress(InvalidStateError):
            if failure is not None:
                self.future.set_exception(failure)
            else:
                self.future.set_result(result)

    def expire(self) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(self._blame.error(f"import took over {self._timeout:g}s"))


def import_object(text: str, base_dir: Path | None = None, *, blame: Blame | None = None) -> Any:
    """Import and return what `text` names: `module:attribute.path`, or `file.py:attribute` relative to `base_dir`.

    `base_dir` (or the file's own folder) comes first on `sys.path` while the import runs, as for a script, and stays on
    it, last, for imports inside functions. Without `base_dir` only installed modules are found. A file becomes a module
    with a name made of its path, so that two `app.py` are two modules. Raises `LoadError` in the words of `blame`, and
    nothing else: for text of another form, a missing module, file or attribute (naming the nearest one), and for
    whatever the import itself raises.
    """
    blame = blame or Blame(repr(text))
    where, _, attribute = (part.strip() for part in text.rpartition(":"))
    is_file = where.endswith(".py")
    if not MODULE_PATH.fullmatch(attribute) or not (is_file or MODULE_PATH.fullmatch(where)):
        complete = f"{text.strip()}:agent"
        near = f"did you mean {complete!r}?" if ":" not in text and text.strip() else ""
        raise blame.error(f"{text!r} is not of the form module:attribute or file.py:attribute", near)
    if not is_file:
        module = load_module(where, base_dir, blame)
    elif base_dir is None:
        raise blame.error(f"{text!r} names a file, where only module:attribute is possible")
    else:
        module = _import_file(where, base_dir, blame)
    return _attribute(module, where, attribute, blame)


def load_module(name: str, folder: Path | None, blame: Blame) -> ModuleType:
    """Import and return module `name`, with `folder` first on `sys.path` meanwhile; raises `LoadError` and no other."""
    failure: LoadError
    try:
        with _first_on_path(folder):
            return importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit included
        absent = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        # The same name can be missing to the module's own code; then frames of that code are in the traceback.
        failure = _missing(name, folder, blame) if absent and not plugin_frames(error) else blame.error(error)
    raise failure


def _import_file(where: str, base_dir: Path, blame: Blame) -> ModuleType:
    path = base_dir / where
    if not path.is_file():
        beside = [found.name for found in path.parent.glob("*.py")] if path.parent.is_dir() else []
        inside = "" if Path(where).is_absolute() else f" in {base_dir}"
        raise blame.error(f"there is no file {where!r}{inside}", did_you_mean(path.name, beside))
    path = path.resolve()
    stem = re.sub(r"\W", "_", path.stem)
    name = f"agenthost_file_{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    _FILES.paths[name] = path
    if _FILES not in sys.meta_path:
        sys.meta_path.append(_FILES)
    return load_module(name, path.parent, blame)


class _Files(MetaPathFinder):
    """Finds files by the names given to them here, so that importlib's own locks and clean-up hold for them too."""

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        file = self.paths.get(fullname)
        return spec_from_file_location(fullname, file) if file else None


_FILES = _Files()


@contextmanager
def _first_on_path(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        # The module may have replaced or emptied sys.path.
        with suppress(ValueError):
            sys.path.remove(entry)
        if entry not in sys.path:
            sys.path.append(entry)


def _missing(name: str, folder: Path | None, blame: Blame) -> LoadError:
    """Say which part of a dotted name is not there."""
    parent, _, leaf = name.rpartition(".")
    package = sys.modules.get(parent)
    reinstall = f"pip install --force-reinstall {blame.distribution}" if blame.distribution else ""
    if package is not None and not hasattr(package, "__path__"):
        return blame.error(f"there is no module {name!r}: {parent!r} is a module, not a package", reinstall)
    if package is not None:
        siblings = _names_in([Path(entry) for entry in package.__path__])
        return blame.error(f"package {parent!r} has no module {leaf!r}", did_you_mean(leaf, siblings) or reinstall)
    top = name.partition(".")[0]
    near = reinstall or did_you_mean(top, _names_in([folder] if folder else []))
    return blame.error(f"there is no module {top!r}", near or f"pip install the distribution that has module {top!r}")


def _names_in(folders: Collection[Path]) -> list[str]:
    files = [found for folder in folders if folder.is_dir() for found in folder.iterdir()]
    return [found.stem for found in files if found.suffix == ".py" or (found / "__init__.py").is_file()]


def _attribute(module: ModuleType, where: str, path: str, blame: Blame) -> Any:
    value: Any = module
    owner = f"file {where!r}" if where.endswith(".py") else f"module {where!r}"
    for part in path.split("."):
        failure = None
        try:
            value = getattr(value, part)
        except BaseException as error:  # noqa: BLE001 - a module's __getattr__ may raise anything
            absent = isinstance(error, AttributeError) and error.name in {part, None}
            near = did_you_mean(part, [name for name in vars(module) if not name.startswith("_")])
            failure = blame.error(f"{owner} has no attribute {part!r}", near) if absent else blame.error(error)
        if failure is not None:
            raise failure
        owner = f"{part!r} in {owner}"
    return value
