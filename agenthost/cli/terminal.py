"""Text on a terminal: nothing that came from elsewhere moves the cursor, colours are for terminals only."""

from __future__ import annotations

import re

import click

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The text with control and direction characters spelled out, newlines and tabs as they are."""
    return _UNSAFE.sub(lambda found: repr(found.group())[1:-1], text)


def say(text: str = "", *, end: str = "\n") -> None:
    """Print on stdout: what was asked for."""
    click.echo(harmless(text) + end, nl=False)


def complain(text: str) -> None:
    """Print on stderr: what is wrong, and what to do."""
    click.echo(harmless(text), err=True)


def murmur(text: str) -> None:
    """Print on stderr, dimly where that can be: what goes on beside what was asked for."""
    click.secho(harmless(text), dim=True, err=True)
