"""The `.env` files of `agenthost dev`: which are read, what they may change, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from agenthost.cli.env_files import EnvFiles
from agenthost.config import default_config
from agenthost.errors import StartError
from tests.commands import KEY, Serving

TELLS = """
import logging
import os

async def agent(ctx):
    logging.getLogger("agent").warning("the key is %s", os.environ.get("OPENAI_API_KEY"))
    yield "|".join(f"{name}={os.environ.get(name)}" for name in ctx.prompt.split())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(TELLS)
    return tmp_path


def test_a_file_of_any_name_and_variables_that_stand_elsewhere_are_taken_in_the_same_way(folder: Path) -> None:
    (folder / "prod.env").write_text("REGION=eu\nCITY=Rome\n")
    environ = {"REGION": "us"}
    env = EnvFiles(environ)
    env.read(folder / "prod.env")
    env.take({"CITY": "Paris", "API_KEY": "sk-verysecret", "BAD": "a\0b"}, folder / "langgraph.json")

    assert environ == {"REGION": "us", "CITY": "Rome", "API_KEY": "sk-verysecret"}
    assert str(env) == f"{folder}/prod.env: CITY; {folder}/langgraph.json: API_KEY"
    assert env.secrets() == {"sk-verysecret"}


def test_what_has_changed_is_read_again_and_what_was_taken_before_is_gone(folder: Path) -> None:
    environ = {"REGION": "us"}
    env = EnvFiles(environ)

    def read() -> None:
        with env.again():
            env.beside(folder / "agents.toml")
            env.take({"FROM": "json"}, folder / "langgraph.json")

    read()
    assert (environ, env.looked_for) == ({"REGION": "us", "FROM": "json"}, {folder / ".env"})
    (folder / ".env").write_text("CITY=Rome\nREGION=eu\nOLD=1\n")
    read()
    assert environ == {"REGION": "us", "FROM": "json", "CITY": "Rome", "OLD": "1"}
    (folder / ".env").write_text("CITY=Bern\nWHERE=in ${CITY}\n")
    read()
    read()
    assert environ == {"REGION": "us", "FROM": "json", "CITY": "Bern", "WHERE": "in Bern"}
    assert str(env) == f"{folder}/.env: CITY, WHERE; {folder}/langgraph.json: FROM"
    (folder / ".env").write_text("CITY=Oslo\nno assignment\n")
    for _ in range(2):
        with pytest.raises(StartError):
            read()
        assert environ == {"REGION": "us", "FROM": "json", "CITY": "Bern", "WHERE": "in Bern"}


def told(served: Serving, names: str, agent: str = "app") -> str:
    message: str = httpx.post(f"{served.url}/agents/{agent}/invoke", json={"prompt": names}).json()["message"]
    return message


def test_dev_reads_the_file_beside_an_agent_and_never_over_what_is_set(folder: Path) -> None:
    (folder / ".env").write_text("# mine\nexport REGION='eu'\nOPENAI_API_KEY=sk-verysecret\nCITY=\"of ${REGION}\"\n")
    with Serving("dev", "app.py:agent", cwd=folder, env={"REGION": "us"}) as served:
        assert told(served, "REGION OPENAI_API_KEY CITY") == "REGION=us|OPENAI_API_KEY=sk-verysecret|CITY=of us"
        assert "  env      .env: OPENAI_API_KEY, CITY\n" in served.err
        assert served.stop() == 0
    assert "the key is ***" in served.err
    assert "sk-verysecret" not in served.err


def test_dev_resolves_settings_from_the_file_beside_agents_toml_and_agents_from_their_own(folder: Path) -> None:
    team = folder / "team"
    team.mkdir()
    (team / "app.py").write_text(TELLS)
    (team / ".env").write_text("REGION=theirs\nTEAM=red\n")
    (folder / ".env").write_text("REGION=ours\nTITLE=Named\n")
    (folder / "agents.toml").write_text(
        '[store]\nurl = "memory:"\n[agents.app]\nuse = "team/app.py:agent"\ntitle = { env = "TITLE" }\n'
    )
    with Serving("dev", cwd=folder) as served:
        assert told(served, "REGION TEAM") == "REGION=ours|TEAM=red"
        assert httpx.get(f"{served.url}/agents/app").json()["title"] == "Named"
        assert "  env      .env: REGION, TITLE; team/.env: TEAM\n" in served.err


def test_serve_reads_none(folder: Path) -> None:
    (folder / ".env").write_text("REGION=eu\n")
    (folder / "agents.toml").write_text('[store]\nurl = "memory:"\n[agents.app]\nuse = "app.py:agent"\n')
    with Serving("serve", cwd=folder, env={"AGENTHOST_API_KEY": KEY}) as served:
        reply = httpx.post(
            f"{served.url}/agents/app/invoke", json={"prompt": "REGION"}, headers={"authorization": f"Bearer {KEY}"}
        )
        assert reply.json()["message"] == "REGION=None"
        assert "  env " not in served.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"A=1\n\nnot an assignment = = \nB=2\n", ".env:3 is not of the form NAME=value"),
        (b"A='open\n", ".env:1 is not of the form NAME=value"),
        (b"A=\xff\n", ".env cannot be read: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
    ],
)
def test_a_file_that_cannot_be_read_stops_the_start_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(text)
    environ: dict[str, str] = {}
    with pytest.raises(StartError) as refused:
        EnvFiles(environ).beside(tmp_path / "agents.toml")
    assert (refused.value.message, refused.value.hint) == (problem, "correct it, or remove it")
    assert not environ


def test_the_first_file_that_sets_a_variable_wins_and_each_is_read_once(tmp_path: Path) -> None:
    for name, text in {"a": "X=a\nONLY=a", "b": "X=b\nB=b\nEMPTY\nNUL=\0"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / ".env").write_text(text)
    config = default_config({})
    agent = config.defaults.model_copy(update={"use": "b/app.py:agent"})
    off = agent.model_copy(update={"use": "off/app.py:agent", "enabled": False})
    config = config.model_copy(update={"agents": {"b": agent, "again": agent, "off": off}})
    environ: dict[str, str] = {}
    read = EnvFiles(environ)
    read.beside(tmp_path / "a" / "app.py")
    read.beside_agents(config.model_copy(update={"base_dir": tmp_path}))
    assert environ == {"X": "a", "ONLY": "a", "B": "b"}
    assert str(read).endswith("a/.env: X, ONLY; " + str(tmp_path / "b" / ".env") + ": B")
    assert not read.secrets()
