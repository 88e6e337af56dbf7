"""Tool calls that wait for a person: asked, answered together or one by one, each carried out once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from agenthost_pydantic_ai import serve
from agenthost_pydantic_ai.history import ASKED
from pydantic_ai import Agent, ApprovalRequired, CallDeferred, DeferredToolRequests, RunContext
from pydantic_ai_doubles import Thread, call, context, model, of, prompts, returns, text_of, told

from agenthost import AgentError, Answer, Interrupt, Message, Result, ToolComplete, ToolStart
from agenthost.testing import serving

pytestmark = pytest.mark.framework


class Mails:
    """Tools that write down what they do; the model calls them as it is told, and then says what they returned."""

    def __init__(self, *calls: Any, **more: Any) -> None:
        self.did: list[Any] = []
        self.seen: list[list[Any]] = []

        def say(messages: list[Any]) -> list[Any]:
            self.seen.append(prompts(messages))
            answers = returns(messages)
            if not answers and prompts(messages)[-1] == "mail":
                return list(calls)
            return [" ".join(f"{name}={answer}" for name, answer in sorted(answers.items())) or "nothing to do"]

        self.agent: Agent[Any, Any] = Agent(model(say), **more)

        @self.agent.tool_plain(requires_approval=True)
        def send(to: str) -> str:
            self.did.append(f"sent {to}")
            return f"sent to {to}"

        @self.agent.tool
        def pay(ctx: RunContext[Any], amount: int) -> str:
            if amount > 10 and not ctx.tool_call_approved:
                raise ApprovalRequired(metadata={"limit": 10})
            self.did.append(f"paid {amount}")
            return f"paid, {ctx.tool_call_metadata}"

        @self.agent.tool_plain
        def ask_colleague(about: str) -> str:
            raise CallDeferred(metadata={"room": 7})

        @self.agent.tool_plain
        def look() -> str:
            self.did.append("looked")
            return "seen"


def asked_by(mails: Mails) -> tuple[Thread, list[Interrupt]]:
    thread = Thread(mails.agent)
    return thread, of(Interrupt, asyncio.run(thread.run("mail")))


def answered(thread: Thread, *answers: tuple[Interrupt, Any]) -> list[Any]:
    return asyncio.run(thread.answer(*answers))


def test_a_tool_that_requires_approval_is_asked_about_and_told_only_when_it_goes_on() -> None:
    mails = Mails(call("send", "c", to="Bob"))
    events = asyncio.run(Thread(mails.agent).run("mail"))

    assert not of(ToolStart, events)
    question = events[-1]
    assert (question.question, question.options) == ('Run send(to="Bob")?', ["approve", "deny"])
    assert question.interrupt_id == "c"
    assert question.metadata == {
        "kind": "tool_approval",
        "tool": "send",
        "tool_call_id": "c",
        "arguments": {"to": "Bob"},
    }
    assert mails.did == []


@pytest.mark.parametrize(
    ("answer", "start", "complete", "did"),
    [
        ("approve", {"to": "Bob"}, ToolComplete("send", "c", "sent to Bob"), ["sent Bob"]),
        ({"verdict": "approved"}, {"to": "Bob"}, ToolComplete("send", "c", "sent to Bob"), ["sent Bob"]),
        (
            {"verdict": "approved", "arguments": {"to": "Eve"}},
            {"to": "Eve"},
            ToolComplete("send", "c", "sent to Eve"),
            ["sent Eve"],
        ),
        ("deny", {"to": "Bob"}, ToolComplete("send", "c", error="The tool call was denied."), []),
        ({"verdict": "denied", "message": "Not him."}, {"to": "Bob"}, ToolComplete("send", "c", error="Not him."), []),
    ],
)
def test_the_answer_decides_what_the_tool_does(
    answer: Any, start: dict[str, str], complete: ToolComplete, did: list[str]
) -> None:
    mails = Mails(call("send", "c", to="Bob"))
    thread, (question,) = asked_by(mails)
    events = answered(thread, (question, answer))

    assert events[:2] == [ToolStart("send", "c", start), complete]
    assert text_of(of(str, events)) == f"c={complete.result or complete.error}"
    assert mails.did == did


def test_a_tool_that_asks_itself_is_asked_about_with_what_it_says() -> None:
    mails = Mails(call("pay", "c", amount=99))
    thread, (question,) = asked_by(mails)
    assert question.metadata is not None
    assert question.metadata["details"] == {"limit": 10}

    events = answered(thread, (question, "approve"))
    assert of(ToolComplete, events) == [ToolComplete("pay", "c", "paid, {'limit': 10}")]
    assert mails.did == ["paid 99"]


def test_a_call_whose_arguments_do_not_fit_is_no_question() -> None:
    mails = Mails(call("send", "c", whom="Bob"))
    events = asyncio.run(Thread(mails.agent).run("mail"))

    assert of(ToolStart, events) == [ToolStart("send", "c", {"whom": "Bob"})]
    (complete,) = of(ToolComplete, events)
    assert complete.error is not None
    assert not of(Interrupt, events)


@pytest.mark.parametrize("result", ["ask Cy", {"name": "Cy"}, ["Cy", 7], "", 0, {"kind": "tool-denied"}])
def test_an_external_tool_asks_for_its_result(result: Any) -> None:
    thread, (question,) = asked_by(Mails(call("ask_colleague", "c", about="Bob")))
    assert question.question == "What is the result of ask_colleague(about='Bob')?"
    assert question.options is None
    assert question.metadata == {
        "kind": "tool_result",
        "tool": "ask_colleague",
        "tool_call_id": "c",
        "arguments": {"about": "Bob"},
        "details": {"room": 7},
    }

    events = answered(thread, (question, result))
    assert of(ToolComplete, events) == [ToolComplete("ask_colleague", "c", result)]
    assert text_of(of(str, events)) == f"c={result}"


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        ({"verdict": "denied"}, "The tool call was denied."),
        ({"verdict": "deny", "message": "He is away."}, "He is away."),
    ],
)
def test_who_will_not_bring_a_result_denies_the_call(decision: dict[str, str], text: str) -> None:
    thread, (question,) = asked_by(Mails(call("ask_colleague", "c", about="Bob")))
    events = answered(thread, (question, decision))

    assert of(ToolComplete, events) == [ToolComplete("ask_colleague", "c", error=text)]
    assert text_of(of(str, events)) == f"c={text}"


@pytest.mark.parametrize("answer", [{"verdict": "approved"}, None])
def test_an_answer_without_a_result_is_refused_before_anything_counts_as_answered(answer: Any) -> None:
    mails = Mails(call("ask_colleague", "c3", about="Cy"), call("send", "c4", to="Di"))
    thread, questions = asked_by(mails)
    by_id = {one.interrupt_id: one for one in questions}

    with pytest.raises(AgentError) as refused:
        answered(thread, (by_id["c4"], "approve"), (by_id["c3"], answer))
    assert refused.value.message == "the answer brings no result of ask_colleague"
    assert refused.value.hint == "answer with the result as response, or with a decision whose verdict is 'denied'"
    assert mails.did == []

    answered(thread, (by_id["c4"], "approve"), (by_id["c3"], "room 7"))
    assert mails.did == ["sent Di"]


SEVERAL = (
    call("look", "c1"),
    call("send", "c2", to="Bob"),
    call("ask_colleague", "c3", about="Cy"),
    call("send", "c4", to="Di"),
)


def test_several_calls_are_asked_about_together_and_what_needs_no_answer_is_done_once() -> None:
    mails = Mails(*SEVERAL)
    thread, questions = asked_by(mails)
    assert sorted(one.interrupt_id or "" for one in questions) == ["c2", "c3", "c4"]
    assert mails.did == ["looked"]

    answers = {"c2": "approve", "c3": "room 7", "c4": "deny"}
    events = answered(thread, *((one, answers[one.interrupt_id or ""]) for one in questions))
    assert text_of(of(str, events)) == "c1=seen c2=sent to Bob c3=room 7 c4=The tool call was denied."
    assert mails.did == ["looked", "sent Bob"]


def test_answers_that_come_one_by_one_wait_for_the_last() -> None:
    mails = Mails(*SEVERAL)
    thread, questions = asked_by(mails)
    by_id = {one.interrupt_id: one for one in questions}

    assert answered(thread, (by_id["c4"], "deny")) == [Result("Waiting for 2 more answers.", reason="waiting")]
    assert answered(thread, (by_id["c2"], "approve")) == [Result("Waiting for 1 more answer.", reason="waiting")]
    assert mails.did == ["looked"]
    events = answered(thread, (by_id["c3"], "room 7"))
    assert {one.tool_call_id: one.error is None for one in of(ToolComplete, events)} == {
        "c2": True,
        "c3": True,
        "c4": False,
    }
    assert mails.did == ["looked", "sent Bob"]
    assert "answers" not in thread.state["pydantic_ai"]

    assert text_of(of(str, asyncio.run(thread.run("and now?")))) == "nothing to do"
    assert mails.seen[-1] == ["mail", "and now?"]


def test_a_new_message_takes_the_place_of_what_was_asked() -> None:
    mails = Mails(*SEVERAL)
    thread, questions = asked_by(mails)
    answered(thread, (questions[0], "approve"))

    assert text_of(of(str, asyncio.run(thread.run("never mind")))) == "nothing to do"
    assert mails.seen[-1] == ["mail", "never mind"]
    assert mails.did == ["looked"]
    assert "answers" not in thread.state["pydantic_ai"]


def test_a_turn_may_pause_more_than_once() -> None:
    did: list[str] = []

    def say(messages: list[Any]) -> list[Any]:
        done = returns(messages)
        return ["all done"] if len(done) == 2 else [call("step", f"c{len(done)}", n=len(done))]

    agent = Agent(model(say))

    @agent.tool_plain(requires_approval=True)
    def step(n: int) -> str:
        did.append(f"step {n}")
        return "ok"

    thread = Thread(agent)
    (first,) = of(Interrupt, asyncio.run(thread.run()))
    (second,) = of(Interrupt, answered(thread, (first, "approve")))
    assert second.interrupt_id == "c1"
    assert text_of(of(str, answered(thread, (second, "approve")))) == "all done"
    assert did == ["step 0", "step 1"]


@pytest.mark.parametrize(
    ("asks", "answer", "start", "did"),
    [
        (call("send", "c", to="Bob"), "approve", ToolStart("send", "c", {"to": "Bob"}), ["sent Bob"]),
        (call("pay", "c", amount=99), "approve", ToolStart("pay", "c", {"amount": 99}), ["paid 99"]),
        (call("ask_colleague", "c", about="Cy"), "7", ToolStart("ask_colleague", "c", {"about": "Cy"}), []),
    ],
    ids=["always asks", "asks itself", "is made elsewhere"],
)
def test_nothing_is_done_before_the_question_counts_as_answered(
    asks: Any, answer: str, start: ToolStart, did: list[str]
) -> None:
    """The host commits the first event before it asks for the next one."""
    mails = Mails(asks)

    async def main() -> None:
        thread = Thread(mails.agent)
        (question,) = of(Interrupt, await thread.run("mail"))
        served = serve(mails.agent)
        events = served.run(context(served, answers=[Answer(question, answer)], state=thread.state))
        assert await anext(events) == start
        assert mails.did == []
        await events.aclose()
        assert mails.did == []
        await thread.answer((question, answer))
        assert mails.did == did

    asyncio.run(main())


def test_a_run_without_a_thread_keeps_the_conversation_that_came_with_it() -> None:
    mails = Mails(call("send", "c", to="Bob"))
    history = (Message.of("user", "I am Ann"), Message.of("assistant", "Hello."))
    (question,) = of(Interrupt, told(mails.agent, "mail", history=history))
    events = told(mails.agent, "mail", answers=[Answer(question, "approve")], run_id="run-2")

    assert text_of(of(str, events)) == "c=sent to Bob"
    assert mails.seen[-1] == ["I am Ann", "mail"]


def test_an_agent_that_names_its_pauses_itself_is_served_as_it_is() -> None:
    mails = Mails(call("send", "c", to="Bob"), output_type=[str, DeferredToolRequests])

    @mails.agent.output_validator
    def checked(output: Any) -> Any:
        return output

    thread, (question,) = asked_by(mails)
    answered(thread, (question, "approve"))
    assert mails.did == ["sent Bob"]


def test_an_agent_with_output_validators_that_does_not_name_its_pauses_is_told_to() -> None:
    mails = Mails(call("send", "c", to="Bob"))

    @mails.agent.output_validator
    def checked(output: str) -> str:
        return output

    with pytest.raises(AgentError, match=r"^the agent is not set up for this: A deferred tool call was present, but"):
        told(mails.agent, "mail")
    assert text_of(of(str, told(mails.agent, "hello"))) == "nothing to do"


def test_a_turn_too_long_to_be_kept_cannot_pause() -> None:
    mails = Mails("x" * 1_000_000, call("send", "c", to="Bob"))

    with pytest.raises(AgentError) as refused:
        told(mails.agent, "mail")
    assert refused.value.message == "the agent cannot pause: the messages of this turn are more than 900 KiB"
    assert refused.value.hint == "let its tools return less before they ask, or send smaller files"


APP = """
from pathlib import Path
from pydantic_ai import Agent
from pydantic_ai_doubles import call, model, returns

