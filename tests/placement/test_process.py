"""`placement = "process"`: what a worker is given, how it fails to load, and its words in the host's log."""

from __future__ import annotations

import asyncio
import os
import venv
from datetime import date
from pathlib import Path

import pytest

from agenthost.agents import AgentSpec, ProcessOptions
from agenthost.errors import AgentError, LoadError
from agenthost.placement.process import ProcessPlacement
from tests.agents_for_tests import until, within
from tests.placement.workers import Log, asked, opened, said, spec_of


def refusal(folder: Path, source: str, attribute: str = "agent", **fields: object) -> LoadError:
    """Why an agent of this source cannot be opened."""
    (folder / "ag.py").write_text(source)

    async def main() -> LoadError:
        with pytest.raises(LoadError) as refused:
            await within(ProcessPlacement(folder).open(spec_of(attribute, **fields)), 60)
        return refused.value

    return asyncio.run(main())


def test_a_worker_gets_its_own_variables_and_none_of_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_API_KEY", "not for agents")
    (tmp_path / "env.py").write_text("import os\nasync def agent(ctx):\n    return dict(os.environ)\n")

    async def main() -> None:
        placement = ProcessPlacement(tmp_path)
        spec = AgentSpec(name="agent", source=spec_of("x").source.__class__("env.py:agent", list), env={"REGION": "eu"})
        ref = await within(placement.open(spec))
        log = Log()
        await within(ref.run(asked(), log.emit))
        await ref.close(5.0)
        text = log.entries[0].data.decode()
        assert '"REGION":"eu"' in text
        assert "not for agents" not in text

    asyncio.run(main())


def test_settings_reach_the_agent_and_dates_as_text(tmp_path: Path) -> None:
    (tmp_path / "ag.py").write_text("async def agent(ctx):\n    yield repr(ctx.settings)\n")

    async def main() -> None:
        spec = spec_of("agent", settings={"a": [1.5, None], "since": date(2026, 11, 24)})
        ref = await within(ProcessPlacement(tmp_path).open(spec))
        log = Log()
        await within(ref.run(asked(), log.emit))
        await ref.close(5.0)
        assert log.texts == ["{'a': [1.5, None], 'since': '2026-11-24'}"]

    asyncio.run(main())


def test_a_worker_that_ends_while_it_loads_says_how_and_its_last_words(tmp_path: Path) -> None:
    problem = refusal(tmp_path, "import os\nprint('no disk', flush=True)\nos._exit(9)\n")
    assert problem.message == (
        "agent 'agent' (ag.py:agent) failed to load: its worker ended with exit code 9 before it was ready: no disk"
    )
    assert problem.hint == "set enabled = false under [agents.agent]"


def test_an_import_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    problem = refusal(tmp_path, "import time\ntime.sleep(600)\n", load_timeout=0.3)
    assert problem.message == "agent 'agent' (ag.py:agent) failed to load: import took over 0.3s"


def test_an_agent_that_raises_while_it_is_imported_shows_its_own_frames(tmp_path: Path) -> None:
    problem = refusal(tmp_path, "import torch_that_is_not_there\n")
    assert problem.message.endswith("ModuleNotFoundError: No module named 'torch_that_is_not_there'")
    assert problem.hint == "pip install torch_that_is_not_there, or set enabled = false under [agents.agent]"
    assert "import torch_that_is_not_there" in (problem.traceback or "")


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def nowhere(_spec: AgentSpec) -> Path:
        return Path("/nowhere/python")

    async def main() -> None:
        with pytest.raises(LoadError, match="its worker cannot be started with /nowhere/python: No such file"):
            await within(ProcessPlacement(tmp_path, interpreter=nowhere).open(spec_of("echo")))

    asyncio.run(main())


def test_another_environment_has_the_hosts_agenthost_and_nothing_else_of_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    source = "from importlib.util import find_spec\nasync def agent(ctx):\n    yield repr(find_spec('orjson'))\n"
    (tmp_path / "ag.py").write_text(source)

    async def interpreter(_spec: AgentSpec) -> Path:
        return tmp_path / "venv" / "bin" / "python"

    async def main() -> None:
        ref = await within(ProcessPlacement(tmp_path, interpreter=interpreter).open(spec_of("agent")))
        log = Log()
        await within(ref.run(asked(), log.emit))
        await ref.close(5.0)
        assert log.texts == ["None"]

    asyncio.run(main())


def test_no_module_of_a_worker_is_taken_from_the_folder_that_the_host_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("types", "warnings", "contextlib", "agenthost", "json"):
        (here / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(here)

    async def main() -> None:
        async with opened(tmp_path, "echo") as ref:
            assert await said(ref, "hello") == ["hello"]

    asyncio.run(main())


def test_what_cannot_be_sent_to_a_worker_fails_the_run_and_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "echo") as ref:
            with pytest.raises(AgentError, match="the run cannot be sent to a worker: it holds object"):
                await ref.run(asked(input=object()), Log().emit)

    asyncio.run(main())


def test_blocking_agents_have_their_threads_in_each_worker(tmp_path: Path) -> None:
    (tmp_path / "ag.py").write_text("def agent(ctx):\n    return ctx.prompt\n")

    async def main() -> None:
        ref = await within(ProcessPlacement(tmp_path).open(spec_of("agent", process=ProcessOptions(workers=2))))
        assert ref.info.max_runs == 128
        await ref.close(5.0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("agent", "words"),
    [("Ill", "ValueError: no connection"), ("Odd", "TypeError: its health is of type bool, not Health")],
)
def test_an_agent_that_cannot_say_how_it_is_says_why(tmp_path: Path, agent: str, words: str) -> None:
    async def main() -> None:
        async with opened(tmp_path, agent) as ref:
            with pytest.raises(AgentError) as failed:
                await ref.health()
            assert failed.value.message == words

    asyncio.run(main())


def test_what_a_worker_prints_and_logs_is_in_the_hosts_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    source = "async def agent(ctx):\n    print('printed')\n    ctx.log.warning('logged %s', 1)\n    yield 'x'\n"
    (tmp_path / "ag.py").write_text(source)

    async def main() -> None:
        ref = await within(ProcessPlacement(tmp_path).open(spec_of("agent")))
        await within(ref.run(asked(), Log().emit))
        await until(lambda: {"printed", "logged 1"} <= set(caplog.messages))
        await ref.close(5.0)

    asyncio.run(main())
    records = {record.getMessage(): record for record in caplog.records}
    assert records["logged 1"].name == "agenthost.agent.agent"
    assert records["logged 1"].run_id == "r"  # type: ignore[attr-defined]  # an extra
    assert records["printed"].agent == "agent"  # type: ignore[attr-defined]  # an extra


def test_pids_are_those_of_processes_that_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "pid") as ref:
            assert await said(ref) == [str(pid) for pid in ref.pids]
            os.kill(ref.pids[0], 0)

    asyncio.run(main())
