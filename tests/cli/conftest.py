"""Commands run in this process, for what needs no server: an empty folder to be in, distributions of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agenthost.cli import run
from tests.commands import Ended
from tests.distributions import Site

Type = Callable[..., Ended]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one; no settings of agenthost in the environment."""
    for name in [name for name in os.environ if name.startswith("AGENTHOST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def enter(here: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    """Type `agenthost …` in that folder."""

    def command(*arguments: str) -> Ended:
        capsys.readouterr()
        code = run(arguments)
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return command


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A folder on the module path to install distributions into."""
    with Site(tmp_path / "site") as folder:
        yield folder
