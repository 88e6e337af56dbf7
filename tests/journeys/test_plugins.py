"""A plugin's life: installed, added, served, uninstalled, while its neighbours go on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.commands import ECHO, PATIENCE, ROOT, Serving, agenthost, environment
from tests.distributions import Site

SHOUT = """
async def agent(ctx):
    for word in ctx.prompt.split():
        yield word.upper() + "!"
"""

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-shout"
version = "2.1"
dependencies = ["agenthost"]

[project.entry-points."agenthost.agents"]
shout = "acme_shout:agent"

[tool.hatch.build.targets.wheel]
include = ["acme_shout.py"]
"""

GONE = "agent 'shout' is not installed"


def _said(served: Serving, agent: str, prompt: str) -> str:
    message: str = httpx.post(f"{served.url}/agents/{agent}/invoke", json={"prompt": prompt}).json()["message"]
    return message


def test_a_plugin_is_installed_added_served_and_missed_when_it_is_gone(tmp_path: Path):
    here, elsewhere = tmp_path / "here", tmp_path / "site-packages"
    here.mkdir()
    (here / "app.py").write_text(ECHO)
    (here / "agents.toml").write_text('[agents.app]\nuse = "app.py:agent"\n')
    with Site(elsewhere) as site:
        info = site.install("acme-shout", "2.1", agents={"shout": "acme_shout:agent"}, modules={"acme_shout": SHOUT})

    added = agenthost("add", "shout", cwd=here, site=elsewhere)
    assert added.out == "agents.toml: added [agents.shout] (acme-shout 2.1)\n  → agenthost dev\n"
    with Serving("dev", cwd=here, site=elsewhere) as served:
        assert f"  shout  ready     {served.url}/agents/shout\n" in served.err
        assert _said(served, "shout", "hello world") == "HELLO!WORLD!"
        with httpx.stream("POST", f"{served.url}/agents/shout/stream", json={"prompt": "hello world"}) as stream:
            events = stream.read().decode()
        assert '"content":"HELLO!"' in events
        assert events.endswith("data: [DONE]\n\n")

    shutil.rmtree(info)
    (elsewhere / "acme_shout.py").unlink()
    with Serving("dev", cwd=here, site=elsewhere) as served:
        assert f"  shout  failed    {GONE}\n                   " in served.err
        assert _said(served, "app", "still here") == "still here "
        assert httpx.post(f"{served.url}/agents/shout/invoke", json={"prompt": "x"}).status_code == 503
        health = httpx.get(f"{served.url}/agents/shout/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")
        assert health.json()["reason"] == GONE
    checked = agenthost("check", cwd=here, site=elsewhere)
    assert checked.code == 1
    assert checked.err.startswith(f"{GONE}\n  → pip install its distribution")


def test_of_two_agents_the_broken_one_is_named_and_the_other_is_served(tmp_path: Path):
    here = tmp_path / "here"
    here.mkdir()
    with Site(tmp_path / "site-packages") as site:
        site.install("acme-shout", "2.1", agents={"shout": "acme_shout:agent"}, modules={"acme_shout": SHOUT})
        broken = "import os\nimport torch_that_is_not_there\n"
        site.install("acme-broken", "0.9", agents={"broken": "acme_broken:agent"}, modules={"acme_broken": broken})
    (here / "agents.toml").write_text('[store]\nurl = "memory:"\n[agents.shout]\n[agents.broken]\n')
    with Serving("dev", cwd=here, site=tmp_path / "site-packages") as served:
        assert (
            "  broken  failed    agent 'broken' (acme-broken 0.9) failed to load: "
            "ModuleNotFoundError: No module named 'torch_that_is_not_there'\n"
            "                      → pip install torch_that_is_not_there, "
            "or set enabled = false under [agents.broken]\n"
            f"  shout   ready     {served.url}/agents/shout\n"
        ) in served.err
        assert _said(served, "shout", "all is well") == "ALL!IS!WELL!"
        report = httpx.get(f"{served.url}/health").json()["agents"]["broken"]
        assert (report["state"], report["distribution"], report["version"]) == ("failed", "acme-broken", "0.9")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of an environment in which agenthost is installed, as pip does it, and nothing else of ours."""
    made = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True, timeout=PATIENCE)
    path = made / "bin" / "python"
    fetched = _pip(path, "install", "hatchling")
    if fetched.returncode:
        pytest.skip(f"pip reaches no packages here: {fetched.stderr.strip().splitlines()[-1:]}")
    # What agenthost needs is taken from where this runs; itself and the plugin are built and installed for real.
    below = next(made.glob("lib/python*/site-packages"))
    (below / "dependencies.pth").write_text("\n".join(entry for entry in sys.path if "site-packages" in entry))
    done = _pip(path, "install", "--no-deps", "--no-build-isolation", str(ROOT))
    assert done.returncode == 0, done.stderr
    return path


def _pip(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments],
        env={name: value for name, value in environment().items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )


@pytest.mark.fault
def test_a_plugin_written_elsewhere_is_pip_installed_served_and_uninstalled(tmp_path: Path, python: Path):
    source, here = tmp_path / "acme-shout", tmp_path / "here"
    source.mkdir()
    here.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "acme_shout.py").write_text(SHOUT)
    (here / "app.py").write_text(ECHO)
    (here / "agents.toml").write_text('[agents.app]\nuse = "app.py:agent"\n')
    installed = _pip(python, "install", "--no-build-isolation", str(source))
    assert installed.returncode == 0, installed.stderr

    command = [str(python.parent / "agenthost")]
    env = {"PYTHONPATH": ""}
    added = agenthost("add", "shout", cwd=here, env=env, python=command)
    assert added.out == "agents.toml: added [agents.shout] (acme-shout 2.1)\n  → agenthost dev\n"
    with Serving("dev", cwd=here, env=env, python=command) as served:
        assert f"  shout  ready     {served.url}/agents/shout\n" in served.err
        assert _said(served, "shout", "hello world") == "HELLO!WORLD!"
    assert agenthost("help", "agents", cwd=here, env=env, python=command).code == 0

    removed = _pip(python, "uninstall", "--yes", "acme-shout")
    assert removed.returncode == 0, removed.stderr
    with Serving("dev", cwd=here, env=env, python=command) as served:
        assert f"  shout  failed    {GONE}\n" in served.err
        assert _said(served, "app", "still here") == "still here "
