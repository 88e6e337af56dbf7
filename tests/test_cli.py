"""The command line as a whole: its help, its version, misuse, exit codes, pipes that close."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agenthost.cli import COMMANDS, Commands, run
from agenthost.cli import agenthost as command_line
from agenthost.plugins import own_version
from tests.commands import PATIENCE, agenthost, environment


def test_help_lists_every_command_with_what_it_does(tmp_path: Path):
    ended = agenthost("--help", cwd=tmp_path)
    assert ended.code == 0
    assert ended.err == ""
    for name, (_home, what) in COMMANDS.items():
        assert f"  {name:<9}{what}\n" in ended.out


def test_without_a_command_it_shows_its_help(tmp_path: Path):
    ended = agenthost(cwd=tmp_path)
    assert ended.code == 2
    assert "Usage: agenthost [OPTIONS] COMMAND [ARGS]..." in ended.err


def test_the_version_is_that_of_the_distribution(tmp_path: Path):
    ended = agenthost("--version", cwd=tmp_path)
    assert (ended.code, ended.out) == (0, f"agenthost {own_version()}\n")


@pytest.mark.parametrize(
    ("word", "said"),
    [("srve", "there is no command 'srve'; did you mean 'serve'?"), ("frobnicate", "there is no command 'frobnicate'")],
)
def test_a_command_that_is_not_there_is_answered_with_the_nearest(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
):
    assert run([word]) == 2
    assert capsys.readouterr().err == (
        f"Usage: agenthost [OPTIONS] COMMAND [ARGS]...\nTry 'agenthost --help' for help.\n\nError: {said}\n"
    )


def test_an_option_that_is_not_there_is_misuse(capsys: pytest.CaptureFixture[str]):
    assert run(["serve", "--prt", "1"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_every_name_stands_for_a_command_of_that_name():
    assert isinstance(command_line, Commands)
    context = click.Context(command_line)
    for name in command_line.list_commands(context):
        command = command_line.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help


def _loaded_by(program: str) -> set[str]:
    """The top-level packages that are loaded once the program has run."""
    report = f"{program}; print(*{{name.partition('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {report}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return set(done.stderr.split())


def test_help_imports_no_command():
    heavy = {"fastapi", "starlette", "pydantic", "sqlalchemy", "rich", "httpx", "uvicorn"}
    assert not heavy & _loaded_by("from agenthost.cli import run; run(['--help'])")


def test_serving_imports_neither_tables_nor_the_client():
    assert not {"rich", "httpx", "tomlkit"} & _loaded_by("import agenthost.cli.serving")


def test_a_mistake_in_the_file_ends_with_2_and_no_traceback(tmp_path: Path):
    (tmp_path / "agents.toml").write_text("[agents.echo]\nplacment = 'process'\n")
    ended = agenthost("list", cwd=tmp_path)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err == "agents.toml:2: [agents.echo] unknown key 'placment'; did you mean 'placement'?\n"


def test_output_that_nobody_reads_ends_quietly(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agenthost", "keys", "new", "web"],
            cwd=tmp_path,
            env=environment(),
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode in {0, 1}


def test_an_interrupt_ends_quietly(tmp_path: Path):
    (tmp_path / "agents.toml").write_text('[agents.slow]\nuse = "slow.py:agent"\n')
    (tmp_path / "slow.py").write_text("import sys, time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [sys.executable, "-m", "agenthost", "check"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.strip() == ""
