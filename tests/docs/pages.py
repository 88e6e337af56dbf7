"""README and the manual as the docs tests read them: pages, headings and fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "agenthost" / "manual"

_FENCE = re.compile(
    r"^(?P<ticks>`{3,})(?P<kind>\w*)(?P<more>[^`\n]*)\n(?P<text>.*?)^(?P=ticks)$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind (`toml`), the words after it (`wrong`, `file=agents.toml`), and where it stands."""

    page: str
    line: int
    kind: str
    words: tuple[str, ...]
    text: str

    @property
    def shown(self) -> str:
        """`README.md:31`."""
        return f"{self.page}:{self.line}"

    def named(self, word: str) -> str | None:
        """The value of `word=value`, or None."""
        return next((given.partition("=")[2] for given in self.words if given.startswith(f"{word}=")), None)


@dataclass(frozen=True)
class Page:
    """One page of Markdown."""

    path: Path
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        """`README.md`, `http.md`."""
        return self.path.name

    @cached_property
    def blocks(self) -> list[Block]:
        """The fenced blocks, in order."""
        return [
            Block(
                self.name,
                self.text.count("\n", 0, found.start()) + 1,
                found["kind"],
                tuple(found["more"].split()),
                found["text"],
            )
            for found in _FENCE.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        """The page without its blocks."""
        return _FENCE.sub("", self.text)

    def headings(self, level: int) -> list[str]:
        """The headings of a level, without their signs."""
        return re.findall(rf"^{'#' * level} (.+)$", self.prose, re.MULTILINE)

    def section(self, heading: str) -> str:
        """What stands under a heading, until the next one of its level or above."""
        found = re.search(rf"^(#+) {re.escape(heading)}$", self.text, re.MULTILINE)
        assert found, f"{self.name} has no section {heading!r}"
        rest = self.text[found.end() :]
        end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest


def page(name: str) -> Page:
    """The page of that name: `README.md`, or one of the manual."""
    path = ROOT / name if name == "README.md" else MANUAL / name
    return Page(path, path.read_text())


def manual() -> list[Page]:
    """The pages of the manual, by name."""
    return [page(path.name) for path in sorted(MANUAL.glob("*.md"))]


def pages() -> list[Page]:
    """README, then the manual."""
    return [page("README.md"), *manual()]


def blocks(*kinds: str) -> list[Block]:
    """Every block of these kinds; without a kind, every block."""
    return [block for one in pages() for block in one.blocks if not kinds or block.kind in kinds]
