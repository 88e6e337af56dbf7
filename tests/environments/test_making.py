"""The interpreter of an agent: made by real uv from packages that are there, once, or a reason why not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthost.agents import AgentSource, AgentSpec
from agenthost.entries import AgentEntry
from agenthost.environments import Environments, home, kept
from agenthost.environments.folder import Kept
from agenthost.errors import LoadError
from tests.agents_for_tests import until, within
from tests.packages import AGENT, HOSTS_OWN, SlowProject, offline, shows, specified, wheel

OFF = "set enabled = false under [agents.agent]"


class Making:
    """Environments of a folder without an index; `steps` are all that were announced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[str] = []
        self.environments = self.more()

    def more(self, limit: float | None = 30.0, **environ: str) -> Environments:
        def announce(agent: str, what: str) -> None:
            self.steps.append(f"{agent}: {what}")

        return Environments(limit=limit, announce=announce, environ=offline(**environ))

    def python(self, *requirements: str, **options: object) -> Path:
        spec = specified(self.folder, *requirements, **options)
        return asyncio.run(within(self.environments.interpreter(spec)))

    def problem(self, *requirements: str, **options: object) -> LoadError:
        with pytest.raises(LoadError) as failed:
            self.python(*requirements, **options)
        return failed.value

    @property
    def made(self) -> int:
        return sum("made in" in step for step in self.steps)

    @property
    def kept(self) -> list[Kept]:
        return kept(home(self.folder, {}))


@pytest.fixture
def making(tmp_path: Path) -> Iterator[Making]:
    found = Making(tmp_path)
    yield found
    found.environments.close()


@pytest.fixture
def billing(tmp_path: Path) -> str:
    """A requirement: a wheel with an agent, which needs what only the host has."""
    requires = ("acme-tax", *HOSTS_OWN)
    built = wheel(tmp_path, "acme-billing", "2.1", agents={"billing": "acme_billing:agent"},
                  modules={"acme_billing": AGENT}, requires=requires)  # fmt: skip
    tax = wheel(tmp_path, "acme-tax", "0.3")
    (tmp_path / "uv.toml").write_text(f'no-index = true\nfind-links = ["{tmp_path}"]\n')
    assert tax.exists()
    return f"./{built.name}"


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowProject]:
    project = SlowProject(tmp_path / "slow")
    yield project
    project.let_go()


def test_an_agent_without_an_environment_has_the_hosts_own_python(making: Making) -> None:
    spec = AgentSpec(name="plain", source=AgentSource("plain", lambda: None))
    assert asyncio.run(making.environments.interpreter(spec)) == Path(sys.executable)


def test_an_environment_has_what_was_asked_for_and_all_it_needs_but_what_the_host_brings(
    making: Making, billing: str
) -> None:
    python = making.python(billing)
    assert python == making.kept[0].python
    assert python.is_relative_to(making.folder / ".agenthost" / "environments")
    assert shows(python) == "billing=acme_billing:agent acme-billing-2.1 acme-tax-0.3"
    made = making.kept[0].made()
    assert made is not None
    assert (made.asked, made.python) == (billing, sys.version.split()[0])


def test_it_is_made_once_and_then_only_found(making: Making, billing: str) -> None:
    first = making.python(billing)
    assert making.made == 1
    steps = len(making.steps)
    assert making.python(billing) == first
    again = making.more()
    assert asyncio.run(again.interpreter(specified(making.folder, billing))) == first
    assert len(making.steps) == steps
    again.close()


def test_a_change_makes_a_new_one_beside_the_old(making: Making, tmp_path: Path) -> None:
    pythons = [making.python(f"./{wheel(tmp_path, 'acme-tax', version).name}") for version in ("0.3", "0.4")]
    assert [shows(python) for python in pythons] == ["acme-tax-0.3", "acme-tax-0.4"]


def test_each_step_is_told_and_announced(making: Making, billing: str) -> None:
    told: list[str] = []
    asyncio.run(within(making.environments.interpreter(specified(making.folder, billing), told.append)))
    (one,) = making.kept
    assert told[0] == f"is making its environment {one.name}: {billing}"
    assert any(f"is making its environment {one.name}" in step and "Resolved 2 packages" in step for step in told)
    assert making.steps[0] == f"agent: environment {one.name}: {billing}"
    assert making.steps[-1].startswith(f"agent: environment {one.name}: made in ")


def test_an_agents_reason_says_how_far_it_is_while_it_loads(making: Making, slow: SlowProject) -> None:
    async def main() -> None:
        entry = AgentEntry(specified(making.folder, "./slow"))
        entry.become("loading")
        preparing = asyncio.create_task(making.environments.prepare(entry))
        await until(slow.builds)
        assert entry.reason is not None
        assert entry.reason.message.startswith(f"is making its environment {making.kept[0].name}: ")
        slow.let_go()
        await within(preparing)
        assert entry.reason is None

    asyncio.run(main())


