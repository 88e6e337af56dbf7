"""What is wrong with agents.toml, collected until everything was looked at, then told one line per problem."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable
from functools import cached_property

from agenthost.config.lines import Keys, key_lines
from agenthost.errors import ConfigError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 60


class Problems:
    """The problems of one file: `shown` is its name as people know it, `text` what it holds."""

    def __init__(self, shown: str, text: str) -> None:
        self.shown = shown
        self.text = text
        self._found: list[tuple[Keys | None, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, keys: Keys, message: str) -> None:
        """Note a problem of the table or key at `keys`; `message` starts with what `place` gives."""
        self._found.append((keys, message))

    def add_outside(self, message: str) -> None:
        """Note a problem that stands in no line of the file."""
        self._found.append((None, message))

    def raise_any(self, files: Collection[str] = ()) -> None:
        """Raise `ConfigError` with every problem in the order of the file, if there are any; it names `files`."""
        if self._found:
            ordered = sorted(self._found, key=lambda problem: self._line(problem[0]))
            raise ConfigError(*dict.fromkeys(self._told(keys, message) for keys, message in ordered), named=files)

    def _told(self, keys: Keys | None, message: str) -> str:
        if keys is None:
            return message
        line = self._line(keys)
        return f"{self.shown}:{line}: {message}" if line else f"{self.shown}: {message}"

    def _line(self, keys: Keys | None) -> int:
        """The line of `keys`, or of the nearest table around it; 0 where there is none."""
        around = keys or ()
        while around and around not in self._lines:
            around = around[:-1]
        return self._lines.get(around, 0)

    @cached_property
    def _lines(self) -> dict[Keys, int]:
        """Read on the first problem only: a good file is not scanned."""
        try:
            return key_lines(self.text)
        except (ValueError, RecursionError):
            return {}  # a text the scanner cannot follow costs the line numbers, never the problems


def place(keys: Keys) -> str:
    """Say where a key stands: `[server] port`, `[agents.echo] settings.api_key`, `[[auth.keys]] secret`."""
    if keys[:2] == ("auth", "keys") and len(keys) > 2:
        return " ".join(["[[auth.keys]]", *_dotted(keys[3:])])
    depth = 2 if keys[0] == "agents" and len(keys) > 1 else 1
    table = ".".join(key_text(key) for key in keys[:depth])
    return " ".join([f"[{table}]", *_dotted(keys[depth:])])


def _dotted(keys: Keys) -> list[str]:
    """The keys as one word, positions in arrays left out: the line says which item it is."""
    names = [key_text(key) for key in keys if isinstance(key, str)]
    return [".".join(names)] if names else []


def key_text(key: str | int) -> str:
    """A key as TOML writes it, shortened: one line and harmless on a terminal, whatever is in it."""
    text = str(key)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text if _BARE.fullmatch(text) else json.dumps(text)


def quoted_key(key: str) -> str:
    """A key in quotes, for a sentence about it."""
    text = key_text(key)
    return text if text.startswith('"') else f"'{text}'"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` was most likely meant to be, or None; case and `-` or `_` do not count."""
    folded = {_fold(name): name for name in known}
    found = difflib.get_close_matches(_fold(word[:_LONGEST]), folded, n=1)
    return folded[found[0]] if found else None


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")
