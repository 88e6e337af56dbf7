"""The contract of placements as a test class: an agent behaves alike wherever it runs, and fails alike."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from unittest import SkipTest

from agenthost.config import Config
from agenthost.errors import AgentCrashed, AgentError, AgentUnavailable, BadEvent, RunError
from agenthost.events import MAX_EVENT
from agenthost.host import Host
from agenthost.resuming import Reply
from agenthost.run import Run
from agenthost.testing import contract_agents
from agenthost.testing.stage import WITHIN, Stage
from agenthost.threads import Part, ThreadKey

T = TypeVar("T")


class PlacementContract:
    """Subclass it in a test module, name your placement, and run the module with pytest.

    `placement` is what agents.toml calls it; `hooks` are modules or objects that register it, where no installed
    distribution does. `isolates` says that an agent which ends its process leaves the host alone.
    """

    placement: ClassVar[str] = "in-process"
    hooks: ClassVar[Sequence[object]] = ()
    isolates: ClassVar[bool] = True

    @asynccontextmanager
    async def stage(self, *agents: str, settings: dict[str, Any] | None = None, **keys: Any) -> AsyncIterator[Stage]:
        """A host that serves these agents of the contract under the placement; `keys` are keys of [agents.*]."""
        with tempfile.TemporaryDirectory(prefix="agenthost-contract-") as name:
            folder = Path(name)
            given = {"notes": str(folder / "notes")} if settings is None else settings
            file = contract_agents.__file__
            asked = {
                agent.lower().replace("_", "-"): {
                    "use": f"{file}:{agent}",
                    "placement": self.placement,
                    "settings": given if agent in _NOTING else {},
                    **keys,
                }
                for agent in agents
            }
            told = {"store": {"url": "memory:"}, "agents": asked, "base_dir": folder}
            host = Host(Config.model_validate(told), builtins=self.hooks, authenticating=False)
            try:
                await host.start(settle=WITHIN)
                yield Stage(host, folder)
            finally:
                await host.stop(drain=0.0)

    def play(self, story: Coroutine[Any, Any, T]) -> T:
        """Run a story to its end; one that takes too long has failed."""
        return asyncio.run(_bounded(story))

    def test_what_an_agent_says_is_sent_as_it_was_said(self) -> None:
        async def story() -> None:
            async with self.stage("everything") as stage:
                said = await stage.told("everything", "it")
            assert [event["type"] for event in said] == [
                "think", "tool_start", "tool_progress", "tool_complete", "tool_complete", "model_chunk", "model_chunk",
                "usage", "artifact", "x-mark", "frame", "done",
            ]  # fmt: skip
            assert said[1]["arguments"] == {"q": "it"}
            assert said[3]["result"] == {"found": [1, None, 2.5]}
            assert (said[5]["content"], said[6]["reasoning"]) == ("the \u2028", "since it is é")
            assert (said[8]["text"], said[9]["data"], said[10]) == ("a\0b", {"at": None}, {"a": 1, "type": "frame"})

        self.play(story())

    def test_a_run_is_folded_into_its_result(self) -> None:
        async def story() -> None:
            async with self.stage("everything") as stage:
                result = await (await stage.start("everything", "it", thread_id="t")).result()
                stored = await stage.host.store.get_thread(ThreadKey("ann", "everything", "t"))
            assert (result.status, result.stop_reason, result.message) == ("completed", "complete", "the \u2028end")
            assert (result.output, result.tool_calls, result.iterations) == ({"seen": "it"}, 2, 12)
            assert result.usage is not None
            assert (result.usage["input_tokens"], result.usage["cost_usd"]) == (3, 0.5)
            assert stored is not None
            assert [message.role for message in stored.messages] == ["user", "assistant", "tool", "tool", "assistant"]

        self.play(story())

    def test_an_event_is_there_before_the_next_is_said(self) -> None:
        async def story() -> None:
            async with self.stage("steps") as stage:
                run = await stage.start("steps")
                reader = await stage.first(run)
                assert run.outcome.message == "first "
                (stage.folder / "go").touch()
                assert (await run.result()).message == "first second"
                reader.close()

        self.play(story())

    def test_ten_thousand_events_come_in_order(self) -> None:
        async def story() -> None:
            async with self.stage("count") as stage:
                said = await stage.told("count", "10000")
            assert [event["content"] for event in said[:-1]] == [f"{number} " for number in range(10000)]
            assert said[-1]["type"] == "done"

        self.play(story())

    def test_the_largest_event_passes_and_a_larger_one_fails_the_run(self) -> None:
        async def story() -> None:
            most = MAX_EVENT - len(b'{"type":"model_chunk","content":""}')
            async with self.stage("large") as stage:
                assert len((await stage.told("large", str(most)))[0]["content"]) == most
                [failed] = await stage.told("large", str(most + 1))
            assert failed["code"] == "bad_event"

        self.play(story())

    def test_an_agent_whose_reader_does_not_read_is_halted_and_goes_on_with_it(self) -> None:
        async def story() -> None:
            async with self.stage("unread") as stage:
                run = await stage.start("unread")
                reader = run.read()
                await stage.quiet(0.3)
                assert len(stage.notes()) < 1500, "the agent is far ahead of its reader"
                said = await stage.read(run, reader)
            assert [event["content"][:5] for event in said[:-1]] == [f"{number:04} " for number in range(4000)]
            assert said[-1]["type"] == "done"

        self.play(story())

    def test_many_runs_at_once_do_not_mix(self) -> None:
        async def story() -> None:
            async with self.stage("count", "blocking") as stage:
                runs = [await stage.start("count", str(number)) for number in range(50)]
                messages = [(await run.result()).message for run in runs]
                shouts = [await stage.start("blocking", f"w{number}") for number in range(10)]
                shouted = [(await run.result()).message for run in shouts]
            assert messages == ["".join(f"{one} " for one in range(number)) for number in range(50)]
            assert shouted == [f"W{number}" for number in range(10)]

        self.play(story())

    def test_a_failure_fails_the_run_and_is_told_to_operators_alone(self) -> None:
        failures = {
            "raise": (AgentError, "RuntimeError: the secret of the failure"),
            "exit": (AgentError, "SystemExit: 3"),
            "recurse": (AgentError, "RecursionError: maximum recursion depth exceeded"),
            "own word": (AgentUnavailable, "the model is not there"),
            "event": (BadEvent, "the agent yielded what cannot be sent: object"),
            "state": (BadEvent, "ctx.state cannot be kept: object"),
            "after the result": (
                BadEvent,
                "the agent yielded what cannot be sent: model_chunk after the Result, which is the last event of a run",
            ),
        }

        async def story() -> None:
            async with self.stage("failing") as stage:
                for prompt, (kind, message) in failures.items():
                    run = await stage.start("failing", prompt, thread_id="t")
                    said = await stage.read(run)
                    failure = await _failure(run)
                    assert isinstance(failure, kind), prompt
                    assert failure.message.startswith(message), prompt
                    assert [event["type"] for event in said] == ["model_chunk", "error"], prompt
                    assert "secret" not in str(said)
                number = await stage.told("failing", "nan")
            assert (number[1]["data"], number[2]["type"]) == (None, "done")

        self.play(story())

    def test_a_process_that_ends_fails_its_run_and_the_agent_serves_again(self) -> None:
        if not self.isolates:
            raise SkipTest("here an agent that ends its process ends the host")

        async def story() -> None:
            async with self.stage("crash") as stage:
                run = await stage.start("crash", "crash")
                began = time.monotonic()
                failure = await _failure(run)
                assert time.monotonic() - began < 5
                assert isinstance(failure, AgentCrashed)
                assert (await (await stage.start("crash")).result()).message == "still here"

        self.play(story())

    def test_a_cancel_reaches_the_agent_which_cleans_up(self) -> None:
        async def story() -> None:
            async with self.stage("held") as stage:
                run = await stage.start("held")
                reader = await stage.first(run)
                cancelled = time.monotonic()
                reader.close()  # its last reader leaves
                assert (await run.ended()).status == "cancelled"
                await stage.until(lambda: "cleaned up" in stage.notes())
                assert stage.notes()["cancelled"] - cancelled < 1
                await stage.until(lambda: not stage.host.runs.going)

        self.play(story())

    def test_a_run_that_does_not_hear_that_it_is_cancelled_ends_for_its_caller(self) -> None:
        async def story() -> None:
            async with self.stage("deaf") as stage:
                run = await stage.start("deaf", "60" if self.isolates else "0.7")
                reader = await stage.first(run)
                began = time.monotonic()
                reader.close()
                assert (await run.ended()).status == "cancelled"
                assert time.monotonic() - began < 2
                await stage.until(lambda: not stage.host.runs.going)
                assert (await (await stage.start("deaf", "0")).result()).message == "begun"

        self.play(story())

    def test_a_run_pauses_and_its_answers_find_everything_again(self) -> None:
        async def story() -> None:
            async with self.stage("asks") as stage:
                paused = await stage.start("asks", "do it", thread_id="t", input={"a": 1})
                said = await stage.read(paused)
                assert (await paused.ended()).status == "paused"
                run = await stage.resume("asks", Reply("q1", "b"), Reply("q2", "now"))
                result = await run.result()
            assert [event["type"] for event in said] == ["model_chunk", "interrupt", "interrupt"]
            assert said[1] == {"type": "interrupt", "question": "which?", "options": ["a", "b"], "interrupt_id": "q1"}
            assert result.output == {
                "answers": [["q1", "b", {"secret": [1]}], ["q2", "now", None]],
                "state": {"runs": 2, "asked": True},
                "prompt": "do it",
                "input": {"a": 1},
            }

        self.play(story())

    def test_what_is_said_after_a_question_is_not_heard(self) -> None:
        async def story() -> None:
            async with self.stage("talks_on") as stage:
                run = await stage.start("talks-on", thread_id="t")
                said = await stage.read(run)
                assert (await run.ended()).status == "paused"
            assert [event["type"] for event in said] == ["interrupt"]

        self.play(story())

    def test_an_agent_is_given_all_of_its_run(self) -> None:
        async def story() -> None:
            content = [Part(text="look"), Part(media_type="image/png", data=b"\x89\xff"), Part(json={"a": [1]})]
            request = {"thread_id": "t", "content": content, "input": {"item": "é"}, "metadata": {"m": [1, "x"]}}
            async with self.stage("Structured", timeout=60) as stage:
                await (await stage.start("structured", "before", thread_id="t")).result()
                run = await stage.start("structured", "look", **request)
                output = (await run.result()).output
                entry = stage.host.entries["structured"]
            assert (entry.title, entry.description) == ("Structured", "Mirrors")
            assert (entry.info.input_schema or {})["properties"] == {"item": {"type": "string"}}
            assert entry.info.output_schema == {"type": "object"}
            assert 0 < output.pop("remaining") <= 60
            parts = [part.to_json() for part in content]
            before = [["user", "before", [{"type": "text", "text": "before"}]],
                      ["assistant", "mirrored", [{"type": "text", "text": "mirrored"}]]]  # fmt: skip
            assert output == {
                "prompt": "look",
                "input": {"item": "é"},
                "metadata": {"m": [1, "x"]},
                "content": parts,
                "messages": [*before, ["user", "look", parts]],
                "thread": ["ann", "structured", "t"],
                "principal": ["ann", ["staff"], False],
                "agent": "structured",
                "run_id": run.id,
            }

        self.play(story())

    def test_an_agent_calls_another_one(self) -> None:
        async def story() -> None:
            async with self.stage("calls", "everything", "asks", "failing", "held") as stage:

                async def outcome(agent: str, prompt: str = "it") -> tuple[str, Any]:
                    result = await (await stage.start("calls", prompt, input={"agent": agent})).result()
                    return result.message, result.output

                message, output = await outcome("everything")
                assert (message, output["status"], output["output"]) == ("the \u2028end", "completed", {"seen": "it"})
                assert await outcome("asks") == ("paused", "which?")
                assert await outcome("failing", "raise") == ("failed", ["agent_error", True])
                run = await stage.start("calls", input={"agent": "held"})
                reader = run.read()
                await stage.until(lambda: len(stage.host.runs.going) == 2)
                reader.close()  # cancelled with its caller
                await stage.until(lambda: "cleaned up" in stage.notes())
                await stage.until(lambda: not stage.host.runs.going)

        self.play(story())

    def test_a_lifespan_is_entered_before_the_first_run_and_left_at_the_end(self) -> None:
        async def story() -> None:
            async with self.stage("Lives") as stage:
                assert (await (await stage.start("lives")).result()).message == "entered: True"
                assert set(stage.notes()) == {"entered"}
                await stage.host.registry.close(WITHIN)
                assert set(stage.notes()) == {"entered", "left"}

        self.play(story())

    def test_an_agent_says_how_it_is(self) -> None:
        async def story() -> None:
            async with self.stage("Lives") as stage:
                ref = stage.host.entries["lives"].ref
                assert ref is not None
                assert (await ref.health()).ok
                (stage.folder / "ill").write_text("no connection")
                health = await ref.health()
                assert (health.ok, health.detail) == (False, "no connection")

        self.play(story())

    def test_an_agent_keeps_its_own_threads(self) -> None:
        async def story() -> None:
            async with self.stage("Keeper") as stage:
                await (await stage.start("keeper", "remember", thread_id="t")).result()
                entry, key = stage.host.entries["keeper"], ThreadKey("ann", "keeper", "t")
                assert entry.info.keeps_threads
                assert entry.ref is not None
                thread = await entry.ref.get_thread(key)
                assert isinstance(thread, Sequence)
                [message] = thread
                assert (message.role, message.text, message.metadata) == ("user", "remember", {"kept": True})
                assert await entry.ref.delete_thread(key)
                assert await entry.ref.get_thread(key) is None
                assert not await entry.ref.delete_thread(key)
                await (await stage.start("keeper", "more", thread_id="t")).result()
                more = await entry.ref.get_thread(key)
                assert isinstance(more, Mapping)
                assert (more["messages"][0].text, more["paused"]) == ("more", True)

        self.play(story())

    def test_settings_are_checked_by_the_agents_own_type(self) -> None:
        async def story() -> None:
            async with self.stage("Lives", settings={"nots": "x"}) as stage:
                entry = stage.host.entries["lives"]
                assert entry.state == "failed"
                assert entry.reason is not None
                assert "does not accept its settings: unknown key 'nots'; did you mean 'notes'?" in entry.reason.message
                assert entry.reason.hint == "correct [agents.lives.settings]"

        self.play(story())

    def test_an_agent_that_is_not_there_is_named(self) -> None:
        async def story() -> None:
            async with self.stage("Livse") as stage:
                entry = stage.host.entries["livse"]
                assert entry.state == "failed"
                assert entry.reason is not None
                assert "has no attribute 'Livse'" in entry.reason.message
                assert (entry.reason.hint or "").startswith("did you mean 'Lives'?")

        self.play(story())


_NOTING = {"Lives", "Keeper", "unread", "steps", "held"}


async def _bounded(story: Awaitable[T]) -> T:
    async with asyncio.timeout(4 * WITHIN):
        return await story


async def _failure(run: Run) -> RunError:
    try:
        await run.result()
    except RunError as failure:
        return failure
    raise AssertionError("the run did not fail")
