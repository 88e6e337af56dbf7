"""What a single value may be: text, numbers, durations, sizes, addresses; each kind says what it wanted instead."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, SecretStr

from agenthost.config.problems import nearest

DURATION_FORMS = '"500ms", "30s", "10m", "1h30m", "7d" or a number of seconds'
SIZE_FORMS = '"512B", "64kB", "10MiB", "1GiB" or a number of bytes'
NAME_RULE = "use a-z, 0-9 and '-', at most 63 characters, not '-' first"
SHORTEST_KEY = 16
"""Bytes of the shortest key a caller may prove itself with."""

_LONGEST_DURATION = 36_500 * 86_400.0
_LARGEST_SIZE = 1 << 62
_SECONDS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit}(?![a-z]))?" for unit in _SECONDS))
_SIZE = re.compile(rf"([0-9]{{1,15}})({'|'.join(_BYTES)})")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AGENT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_AGENT_PATTERN = re.compile(r"[a-z0-9*?\[\]!-]{1,63}")
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_BIND_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,255}")
_HOST = r"(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?"
_HOST_HEADER = re.compile(_HOST)
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://{_HOST}")
_PUBLIC_URL = re.compile(rf"(https?://{_HOST})((?:/[^\s?#]*)?)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SENDABLE = re.compile(r"[!-~]+")

_TYPE_NAMES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a float"),
    (str, "a string"),
    ((list, tuple), "an array"),
    (dict, "a table"),
    (datetime, "a date-time"),
    (date, "a date"),
    (time, "a time"),
)


class Given(str):
    """A string that came from outside the file; `source` says from where, and stands for it wherever it is shown."""

    __slots__ = ("source",)
    source: str

    @classmethod
    def by(cls, source: str, value: str) -> Given:
        """Make `value` a string that knows where it came from."""
        given = cls(value)
        given.source = source
        return given


@dataclass(frozen=True, slots=True)
class Kind:
    """How the reference calls a kind of value."""

    name: str


def type_name(value: object) -> str:
    """What TOML calls the type of `value`, with its article."""
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), type(value).__name__)


def shown(value: object) -> str:
    """`value` in a sentence: as written, shortened; what came from outside the file is never shown."""
    if isinstance(value, Given):
        return f"the value of {value.source}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def expected(what: str, value: object) -> ValueError:
    """The error for a value of the wrong type, which is named without its value."""
    forms = '; write the value, { env = "X", default = "…" } or { file = "…" }' if isinstance(value, dict) else ""
    return ValueError(f"expected {what}, got {type_name(value)}{forms}")


def plain(value: Any) -> Any:
    """`value` with strings that know no longer where they came from."""
    if isinstance(value, Given):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def text(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise expected("a string", value)
    return str(value)


def name(value: object) -> str:
    """A string that is not blank."""
    if not text(value).strip():
        raise ValueError("expected a name, got an empty string")
    return text(value)


def flag(value: object) -> bool:
    """`true` or `false`, or that word from outside the file."""
    if isinstance(value, Given) and value in {"true", "false"}:
        return value == "true"
    if isinstance(value, Given):
        raise ValueError(f"expected true or false, which {shown(value)} is not")
    if not isinstance(value, bool):
        raise expected("true or false", value)
    return value


def whole(low: int, high: int | None = None) -> Callable[[object], int]:
    """A whole number between two bounds, or digits that came from outside the file."""
    what = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"

    def check(value: object) -> int:
        if isinstance(value, Given) and re.fullmatch(r"[0-9]{1,18}", value):
            number = int(value)
        elif isinstance(value, Given):
            raise ValueError(f"expected {what}, which {shown(value)} is not")
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            raise expected(what, value)
        if number < low or (high is not None and number > high):
            raise ValueError(f"expected {what}, which {shown(value)} is not")
        return number

    return check


def duration(value: object) -> float:
    """Seconds: `"1h30m"`, largest unit first, or a number."""
    seconds = math.nan
    if isinstance(value, str) and value and (found := _DURATION.fullmatch(value)):
        seconds = sum(int(count) * unit for count, unit in zip(found.groups(), _SECONDS.values(), strict=True) if count)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    elif not isinstance(value, str):
        raise expected("a duration", value)
    if not 0 <= seconds <= _LONGEST_DURATION:
        raise ValueError(f"{shown(value)} is not a duration; write {DURATION_FORMS}")
    return float(seconds)


def some_time(value: object) -> float:
    """A duration that is not zero."""
    seconds = duration(value)
    if not seconds:
        raise ValueError("expected a duration of more than 0")
    return seconds


def size(value: object) -> int:
    """Bytes: `"10MiB"` or a number; at least 1."""
    count = 0
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        count = int(found[1]) * _BYTES[found[2]]
    elif isinstance(value, int) and not isinstance(value, bool):
        count = value
    elif not isinstance(value, str):
        raise expected("a size", value)
    if not 1 <= count <= _LARGEST_SIZE:
        raise ValueError(f"{shown(value)} is not a size; write {SIZE_FORMS}")
    return count


def array(value: object) -> tuple[object, ...]:
    """An array, of anything."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected an array, got {type_name(value)}")
    return tuple(value)


