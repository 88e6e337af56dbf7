"""Pauses: questions of `ask_user` and held calls, answered by the caller, decided elsewhere, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from locus.control import (
    Action,
    ApprovalAuthority,
    ApproverRule,
    ControlPolicy,
    FileApprovals,
    InMemoryApprovals,
    gate_tool,
)
from locus.memory.backends.file import FileCheckpointer
from locus_doubles import Thread, adapt, agent, of, text, tool, tool_call

from agenthost import Interrupt, Result, Think, ToolComplete, ToolStart, Usage

pytestmark = pytest.mark.framework


class Mails:
    """A tool that a policy holds, and what it did."""

    def __init__(self, store: Any = None) -> None:
        self.sent: list[tuple[str, str]] = []
        self.store = InMemoryApprovals() if store is None else store

        @tool
        def send(to: str, body: str) -> str:
            """Send a mail."""
            self.sent.append((to, body))
            return "sent"

        self.tool = gate_tool(
            send,
            policy=ControlPolicy(require_verification_score=0.0, require_human_for=frozenset({"outside"})),
            action=lambda name, arguments: Action(name=name, asset=arguments["to"], environment="outside"),
            approval=self.store,
            on_refusal="interrupt",
        )

    def agent(self, **fields: Any) -> Any:
        """An agent that wants to send one."""
        call = tool_call("send", call_id="c1", to="Bob", body="hi")
        return agent(call, text("Done."), tools=[self.tool], **fields)


def test_a_held_call_is_asked_about_as_every_frameworks_is() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        asked = (await thread.run("mail Bob"))[-1]
        assert isinstance(asked, Interrupt)
        assert (asked.interrupt_id, asked.options) == ("c1", ["approve", "deny"])
        assert asked.question.startswith("Approve send on Bob?")
        common = {"kind": "tool_approval", "tool": "send", "tool_call_id": "c1"}
        assert asked.metadata is not None
        assert {**common, "arguments": {"to": "Bob", "body": "hi"}}.items() <= asked.metadata.items()
        assert asked.metadata["approval_id"], "and what Locus's own clients look for"
        assert mails.sent == []

    asyncio.run(main())


def test_the_callers_approval_performs_the_call_once_and_the_model_goes_on() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        await thread.run("mail Bob")
        events = await thread.resume("approve")
        assert of(ToolStart, events) == [ToolStart("send", "c1", {"to": "Bob", "body": "hi"})]
        assert of(ToolComplete, events) == [ToolComplete("send", "c1", "sent")]
        assert events[-1] == Result("Done.", None, "complete")
        assert mails.sent == [("Bob", "hi")]
        [record] = mails.store._load().values()
        assert (record.decided_by, record.status) == ("ann", "consumed")

    asyncio.run(main())


def test_a_denial_runs_nothing_and_the_model_is_told() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        await thread.run("mail Bob")
        [complete] = of(ToolComplete, await thread.resume(decision={"verdict": "denied"}))
        assert '"status": "denied"' in complete.result
        assert mails.sent == []

    asyncio.run(main())


def test_an_approval_may_change_the_arguments() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        await thread.run("mail Bob")
        decision = {"verdict": "approved", "arguments": {"to": "Bob", "body": "hello"}}
        await thread.resume(decision=decision)
        assert mails.sent == [("Bob", "hello")]

    asyncio.run(main())


def test_an_approval_that_was_lost_with_its_process_is_asked_for_again_and_decided() -> None:
    async def main() -> None:
        before, after = Mails(), Mails()
        thread = Thread(adapt(before.agent()))
        await thread.run("mail Bob")
        restarted = after.agent()
        restarted._model._turns = [text("Done.")]
        thread.served = adapt(restarted)
        assert (await thread.resume("approve"))[-1] == Result("Done.", None, "complete")
        assert (before.sent, after.sent) == ([], [("Bob", "hi")])

    asyncio.run(main())


def test_an_answer_that_decides_nothing_is_the_question_again_and_nothing_else() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        asked = (await thread.run("mail Bob"))[-1]
        for response in (None, "maybe"):
            assert await thread.resume(response) == [asked]
        assert (await thread.resume("approve"))[-1] == Result("Done.", None, "complete")
        assert mails.sent == [("Bob", "hi")]

    asyncio.run(main())


# ── decided elsewhere ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_store_that_others_share_is_theirs_to_decide(tmp_path: Path) -> None:
    async def main() -> None:
        mails = Mails(FileApprovals(tmp_path / "approvals.json"))
        thread = Thread(adapt(mails.agent()))
        asked = (await thread.run("mail Bob"))[-1]
        assert (asked.options, asked.metadata.get("kind")) == (None, None)
        assert [event.interrupt_id for event in await thread.resume("approve")] == ["c1"], "still undecided"
        assert mails.sent == []
        FileApprovals(tmp_path / "approvals.json").decide(asked.metadata["approval_id"], "approved", by="olga")
        assert (await thread.resume("go on"))[-1] == Result("Done.", None, "complete")
        assert mails.sent == [("Bob", "hi")]

    asyncio.run(main())


def test_settings_say_who_decides(tmp_path: Path) -> None:
    async def main() -> None:
        shared = Mails(FileApprovals(tmp_path / "approvals.json"))
        served = adapt(shared.agent())
        thread = Thread(served, settings=served.Settings(approvals="caller"))
        assert (await thread.run("mail Bob"))[-1].options == ["approve", "deny"]
        await thread.resume("approve")
        assert shared.sent == [("Bob", "hi")]

        private = Mails()
        served = adapt(private.agent())
        thread = Thread(served, settings=served.Settings(approvals="elsewhere"))
        assert (await thread.run("mail Bob"))[-1].options is None
        await thread.resume("approve")
        assert private.sent == []

    asyncio.run(main())


def test_an_agent_server_leaves_decisions_to_its_handler() -> None:
    async def main() -> None:
        mails = Mails()
        served = adapt(mails.agent())
        served.serve_alone(stream_tokens=True)
        thread = Thread(served)
        asked = (await thread.run("mail Bob"))[-1]
        assert asked.options is None
        await thread.resume("approve", decision={"verdict": "approved"})
        assert mails.sent == []
        mails.store.decide(asked.metadata["approval_id"], "approved", by="handler")
        await thread.resume()
        assert mails.sent == [("Bob", "hi")]

    asyncio.run(main())


def test_who_may_not_decide_by_the_stores_own_rules_does_not() -> None:
    async def main() -> None:
        rules = ApprovalAuthority((ApproverRule(approvers=frozenset({"olga"})),))
        mails = Mails(InMemoryApprovals(authority=rules))
        thread = Thread(adapt(mails.agent()))
        await thread.run("mail Bob")
        assert of(Interrupt, await thread.resume("approve")) != []
        assert mails.sent == []
        olga = Thread(thread.served, who="olga")
        olga.key, olga.state, olga.paused = thread.key, thread.state, thread.paused
        await olga.resume("approve")
        assert mails.sent == [("Bob", "hi")]

    asyncio.run(main())


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def asking(**fields: Any) -> Any:
    return agent(
        tool_call("ask_user", call_id="q1", question="Which?", options="red, blue"),
        tool_call("ask_user", call_id="q2", question="Sure?"),
        tool_call("task_complete", summary="painted"),
        completion_mode="explicit",
        terminal_tools=["task_complete"],
        **fields,
    )


def test_questions_are_asked_one_after_another_and_answered_with_any_text() -> None:
    async def main() -> None:
        thread = Thread(adapt(asking()))
        asked = (await thread.run("paint"))[-1]
        assert (asked.question, asked.options, asked.interrupt_id) == ("Which?", ["red", "blue"], "q1")
        asked = (await thread.resume("green, if you have it"))[-1]
        assert (asked.question, asked.interrupt_id) == ("Sure?", "q2")
        events = await thread.resume({"sure": True})
        assert events[-1].reason == "terminal_tool"
        asked_of = thread.served._served.model.received_messages[-1]
        said = [message.content for message in asked_of if message.role == "tool"]
        assert said == ["green, if you have it", '{"sure": true}']

    asyncio.run(main())


def test_usage_before_a_pause_is_not_told_again_after_it() -> None:
    async def main() -> None:
        thread = Thread(adapt(asking()))
        assert of(Usage, await thread.run("paint")) == [Usage(None, 10, 20)]
        assert of(Usage, await thread.resume("red")) == [], "Locus tells it only at the turn's end"
        assert of(Usage, await thread.resume("yes")) == [Usage(None, 20, 40)]

    asyncio.run(main())


def test_a_pause_goes_on_with_its_own_metadata_unless_the_answer_brings_some() -> None:
    async def main() -> None:
        seen: list[Any] = []

        @tool
        def look(ctx: Any = None) -> str:
            """Look at the metadata."""
            seen.append(dict(ctx.invocation_metadata))
            return "seen"

        for brought, expected in (({}, {"of": "the run"}), ({"of": "the answer"}, {"of": "the answer"})):
            turns = [tool_call("ask_user", question="?"), tool_call("look"), tool_call("task_complete", summary="x")]
            locus_agent = agent(*turns, completion_mode="explicit", terminal_tools=["task_complete"], tools=[look])
            thread = Thread(adapt(locus_agent))
            await thread.run("x", metadata={"of": "the run"})
            await thread.resume("yes", metadata=brought)
            assert seen.pop() == expected

    asyncio.run(main())


def test_runs_without_threads_pause_apart_from_each_other() -> None:
    async def main() -> None:
        served = adapt(agent(*[tool_call("ask_user", call_id=f"q{n}", question=f"{n}?") for n in (1, 2)],
                             text("unused"), completion_mode="explicit"))  # fmt: skip
        first, second = Thread(served, None, who="ann"), Thread(served, None, who="bob")
        await first.run("one")
        await second.run("two")
        pending = served._served.pending_interrupts()
        assert len(set(pending)) == 2
        assert None not in pending, "that place is one for all runs"
        assert first.paused[0].state["thread"] == pending[0]

    asyncio.run(main())


def test_a_pause_in_the_agents_own_checkpointer_outlives_its_process(tmp_path: Path) -> None:
    async def main() -> None:
        mails, restarted = Mails(), Mails()
        thread = Thread(adapt(mails.agent(checkpointer=FileCheckpointer(tmp_path))))
        await thread.run("mail Bob")
        assert thread.state == {}, "nothing of it is the host's"
        again = restarted.agent(checkpointer=FileCheckpointer(tmp_path))
        again._model._turns = [text("Done.")]
        thread.served = adapt(again)
        assert (await thread.served.get_thread(thread.key))["paused"] is True
        events = await thread.resume("approve")
        assert of(Think, events) == [Think("Done.")]
        assert restarted.sent == [("Bob", "hi")]
        assert (await thread.served.get_thread(thread.key))["paused"] is False

    asyncio.run(main())
