"""What the README shows is done: its file is served, by its agents.toml, and answers as it says."""

import dataclasses
import re
import shlex
from pathlib import Path

import httpx
import pytest

from agenthost.testing import serving

pytestmark = pytest.mark.framework

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_file_of_the_readme_is_served_and_answers_as_it_says(tmp_path: Path) -> None:
    (program,), (config,), (session,) = blocks("python file=app.py"), blocks("toml"), blocks("console")
    (tmp_path / "app.py").write_text(program)
    (tmp_path / "agents.toml").write_text(config)
    answers = re.findall(r"^\$ (curl .+)\n((?:[^$].*\n)+)", session, re.MULTILINE)
    assert len(answers) == 3
    with serving(tmp_path / "agents.toml") as host:
        for command, expected in answers:
            words = shlex.split(command)
            url = next(word for word in words if word.startswith("http")).replace("http://127.0.0.1:8000", host.url)
            headers = {"content-type": "application/json"}
            text = httpx.post(url, content=words[words.index("-d") + 1], headers=headers, trust_env=False).text
            assert [piece for piece in expected.splitlines() if piece not in text] == []


def test_every_setting_is_in_the_readme() -> None:
    settings = pytest.importorskip("agenthost_langgraph.settings")
    named = re.findall(r"`([a-z_]+)`", TEXT.partition("## Settings")[2].partition("\n## ")[0])
    assert {field.name for field in dataclasses.fields(settings.GraphSettings)} <= {*named}
