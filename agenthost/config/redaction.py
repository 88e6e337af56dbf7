"""Configuration that may be shown to strangers: as it was written, without what is secret."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agenthost.config.problems import key_text
from agenthost.config.secret_names import is_secret

HIDDEN = "***"
"""What stands for a secret."""

LONGEST = 120
"""Characters of a string that are shown: instructions to a model may be long, and nobody else's business."""

SHORTEST = 6
"""Characters of the shortest secret that is looked for in other texts; a shorter one stands in too many words."""

_MORE_NAMES = re.compile("cookie|credential", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOGIN = re.compile(r"(?<=://)\S*@")
_PARAMETER = re.compile(r"(?<=[?&;])([A-Za-z0-9_.-]+)=([^&;#\s'\"]+)")
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-|ghp_|gho_|github_pat_|glpat-|xox[a-z]-|ah_|AKIA|AIza|eyJ)[A-Za-z0-9_.-]{12,}"
    r"|(?<=Bearer )\S+|(?<=Basic )\S{8,}"
)
"""How the keys of well-known services begin, wherever they were put."""


class Redactor:
    """Hides secrets: those it is told, those it has hidden once, and what has the looks of one."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        self._secrets = {secret for secret in secrets if len(secret) >= SHORTEST}

    def text(self, text: str) -> str:
        """The text without secrets, and with nothing that UTF-8 cannot carry."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        text = _LOGIN.sub(f"{HIDDEN}@", text)
        text = _PARAMETER.sub(lambda found: f"{found[1]}={HIDDEN}" if _named_secret(found[1]) else found[0], text)
        return _SHAPES.sub(HIDDEN, text).encode(errors="backslashreplace").decode()

    def tree(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of a table as TOML gave it, of JSON's types.

        Under a key named like a secret nothing is left but which variable or file holds it. Value forms are not
        resolved. Long strings are cut.
        """
        return {self.text(name): self._value(name, value, _named_secret(name)) for name, value in tree.items()}

    def _value(self, name: str, value: Any, secret: bool) -> Any:
        if isinstance(value, Mapping):
            form = secret and any(isinstance(value.get(key), str) for key in ("env", "file"))
            return {
                self.text(inner): item
                if form and _names_a_place(inner, item)
                else self._value(inner, item, secret or _named_secret(inner))
                for inner, item in value.items()
            }
        if isinstance(value, list):
            return [self._value(name, item, secret) for item in value]
        if isinstance(value, bool):
            return value
        if secret and value != "" and not (isinstance(value, int | float) and "token" in name.lower()):
            return self._hide(str(value))
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        return _shortened(self.text(str(value)))

    def _hide(self, secret: str) -> str:
        if len(secret) >= SHORTEST:
            self._secrets.add(secret)
        return HIDDEN


def _named_secret(name: str) -> bool:
    return is_secret(name) or _MORE_NAMES.search(name) is not None or name.lower() == "sha256"


def _names_a_place(key: str, value: Any) -> bool:
    """Whether this part of a value form only says where the secret is: some write the secret itself there."""
    if not isinstance(value, str):
        return False
    return key == "file" or (key == "env" and _VARIABLE.fullmatch(value) is not None)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def as_lines(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[str]:
    """Every value of a table of JSON's types on a line of its own, with the dotted key that leads to it."""
    for name, value in tree.items():
        keys = (*above, key_text(name))
        if isinstance(value, Mapping) and value:
            yield from as_lines(value, keys)
        else:
            yield f"{'.'.join(keys)} = {json.dumps(value, ensure_ascii=False)}"
