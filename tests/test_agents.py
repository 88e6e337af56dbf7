"""What an agent is given and what is said of it: plain data, and the few things worked out from it."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from agenthost.agents import Agent, AgentInfo, Answer, RunContext, RunResult
from agenthost.auth import Principal
from agenthost.entries import AgentEntry
from agenthost.errors import LoadError
from agenthost.events import SUCCESS_REASONS, Interrupt
from agenthost.threads import Message, Part
from tests.agents_for_tests import Held, served


def context(**fields: Any) -> RunContext:
    return RunContext(**{"prompt": "hi", "run_id": "r1", "agent": "echo", "principal": Principal("ann"), **fields})


def test_the_messages_are_the_thread_so_far_and_then_the_new_one() -> None:
    before = [Message.of("user", "one"), Message.of("assistant", "two")]
    assert context(history=before).messages == [*before, Message.of("user", "hi", run_id="r1")]
    parts = (Part(text="look"), Part(media_type="image/png", uri="s3://b/k"))
    assert context(history=before, content=parts).messages == [*before, Message("user", parts, run_id="r1")]
    assert context().messages == [Message.of("user", "hi", run_id="r1")]


def test_a_list_of_messages_is_the_agents_own_to_change() -> None:
    before = [Message.of("user", "one")]
    ctx = context(history=before)
    ctx.messages.clear()
    assert len(ctx.messages) == 2
    assert len(before) == 1


def test_the_answer_is_the_first_of_what_a_resume_brought() -> None:
    answers = [Answer(Interrupt("a?"), "yes"), Answer(Interrupt("b?"), "no")]
    assert context().answer is None
    assert context(answers=answers).answer is answers[0]


def test_the_time_that_remains_runs_out() -> None:
    assert context().remaining == float("inf")
    assert 9 < context(deadline=time.monotonic() + 10).remaining <= 10
    assert context(deadline=time.monotonic() - 1).remaining < 0


def test_the_log_carries_agent_and_run(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        context().log.info("noted")
    (record,) = caplog.records
    assert record.name == "agenthost.agent.echo"
    assert (record.agent, record.run_id) == ("echo", "r1")  # type: ignore[attr-defined]  # extras


@pytest.mark.parametrize("status", ["completed", "paused", "failed", "cancelled"])
@pytest.mark.parametrize("reason", [*SUCCESS_REASONS, "max_iterations"])
def test_a_run_succeeded_if_it_completed_and_not_because_it_gave_up(status: Any, reason: str) -> None:
    succeeded = status == "completed" and reason in SUCCESS_REASONS
    assert RunResult("r", status, "", reason).success is succeeded


def test_an_agent_is_what_has_a_run() -> None:
    assert isinstance(Held(), Agent)
    assert not isinstance(object(), Agent)


def test_the_operators_words_come_before_the_agents_own() -> None:
    entry = AgentEntry(served(None, "billing"))
    assert (entry.title, entry.description) == ("billing", "")
    entry.info = AgentInfo(title="Bills", description="Knows bills")
    assert (entry.title, entry.description) == ("Bills", "Knows bills")
    entry = AgentEntry(served(None, "billing", title="Finance", description="Ask here"), info=entry.info)
    assert (entry.title, entry.description) == ("Finance", "Ask here")


def test_an_agent_serves_in_two_states_and_a_state_has_a_moment_and_a_reason() -> None:
    entry = AgentEntry(served(None))
    reason = LoadError("no")
    serving = []
    for state in ("discovered", "loading", "ready", "degraded", "draining", "unloaded", "failed", "disabled"):
        entry.become(state, reason if state == "failed" else None, 5.0 if state == "failed" else None)  # type: ignore[arg-type]  # each is one
        assert (entry.reason, entry.retry_at) == ((reason, 5.0) if state == "failed" else (None, None))
        assert abs(entry.since - time.time()) < 5
        serving += [state] if entry.serving else []
    assert serving == ["ready", "degraded"]


def test_a_source_is_known_by_its_distribution_else_by_what_finds_it() -> None:
    source = served(None, "billing").source
    assert source.label == "tests:billing"
    assert type(source)("echo", source.load, "acme-echo", "2.1").label == "acme-echo 2.1"
