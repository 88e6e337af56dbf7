"""A folder with an agents.toml in it, read by the real loader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agenthost.config import Config, load_config
from agenthost.errors import ConfigError


class Project:
    """The current directory, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "agents.toml") -> Path:
        (self.folder / name).write_bytes(text.encode())
        return self.folder / name

    def load(self, text: str, environ: Mapping[str, str] | None = None) -> Config:
        self.write(text)
        return load_config(environ=environ or {})

    def problems(self, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        """What is wrong with `text`; each problem is one line."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ)
        assert caught.value.message.split("\n") == list(caught.value.problems)
        return list(caught.value.problems)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
