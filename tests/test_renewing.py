"""New code of an agent takes the place of the old one; what cannot be opened leaves everything as it is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agenthost.entries import AgentEntry
from agenthost.errors import AgentNotReady, Cancelled
from agenthost.health import agent_report
from agenthost.host import Host
from agenthost.placement.process import ProcessRef
from agenthost.reloading import ReloadFailed
from agenthost.renewing import Renewing
from tests.agents_for_tests import ANN, PATIENCE, started, within
from tests.operated import Operated, operated

TABLE = '[agents.{name}]\nuse = "{name}.py:agent"\nplacement = "process"\n'

WAITS = """
import asyncio

async def agent(ctx):
    yield "old"
    while ctx.prompt == "wait":
        await asyncio.sleep(0.01)
    yield " code"
"""


def says(word: str) -> str:
    return f"import shared\nasync def agent(ctx):\n    yield f'{word} {{shared.WORD}}'\n"


class Site:
    """A host with two agents, `app` and `other`, that have their own process each, and import one module."""

    def __init__(self, operating: Operated) -> None:
        self.operating = operating
        self.host: Host = operating.host
        self.renewing = Renewing(operating.host)

    @property
    def app(self) -> AgentEntry:
        return self.host.entries["app"]

    def pids(self, name: str) -> list[int]:
        ref = self.host.entries[name].ref
        assert isinstance(ref, ProcessRef)
        return ref.pids

    def edit(self, name: str, text: str) -> None:
        """Write a file again, and say so."""
        path = self.operating.folder / name
        path.write_text(text)
        self.renewing.changed([path])

    async def until(self, there: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not there():
                await asyncio.sleep(0.01)

    async def newer(self, entry: AgentEntry) -> None:
        """Wait until another version serves in the place of `entry`."""
        await self.until(lambda: entry.successor is not None)

    async def message(self, name: str = "app") -> str:
        return (await within((await started(self.host, "hello", agent=name)).result())).message


def played(folder: Path, story: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    """Tell a story of that host."""
    (folder / "shared.py").write_text("WORD = 'word'\n")
    for name in ("app", "other"):
        (folder / f"{name}.py").write_text(says(name))

    async def main() -> None:
        async with operated(folder, TABLE.format(name="app") + TABLE.format(name="other")) as operating:
            await story(Site(operating))

    asyncio.run(main())


def test_new_code_serves_in_the_place_of_the_old_and_nobody_else_notices(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "agenthost")

    began = time.time()

    async def story(site: Site) -> None:
        assert site.renewing.agents() == ["app", "other"]
        # and of the plugins whose source is here
        assert {file for file in site.renewing.files() if file.is_relative_to(tmp_path)} == {
            tmp_path / name for name in ("app.py", "other.py", "shared.py")
        }
        assert all(began <= at <= time.time() for at in site.renewing.files().values())
        entry, mine, others = site.app, site.pids("app"), site.pids("other")
        site.edit("app.py", says("new"))
        await site.newer(entry)
        assert await site.message() == "new word"
        assert site.pids("app") != mine
        assert site.pids("other") == others
        assert "app.py has changed: agent 'app' is reloaded" in caplog.messages

    played(tmp_path, story)


def test_a_run_that_has_begun_ends_on_the_code_that_it_began_on(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        entry = site.app
        site.edit("app.py", WAITS)
        await site.newer(entry)
        entry, old = site.app, site.pids("app")
        run = await started(site.host, "wait", agent="app")
        await site.until(lambda: entry.busy)
        site.edit("app.py", says("new"))
        await site.newer(entry)
        assert await site.message() == "new word"
        assert [one.ref.pids for one in site.host.registry.draining.entries if isinstance(one.ref, ProcessRef)] == [old]
        run.cancel(Cancelled("enough"))
        await site.operating.quiet()

    played(tmp_path, story)


def test_a_module_that_both_import_opens_both_anew(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        entries = [site.host.entries[name] for name in ("app", "other")]
        site.edit("shared.py", "WORD = 'changed'\n")
        for entry in entries:
            await site.newer(entry)
        assert [await site.message(name) for name in ("app", "other")] == ["app changed", "other changed"]

    played(tmp_path, story)


def test_code_that_does_not_load_leaves_the_old_until_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(site: Site) -> None:
        entry, pids = site.app, site.pids("app")
        site.edit("app.py", "import half\n" + says("new"))
        await site.until(lambda: entry.outdated)
        assert (await site.message(), site.pids("app")) == ("app word", pids)
        report = agent_report(entry)
        assert (report["status"], report["state"]) == ("ok", "ready")
        assert report["not_reloaded"] == (
            "agent 'app' (app.py:agent) failed to load: ModuleNotFoundError: No module named 'half'"
        )
        told = caplog.messages[-1]
        assert told.startswith("app.py has changed: not reloaded, the version before goes on serving\n")
        assert f'File "{tmp_path}/app.py", line 1, in <module>\n    import half\nModuleNotFoundError' in told

        site.edit("half.py", "def broken(:\n")  # it was not there: where it would be is looked at too
        await site.until(lambda: entry.outdated and "SyntaxError" in entry.outdated.message)
        site.edit("half.py", "")
        await site.newer(entry)
        assert await site.message() == "new word"
        assert "not_reloaded" not in agent_report(site.app)

    played(tmp_path, story)


def test_code_that_changes_while_it_is_being_opened_is_opened_again_and_the_last_one_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "agenthost")

    async def story(site: Site) -> None:
        entry = site.app
        for number in range(5):
            site.edit("app.py", says(f"take{number}"))
            await asyncio.sleep(0.01)
        await site.newer(entry)
        assert await site.message() == "take4 word"
        assert caplog.messages.count("app.py has changed: agent 'app' is reloaded") == 1

    played(tmp_path, story)


def test_what_was_compiled_in_the_same_second_from_as_many_letters_is_not_taken_for_it(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        for word in ("one", "two"):
            entry = site.app
            (tmp_path / "app.py").write_text(says(word))
            os.utime(tmp_path / "app.py", (1_700_000_000, 1_700_000_000))
            site.renewing.changed([tmp_path / "app.py"])
            await site.newer(entry)
            assert await site.message() == f"{word} word"

    played(tmp_path, story)


def test_a_module_that_is_imported_inside_a_function_is_looked_at_from_then_on(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        entry = site.app
        (tmp_path / "late.py").write_text("WORD = 'early'\n")
        site.edit("app.py", "async def agent(ctx):\n    import late\n    yield late.WORD\n")
        await site.newer(entry)
        entry = site.app
        assert await site.message() == "early"
        await site.until(lambda: tmp_path / "late.py" in site.renewing.files())
        site.edit("late.py", "WORD = 'later'\n")
        await site.newer(entry)
        assert await site.message() == "later"

    played(tmp_path, story)


def test_a_reload_of_agents_toml_that_comes_first_is_opened_anew_as_well(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        site.edit("app.py", "import time; time.sleep(0.3)\n" + says("new"))
        await site.operating.reload(TABLE.format(name="app") + "env = { A = '1' }\n" + TABLE.format(name="other"))
        await site.until(lambda: not site.renewing._going)
        assert site.app.spec.env == {"A": "1"}
        assert await site.message() == "new word"

    played(tmp_path, story)


def test_an_agent_that_had_failed_is_loaded_when_its_file_changes_and_one_that_is_out_of_service_is_not(
    tmp_path: Path,
) -> None:
    async def story(site: Site) -> None:
        lazy = '\nload = "lazy"\n'
        (tmp_path / "broken.py").write_text("agent = (\n")
        await site.operating.reload(
            TABLE.format(name="app")
            + TABLE.format(name="other")
            + TABLE.format(name="broken").replace("[agents.broken]", "[agents.broken]" + lazy)
        )
        broken = site.host.entries["broken"]
        assert broken.state == "discovered"
        site.edit("broken.py", "agent = [\n")
        await asyncio.sleep(0)
        assert broken.state == "discovered"
        with pytest.raises(AgentNotReady):
            await within(site.host.agent_for(ANN, "broken").awake())
        site.edit("broken.py", says("mended"))
        await site.until(lambda: broken.serving)
        assert await site.message("broken") == "mended word"

    played(tmp_path, story)


def test_a_new_agent_that_keeps_agents_toml_from_being_reloaded_says_which_file_may_mend_it(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        with pytest.raises(ReloadFailed):
            await site.operating.reload(TABLE.format(name="app") + TABLE.format(name="new"))
        operations = site.operating.host.operations
        assert str(tmp_path / "new.py") in operations.mended_by
        (tmp_path / "new.py").write_text(says("new"))
        await site.operating.reload()
        assert not operations.mended_by
        assert await site.message("new") == "new word"

    played(tmp_path, story)
