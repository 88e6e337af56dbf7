"""What a reload of a running host would change, as `agenthost check --plan` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agenthost.cli.terminal import complain, harmless, say
from agenthost.client import Client


def show_plan(client: Client) -> int:
    """Ask the host and print a line for each change, on stderr what only a restart changes; returns the exit code."""
    plan = client.plan()
    lines = list(_lines(plan))
    for line in lines:
        say(harmless(line))
    for left in plan.get("needs_restart", ()):
        complain(f"note: only a restart changes {harmless(left)}")
    if not lines:
        say("a reload would change nothing")
    return 0


def _lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """`+` for what comes, `-` for what goes, `~` for what changes and by which keys."""
    for name in plan["added"]:
        yield f"+ agent {name}"
    for name in plan["removed"]:
        yield f"- agent {name}"
    for name, keys in plan["changed"].items():
        yield f"~ agent {name}: {', '.join(keys)}"
    for sign, kind in (("+", "added"), ("-", "removed"), ("~", "changed")):
        for key in plan["keys"].get(kind, ()):
            yield f"{sign} key {key}"
    for setting in plan["settings"]:
        yield f"~ {setting}"
