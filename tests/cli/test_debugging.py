"""`agenthost dev --debug`: `breakpoint()` stops at the terminal, nothing has a time limit, a debugger is let in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from agenthost.cli.debugging import ENDLESS, without_limits
from agenthost.config import AgentConfig, Config
from tests.commands import ADDRESS, PATIENCE, environment

STOPS = """
import os
import time

async def agent(ctx):
    found = 41
    breakpoint()
    yield f"{found} in {os.getpid()}"
"""

STANDING = 1.2
"""Seconds at the breakpoint: a run has one, and the watchdog would speak after half of one."""

DEBUGPY = """
def listen(address):
    print(*address, flush=True)

def is_client_connected():
    return attached

def breakpoint():
    print("stopped in the editor", flush=True)

attached = False
"""


def test_no_agent_has_a_time_limit() -> None:
    config = without_limits(Config(agents={"app": AgentConfig(timeout=1.0)}))
    for agent in (config.defaults, config.agents["app"]):
        assert (agent.timeout, agent.load_timeout) == (ENDLESS, ENDLESS)


def test_a_breakpoint_stops_at_the_terminal_for_as_long_as_one_likes(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(STOPS)
    (tmp_path / "agents.toml").write_text(
        '[store]\nurl = "memory:"\n[agents.app]\nuse = "app.py:agent"\ntimeout = "1s"\n'
    )
    command = [sys.executable, "-u", "-m", "agenthost", "dev", "--debug", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = ""
        while "  debug    " not in said:
            said += process.stdout.readline()
        assert "breakpoint() stops here; no time limits, and code is not reloaded\n" in said
        found = ADDRESS.search(said)
        assert found is not None
        process.stdin.write(f"import time; time.sleep({STANDING})\nfound = found + 1\ncontinue\n")
        process.stdin.flush()
        reply = httpx.post(f"{found[0]}/agents/app/invoke", json={"prompt": ""}, timeout=PATIENCE)
        assert reply.json()["message"] == f"42 in {process.pid}"
        process.terminate()
        said += process.communicate(timeout=PATIENCE)[0]
    assert "(Pdb)" in said
    assert "-> yield" in said
    assert "blocks the event loop" not in said


def _stopped(folder: Path, program: str, *, debugpy: str = DEBUGPY, **more: str) -> str:
    """What a program prints that debugs, with a debugpy that only speaks."""
    (folder / "debugpy.py").write_text(debugpy)
    begin = "from agenthost.cli.debugging import begin_debugging\nprint(begin_debugging())\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + program],
        env=environment(folder, more),
        input="continue\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def test_debugpy_listens_if_it_is_there_and_breakpoints_are_its_own_once_somebody_is_attached(tmp_path: Path) -> None:
    printed = _stopped(tmp_path, "breakpoint()\nimport debugpy\ndebugpy.attached = True\nbreakpoint()\n")
    listens, says, *stops = printed.splitlines()
    assert listens == "127.0.0.1 5678"
    assert (
        says == "debugpy listens at 127.0.0.1:5678; breakpoint() stops here; no time limits, and code is not reloaded"
    )
    assert [line.startswith("(Pdb)") for line in stops].count(True) == 1
    assert stops[-1].endswith("stopped in the editor")


def test_a_port_that_is_taken_is_said_and_python_s_own_word_on_breakpoints_counts(tmp_path: Path) -> None:
    taken = DEBUGPY.replace("print(*address, flush=True)", "raise RuntimeError('in use')")
    printed = _stopped(tmp_path, "breakpoint()\n", debugpy=taken, PYTHONBREAKPOINT="0")
    assert printed.startswith("debugpy cannot listen at 127.0.0.1:5678 (in use); breakpoint() stops here")
    assert "(Pdb)" not in printed
