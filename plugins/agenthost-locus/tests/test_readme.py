"""What the README shows is done, and comes out as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthost.testing import serving

pytestmark = pytest.mark.framework

FOLDER = Path(__file__).parent.parent
README = (FOLDER / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block(kind: str, number: int = 0) -> str:
    """The text of the blocks of a kind, in order."""
    return [text for found, _file, text in BLOCKS if found == kind][number]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with the README's files."""
    for _kind, file, text in BLOCKS:
        if file:
            (tmp_path / file).write_text(text)
    return tmp_path


def test_the_agent_of_the_readme_asks_and_goes_on(app: Path) -> None:
    what = block("sh").split()[2]
    requests = re.findall(r"(/agents/\S+) .*?-d '(\{.*?\})'", block("sh", 1), re.DOTALL)
    with serving(what, folder=app) as host:
        paused, resumed = [
            httpx.post(host.url + path, json=json.loads(body), timeout=30, trust_env=False) for path, body in requests
        ]
    asked: dict[str, Any] = paused.json()
    assert asked["status"] == "paused"
    assert asked["interrupt"]["question"].startswith("Approve send_mail on Bob?")
    frames = [line for line in resumed.text.splitlines() if line.startswith("data: {")]
    assert json.loads(frames[-1].removeprefix("data: "))["message"] == "Bob knows."


def test_the_settings_of_the_readme_are_settings(app: Path) -> None:
    (app / "agents.toml").write_text(block("toml"))
    with serving(app / "agents.toml") as host:
        card = httpx.get(f"{host.url}/agents/app/", trust_env=False).json()
    assert (card["title"], card["state"]) == ("Secretary", "ready")


def test_the_server_of_the_readme_is_one(app: Path) -> None:
    (app / "main.py").write_text(block("python", 1) + "\nprint(type(server.app).__mro__[1].__name__)\n")
    told = subprocess.run([sys.executable, "main.py"], cwd=app, capture_output=True, text=True, check=True)
    assert told.stdout == "FastAPI\n"


def test_the_releases_told_are_those_of_the_project() -> None:
    (wanted,) = [
        one
        for one in tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["dependencies"]
        if one.startswith("locus-sdk")
    ]
    lowest, below = re.findall(r"[\d.]+", wanted)
    assert f"Releases {lowest} to\nthe newest of {int(below) - 1}.x are taken" in README
