"""Values that stand elsewhere: `{ env = "X", default = "…" }` and `{ file = "…" }` become strings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agenthost.config.lines import Keys
from agenthost.config.problems import Problems, place, quoted_key
from agenthost.config.values import Given, shown

LARGEST_FILE = 1 << 16
"""Bytes that a `{ file = "…" }` may hold."""

_VARIABLE = re.compile(r"[!-<>-~]{1,200}")
_GONE = object()


class Forms:
    """Resolves value forms; `failed` collects the keys of those that could not be, each noted in `problems`.

    `files` are those that were looked into.
    """

    def __init__(self, base_dir: Path, environ: Mapping[str, str], problems: Problems) -> None:
        self.base_dir = base_dir
        self.environ = environ
        self.problems = problems
        self.failed: set[Keys] = set()
        self.files: set[Path] = set()

    def table(self, raw: Mapping[str, Any], keys: Keys, *, tables: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return `raw` with its values resolved, without the keys that could not be.

        `raw` itself is no form, whatever its keys are called, and neither are the values of the keys in `tables`.
        """
        found: dict[str, Any] = {}
        for name, value in raw.items():
            here = (*keys, name)
            if name in tables and isinstance(value, dict):
                found[name] = self.table(value, here)
            elif (resolved := self._value(value, here)) is not _GONE:
                found[name] = resolved
        return found

    def _value(self, value: Any, keys: Keys) -> Any:
        if isinstance(value, list):
            items = [self._value(item, (*keys, position)) for position, item in enumerate(value)]
            return _GONE if any(item is _GONE for item in items) else items
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("env"), str) and value.keys() <= {"env", "default"}:
            return self._variable(value, keys)
        if isinstance(value.get("file"), str) and value.keys() == {"file"}:
            return self._file(value["file"], keys)
        inner = self.table(value, keys)
        return inner if len(inner) == len(value) else _GONE

    def _variable(self, form: Mapping[str, Any], keys: Keys) -> Any:
        """An empty variable is set: only one that is absent takes the default."""
        variable, default = form["env"], form.get("default")
        if not isinstance(default, str | None):
            return self._fail(keys, "the default of { env } must be a string")
        if not _VARIABLE.fullmatch(variable):
            return self._fail(keys, f"{quoted_key(variable)} cannot name an environment variable")
        value = self.environ.get(variable, default)
        if value is None:
            return self._fail(keys, f"environment variable {variable} is not set; set it, or give {{ env, default }}")
        return self._given(f"environment variable {variable}", value, keys)

    def _file(self, name: str, keys: Keys) -> Any:
        """The text of a file, without the newlines at its end."""
        try:
            path = self.base_dir / name
            self.files.add(path)
            with path.open("rb") as file:
                raw = file.read(LARGEST_FILE + 1)
        except OSError as error:
            return self._fail(keys, f"file {shown(name)} cannot be read: {error.strerror}")
        except ValueError:
            return self._fail(keys, f"file {shown(name)} cannot be read: not a path")
        if len(raw) > LARGEST_FILE:
            return self._fail(keys, f"file {shown(name)} is larger than {LARGEST_FILE} bytes")
        return self._given(f"file {shown(name)}", raw.decode("utf-8", "surrogateescape").rstrip("\r\n"), keys)

    def _given(self, source: str, value: str, keys: Keys) -> Any:
        try:
            value.encode()
        except UnicodeEncodeError:
            return self._fail(keys, f"{source} is not UTF-8")
        return Given.by(source, value)

    def _fail(self, keys: Keys, what: str) -> Any:
        self.failed.add(keys)
        self.problems.add(keys, f"{place(keys)}: {what}")
        return _GONE