def table(value: object) -> dict[str, Any]:
    """A table, of anything; its strings no longer know where they came from."""
    if not isinstance(value, dict):
        raise expected("a table", value)
    return {key: plain(item) for key, item in value.items()}


def variables(value: object) -> dict[str, str]:
    """Environment variables: a table of strings, which no longer know where they came from."""
    if not isinstance(value, dict):
        raise expected("a table of strings", value)
    for key, item in value.items():
        if not _VARIABLE.fullmatch(key):
            raise ValueError(f"{shown(key)} cannot name an environment variable")
        if not isinstance(item, str):
            raise ValueError(f"{key}: expected a string, got {type_name(item)}")
        if "\0" in item:
            raise ValueError(f"{key}: an environment variable holds no NUL")
    return {key: str(item) for key, item in value.items()}


def inner_table(value: object) -> object:
    """A table with keys of its own, or what code made of one already."""
    if not isinstance(value, dict | BaseModel):
        raise ValueError(f"expected a table, got {type_name(value)}")
    return value


def requirement(value: object) -> str:
    """One line of a requirements file: a requirement, a path, or `-e` and a path."""
    line = text(value)
    if not line.strip():
        raise ValueError("expected a requirement, got an empty string")
    if not line.isprintable():
        raise ValueError(f"{shown(value)} is not one line")
    if line.startswith("#") or (line.startswith("-") and not line.startswith("-e ")):
        raise ValueError(
            f'{shown(value)} is no requirement; write "acme-billing==2.1", "./folder" or "-e ./folder"; '
            "options are for uv's own settings (UV_INDEX, uv.toml)"
        )
    return line.strip()


def requirements(value: object) -> tuple[object, ...]:
    """An array that is not empty."""
    if not (items := array(value)):
        raise ValueError("expected at least one requirement")
    return items


def choice(*words: str) -> Callable[[object], str]:
    """One of a few words; a near miss is told which was meant."""

    def check(value: object) -> str:
        if (word := text(value)) in words:
            return word
        told = f"{shown(value)} is not one of {', '.join(repr(known) for known in words)}"
        meant = nearest(word, words)
        raise ValueError(f"{told}; did you mean {meant!r}?" if meant and not isinstance(value, Given) else told)

    return check


def spelled(pattern: re.Pattern[str], problem: str, *, lower: bool = False) -> Callable[[object], str]:
    """Text that `pattern` matches whole; `problem` ends the sentence about one that it does not match."""

    def check(value: object) -> str:
        word = text(value).lower() if lower else text(value)
        if not pattern.fullmatch(word):
            raise ValueError(f"{shown(value)} {problem}")
        return word

    return check


def agent_name_problem(word: str) -> str | None:
    """Say why no agent can be called `word`, with the nearest name that one can have, or None if it is a good name."""
    if _AGENT_NAME.fullmatch(word):
        return None
    better = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:63].rstrip("-")
    return f"is not a name for an agent: {NAME_RULE}" + (f"; {better!r} would do" if better else "")


def origin(value: object) -> str:
    """A web origin, made lower-case; `*` is refused."""
    if text(value) == "*":
        raise ValueError("'*' is refused, because requests carry credentials; name each origin")
    return spelled(_ORIGIN, 'is not an origin; write "https://app.example.com"', lower=True)(value)


def public_url(value: object) -> str:
    """An absolute URL without its last slash, or empty."""
    found = _PUBLIC_URL.fullmatch(text(value))
    if value and not found:
        raise ValueError(f'{shown(value)} is not an absolute URL; write "https://agents.example.com/path"')
    return found[1].lower() + found[2].rstrip("/") if found else ""


def network(value: object) -> str:
    """An IP address or network, as it was written."""
    try:
        ipaddress.ip_network(text(value), strict=False)
    except ValueError as error:
        if not isinstance(value, str):
            raise
        raise ValueError(f'{shown(value)} is not an address or network; write "10.0.0.7" or "10.0.0.0/8"') from error
    return str(value)


