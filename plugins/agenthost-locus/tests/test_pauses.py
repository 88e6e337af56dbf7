"""Pauses: questions of `ask_user` and held calls, answered by the caller, decided elsewhere, or not at all."""

from __future__ import annotations

import asyncio
import contextvars
from pathlib import Path
from typing import Any

import pytest
from locus.control import (
    Action,
    ApprovalAuthority,
    ApproverRule,
    AuditTrail,
    ControlPolicy,
    FileApprovals,
    InMemoryApprovals,
    call_digest,
    gate_tool,
)
from locus.core.events import InterruptEvent
from locus.hooks.provider import HookProvider
from locus.memory.backends.file import FileCheckpointer
from locus.testing import FunctionModel
from locus_doubles import Agent, Thread, adapt, agent, of, text, tool, tool_call

from agenthost import AgentError, Answer, Custom, Interrupt, Result, Think, ToolComplete, ToolStart, Usage

pytestmark = pytest.mark.framework


class Mails:
    """A tool that a policy holds, and what it did."""

    def __init__(self, store: Any = None) -> None:
        self.sent: list[tuple[str, str]] = []
        self.store = InMemoryApprovals() if store is None else store
        self.trail = AuditTrail()
        self.environment = "outside"

        @tool
        def send(to: str, body: str) -> str:
            """Send a mail."""
            self.sent.append((to, body))
            return "sent"

        self.tool = gate_tool(
            send,
            policy=ControlPolicy(require_verification_score=0.0, require_human_for=frozenset({"outside"})),
            action=lambda name, arguments: Action(name=name, asset=arguments["to"], environment=self.environment),
            approval=self.store,
            trail=self.trail,
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


def test_an_approval_is_taken_before_the_call_is_performed() -> None:
    """From the first event on the host counts the question as answered, whatever becomes of the run."""

    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        await thread.run("mail Bob")
        answer = Answer(thread.paused[0], "approve")
        events = thread.events(answers=[answer])
        assert await anext(events) == Custom("x-approval", {"tool_call_id": "c1", "approved": True})
        assert mails.sent == []
        assert of(ToolComplete, [event async for event in events]) == [ToolComplete("send", "c1", "sent")]

    asyncio.run(main())


def test_a_denial_is_recorded_where_locus_would_record_it_and_the_same_call_is_asked_about_anew() -> None:
    async def main() -> None:
        mails = Mails()
        calls = [tool_call("send", call_id=f"c{n}", to="Bob", body="hi") for n in (1, 2)]
        thread = Thread(adapt(agent(*calls, text("Done."), tools=[mails.tool])))
        await thread.run("mail Bob")
        asked = (await thread.resume(decision={"verdict": "denied", "message": "He is away."}))[-1]
        assert asked.interrupt_id == "c2"
        [denied, pending] = mails.store._load().values()
        assert (denied.verdict, denied.decided_by, denied.status) == ("denied", "ann", "consumed")
        assert pending.status == "pending"
        [told] = [one for one in mails.trail.records() if one.event_type == "approval-decision"]
        assert (told.payload["verdict"], told.payload["decided_by"]) == ("denied", "ann")
        read = [one.content for one in thread.served._served.model.received_messages[-1] if one.role == "tool"]
        assert "He is away." in read[0]

    asyncio.run(main())


def test_a_denied_call_is_not_performed_where_its_policy_would_let_it_through_by_now() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        await thread.run("mail Bob")
        mails.environment = "inside"
        [complete] = of(ToolComplete, await thread.resume("deny"))
        assert '"status": "denied"' in complete.result
        assert mails.sent == []

    asyncio.run(main())


def test_a_denial_that_the_store_does_not_take_is_one_all_the_same() -> None:
    async def main() -> None:
        rules = ApprovalAuthority((ApproverRule(approvers=frozenset({"olga"})),))
        for decided in ("", "approved"):
            mails = Mails(InMemoryApprovals(authority=rules))
            thread = Thread(adapt(mails.agent()))
            asked = (await thread.run("mail Bob"))[-1]
            if decided:
                mails.store.decide(asked.metadata["approval_id"], decided, by="olga")
            events = await thread.resume("deny")
            assert '"status": "denied"' in of(ToolComplete, events)[0].result
            assert mails.sent == []
            [record] = mails.store._load().values()
            assert record.status == ("consumed" if decided else "pending")
            assert all(one.event_type != "approval-decision" for one in mails.trail.records()), "it did not decide"

    asyncio.run(main())


def test_a_call_that_somebody_with_the_store_has_denied_is_not_performed_by_an_approval() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        asked = (await thread.run("mail Bob"))[-1]
        mails.store.decide(asked.metadata["approval_id"], "denied", by="olga")
        [complete] = of(ToolComplete, await thread.resume("approve"))
        assert "denied by olga" in complete.result
        assert mails.sent == []

    asyncio.run(main())


def test_a_recorded_approval_of_other_arguments_is_not_this_answer() -> None:
    async def main() -> None:
        mails = Mails()
        thread = Thread(adapt(mails.agent()))
        asked = (await thread.run("mail Bob"))[-1]
        mails.store.decide(asked.metadata["approval_id"], "approved", by="ann", arguments={"to": "Eve", "body": "hi"})
        for answer in ({"response": "approve"}, {"response": "perhaps"}):
            assert await thread.resume(**answer) == [asked]
        assert mails.sent == []
        await thread.resume(decision={"verdict": "approved", "arguments": {"to": "Eve", "body": "hi"}})
        assert mails.sent == [("Eve", "hi")]

    asyncio.run(main())


# ── one and the same call of two people ──────────────────────────────────────────────────────────────────────────────


class Two:
    """Ann and Mallory, each with a held call, and it is the same one."""

    def __init__(self) -> None:
        self.mails = Mails()
        call = tool_call("send", call_id="c1", to="Bob", body="hi")
        model = FunctionModel(lambda messages, _: text("Done.") if messages[-1].role == "tool" else call)
        self.served = adapt(Agent(model=model, tools=[self.mails.tool]))
        self.ann, self.mallory = Thread(self.served), Thread(self.served, who="mallory")

    async def pause(self) -> None:
        await self.ann.run("mail Bob")
        await self.mallory.run("mail Bob")


@pytest.mark.parametrize("performed", [True, False])
def test_what_one_decides_the_other_has_not(performed: bool) -> None:
    async def main() -> None:
        for answer in ("approve", "deny"):
            two = Two()
            await two.pause()
            await two.mallory.resume(answer, perform_dangling=performed)
            two.mails.sent.clear()
            events = await two.ann.resume("deny")
            assert '"status": "denied"' in of(ToolComplete, events)[0].result
            assert two.mails.sent == []

    asyncio.run(main())


def test_what_one_edits_the_other_has_not_approved() -> None:
    async def main() -> None:
        two = Two()
        await two.pause()
        edited = {"verdict": "approved", "arguments": {"to": "Mallory", "body": "secret"}}
        await two.mallory.resume(decision=edited, perform_dangling=False)
        await two.ann.resume("approve")
        assert two.mails.sent == [("Bob", "hi")]

    asyncio.run(main())


def test_an_approval_that_is_not_used_lets_no_later_call_through() -> None:
    async def main() -> None:
        two = Two()
        await two.mallory.run("mail Bob")
        await two.mallory.resume("approve", perform_dangling=False)
        assert [record.status for record in two.mails.store._load().values()] == ["pending"], "nothing was decided"
        await two.ann.run("mail Bob")
        assert [one.interrupt_id for one in two.ann.paused] == ["c1"]
        assert two.mails.sent == []

    asyncio.run(main())


def test_an_approval_that_is_just_being_performed_lets_no_other_call_through() -> None:
    """Between the decision and the call Locus awaits the tool's hooks, and others run meanwhile."""

    async def main() -> None:
        held, go_on = asyncio.Event(), asyncio.Event()

        class Waits(HookProvider):
            @property
            def priority(self) -> int:
                return 1

            async def on_before_tool_call(self, event: Any) -> None:
                if event.run.thread_id == two.mallory.paused_in:
                    held.set()
                    await go_on.wait()

        two = Two()
        await two.mallory.run("mail Bob")
        two.mallory.paused_in = two.mallory.paused[0].state["thread"]
        two.served._served._hooks.append(Waits())
        approving = asyncio.create_task(two.mallory.resume("approve"))
        await asyncio.wait_for(held.wait(), 10)
        await asyncio.create_task(two.ann.run("mail Bob"))
        assert len(two.ann.paused) == 1
        assert two.mails.sent == []
        go_on.set()
        await approving
        assert two.mails.sent == [("Bob", "hi")], "mallory's own"

    asyncio.run(main())


def test_the_author_finds_the_store_as_it_was() -> None:
    async def main() -> None:
        mails = Mails()
        await Thread(adapt(mails.agent())).run("mail Bob")

        async def of_the_author() -> Any:
            direct = agent(tool_call("send", call_id="c1", to="Bob", body="hi"), tools=[mails.tool])
            return [event async for event in direct.run("mail Bob", thread_id="x")]

        held = (await asyncio.create_task(of_the_author(), context=contextvars.Context()))[-1]
        record = mails.store.get(held.metadata["approval_id"])
        assert record.context == {}
        assert record.digest == call_digest("agent", "send", {"to": "Bob", "body": "hi"})

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


def test_a_store_whose_records_cannot_be_a_turns_own_is_not_the_callers_to_decide() -> None:
    class Forgets(InMemoryApprovals):
        def submit(self, *call: Any, context: Any = None, **more: Any) -> str:
            return super().submit(*call, **more)

    class Fixed(InMemoryApprovals):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "submit":
                raise AttributeError(name)
            super().__setattr__(name, value)

    async def main() -> None:
        for store in (Forgets(), Fixed()):
            mails = Mails(store)
            served = adapt(mails.agent())
            thread = Thread(served, settings=served.Settings(approvals="caller"))
            asked = (await thread.run("mail Bob"))[-1]
            assert asked.options is None
            assert [event.interrupt_id for event in await thread.resume("approve")] == ["c1"]
            assert mails.sent == []
            store.decide(asked.metadata["approval_id"], "approved", by="olga")
            taken, *_, result = await thread.resume()
            assert taken == Custom("x-approval", {"tool_call_id": "c1", "approved": None})
            assert result == Result("Done.", None, "complete")

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
        assert of(Custom, await thread.resume()) == [], "what Locus's server does not say"
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
        names = [thread.paused[0].state["thread"] for thread in (first, second)]
        assert len(set(names)) == 2
        assert None not in names, "that place is one for all runs"

    asyncio.run(main())


def test_a_pause_that_nobody_answers_is_not_held_in_memory() -> None:
    async def main() -> None:
        author = asking()
        thread = Thread(adapt(author))
        await thread.run("paint")
        assert author.pending_interrupts() == thread.served._served.pending_interrupts() == []
        assert (await thread.resume("red"))[-1].question == "Sure?", "it is in the thread"

    asyncio.run(main())


def test_what_cannot_be_resumed_cannot_ask() -> None:
    class Asks:
        async def run(self, prompt: str, *, thread_id: Any = None, metadata: Any = None) -> Any:
            yield InterruptEvent(question="Shall I?", interrupt_id="i")

    async def main() -> None:
        with pytest.raises(
            AgentError, match=r"^a Asks has asked a question, and has no resume\(\) to take the answer$"
        ):
            await Thread(adapt(Asks())).run("x")

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
