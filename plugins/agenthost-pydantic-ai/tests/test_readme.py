"""The README's blocks do what it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from agenthost.testing import HostProcess, serving

pytestmark = pytest.mark.framework

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def files(folder: Path) -> Path:
    """Write the README's files, and its agents.toml with the agent of the second one added."""
    for _kind, name, text in BLOCKS:
        if name:
            (folder / name).write_text(text)
    (toml,) = [text for kind, _name, text in BLOCKS if kind == "toml"]
    (folder / "agents.toml").write_text(f'{toml}\n[agents.orders]\nuse = "orders.py:agent"\n')
    return folder / "agents.toml"


def sent(host: HostProcess, command: str) -> httpx.Response:
    """Do what a curl command does."""
    words = shlex.split(command.replace("\\\n", " "))
    url = next(word for word in words if word.startswith("http://"))
    address = url.replace("http://127.0.0.1:8000", host.url)
    return httpx.post(address, json=json.loads(words[words.index("-d") + 1]), timeout=30)


def test_the_agent_is_served_unchanged_asks_and_goes_on(tmp_path: Path) -> None:
    files(tmp_path)
    ask, answer = [text for kind, _name, text in BLOCKS if kind == "sh"]
    (tmp_path / "agents.toml").unlink()
    with serving("app.py:agent", folder=tmp_path) as host:
        paused = sent(host, ask).json()
        assert (paused["status"], paused["interrupt"]["metadata"]["tool"]) == ("paused", "warn")
        events = sent(host, answer).text
        assert '"result":"a is warned"' in events
        assert '"message":"It is sunny in Rome."' in events
        assert httpx.get(f"{host.url}/agents/app/").json()["title"] == "weather"


def test_its_settings_and_its_dependencies_are_taken(tmp_path: Path) -> None:
    with serving(files(tmp_path)) as host:
        paused = httpx.post(f"{host.url}/agents/weather/invoke", json={"prompt": "x"}, timeout=30).json()
        assert paused["status"] == "paused"
        orders = httpx.post(f"{host.url}/agents/orders/invoke", json={"prompt": "x"}, timeout=30).json()
        caller = json.loads(orders["message"])["customer"]
        assert caller
        assert (orders["status"], orders["tool_calls"]) == ("completed", 1)


def test_the_releases_it_names_are_those_that_it_takes() -> None:
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (lowest,) = re.findall(r"pydantic-ai-slim>=([0-9.]+),<3", pyproject)

    assert f"the oldest release it takes, {lowest}, " in README