def test_two_agents_that_want_the_same_at_once_have_it_made_once(making: Making, slow: SlowProject) -> None:
    async def main() -> None:
        told: list[str] = []
        first = asyncio.create_task(making.environments.interpreter(specified(making.folder, "./slow")))
        await until(slow.builds)
        spec = specified(making.folder, "./slow", name="other")
        second = asyncio.create_task(making.environments.interpreter(spec, told.append))
        await until(lambda: told)
        assert told[0] == f"waits for its environment {making.kept[0].name}, which is being made or removed"
        slow.let_go()
        assert await within(first) == await within(second)

    asyncio.run(main())
    assert making.made == 1


def test_two_hosts_that_want_the_same_at_once_have_it_made_once(making: Making, slow: SlowProject) -> None:
    async def main() -> None:
        hosts = [making.more(), making.more()]
        tasks = [asyncio.create_task(one.interpreter(specified(making.folder, "./slow"))) for one in hosts]
        await until(slow.builds)
        slow.let_go()
        first, second = [await within(task) for task in tasks]
        assert first == second
        for one in hosts:
            assert making.kept[0].in_use()
            one.close()
        assert not making.kept[0].in_use()

    asyncio.run(main())
    assert making.made == 1


def test_what_was_given_out_is_held_until_no_agent_has_it(making: Making, billing: str) -> None:
    making.python(billing)
    (one,) = making.kept
    assert not one.remove()
    making.environments.keep_only([specified(making.folder, billing, name="other")])
    assert not one.remove()
    making.environments.keep_only([specified(making.folder, "six")])
    assert one.remove()


def test_one_that_was_deleted_by_hand_is_made_again(making: Making, billing: str) -> None:
    making.python(billing)
    subprocess.run(["rm", "-rf", making.kept[0].path], check=True)
    assert shows(making.python(billing)).startswith("billing=")
    assert making.made == 2