def store_url(value: object) -> str:
    """`memory:`, or `sqlite:///` and a path."""
    if text(value) != "memory:" and not re.fullmatch(r"sqlite:///[^\x00\s?#][^\x00?#]*", text(value)):
        raise ValueError(f'{shown(value)} is not supported; write "sqlite:///agenthost.db" or "memory:"')
    return text(value)


def principal(value: object) -> str:
    """Who a key stands for: 1 to 200 printable characters, none of them blank at either end."""
    word = text(value)
    if not 0 < len(word) <= 200 or not word.isprintable() or word != word.strip():
        raise ValueError(f"{shown(value)} is not a principal; use 1 to 200 printable characters")
    return word


def key_secret(value: object) -> SecretStr:
    """A key as callers send it. Raises `ValueError` for one that is empty, short, or cannot stand in a header."""
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise ValueError(
            f"expected a string, got {type_name(value)}; "
            'write { env = "X" }, { file = "…" } or { sha256 = "…" } from `agenthost keys new`'
        )
    remedy = "`agenthost keys new ID` makes a good one"
    if not value:
        raise ValueError(f"the key is empty; {remedy}")
    if not _SENDABLE.fullmatch(value):
        raise ValueError(f"the key has characters that no header can carry; {remedy}")
    if len(value) < SHORTEST_KEY:
        raise ValueError(f"the key is shorter than {SHORTEST_KEY} bytes; {remedy}")
    return SecretStr(str(value))


def sha256(value: object) -> str:
    """64 hex digits, made lower-case; what is none may be the key itself, so it is not shown."""
    digest = text(value).lower()
    if not _SHA256.fullmatch(digest):
        raise ValueError("expected 64 hex digits, as `agenthost keys new ID` prints them")
    return digest


_host_value = spelled(_HOST_HEADER, 'is not a Host value; write "agents.example.com" or "10.0.0.7:8000"', lower=True)
_pattern = spelled(_AGENT_PATTERN, "is not an agent's name or a pattern like 'risk-*'")
_key_id = spelled(_KEY_ID, "is not a key id; use letters, digits, '.', '_' and '-', at most 63")

Text = Annotated[str, BeforeValidator(text), Kind("string")]
Name = Annotated[str, BeforeValidator(name), Kind("string")]
Flag = Annotated[bool, BeforeValidator(flag), Kind("boolean")]
Port = Annotated[int, BeforeValidator(whole(0, 65535)), Kind("integer")]
Count = Annotated[int, BeforeValidator(whole(1)), Kind("integer")]
CountOrZero = Annotated[int, BeforeValidator(whole(0)), Kind("integer")]
Duration = Annotated[float, BeforeValidator(duration), Kind("duration")]
SomeTime = Annotated[float, BeforeValidator(some_time), Kind("duration")]
Size = Annotated[int, BeforeValidator(size), Kind("size")]
Table = Annotated[dict[str, Any], BeforeValidator(table), Kind("table")]
Variables = Annotated[dict[str, str], BeforeValidator(variables), Kind("table of strings")]
Workers = Annotated[int, BeforeValidator(whole(1, 64)), Kind("integer")]
StoreUrl = Annotated[str, BeforeValidator(store_url), Kind("string")]
PublicUrl = Annotated[str, BeforeValidator(public_url), Kind("string")]
BindHost = Annotated[str, BeforeValidator(spelled(_BIND_HOST, "is not a host name or an address")), Kind("string")]
KeyId = Annotated[str, BeforeValidator(_key_id), Kind("string")]
Principal = Annotated[str, BeforeValidator(principal), Kind("string")]
KeySecret = Annotated[SecretStr, BeforeValidator(key_secret), Kind("value form")]
Sha256 = Annotated[str, BeforeValidator(sha256), Kind("string")]

_ARRAY = (BeforeValidator(array), Kind("array of strings"))
Names = Annotated[tuple[Name, ...], *_ARRAY]
Patterns = Annotated[tuple[Annotated[str, BeforeValidator(_pattern)], ...], *_ARRAY]
Requirements = Annotated[
    tuple[Annotated[str, BeforeValidator(requirement)], ...],
    BeforeValidator(requirements),
    Kind("array of strings"),
]
Hosts = Annotated[tuple[Annotated[str, BeforeValidator(_host_value)], ...], *_ARRAY]
Origins = Annotated[tuple[Annotated[str, BeforeValidator(origin)], ...], *_ARRAY]
Networks = Annotated[tuple[Annotated[str, BeforeValidator(network)], ...], *_ARRAY]
