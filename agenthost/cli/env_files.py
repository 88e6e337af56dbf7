"""The `.env` files that `agenthost dev` reads: beside agents.toml and beside agents, never over what is set already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from dotenv.main import DotEnv
from dotenv.parser import parse_stream

from agenthost.config import Config
from agenthost.config.loading import shown_path
from agenthost.config.secret_names import is_secret
from agenthost.errors import StartError

NAME = ".env"

REMEDY = "correct it, or remove it"


class EnvFiles:
    """Reads `.env` files into `environ`; a variable that is set there stays as it is, so the first to set one wins.

    All agents of a process share its environment, so what stands beside one of them is there for the others as well.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._read: dict[Path, dict[str, str]] = {}
        self._known: dict[Path, bytes] = {}

    def beside(self, file: Path) -> None:
        """Read the `.env` in the folder of `file`, if there is one; raises as `read` does."""
        path = file.absolute().parent / NAME
        self._known.setdefault(path, _bytes(path))
        if path.is_file():
            self.read(path)

    def read(self, path: Path) -> None:
        """Read one file, whatever its name, unless it has been read.

        Raises `StartError` for one that cannot be read, naming the line that is no assignment.
        """
        if path in self._read:
            return
        self._known.setdefault(path, _bytes(path))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as raised:
            raise StartError(f"{shown_path(path)} cannot be read: {raised}", hint=REMEDY) from raised
        wrong = _no_assignment(text)
        if wrong is not None:
            raise StartError(f"{shown_path(path)}:{wrong} is not of the form NAME=value", hint=REMEDY)
        found = DotEnv(None, StringIO(text), override=False).dict()  # what is set goes first in ${…} as well
        self.take({name: value for name, value in found.items() if value is not None}, path)

    def take(self, found: Mapping[str, str], path: Path) -> None:
        """Take variables that were found in the file `path`, whatever kind of file it is."""
        before = self._read.get(path, {})
        free = {name: value for name, value in found.items() if name in before or name not in self._environ}
        new = {name: value for name, value in free.items() if "\0" not in name + value}
        self._environ.update(new)
        self._read[path] = new

    @property
    def looked_for(self) -> frozenset[Path]:
        """The files that were read, or would have been if they were there."""
        return frozenset(tuple(self._known))

    @contextmanager
    def again(self) -> Iterator[None]:
        """Have files read inside `with` as they are now, also those that were read; if that raises, all is as it was.

        Where none of them has changed, no variable is ever gone meanwhile.
        """
        if all(_bytes(path) == known for path, known in self._known.items()):
            yield
            return
        before, self._read = self._read, {}
        known, self._known = self._known, {path: _bytes(path) for path in self._known}
        taken = {
            name: self._environ.pop(name) for values in before.values() for name in values if name in self._environ
        }
        try:
            yield
        except BaseException:
            for values in self._read.values():
                for name in values:
                    self._environ.pop(name, None)
            self._read, self._known = before, known
            self._environ.update(taken)
            raise

    def beside_agents(self, config: Config) -> None:
        """Read those in the folders of the files that agents are named by (`use = "team/app.py:graph"`)."""
        for agent in config.agents.values():
            file, colon, _attribute = (agent.use or "").rpartition(":")
            if colon and file.endswith(".py") and agent.enabled:
                self.beside(config.base_dir / file)

    def secrets(self) -> frozenset[str]:
        """The values that came from a file under a name like a secret's, to be scrubbed from logs."""
        read = (pair for values in self._read.values() for pair in values.items())
        return frozenset(value for name, value in read if value and is_secret(name))

    def __str__(self) -> str:
        """What was read, for people: `.env: REGION, OPENAI_API_KEY`."""
        return "; ".join(
            f"{shown_path(path)}: {', '.join(names) or 'nothing that is not set already'}"
            for path, names in self._read.items()
        )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _no_assignment(text: str) -> int | None:
    """The first line that is neither an assignment, a comment nor blank; from 1."""
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            given = binding.original.string
            return binding.original.line + given[: len(given) - len(given.lstrip())].count("\n")
    return None