def say(messages):
    answers = returns(messages)
    return [f"{answers}"] if answers else [call("send", "c1", to="Bob"), call("send", "c2", to="Cy")]

agent = Agent(model(say))

@agent.tool_plain(requires_approval=True)
def send(to: str) -> str:
    with Path("did.log").open("a") as log:
        log.write(f"sent {to}\\n")
    return "sent"
"""


def test_over_http_answers_come_one_by_one_also_after_the_host_was_killed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "agents.toml").write_text('[agents.app]\nuse = "app.py:agent"\n')
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    body = {"thread_id": "t", "interrupt_id": "c2", "response": "approve"}
    with serving(tmp_path / "agents.toml", env=environment) as host:
        paused = httpx.post(f"{host.url}/agents/app/invoke", json={"prompt": "mail", "thread_id": "t"}).json()
        assert (paused["status"], paused["stop_reason"]) == ("paused", "interrupt")
        first = httpx.post(f"{host.url}/agents/app/resume", json=body)
        assert '"message":"Waiting for 1 more answer.","reason":"waiting"' in first.text
        host.kill()
    assert not (tmp_path / "did.log").exists()
    with serving(tmp_path / "agents.toml", env=environment) as host:
        assert httpx.post(f"{host.url}/agents/app/resume", json=body).status_code == 409
        last = httpx.post(f"{host.url}/agents/app/resume", json={**body, "interrupt_id": "c1"})
        assert last.text.count("event: tool_complete") == 2
        executions = httpx.get(f"{host.url}/agents/app/threads/t").json()["tool_executions"]
    assert sorted((tmp_path / "did.log").read_text().splitlines()) == ["sent Bob", "sent Cy"]
    assert sorted((one["arguments"]["to"], one["result"]) for one in executions) == [("Bob", "sent"), ("Cy", "sent")]


STOPPED_AFTER_THE_TOOL = """
from pydantic_ai import Agent, ApprovalRequired
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai_doubles import call, model, prompts, returns

