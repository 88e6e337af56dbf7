"""What a paused run asks, put to a person on a terminal: options to choose, fields to fill in, or free text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from agenthost.cli.calling import as_text, properties_of
from agenthost.cli.terminal import complain, harmless
from agenthost.client import Interrupt

with suppress(ImportError):  # a Python that was built without it reads lines as they come
    import readline  # noqa: F401 - importing it gives `input` its editing and its history

ReadLine = Callable[[str], str]
"""Shows a prompt and returns a line without its end; raises `EOFError` where there is no more."""

_WORDS = {"true": True, "yes": True, "y": True, "false": False, "no": False, "n": False}
_TYPES = {"integer": int, "number": int | float, "boolean": bool, "array": list, "object": dict, "null": type(None)}
_MISSING: Any = object()


def read_line(prompt: str) -> str:
    """A line from stdin; a prompt is shown to people only, and never on a stdout that is no terminal."""
    prompt = harmless(prompt)
    if sys.stdin.isatty() and sys.stdout.isatty():
        return input(prompt)
    if sys.stdin.isatty():
        click.echo(prompt, nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def ask(interrupt: Interrupt, read: ReadLine = read_line) -> Any:
    """Put one question and return the answer. Raises `EOFError` where nobody answers."""
    complain(interrupt.question)
    if interrupt.options:
        return _choice(interrupt.options, read)
    if interrupt.fields:
        return _filled_in(interrupt.fields, read)
    return read("answer> ")


def answered(interrupts: Sequence[Interrupt], read: ReadLine = read_line) -> dict[str, Any]:
    """Put the questions one after the other; returns what `Client.resume` takes to answer them together."""
    if len(interrupts) == 1:
        return {"interrupt_id": interrupts[0].interrupt_id, "response": ask(interrupts[0], read)}
    answers = [{"interrupt_id": one.interrupt_id, "response": ask(one, read)} for one in interrupts]
    return {"answers": answers}


def _choice(options: Sequence[Any], read: ReadLine) -> Any:
    for number, option in enumerate(options, 1):
        complain(f"  {number}  {as_text(option)}")
    while True:
        typed = read("answer> ").strip()
        with suppress(ValueError):
            return _named(typed, options)
        if typed.isdecimal() and 1 <= int(typed) <= len(options):
            return options[int(typed) - 1]
        complain(f"choose one of them, by its number or as it is written: {', '.join(map(as_text, options))}")


def _filled_in(schema: Mapping[str, Any], read: ReadLine) -> Any:
    """An answer to a JSON Schema: an object's properties one by one, anything else as one value."""
    properties = properties_of(schema)
    if not properties:
        return _field("answer", schema, True, read)
    required = schema.get("required") or ()
    values = {
        name: _field(name, wanted if isinstance(wanted, Mapping) else {}, name in required, read)
        for name, wanted in properties.items()
    }
    return {name: value for name, value in values.items() if value is not _MISSING}


def _field(name: str, schema: Mapping[str, Any], required: bool, read: ReadLine) -> Any:
    default = schema.get("default", _MISSING)
    while True:
        typed = read(f"{_label(name, schema, required)}> ")
        if not typed.strip() and default is not _MISSING:
            return default
        if not typed.strip() and not required:
            return _MISSING
        with suppress(ValueError):
            return _value(typed, schema)
        complain(f"{name}: {_wanted(schema)}, please")


def _label(name: str, schema: Mapping[str, Any], required: bool) -> str:
    said = schema.get("description") or schema.get("title")
    notes = [str(said)] if said else []
    if schema.get("enum"):
        notes.append(" | ".join(map(as_text, schema["enum"])))
    if "default" in schema:
        notes.append(f"empty for {as_text(schema['default'])}")
    elif not required:
        notes.append("may be empty")
    return f"{name} ({'; '.join(notes)})" if notes else name


def _value(typed: str, schema: Mapping[str, Any]) -> Any:
    """What was typed, as the schema's type; raises `ValueError` where it is not of it."""
    if schema.get("enum"):
        return _named(typed.strip(), schema["enum"])
    kind = schema.get("type")
    if kind == "string":
        return typed
    if kind == "boolean" and typed.strip().lower() in _WORDS:
        return _WORDS[typed.strip().lower()]
    try:
        value = json.loads(typed, parse_constant=_no_number)
    except ValueError:
        if kind is None:
            return typed
        raise
    wanted = _TYPES.get(str(kind))
    if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean")):
        raise ValueError(kind)
    return value


def _named(typed: str, options: Sequence[Any]) -> Any:
    """The option that is written so; raises `ValueError` where there is none."""
    for option in options:
        if typed == as_text(option):
            return option
    raise ValueError(typed)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _wanted(schema: Mapping[str, Any]) -> str:
    if schema.get("enum"):
        return "one of " + ", ".join(map(as_text, schema["enum"]))
    kind = str(schema.get("type", "JSON"))
    return {"boolean": "yes or no", "integer": "a whole number", "number": "a number"}.get(kind, f"JSON ({kind})")
