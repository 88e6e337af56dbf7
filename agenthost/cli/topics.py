"""`agenthost help`: the pages of the manual that ship with the package."""

from __future__ import annotations

from pathlib import Path

import click

from agenthost.blame import did_you_mean
from agenthost.cli.terminal import say

MANUAL = Path(__file__).resolve().parents[1] / "manual"


def topics() -> dict[str, Path]:
    """Every page of the manual by its topic, sorted."""
    return {page.stem: page for page in sorted(MANUAL.glob("*.md"))}


@click.command(name="help")
@click.argument("topic", required=False)
def help_command(topic: str | None) -> None:
    """Print the page TOPIC of the manual; without one, what there is to read."""
    pages = topics()
    if topic is None:
        width = max(map(len, pages), default=0)
        for name, page in pages.items():
            say(f"  {name:<{width}}  {_title(page)}")
        say("\nagenthost help TOPIC prints one; agenthost COMMAND --help tells a command's options")
        return
    if topic not in pages:
        near = did_you_mean(topic, pages)
        raise click.UsageError(f"there is no topic {topic!r}; {near or 'there are ' + ', '.join(pages)}")
    say(pages[topic].read_text(encoding="utf-8"), end="")


def _title(page: Path) -> str:
    with page.open(encoding="utf-8") as lines:
        return next(lines, "").lstrip("# ").rstrip()
