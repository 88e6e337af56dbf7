"""What a plugin's tests get: a host that serves, says what is wrong, and is gone afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from agenthost.testing import serving

AGENT = """
import os

async def agent(ctx):
    yield f"{ctx.prompt} {os.environ.get('SAID', '')}".strip()
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(AGENT)
    path = tmp_path / "agents.toml"
    path.write_text('[agents.mine]\nuse = "mine.py:agent"\n')
    return path


def said(url: str, prompt: str, **body: str) -> httpx.Response:
    return httpx.post(f"{url}/agents/mine/invoke", json={"prompt": prompt, **body}, trust_env=False)


def test_the_agents_of_a_file_serve_on_a_socket_and_what_they_keep_outlives_a_kill(toml: Path) -> None:
    with serving(toml, env={"SAID": "it"}) as host:
        assert said(host.url, "you", thread_id="t").json()["message"] == "you it"
        assert "mine  ready" in host.log()
        host.kill()
        assert not host.is_running
    with serving(toml) as host:
        messages = httpx.get(f"{host.url}/agents/mine/threads/t", trust_env=False).json()["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert host.stop() == 0


def test_one_object_of_a_file_serves_in_its_folder(tmp_path: Path, toml: Path) -> None:
    toml.unlink()
    with serving("mine.py:agent", folder=tmp_path) as host:
        assert said(host.url, "hello").json()["message"] == "hello"
        pid = host.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_host_that_serves_as_in_production_wants_a_key(toml: Path) -> None:
    key = "a-key-of-32-characters-012345678"
    with serving(toml, dev=False, env={"AGENTHOST_API_KEY": key}) as host:
        assert said(host.url, "hello").status_code == 401


def test_a_host_that_ends_says_why(toml: Path) -> None:
    toml.write_text("[agents.mine]\nplacment = 'x'\n")
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 2.*did you mean 'placement'"), serving(toml):
        pass


def test_an_agent_that_does_not_load_says_why(toml: Path) -> None:
    (toml.parent / "mine.py").write_text("import torch_that_is_not_there\n")
    problem = r"(?s)not ready within 3 s.*torch_that_is_not_there"
    with pytest.raises(TimeoutError, match=problem), serving(toml, within=3.0):
        pass


def test_a_host_that_was_killed_by_somebody_else_is_no_error_at_the_end(toml: Path) -> None:
    with serving(toml) as host:
        os.kill(host.pid, signal.SIGKILL)
        os.waitid(os.P_PID, host.pid, os.WEXITED | os.WNOWAIT)
