"""How a run ended, by what ended it: the table of statuses, terminal events and results, in one place.

| ended by | status | terminal event |
|---|---|---|
| return | completed | `done` |
| `Interrupt` | paused | that `interrupt` |
| raise, crash, bad event, store, timeout, host lost or stopping | failed | `error` with its code |
| cancel | cancelled | `error`, code `cancelled` |
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from agenthost.agents import RunContext, RunResult, RunStatus
from agenthost.encoding import encode_host_event, encode_json
from agenthost.errors import BadEvent, Cancelled, RunError
from agenthost.event_encoding import encode_question_state, encode_state
from agenthost.events import Done, Entry, Error, bad_event, json_value
from agenthost.outcome import Outcome
from agenthost.run import Run
from agenthost.starting import brought, user_message
from agenthost.store import NewInterrupt, RunEnd
from agenthost.threads import Message

LOCUS_ERROR = "internal error"
"""What `error` says for a failure inside the agent (the text that clients of Locus 3.0.1 know)."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A run's status, its error where it did not complete, the terminal entry to log, and the result."""

    status: RunStatus
    error: RunError | None
    entry: Entry | None
    result: RunResult


def ending_of(run: Run, ctx: RunContext | None) -> Ending:
    """Decide how `run` ended; `ctx` is None where the agent never ran or does not end."""
    error = run.error
    if error is None and ctx is not None and (run.thread is not None or run.outcome.interrupts):
        error = _state_problem(ctx)
    if error is not None:
        return _failed(run, error)
    outcome = run.outcome
    if outcome.interrupts:
        return Ending("paused", None, None, _result(run, "paused", "interrupt", run.log.last))
    result = outcome.result
    reason = result.reason if result else "complete"
    seq = run.log.last + 1
    entry = None
    if not run.fold_only:
        output = result.output if result else None
        entry = encode_host_event(seq, Done(outcome.message, reason, outcome.usage, output))
    return Ending("completed", None, entry, _result(run, "completed", reason, seq))


def _failed(run: Run, error: RunError) -> Ending:
    run.log.forget_questions()
    error.run_id = run.id
    error.correlation_id = error.correlation_id or secrets.token_hex(16)
    status: RunStatus = "cancelled" if isinstance(error, Cancelled) else "failed"
    seq = run.log.last + 1
    text = LOCUS_ERROR if error.code == "agent_error" else error.title
    entry = None
    if not run.fold_only:
        entry = encode_host_event(seq, Error(text, error.code, error.correlation_id, run.id))
    return Ending(status, error, entry, _result(run, status, error.code, seq))


def _result(run: Run, status: RunStatus, stop_reason: str, entries: int) -> RunResult:
    outcome = run.outcome
    return RunResult(
        run_id=run.id,
        status=status,
        message=outcome.message,
        stop_reason=stop_reason,
        thread_id=run.thread.thread_id if run.thread else None,
        output=outcome.result.output if outcome.result else None,
        usage=outcome.usage,
        interrupt=outcome.interrupts[0].payload() if status == "paused" else None,
        iterations=entries,
        tool_calls=outcome.tool_calls,
        duration_ms=(time.perf_counter() - run.started) * 1000.0,
    )


def _state_problem(ctx: RunContext) -> BadEvent | None:
    try:
        data = encode_state(ctx.state, encode_json)
    except BadEvent as problem:
        return problem
    ctx.state = orjson.loads(data)  # plain values, and not the agent's to change any more
    return None


def keep_interrupt(outcome: Outcome) -> None:
    """Make the interrupt that came last one that can be stored: plain values, an id of its own in this run.

    Raises `BadEvent` if it has another one's id, or a state that is not JSON or over 1 MiB.
    """
    *others, asked = outcome.interrupts
    if any(other.interrupt_id == asked.interrupt_id for other in others):
        raise bad_event("two Interrupts with one interrupt_id")
    data = encode_question_state(asked, encode_json)
    shown = {name: json_value(getattr(asked, name)) for name in ("options", "fields", "metadata")}
    outcome.interrupts[-1] = replace(asked, **shown, state=orjson.loads(data))


def keep(run: Run, ctx: RunContext | None, ending: Ending, rest: Sequence[Entry]) -> RunEnd:
    """What the commit that ends a durable run writes: messages and state only where it completed or paused."""
    kept = ending.error is None
    expires = time.time() + run.entry.spec.interrupt_ttl
    return RunEnd(
        run_id=run.id,
        epoch=run.epoch,
        status=ending.status,
        stop_reason=ending.result.stop_reason,
        code=ending.error.code if ending.error else None,
        entries=[*rest, ending.entry] if ending.entry else list(rest),
        messages=_said(run) if kept and run.thread else (),
        state=ctx.state if kept and ctx is not None and run.thread else None,
        thread=run.thread,
        result=stored_result(ending.result),
        ended=time.time(),
        interrupts=[
            NewInterrupt(interrupt.interrupt_id or "", interrupt.payload(), interrupt.state, expires)
            for interrupt in run.outcome.interrupts
            if kept
        ],
    )


def _said(run: Run) -> Sequence[Message]:
    """What goes into the thread at the end; a thread that was named only now has nothing of this run yet."""
    said = run.outcome.final_messages()
    if run.request.thread_id is not None:
        return said
    asked = user_message(run)
    return [*brought(run.request), *([asked] if asked is not None else ()), *said]


def stored_result(result: RunResult) -> dict[str, Any]:
    """The parts of a result that are not columns of the run."""
    return {
        "message": result.message,
        "output": result.output,
        "usage": result.usage,
        "interrupt": result.interrupt,
        "iterations": result.iterations,
        "tool_calls": result.tool_calls,
        "duration_ms": result.duration_ms,
    }