def test_cancelled_it_ends_uv_counts_as_not_made_and_can_be_made_again(making: Making, slow: SlowProject) -> None:
    async def main() -> None:
        spec = specified(making.folder, "./slow")
        task = asyncio.create_task(making.environments.interpreter(spec))
        await until(slow.builds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
        assert making.kept[0].made() is None
        assert not making.kept[0].in_use()
        await until(lambda: not slow.builds())
        slow.let_go()
        assert shows(await within(making.environments.interpreter(spec))) == "slow=slow:agent slow-1.0"

    asyncio.run(main())


def test_one_that_takes_too_long_is_given_up_with_what_to_do(making: Making, slow: SlowProject) -> None:
    with pytest.raises(LoadError) as failed:
        asyncio.run(within(making.more(limit=0.5).interpreter(specified(making.folder, "./slow"))))
    assert failed.value.message == (
        "agent 'agent' (./slow) failed to load: making its environment took longer than 0.5 s"
    )
    assert failed.value.hint == f"make it ahead, without a limit: agenthost env build agent, or {OFF}"


@pytest.mark.fault
def test_a_host_that_is_killed_while_it_makes_one_leaves_nothing_that_counts(making: Making, slow: SlowProject) -> None:
    """uv goes on without its host and holds the lock until it has ended; what it then leaves counts as nothing too."""
    (making.folder / "agents.toml").write_text('[agents.slow]\nenvironment = { requirements = ["./slow"] }\n')
    command = [sys.executable, "-m", "agenthost", "env", "build", "--config", str(making.folder / "agents.toml")]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    host = subprocess.Popen(command, env=offline(PYTHONPATH=os.getcwd()), **quiet)

    async def main() -> None:
        await until(slow.builds)
        host.send_signal(signal.SIGKILL)
        host.wait()
        (one,) = making.kept
        assert one.made() is None
        assert one.in_use()
        slow.let_go()
        await until(lambda: not one.in_use())
        assert one.made() is None
        python = await within(making.environments.interpreter(specified(making.folder, "./slow")))
        assert shows(python) == "slow=slow:agent slow-1.0"

    asyncio.run(main())
    assert making.made == 1


def test_what_uv_says_is_the_reason(making: Making) -> None:
    problem = making.problem("acme-none==1")
    assert problem.message.startswith(
        "agent 'agent' (acme-none==1) failed to load: its environment cannot be made: uv: No solution found when "
        "resolving dependencies: Because acme-none was not found in the cache and you require acme-none==1"
    )
    assert problem.hint == f"mend environment under [agents.agent], or {OFF}"
    assert making.kept[0].made() is None


def test_a_build_that_fails_brings_all_that_it_said(making: Making, slow: SlowProject) -> None:
    (slow.folder / "backend.py").write_text("raise ImportError('no compiler here' + ' at all' * 200)\n")
    problem = making.problem("./slow")
    assert problem.message.startswith(
        "agent 'agent' (./slow) failed to load: its environment cannot be made: uv: Failed to build"
    )
    assert problem.message.endswith("…")
    assert problem.traceback is not None
    assert "no compiler here at all" in problem.traceback


def test_no_password_is_told_or_kept_anywhere(making: Making) -> None:
    asked = "acme @ https://ann:hunter22@127.0.0.1:9/acme-1.0-py3-none-any.whl"
    problem = making.problem(asked)
    assert "agent 'agent' (acme @ https://***@127.0.0.1:9/acme-1.0-py3-none-any.whl) failed" in problem.message
    files = [path for path in making.folder.rglob("*") if path.is_file()]
    kept_texts = [path.read_text(errors="replace") for path in files]
    for text in (problem.describe(), problem.traceback or "", *making.steps, *map(str, files), *kept_texts):
        assert "hunter22" not in text


def test_without_uv_it_says_what_brings_it(
    making: Making, billing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = making.problem(billing)
    assert problem.message == (
        f"agent 'agent' ({billing}) failed to load: its environment is made with uv, which is not installed"
    )
    assert problem.hint == f"pip install 'agenthost[envs]', or {OFF}"


def test_a_folder_that_cannot_be_written_to_is_named_with_the_variable_that_names_another(
    making: Making, billing: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environments = making.more(AGENTHOST_ENVIRONMENTS=str(tmp_path / "file"))
    with pytest.raises(LoadError) as failed:
        asyncio.run(environments.interpreter(specified(making.folder, billing)))
    assert f"its environment cannot be made: {tmp_path}/file/" in failed.value.message
    assert failed.value.hint == f"name a folder that can be written to in AGENTHOST_ENVIRONMENTS, or {OFF}"


# ── lock files and environments made elsewhere ────────────────────────────────────────────────────────────────────────


def locked(folder: Path, digest: str) -> Path:
    lock = folder / "locked.txt"
    lock.write_text(f"./acme_tax-0.3-py3-none-any.whl --hash=sha256:{digest}\n")
    return lock


def test_a_lock_is_installed_exactly_and_its_hashes_count(making: Making, billing: str, tmp_path: Path) -> None:
    hashed = subprocess.run(["sha256sum", tmp_path / "acme_tax-0.3-py3-none-any.whl"], capture_output=True, check=True)
    lock = locked(tmp_path, hashed.stdout.decode().split()[0])
    assert shows(making.python(lock=lock)) == "acme-tax-0.3"
    assert making.kept[0].name.startswith("locked-")
    locked(tmp_path, "0" * 64)
    problem = making.problem(lock=lock)
    assert problem.message.startswith("agent 'agent' (lock = \"locked.txt\") failed to load: its environment cannot be")
    assert "Hash mismatch" in problem.message


def test_a_worker_that_starts_again_has_the_environment_it_had_though_the_lock_changed(
    making: Making, billing: str, tmp_path: Path
) -> None:
    def python(host: Environments, spec: AgentSpec) -> Path:
        return asyncio.run(within(host.interpreter(spec)))

    lock = tmp_path / "my.lock"
    lock.write_text("./acme_tax-0.3-py3-none-any.whl\n")
    spec = specified(making.folder, lock=lock)
    before = python(making.environments, spec)
    lock.unlink()
    assert python(making.environments, spec) == before
    wheel(tmp_path, "acme-tax", "0.4")
    lock.write_text("./acme_tax-0.4-py3-none-any.whl\n")
    assert python(making.environments, spec) == before
    assert shows(making.python(lock=lock)) == "acme-tax-0.4"


def test_a_lock_that_is_not_there_is_said(making: Making, tmp_path: Path) -> None:
    problem = making.problem(lock=tmp_path / "gone.lock")
    assert problem.message == (
        f"agent 'agent' (lock = \"gone.lock\") failed to load: there is no lock file {tmp_path}/gone.lock"
    )
    assert problem.hint == f"write it as seen from agents.toml, or {OFF}"


def interpreter(folder: Path, text: str) -> Path:
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(text)
    python.chmod(0o755)
    return python


def test_an_environment_made_elsewhere_is_used_as_it_is(making: Making, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    assert making.python(venv=venv) == venv / "bin" / "python"
    assert making.kept == []


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("#!/bin/sh\necho 3.10.4\n", "its environment {0} has Python 3.10.4; a worker needs 3.11",
         "make it anew: uv venv --clear --python 3.11 {0}"),
        ("#!/bin/sh\necho hello\n", "its environment's {0}/bin/python does not run",
         "make it anew: uv venv --clear {0}"),
        ("#!/no/python\n", "its environment's {0}/bin/python does not run", "make it anew: uv venv --clear {0}"),
    ],
)  # fmt: skip
def test_one_made_elsewhere_needs_a_python_that_is_new_enough(
    making: Making, tmp_path: Path, text: str, said: str, hint: str
) -> None:
    interpreter(tmp_path, text)
    problem = making.problem(venv=tmp_path / "venv")
    venv = tmp_path / "venv"
    assert problem.message == f"agent 'agent' (venv = \"venv\") failed to load: {said.format(venv)}"
    assert problem.hint == f"{hint.format(venv)}, or {OFF}"


def test_one_made_elsewhere_that_is_not_there_is_said(making: Making, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    said = f"make it: uv venv {venv}, and install the agent there, or {OFF}"
    missing = making.problem(venv=venv)
    assert missing.message.endswith(f"failed to load: its environment {venv} does not exist")
    venv.mkdir()
    empty = making.problem(venv=venv)
    assert empty.message.endswith(f"failed to load: its environment {venv} has no bin/python")
    assert missing.hint == empty.hint == said
