"""`in-process`: the agent runs in the run's own task; its events are numbered and encoded, and it is always closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from agenthost.agents import RunContext
from agenthost.auth import Principal
from agenthost.encoding import encode_event
from agenthost.errors import AgentError, AgentUnavailable, BadEvent, LoadError, RunError
from agenthost.events import Entry, Result
from agenthost.importing import Importer
from agenthost.placement.in_process import InProcess
from tests.agents_for_tests import SECRET, served, within


class Over(Exception):
    """What a run raises to whoever goes on emitting."""


class Log:
    """Takes entries as a run does: up to `room` of them, waiting before each `turn`th."""

    def __init__(self, *, room: int = 1000, turn: int = 1000) -> None:
        self.entries: list[Entry] = []
        self.waits = 0
        self._room, self._turn = room, turn

    def emit(self, entry: Entry) -> Awaitable[None] | None:
        if len(self.entries) == self._room:
            raise Over
        self.entries.append(entry)
        return self._wait() if len(self.entries) % self._turn == 0 else None

    async def _wait(self) -> None:
        self.waits += 1
        await asyncio.sleep(0)


async def opened(agent: Any, **fields: Any) -> Any:
    return await within(InProcess(Importer(), list, encode_event).open(served(agent, **fields)))


async def run(agent: Any, log: Log, **fields: Any) -> None:
    ref = await opened(agent, **fields)
    await within(ref.run(RunContext(prompt="", run_id="r", agent="agent", principal=Principal("ann")), log.emit))


class Noting:
    """Says numbers; notes how it ended."""

    def __init__(self, *, last: Any = None) -> None:
        self.ended: list[str] = []
        self._last = last

    async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
        try:
            for number in range(5):
                yield str(number)
            if self._last is not None:
                yield self._last
            self.ended.append("through")
        except BaseException as raised:
            self.ended.append(type(raised).__name__)
            raise


def test_events_are_numbered_from_one_and_a_full_log_is_waited_for() -> None:
    log, agent = Log(turn=2), Noting(last=Result("m"))
    asyncio.run(run(lambda: agent, log))
    assert [(entry.seq, entry.type) for entry in log.entries] == [
        *((seq, "model_chunk") for seq in range(1, 6)),
        (6, "result"),
    ]
    assert (log.waits, agent.ended) == (3, ["through"])


def test_what_a_function_returns_is_emitted_like_any_event() -> None:
    async def answers(ctx: RunContext) -> Any:
        return {"settings": ctx.settings}

    log = Log(turn=1)
    asyncio.run(run(answers, log, settings={"a": 1}))
    assert [(entry.seq, entry.type) for entry in log.entries] == [(1, "result")]
    assert isinstance(log.entries[0].event, Result)
    assert log.entries[0].event.output == {"settings": {"a": 1}}
    assert log.waits == 1


def test_what_emit_raises_goes_through_once_the_agent_is_closed() -> None:
    agent = Noting()
    with pytest.raises(Over):
        asyncio.run(run(lambda: agent, Log(room=2)))
    assert agent.ended == ["GeneratorExit"]


def test_what_cannot_be_encoded_is_a_bad_event_and_the_agent_is_closed() -> None:
    agent = Noting(last=object())
    with pytest.raises(BadEvent, match="the agent yielded what cannot be sent: object"):
        asyncio.run(run(lambda: agent, Log()))
    assert agent.ended == ["GeneratorExit"]


@pytest.mark.parametrize(
    "raised",
    [ValueError(SECRET), SystemExit(SECRET), GeneratorExit(SECRET), KeyboardInterrupt(SECRET)],
    ids=lambda raised: type(raised).__name__,
)
@pytest.mark.parametrize("where", ["call", "aiter", "next", "close", "function"])
def test_whatever_an_agent_raises_wherever_is_its_error_with_the_cause(raised: BaseException, where: str) -> None:
    class Raises:
        def run(self, ctx: RunContext) -> AsyncIterator[str]:
            if where == "call":
                raise raised
            return self

        def __aiter__(self) -> Any:
            if where == "aiter":
                raise raised
            return self

        async def __anext__(self) -> str:
            if where == "next":
                raise raised
            raise StopAsyncIteration

        async def aclose(self) -> None:
            if where == "close":
                raise raised

    async def function(ctx: RunContext) -> str:
        raise raised

    Raises.run.__annotations__["return"] = "AsyncIterator[str]"
    with pytest.raises(AgentError) as error:
        asyncio.run(run(function if where == "function" else Raises, Log()))
    assert error.value.message == f"{type(raised).__name__}: {SECRET}"
    assert error.value.__cause__ is raised


@pytest.mark.parametrize("own", [AgentError("its model refuses"), AgentUnavailable("busy", retry_after=3)])
def test_an_agents_own_word_for_its_failure_is_kept(own: RunError) -> None:
    async def says(ctx: RunContext) -> str:
        raise own

    with pytest.raises(type(own)) as error:
        asyncio.run(run(says, Log()))
    assert (error.value.message, error.value.retry_after) == (own.message, own.retry_after)
    assert error.value is not own
    assert error.value.__cause__ is own


def test_another_runs_failure_is_not_this_ones_word() -> None:
    async def passes_on(ctx: RunContext) -> str:
        failure = AgentError("of a run that it called")
        failure.correlation_id = "c"
        raise failure

    with pytest.raises(AgentError, match=r"^AgentError: of a run that it called$"):
        asyncio.run(run(passes_on, Log()))


def test_a_cancel_goes_through_as_it_is() -> None:
    agent = Noting()

    async def waits(ctx: RunContext) -> AsyncIterator[str]:
        async for event in agent.run(ctx):
            yield event
        await asyncio.Event().wait()

    async def main() -> None:
        log = Log()
        task = asyncio.create_task(run(waits, log))
        while len(log.entries) < 5:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_is_raised_while_loading_is_a_load_error_that_blames_the_distribution() -> None:
    class Bad:
        def __init__(self) -> None:
            raise SystemExit(3)

        async def run(self, ctx: RunContext) -> str:
            return ""

    with pytest.raises(LoadError) as refused:
        asyncio.run(opened(Bad))
    assert refused.value.message == "agent 'agent' (tests:agent) failed to load: SystemExit: 3"
    assert refused.value.hint == "let it not end the process, or set enabled = false under [agents.agent]"


def test_an_agent_without_a_lifespan_is_closed_at_once() -> None:
    async def main() -> None:
        await (await opened(Noting)).close(5.0)

    asyncio.run(main())
