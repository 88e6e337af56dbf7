"""Plugins broken in every way that is known, all in one host: it is up, the others serve, and each culprit is named."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import Serving, agenthost
from tests.distributions import Site

ECHO = "async def agent(ctx):\n    yield ctx.prompt\n"

AGENTS = {
    "import-error": "import torch_that_is_not_there\n",
    "syntax-error": "def agent(:\n",
    "no-attribute": "other = 1\n",
    "wrong-type": "agent = 42\n",
    "raises": "raise RuntimeError('at import')\n",
    "sys-exit": "import sys\nsys.exit('good bye')\n",
    "bad-settings": "class agent:\n    Settings = 42\n    async def run(self, ctx, emit): ...\n",
    "bad-lifespan": (
        "import contextlib\nclass agent:\n    @contextlib.asynccontextmanager\n    async def lifespan(self):\n"
        "        raise OSError('no database')\n        yield\n    async def run(self, ctx):\n        yield 'x'\n"
    ),
}
"""Modules of agents that cannot be loaded, by name."""

HOOKS = {
    "hook-raises": (
        "from agenthost import hookimpl\n@hookimpl\ndef register_agents(register):\n    raise RuntimeError('in hook')\n"
    ),
    "hook-argument": ("from agenthost import hookimpl\n@hookimpl\ndef register_agents(register, moon):\n    pass\n"),
    "hook-unknown": "from agenthost import hookimpl\n@hookimpl\ndef register_moons(register):\n    pass\n",
    "plugin-exits": "import sys\nsys.exit(3)\n",
}
"""Modules of plugins that cannot be used, by name."""

HANGS = "import time\ntime.sleep(20)\n" + ECHO

ENDS = {"ends-process": "import os\nos._exit(3)\n", "segfault": "import ctypes\nctypes.string_at(0)\n"}
"""Modules that end the process they are imported into: only an agent with a process of its own may do that."""


def install(site: Site, placement: str) -> list[str]:
    """Install one distribution for each fault; returns the names of the agents."""
    agents = AGENTS | {"hangs": HANGS} | (ENDS if placement == "process" else {})
    for name, source in agents.items():
        module = f"acme_{name.replace('-', '_')}"
        site.install(f"acme-{name}", "2.1", agents={name: f"{module}:agent"}, modules={module: source})
    site.install("acme-no-module", "2.1", agents={"no-module": "acme_gone:agent"})
    for claim in ("acme-one", "acme-two"):
        site.install(claim, "2.1", agents={"claimed": "acme_claimed:agent"}, modules={"acme_claimed": ECHO})
    site.install("acme-bad-name", "2.1", agents={"Bad Name": "acme_claimed:agent"})
    site.install("acme-echo", "2.1", agents={"well": "acme_well:agent"}, modules={"acme_well": ECHO})
    for name, source in HOOKS.items():
        module = f"acme_{name.replace('-', '_')}"
        site.install(f"acme-{name}", "2.1", plugins={name: module}, modules={module: source})
    return [*agents, "no-module", "claimed"]


def until_ready(served: Serving, names: list[str]) -> dict[str, Any]:
    """Wait until every agent but the one that hangs has been tried; returns their reports."""
    deadline = time.monotonic() + 40
    while True:
        health: dict[str, Any] = httpx.get(f"{served.url}/health").json()
        agents: dict[str, Any] = health["agents"]
        if all(agents[name]["state"] not in {"loading", "discovered"} for name in names if name != "hangs"):
            return health
        assert time.monotonic() < deadline, agents
        time.sleep(0.05)


@pytest.mark.fault
@pytest.mark.parametrize("placement", ["in-process", "process"])
def test_whatever_is_broken_the_host_is_up_the_others_serve_and_the_culprit_is_named(
    tmp_path: Path, placement: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with Site(tmp_path / "site") as site:
        names = install(site, placement)
    tables = "".join(f"[agents.{name}]\nrequired = false\n" for name in names)
    (here / "agents.toml").write_text(
        f'[store]\nurl = "memory:"\n[defaults]\nplacement = "{placement}"\nload_timeout = "3s"\n'
        f'[agents.here]\nuse = "app.py:agent"\nplacement = "in-process"\n[agents.well]\n{tables}'
    )
    (here / "app.py").write_text(ECHO)
    with Serving("dev", cwd=here, site=tmp_path / "site") as served:
        for well in ("here", "well"):
            deadline = time.monotonic() + 20
            while (reply := httpx.post(f"{served.url}/agents/{well}/invoke", json={"prompt": "hi"})).status_code == 503:
                assert time.monotonic() < deadline, reply.text
            assert reply.json()["message"] == "hi"
        health = until_ready(served, names)
        for name in names:
            report = health["agents"][name]
            assert report["state"] in ({"loading", "failed"} if name == "hangs" else {"failed"}), (name, report)
            if name == "claimed":
                assert "acme-one 2.1, acme-two 2.1" in report["reason"]
            elif name != "hangs":
                assert f"(acme-{name} 2.1)" in report["reason"], (name, report)
                assert (report["distribution"], report["version"]) == (f"acme-{name}", "2.1")
        for name in HOOKS:
            assert f"acme-{name} 2.1" in str(health["plugins"]), name
            assert f"acme-{name} 2.1" in served.err, name
        assert httpx.post(f"{served.url}/agents/well/invoke", json={"prompt": "still"}).json()["message"] == "still"
        assert served.stop() == 0
    checked = agenthost("check", cwd=here, site=tmp_path / "site")
    assert checked.code == 1
    for name in (*names, *HOOKS):
        assert (f"acme-{name} 2.1" if name != "claimed" else "acme-one 2.1, acme-two 2.1") in checked.err, name
