"""Ending is the host's word: the table of endings, each row through the engine, as a stream and as a result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext, RunRequest
from agenthost.errors import Cancelled, RunError
from agenthost.events import SUCCESS_REASONS, Interrupt, ModelChunk, Result, Usage
from agenthost.host import Host
from agenthost.protocols.wire import invoke_reply
from tests.agents_for_tests import ANN, SECRET, events, hosting, idle, kinds, served, started, told, within


async def says_nothing(ctx: RunContext) -> AsyncIterator[str]:
    return
    yield


async def speaks(ctx: RunContext) -> AsyncIterator[str]:
    yield "one "
    yield "two"


async def results(ctx: RunContext) -> AsyncIterator[Any]:
    yield "chunk"
    yield Usage(model="m", input_tokens=3, output_tokens=4, cost_usd=0.5)
    yield Usage(input_tokens=1)
    yield Result(message="the answer", output={"n": 1}, reason=ctx.prompt)


async def asks(ctx: RunContext) -> AsyncIterator[Any]:
    yield "let me ask"
    yield Interrupt("really?", options=["yes", "no"], interrupt_id="q1", state={"step": 2, "secret": SECRET})
    yield Interrupt("and this?", interrupt_id="q2")
    yield "never sent"


async def raises(ctx: RunContext) -> AsyncIterator[str]:
    yield "before"
    raise ValueError(SECRET)


async def raises_at_once(ctx: RunContext) -> AsyncIterator[str]:
    raise ValueError(SECRET)
    yield


async def says_an_object(ctx: RunContext) -> AsyncIterator[Any]:
    yield "before"
    yield object()


async def says_after_the_result(ctx: RunContext) -> AsyncIterator[Any]:
    yield Result(message="the answer")
    yield "and one more thing"


async def waits(ctx: RunContext) -> AsyncIterator[str]:
    yield "before"
    await asyncio.Event().wait()


async def exits(ctx: RunContext) -> AsyncIterator[str]:
    yield "before"
    raise SystemExit(3)


@pytest.fixture(params=["ephemeral", "durable in memory", "detached", "durable"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db" if request.param == "durable" else str(request.param)


def request(store: str, prompt: str = "hello") -> RunRequest:
    thread_id = None if store in {"ephemeral", "detached"} else "t"
    return RunRequest(prompt, thread_id=thread_id, detached=store == "detached")


def url(store: str) -> str:
    return store if store.startswith("sqlite") else "memory:"


def run_with(
    store: str, agent: Any, use: Callable[[Host, RunRequest], Any], prompt: str = "hello", **fields: Any
) -> Any:
    """Serve `agent` and hand the host to `use`; afterwards nothing may be left of the run."""

    async def main() -> Any:
        async with hosting(served(agent, **fields), store=url(store)) as host:
            found = await use(host, request(store, prompt))
            await idle(host)
            return found

    return asyncio.run(main())


def test_a_return_completes_with_what_was_said(store: str) -> None:
    found = run_with(store, speaks, told)
    assert kinds(found) == ["model_chunk", "model_chunk", "done"]
    assert found[-1] == {"id": 3, "type": "done", "message": "one two", "reason": "complete"}


def test_a_return_without_a_word_completes_too(store: str) -> None:
    assert run_with(store, says_nothing, told) == [{"id": 1, "type": "done", "message": "", "reason": "complete"}]


@pytest.mark.parametrize("reason", sorted({*SUCCESS_REASONS, "max_iterations"}))
def test_a_result_says_message_output_and_reason_and_is_not_sent_itself(store: str, reason: str) -> None:
    async def use(host: Host, request: RunRequest) -> Any:
        run = await started(host, request)
        return await events(run), await run.result()

    found, result = run_with(store, results, use, prompt=reason)
    assert kinds(found) == ["model_chunk", "usage", "usage", "done"]
    usage = {"input_tokens": 4, "output_tokens": 4, "cached_tokens": 0, "reasoning_tokens": 0, "cost_usd": 0.5}
    done = {"message": "the answer", "reason": reason, "usage": usage, "output": {"n": 1}}
    assert found[-1] == {"id": 4, "type": "done", **done}
    assert (result.status, result.stop_reason, result.success) == ("completed", reason, reason in SUCCESS_REASONS)
    assert (result.message, result.output, result.usage, result.iterations) == ("the answer", {"n": 1}, usage, 4)


def test_interrupts_in_a_row_pause_together_and_end_the_run(store: str) -> None:
    async def use(host: Host, request: RunRequest) -> Any:
        run = await started(host, request)
        return await events(run), await run.result()

    found, result = run_with(store, asks, use)
    assert kinds(found) == ["model_chunk", "interrupt", "interrupt"]
    question = {"type": "interrupt", "question": "really?", "options": ["yes", "no"], "interrupt_id": "q1"}
    assert found[1] == {"id": 2, **question}
    assert SECRET not in str(found)
    assert (result.status, result.stop_reason, result.success) == ("paused", "interrupt", False)
    assert result.interrupt == question


FAILURES = [
    (raises, "agent_error", "internal error", 500),
    (raises_at_once, "agent_error", "internal error", 500),
    (exits, "agent_error", "internal error", 500),
    (says_an_object, "bad_event", "The agent sent an event that cannot be encoded", 500),
    (says_after_the_result, "bad_event", "The agent sent an event that cannot be encoded", 500),
]


@pytest.mark.parametrize(("agent", "code", "text", "status"), FAILURES, ids=[row[0].__name__ for row in FAILURES])
def test_a_failure_is_one_error_event_that_says_nothing_of_the_agents_own(
    store: str, agent: Any, code: str, text: str, status: int
) -> None:
    async def use(host: Host, request: RunRequest) -> Any:
        run = await started(host, request)
        found = await events(run)
        with pytest.raises(RunError) as raised:
            await run.result()
        return run, found, raised.value

    run, found, error = run_with(store, agent, use)
    assert kinds(found).count("error") == 1
    assert "done" not in kinds(found)
    end = found[-1]
    assert (end["type"], end["code"], end["error"], end["run_id"]) == ("error", code, text, run.id)
    assert len(end["correlation_id"]) == 32
    assert SECRET not in str(found)
    assert (error.code, error.status, error.run_id, error.correlation_id) == (
        code,
        status,
        run.id,
        end["correlation_id"],
    )
    assert SECRET not in error.detail
    assert run.status == "failed"


def test_a_timeout_is_a_failure_with_its_own_code_and_status(store: str) -> None:
    async def use(host: Host, request: RunRequest) -> Any:
        run = await started(host, request)
        found = await events(run)
        with pytest.raises(RunError) as raised:
            await run.result()
        return run, found, raised.value

    run, found, error = run_with(store, waits, use, timeout=0.1)
    assert kinds(found) == ["model_chunk", "error"]
    assert (found[-1]["code"], found[-1]["error"]) == ("timeout", "The run took too long")
    assert (error.code, error.status, run.status) == ("timeout", 504, "failed")
    assert error.message == "agent 'agent' took longer than 0.1 s"


def test_a_cancel_is_an_error_event_too_and_the_status_is_cancelled(store: str) -> None:
    async def use(host: Host, request: RunRequest) -> Any:
        run = await started(host, request)
        run.cancel(Cancelled("by a test"))
        found = await events(run)
        with pytest.raises(Cancelled) as raised:
            await run.result()
        return run, found, raised.value

    run, found, error = run_with(store, waits, use)
    assert kinds(found)[-1] == "error"
    assert (found[-1]["code"], found[-1]["error"]) == ("cancelled", "The run was cancelled")
    assert (error.code, error.status, run.status) == ("cancelled", 409, "cancelled")


def test_a_host_that_stops_fails_the_runs_that_do_not_end_in_time(store: str) -> None:
    async def use(host: Host, request: RunRequest) -> Any:
        run = await started(host, request)
        reading = asyncio.create_task(events(run))
        await within(host.runs.stop(drain=0.05))
        with pytest.raises(RunError) as raised:
            await run.result()
        return run, await reading, raised.value

    run, found, error = run_with(store, waits, use)
    assert (kinds(found)[-1], found[-1]["code"], found[-1]["error"]) == (
        "error",
        "host_stopping",
        "The host is stopping",
    )
    assert (error.code, error.status, run.status) == ("host_stopping", 503, "failed")


@pytest.mark.parametrize("agent", [speaks, results, asks], ids=lambda agent: agent.__name__)
def test_invoke_folds_the_same_events_that_a_stream_sends(agent: Any) -> None:
    async def main() -> None:
        async with hosting(agent) as host:
            run = await started(host)
            found = await events(run)
            streamed = invoke_reply(await run.result())
            folded = invoke_reply(await (await started(host, fold_only=True)).result())
            for reply in (streamed, folded):
                own = reply.pop("run_id")
                assert reply.pop("thread_id", own) == own  # which a run that pauses gets
                del reply["duration_ms"]
            assert streamed == folded
            assert folded["iterations"] == len(found)

    asyncio.run(main())


async def chunks(ctx: RunContext) -> AsyncIterator[Any]:
    yield ModelChunk("a", reasoning="because")
    yield ModelChunk()
    yield "b"


def test_the_message_is_the_joined_chunks_where_no_result_gives_one() -> None:
    assert run_with("ephemeral", chunks, told)[-1]["message"] == "ab"


def test_every_stored_run_has_its_status_code_and_terminal_event_in_the_store(tmp_path: Path) -> None:
    rows = [
        (speaks, "completed", "complete", None),
        (asks, "paused", "interrupt", None),
        (raises, "failed", "agent_error", "agent_error"),
        (says_an_object, "failed", "bad_event", "bad_event"),
        (exits, "failed", "agent_error", "agent_error"),
    ]

    async def main() -> None:
        specs = [served(agent, f"agent-{place}") for place, (agent, *_) in enumerate(rows)]
        async with hosting(*specs, store=f"sqlite:///{tmp_path}/store.db") as host:
            for place, (_agent, status, reason, code) in enumerate(rows):
                run = await started(host, RunRequest("hello", thread_id="t"), agent=f"agent-{place}", caller=ANN)
                found = await events(run)
                stored = await host.store.get_run(run.id)
                assert stored is not None
                assert (stored.status, stored.stop_reason, stored.code) == (status, reason, code)
                kept = await host.store.read_events(run.id, 0, 1000)
                assert [entry.type for entry in kept] == kinds(found)

    asyncio.run(main())
