"""Agents that need different versions of one package, each in an environment made by uv from the index, and offline."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agenthost.client import Client
from agenthost.environments import Environments, home, kept
from agenthost.environments.uv import find_uv
from agenthost.errors import LoadError
from tests.commands import Serving, agenthost
from tests.distributions import Site
from tests.packages import HOSTS_OWN, offline, shows, specified, wheel

pytestmark = pytest.mark.fault

TELLS = """
import {0}
from importlib.metadata import version

async def agent(ctx):
    assert {0}.__version__ == version("{0}")
    yield "{0} "
    yield {0}.__version__
    yield " " + ctx.prompt
"""

MOON = """
from agenthost import hookimpl
from agenthost.agents import AgentInfo

class Moon:
    info = AgentInfo()

    async def open(self, spec):
        return self

    async def close(self, grace):
        pass

@hookimpl
def register_placements(register):
    register("moon", Moon())
"""


def six_agent(folder: Path, name: str, version: str) -> str:
    """A requirement: a wheel whose agent needs that version of six, and a host."""
    built = wheel(
        folder,
        name,
        agents={name: f"{name}:agent"},
        modules={name: f"import six\nasync def agent(ctx):\n    yield six.__version__  # {version}\n"},
        requires=(f"six=={version}", *HOSTS_OWN),
    )
    return f"./{built.name}"


def made(environ: dict[str, str], folder: Path, *requirements: str, **options: object) -> Path:
    environments = Environments(environ=environ)
    try:
        return asyncio.run(environments.interpreter(specified(folder, *requirements, **options)))
    finally:
        environments.close()


def online(cache: Path, **more: str) -> dict[str, str]:
    """An environment in which uv may ask the index, and keeps what it gets in `cache`."""
    environ = offline(UV_CACHE_DIR=str(cache), **more)
    del environ["UV_OFFLINE"]
    return environ


def imported(python: Path, module: str) -> str:
    program = f"import {module}, six; print(six.__version__)"
    return subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_agents_that_need_different_versions_of_one_package_answer_side_by_side(tmp_path: Path) -> None:
    pinned = {
        "old": ("six", "1.16.0"),
        "new": ("six", "1.17.0"),
        "former": ("pydantic", "2.9.2"),
        "latest": ("pydantic", "2.11.7"),
    }
    tables = []
    for name, (package, version) in pinned.items():
        built = wheel(
            tmp_path,
            name,
            agents={name: f"{name}:agent"},
            modules={name: TELLS.format(package)},
            requires=(f"{package}=={version}", *HOSTS_OWN),
        )
        tables.append(f'[agents.{name}]\nenvironment = {{ requirements = ["./{built.name}"] }}\n')
    (tmp_path / "agents.toml").write_text("\n".join(tables))
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}
    assert agenthost("env", "build", cwd=tmp_path, env=cache).code == 0
    with Serving("dev", cwd=tmp_path, env={**cache, "UV_OFFLINE": "1"}) as host:
        with Client(host.url) as client:
            said = {
                name: [event["content"] for event in client.stream(name, "again") if event.type == "model_chunk"]
                for name in pinned
            }
            assert said == {name: [f"{package} ", version, " again"] for name, (package, version) in pinned.items()}
            reports = [client.health(name) for name in pinned]
        assert [(report["distribution"], report["version"]) for report in reports] == [(name, "1.0") for name in pinned]
        assert host.stop() == 0


def test_two_versions_of_one_package_are_there_side_by_side_and_again_without_an_index(tmp_path: Path) -> None:
    old, new = six_agent(tmp_path, "old", "1.16.0"), six_agent(tmp_path, "new", "1.17.0")
    environ = online(tmp_path / "cache")
    pythons = [made(environ, tmp_path, requirement) for requirement in (old, new)]
    assert [shows(python) for python in pythons] == [
        "old=old:agent old-1.0 six-1.16.0",
        "new=new:agent new-1.0 six-1.17.0",
    ]
    assert [imported(python, name) for python, name in zip(pythons, ("old", "new"), strict=True)] == [
        "1.16.0",
        "1.17.0",
    ]

    elsewhere = {"UV_OFFLINE": "1", "AGENTHOST_ENVIRONMENTS": str(tmp_path / "elsewhere")}
    again = made({**environ, **elsewhere}, tmp_path, old)
    assert again.is_relative_to(tmp_path / "elsewhere")
    assert imported(again, "old") == "1.16.0"
    with pytest.raises(LoadError, match="its environment cannot be made: uv: No solution found"):
        made({**environ, **elsewhere, "UV_CACHE_DIR": str(tmp_path / "empty")}, tmp_path, new)


@pytest.mark.parametrize("file", ["billing.lock", "pylock.toml"])
def test_a_lock_made_as_the_manual_says_is_installed_without_an_index(tmp_path: Path, file: str) -> None:
    environ = online(tmp_path / "cache")
    (tmp_path / "billing.in").write_text(six_agent(tmp_path, "billing", "1.16.0") + "\n")
    (tmp_path / "hosts.txt").write_text('agenthost ; python_version < "0"\npluggy ; python_version < "0"\n')
    compiling = ["pip", "compile", "--quiet", "--overrides", "hosts.txt", "billing.in", "--output-file", file]
    hashes = [] if file == "pylock.toml" else ["--generate-hashes"]
    uv = find_uv()
    assert uv is not None
    subprocess.run([uv, *compiling, *hashes], cwd=tmp_path, env=environ, check=True, capture_output=True)
    assert shows(made(environ, tmp_path, lock=tmp_path / file)) == "billing=billing:agent billing-1.0 six-1.16.0"
    elsewhere = {"UV_OFFLINE": "1", "AGENTHOST_ENVIRONMENTS": "elsewhere"}
    assert shows(made({**environ, **elsewhere}, tmp_path, lock=tmp_path / file)).endswith("six-1.16.0")


def test_an_image_has_its_environments_made_ahead_and_starts_without_uv_or_an_index(tmp_path: Path) -> None:
    here = tmp_path / "app"
    here.mkdir()
    site = Site(tmp_path / "site")
    with site:
        site.install("acme-moon", plugins={"moon": "acme_moon"}, modules={"acme_moon": MOON})
    requirement = six_agent(here, "billing", "1.16.0")
    (here / "agents.toml").write_text(
        f'[agents.billing]\nplacement = "moon"\nenvironment = {{ requirements = ["{requirement}"] }}\n'
    )
    built = agenthost("env", "build", cwd=here, site=site.folder, env={"UV_CACHE_DIR": str(tmp_path / "cache")})
    assert (built.code, built.out) == (0, f"billing: {kept(home(here, {}))[0].python}\n")

    without = {"PATH": "/nowhere", "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty")}
    with Serving("dev", cwd=here, site=site.folder, env=without, python=(sys.executable, "-m", "agenthost")) as host:
        assert "billing  ready" in host.err
        ended = agenthost("env", "prune", cwd=here, site=site.folder)
        assert ended.out == "nothing to remove\n"
        (here / "agents.toml").write_text("")
        ended = agenthost("env", "prune", cwd=here, site=site.folder)
        assert ended.out.endswith(": in use by a running host, kept\n")
    assert agenthost("env", "prune", cwd=here, site=site.folder).out.endswith(": removed\n")
    assert kept(home(here, {})) == []
