"""Where `agenthost dev` runs agents: an author's own in a process with the host's environment, others in the host's."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agenthost.agents import AgentRef, AgentSource, AgentSpec, RunContext
from agenthost.auth import Principal
from agenthost.config import Config
from agenthost.entries import AgentEntry
from agenthost.errors import LoadError
from agenthost.events import Entry
from agenthost.host import Host
from agenthost.placement.authors import DEV, AuthorsPlacement
from agenthost.placement.in_process import InProcessRef
from agenthost.placement.process import ProcessPlacement, ProcessRef
from agenthost.planning import plan_of

TELLS = """
import os

async def agent(ctx):
    yield f"{os.getpid()} {os.environ['OF_THE_HOST']} {os.environ['ITS_OWN']}"
"""


class Elsewhere:
    """A placement that only says that it was asked."""

    async def open(self, spec: AgentSpec) -> AgentRef:
        raise LoadError(f"{spec.name} is to be opened elsewhere")


def spec(module: str, **given: str) -> AgentSpec:
    return AgentSpec(name="agent", source=AgentSource(f"{module}:agent", lambda: None, module=module), env=given)


def test_an_authors_own_agent_has_a_process_with_all_variables_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.py").write_text(TELLS)
    monkeypatch.setenv("OF_THE_HOST", "key")
    said: list[Entry] = []

    async def main() -> None:
        process = ProcessPlacement(tmp_path, whole_environment=True)
        ref = await AuthorsPlacement(tmp_path, process, Elsewhere()).open(spec("app.py", ITS_OWN="eu"))
        try:
            assert isinstance(ref, ProcessRef)
            assert [file for file in ref.files if Path(file).is_relative_to(tmp_path)] == [str(tmp_path / "app.py")]
            await ref.run(RunContext(prompt="", run_id="r", agent="agent", principal=Principal("ann")), said.append)
            pid, *variables = said[0].data.decode().partition('"content":"')[2].partition('"')[0].split()
            assert (int(pid) in ref.pids, int(pid) != os.getpid(), variables) == (True, True, ["key", "eu"])
        finally:
            await ref.close(5)

    asyncio.run(main())


def test_what_is_installed_is_opened_where_everything_else_is(tmp_path: Path) -> None:
    placement = AuthorsPlacement(tmp_path, ProcessPlacement(tmp_path), Elsewhere())
    with pytest.raises(LoadError, match="agent is to be opened elsewhere"):
        asyncio.run(placement.open(spec("json")))


def test_an_authors_own_agent_that_does_not_load_says_which_files_may_mend_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os\nos._exit(3)\n")
    placement = AuthorsPlacement(tmp_path, ProcessPlacement(tmp_path), Elsewhere())
    with pytest.raises(LoadError, match="ended with exit code 3 before it was ready") as refused:
        asyncio.run(placement.open(spec("app.py")))
    assert list(refused.value.files or ()) == [str(tmp_path / "app.py")]


def test_it_is_there_only_where_nobody_but_the_author_is() -> None:
    for authenticating in (True, False):
        host = Host(Config(), hooks=(), authenticating=authenticating)
        host.load()
        assert (DEV in host.plugins.placements) is not authenticating


def test_a_new_release_of_what_is_imported_into_the_host_waits_for_a_restart(tmp_path: Path) -> None:
    def release(version: str) -> AgentSpec:
        source = AgentSource("acme", lambda: None, "acme-agents", version, "acme")
        return AgentSpec(name="agent", source=source, placement=DEV)

    entry = AgentEntry(release("2.1"), "ready")
    entry.ref = InProcessRef.__new__(InProcessRef)
    plan = plan_of(Config(), Config(), {"agent": entry}, [release("2.2")])
    assert plan.restart == ["agent 'agent': acme-agents 2.2 is installed, and 2.1 is imported"]
