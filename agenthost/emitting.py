"""Where a run's entries go as its agent says them: folded, logged, recorded; and when the agent has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sized

from agenthost.agents import Emit
from agenthost.endings import keep_interrupt
from agenthost.events import Entry, bad_event
from agenthost.recording import Recorder
from agenthost.run import Run

TURN = 8
"""Ready events after which the loop gets a turn: an agent that never waits must not starve the others."""

CROWD = 32
"""Runs going at once from which on each says less in a turn: a new one waits while all of them have theirs."""

CROWDED_TURN = 2
"""Ready events a turn in a crowd."""


LARGE = 4 << 10
"""Bytes of one entry from which on the room left is looked at before the next turn."""


MAX_TEXT = 64 << 20
"""Bytes of all the events of one run: its message is their text joined, and goes into one event and one row."""


class RunOver(Exception):
    """Raised to whoever goes on emitting entries of a run that is over."""


def emitter(run: Run, going: Sized) -> Emit:
    """Make what takes a run's entries; `going` are the runs of this host.

    Where the log has entries already (the run began on a host that was lost), the agent's are numbered after them. It
    raises `RunOver` once the run is over, `BadEvent` after a `Result`.
    """
    outcome, run_log, recorder = run.outcome, run.log, run.recorder
    say, fold = outcome.say, outcome.add
    keep_entry = run_log.skip_entry if run.fold_only else run_log.add
    left, room = CROWDED_TURN, MAX_TEXT

    def emit(entry: Entry) -> Awaitable[None] | None:
        nonlocal left, room, keep_entry
        if run.closing or outcome.last_word:
            _after_the_end(run, entry)
        _seq, kind, data, event = entry
        room -= len(data)
        if room < 0:
            raise bad_event(f"events of more than {MAX_TEXT >> 20} MiB in one run")
        if type(event) is str:
            say(event)
        else:
            fold(entry)
            if kind == "interrupt":
                keep_interrupt(outcome)
                run_log.become_durable()
                keep_entry = run_log.add
        if kind != "result":
            keep_entry(entry)
            if recorder is not None and kind != "interrupt":  # a question is written, and seen, with the run's end
                recorder.add(entry)
        left -= 1
        if left and len(data) < LARGE and (recorder is None or not recorder.behind):
            return None
        left = TURN if len(going) < CROWD else CROWDED_TURN
        return _breathe(run)

    taking = _numbered(emit, run_log.last) if run_log.last else emit
    return taking if run.request.resumes is None or recorder is None else _answering(taking, recorder)


def _numbered(emit: Emit, before: int) -> Emit:
    """Number entries after those that the log has already."""
    return lambda entry: emit(entry._replace(seq=entry.seq + before))


def _answering(emit: Emit, recorder: Recorder) -> Emit:
    """Commit the first entry of a run that answers before its agent goes on: from there the question is answered."""
    answered = False

    def emit_and_answer(entry: Entry) -> Awaitable[None] | None:
        nonlocal answered
        room = emit(entry)
        if answered:
            return room
        answered = True
        return _answer(recorder, room)

    return emit_and_answer


async def _answer(recorder: Recorder, room: Awaitable[None] | None) -> None:
    await recorder.committed()
    if room is not None:
        await room


def _after_the_end(run: Run, entry: Entry) -> None:
    """An entry after a `Result` is the agent's fault, one after an `Interrupt` ends the run there."""
    if run.closing:
        raise RunOver
    if run.outcome.result is not None:
        raise bad_event(f"{entry.type} after the Result, which is the last event of a run")
    if entry.type != "interrupt":
        raise RunOver


async def _breathe(run: Run) -> None:
    """Give the loop a turn, and wait for the disk or the reader where the run is too far ahead."""
    await asyncio.sleep(0)
    if run.recorder is not None:
        if run.recorder.behind:
            await run.recorder.room()
    elif run.log.crowded:
        await run.log.room()
