"""README is short, and the contributors' map of the source is what the modules say of themselves."""

from __future__ import annotations

import re

from tests.house.test_layout import BLOCKS
from tests.house.tree import PACKAGE, ROOT, modules

README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
LONGEST = 300
WIDTH = max(len(name) for name in modules()) + len(".py") + 2


def drawn() -> str:
    """The map as CONTRIBUTING.md must have it: the modules of each block by the alphabet, packages first."""
    lines = [_line(PACKAGE)]
    for block, names in BLOCKS.items():
        lines += ["", f"── {block}", *map(_line, sorted(names.split()))]
    return "\n".join(lines)


def _line(name: str) -> str:
    return f"{_file(name):<{WIDTH}}{modules()[name].first_line}"


def _file(name: str) -> str:
    module = modules()[name]
    path = module.path.relative_to(ROOT / PACKAGE)
    return f"{path.parent.as_posix()}/" if module.is_package and name != PACKAGE else path.as_posix()


def test_the_map_is_what_the_modules_say():
    found = re.search(r"```text map\n(.*?)\n```", CONTRIBUTING, re.DOTALL)
    assert found, "CONTRIBUTING.md has no ```text map"
    assert found[1] == drawn(), "the map in CONTRIBUTING.md is not what the modules say; put this there"


def test_it_can_be_read_in_one_go():
    assert len(README.splitlines()) <= LONGEST