PAID = []

def say(messages):
    if prompts(messages)[-1] == "pay" and returns(messages):
        raise ModelHTTPError(503, "m")
    if prompts(messages)[-1] == "pay":
        return [call("pay", "c", amount=5)]
    answers = [part.content for one in messages for part in one.parts if part.part_kind == "tool-return"]
    return [f"{PAID} {answers}"]

agent = Agent(model(say))
"""

ALWAYS = """
@agent.tool_plain(requires_approval=True)
def pay(amount: int) -> str:
    PAID.append(amount)
    return "paid"
"""

ITSELF = """
@agent.tool
def pay(ctx, amount: int) -> str:
    if not ctx.tool_call_approved:
        raise ApprovalRequired
    PAID.append(amount)
    return "paid"
"""


@pytest.mark.parametrize("tool", [ALWAYS, ITSELF], ids=["always asks", "asks itself"])
def test_over_http_a_tool_that_ran_before_its_run_failed_runs_once_and_is_not_told_as_not_run(
    served: Any, tool: str
) -> None:
    client = served(STOPPED_AFTER_THE_TOOL + tool)
    assert client.post("/agents/app/invoke", json={"prompt": "pay", "thread_id": "t"}).json()["status"] == "paused"
    answer = {"thread_id": "t", "response": "approve"}
    failed = client.post("/agents/app/resume", json=answer).text
    assert '"result":"paid"' in failed
    assert '"code":"agent_unavailable"' in failed

    assert client.post("/agents/app/resume", json=answer).status_code == 409
    reply = client.post("/agents/app/invoke", json={"prompt": "did you pay?", "thread_id": "t"}).json()["message"]
    assert reply == f"[5] {[ASKED]}"
    assert "may have run" in reply


EXTERNAL = """
from pydantic_ai import Agent, CallDeferred
from pydantic_ai_doubles import call, model, returns

agent = Agent(model(lambda messages: [returns(messages)["c"]] if returns(messages) else [call("ask", "c")]))

@agent.tool_plain
def ask() -> str:
    raise CallDeferred
"""


def test_over_http_an_answer_without_a_result_leaves_the_question_open(served: Any) -> None:
    client = served(EXTERNAL)
    client.post("/agents/app/invoke", json={"prompt": "x", "thread_id": "t"})

    missing = client.post("/agents/app/resume", json={"thread_id": "t"})
    assert (missing.status_code, missing.json()["detail"]) == (
        422,
        "response does not meet 'not' ({'type': 'null'})",
    )
    approved = client.post("/agents/app/resume", json={"thread_id": "t", "decision": {"verdict": "approved"}})
    assert '"code":"agent_error"' in approved.text
    assert '"message":"room 7"' in client.post("/agents/app/resume", json={"thread_id": "t", "response": "room 7"}).text
