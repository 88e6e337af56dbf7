"""What README shows is run."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from agenthost_openai_agents.settings import AgentSettings
from openai_doubles import FOLDER

from agenthost.testing import serving

pytest.importorskip("agents.testing", reason="this release of the SDK has no offline model of its own")

pytestmark = pytest.mark.framework

README = (FOLDER.parent / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    """The fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def write_files(folder: Path) -> None:
    """Put the files there that README shows."""
    for name in ("app.py", "shop.py"):
        (text,) = blocks(f"python file={name}")
        (folder / name).write_text(text)


def test_the_agent_is_served_asks_and_goes_on(tmp_path: Path) -> None:
    write_files(tmp_path)
    command, asked = blocks("sh")
    assert command.split() == ["agenthost", "dev", "app.py:agent"]
    with serving("app.py:agent", folder=tmp_path) as host:
        script = asked.replace("http://127.0.0.1:8000", host.url).replace("curl", "curl --noproxy '*'")
        printed = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True, timeout=60).stdout
    paused, _, stream = printed.partition("}}id:")
    found: dict[str, Any] = json.loads(paused + "}}")
    assert (found["status"], found["interrupt"]["question"]) == (
        "paused",
        'Run send_mail(to="Bob", text="lunch")?',
    )
    assert '"message":"Bob knows."' in stream


def test_a_context_comes_from_the_principal(tmp_path: Path) -> None:
    write_files(tmp_path)
    with serving("shop.py:agent", folder=tmp_path) as host:
        answer = httpx.post(f"{host.url}/agents/shop/invoke", json={"prompt": "hi"}, timeout=30).json()
    assert re.fullmatch(r"Hello \w+\.", answer["message"])


def test_the_settings_shown_are_all_there_are() -> None:
    (text,) = blocks("toml")
    shown = tomllib.loads(text)["agents"]["app"]["settings"]
    assert list(shown) == [field for field in AgentSettings.__dataclass_fields__ if field in shown]
    assert set(shown) == set(AgentSettings.__dataclass_fields__)
    AgentSettings(**{**shown, "api_key": "sk-12345678"})
