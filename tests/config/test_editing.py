"""Adding an agent to the file."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.config import load_config
from agenthost.config.editing import add_agent
from agenthost.errors import ConfigError


def refusal(*arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        add_agent(*arguments)
    return caught.value.message


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_agent_makes_the_file(project):
    old = os.umask(0o077)
    try:
        add_agent(Path("agents.toml"), "echo")
    finally:
        os.umask(old)
    assert Path("agents.toml").read_text() == "[agents.echo]\n"
    assert mode(project.folder / "agents.toml") == 0o644
    add_agent(Path("agents.toml"), "search", "acme-search:search", 'Finds "things"\nand é')
    assert Path("agents.toml").read_text() == (
        '[agents.echo]\n\n[agents.search]\nuse = "acme-search:search"\ndescription = "Finds \\"things\\"\\nand é"\n'
    )
    assert load_config(environ={}).agents["search"].description == 'Finds "things"\nand é'
    assert os.listdir(project.folder) == ["agents.toml"]


def test_every_byte_that_was_there_stays(project):
    before = "# mine\r\n[server]\r\nport   =  8000 # odd\r\n\r\n[agents.a]\r\n# end"
    project.write(before)
    add_agent(Path("agents.toml"), "b", "x:y")
    after = (project.folder / "agents.toml").read_bytes().decode()
    assert after == before + '\r\n\r\n[agents.b]\r\nuse = "x:y"\r\n'


@pytest.mark.parametrize(
    "before", ["[agents.b]", "[agents]\nb = {}", "agents.b.use = 'x'", "agents = { b = {} }", '[agents."b"]']
)
def test_a_name_that_is_there_is_refused(project, before):
    file = project.write(before)
    assert refusal(file, "b") == "agents.toml: [agents.b] is there already"
    assert file.read_text() == before


def test_a_bad_name_is_refused(project):
    assert refusal(project.folder / "agents.toml", "My_Agent") == (
        "My_Agent is not a name for an agent: use a-z, 0-9 and '-', at most 63 characters, not '-' first; "
        "'my-agent' would do"
    )
    assert os.listdir(project.folder) == []


@pytest.mark.parametrize("before", ["agents = {}", "agents = { a = {} }", "agents = 1", "[[agents]]\nx = 1"])
def test_a_file_that_cannot_take_a_table_is_left_alone(project, before):
    file = project.write(before)
    assert refusal(file, "b") == (
        "agents.toml: [agents.b] cannot be added, because 'agents' is no table with a header there; "
        "write each agent as [agents.NAME]"
    )
    assert file.read_text() == before


def test_a_file_that_is_not_toml_is_left_alone(project):
    file = project.write("[agents")
    assert refusal(file, "b").startswith("agents.toml:1: not TOML: ")
    assert file.read_text() == "[agents"


def test_a_folder_that_is_not_there_is_told(project):
    assert refusal(project.folder / "no" / "agents.toml", "b") == (
        "no/agents.toml: cannot be written: No such file or directory"
    )


def test_the_mode_is_kept_and_a_link_stays_a_link(project):
    (project.folder / "real").mkdir()
    real = project.write("# mine\n", "real/agents.toml")
    real.chmod(0o600)
    link = project.folder / "agents.toml"
    link.symlink_to("real/agents.toml")
    add_agent(link, "b")
    assert link.is_symlink()
    assert real.read_text() == "# mine\n\n[agents.b]\n"
    assert mode(real) == 0o600
    assert os.listdir(project.folder / "real") == ["agents.toml"]


def test_text_that_no_file_can_hold_leaves_the_file_alone(project):
    file = project.write("[server]\n")
    assert refusal(file, "b", "bad\udcff") == "agents.toml: 'use' or 'description' holds what UTF-8 cannot"
    assert file.read_text() == "[server]\n"
    assert os.listdir(project.folder) == ["agents.toml"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_text_is_added_is_read_back(tmp_path_factory, use, description):
    file = tmp_path_factory.mktemp("add") / "agents.toml"
    add_agent(file, "b", use, description)
    written = {"use": use, "description": description}
    assert tomllib.loads(file.read_text()) == {"agents": {"b": {key: value for key, value in written.items() if value}}}
