"""Tool calls that wait for a person: asked, answered together or one by one, over a restart, each run once."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from agenthost_openai_agents import serve
from agenthost_openai_agents.pauses import NOT_KNOWN
from agents import HostedMCPTool, RunContextWrapper, function_tool
from openai.types.responses.response_output_item import McpApprovalRequest
from openai_doubles import FOLDER, Thread, asked_for, call, message_of, of, outputs_of, scripted

from agenthost import AgentError, Custom, Interrupt, Result, ToolComplete, ToolStart, Usage
from agenthost.testing import serving

pytestmark = pytest.mark.framework


class Mails:
    """Tools that count what they do."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.looked_up: list[str] = []

        @function_tool(needs_approval=True)
        def send(to: str) -> dict[str, str]:
            """Send a mail."""
            self.sent.append(to)
            return {"sent_to": to}

        @function_tool
        def look_up(name: str) -> str:
            """Look somebody up."""
            self.looked_up.append(name)
            return f"{name}@example.org"

        self.tools = [send, look_up]

    def agent(self, *names: str) -> Any:
        """An agent that wants to mail these, and looks Ann up besides."""

        def answer(items: list[Any]) -> list[Any]:
            outputs = outputs_of(items)
            if not outputs:
                return [call("look_up", "find", name="Ann"), *(call("send", f"to-{name}", to=name) for name in names)]
            return [" ".join(f"{call_id}={outputs[call_id]}" for call_id in sorted(outputs))]

        return serve(scripted(answer, tools=self.tools))


def test_what_needs_no_approval_runs_at_once_and_the_others_are_asked_about_in_a_row() -> None:
    mails = Mails()

    async def main() -> None:
        events = await Thread(mails.agent("Bob", "Cy")).run("mail them")
        assert of(ToolStart, events) == [ToolStart("look_up", "find", {"name": "Ann"})]
        assert of(ToolComplete, events) == [ToolComplete("look_up", "find", "Ann@example.org")]
        bob, cy = events[-2:]
        assert (bob.interrupt_id, bob.question, bob.options) == ("to-Bob", 'Run send(to="Bob")?', ["approve", "deny"])
        assert cy.metadata == {
            "kind": "tool_approval",
            "tool": "send",
            "tool_call_id": "to-Cy",
            "arguments": {"to": "Cy"},
        }
        assert (mails.sent, mails.looked_up) == ([], ["Ann"])

    asyncio.run(main())


def test_answers_given_together_go_on_at_once_with_each_call_as_it_was_decided() -> None:
    mails = Mails()

    async def main() -> None:
        thread = Thread(mails.agent("Bob", "Cy"))
        bob, cy = of(Interrupt, await thread.run("mail them"))
        events = await thread.answer((cy, {"verdict": "denied", "message": "Cy is away"}), (bob, "approve"))
        assert events[:2] == [ToolStart("send", "to-Cy", {"to": "Cy"}), ToolStart("send", "to-Bob", {"to": "Bob"})]
        assert sorted(of(ToolComplete, events), key=lambda done: done.tool_call_id) == [
            ToolComplete("send", "to-Bob", {"sent_to": "Bob"}),
            ToolComplete("send", "to-Cy", error="Cy is away"),
        ]
        assert message_of(events) == "find=Ann@example.org to-Bob={'sent_to': 'Bob'} to-Cy=Cy is away"
        assert of(Usage, events) == [Usage("scripted", 10, 2, 1, 0)]
        assert (mails.sent, mails.looked_up) == (["Bob"], ["Ann"])

    asyncio.run(main())


def test_answers_given_one_by_one_wait_for_the_last_and_no_tool_runs_twice() -> None:
    mails = Mails()

    async def main() -> None:
        thread = Thread(mails.agent("Bob", "Cy", "Di"))
        bob, cy, di = of(Interrupt, await thread.run("mail them"))
        assert await thread.answer((cy, "approve")) == [Result("Waiting for 2 more answers.", reason="waiting")]
        assert await thread.answer((bob, "deny")) == [Result("Waiting for 1 more answer.", reason="waiting")]
        assert mails.sent == []
        events = await thread.answer((di, "approve"))
        assert {done.tool_call_id: done.error is None for done in of(ToolComplete, events)} == {
            "to-Bob": False,
            "to-Cy": True,
            "to-Di": True,
        }
        assert sorted(mails.sent) == ["Cy", "Di"]
        assert "to-Bob=The user denied this tool call." in message_of(events)
        assert thread.state.get("answers") is None

    asyncio.run(main())


def test_a_new_message_instead_of_the_answers_drops_those_that_came_and_the_model_is_not_told_what_ran() -> None:
    mails = Mails()

    async def main() -> None:
        thread = Thread(mails.agent("Bob", "Cy"))
        bob, _cy = of(Interrupt, await thread.run("mail them"))
        await thread.answer((bob, "approve"))
        asked = of(Interrupt, await thread.run("no, mail them today"))
        assert [one.interrupt_id for one in asked] == ["to-Bob", "to-Cy"]
        conversation = thread.agent._agent.model.asked[-1]
        assert [item.get("call_id") or item["content"] for item in conversation] == [
            "mail them",
            "find",
            "find",
            "to-Bob",
            "to-Bob",
            "to-Cy",
            "to-Cy",
            "no, mail them today",
        ]
        assert [item["output"] for item in conversation if item.get("type") == "function_call_output"] == [
            "Ann@example.org",
            NOT_KNOWN,
            NOT_KNOWN,
        ]
        await thread.answer((asked[0], "deny"))
        await thread.answer((asked[1], "deny"))
        assert mails.sent == []

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_call_that_ran_in_a_resume_that_then_failed_is_not_forgotten(size: int) -> None:
    """Also where the conversation is too long to be kept, and is made of the messages."""
    mails = Mails()

    def answer(items: list[Any]) -> list[Any]:
        if asked_for(items) != "mail":
            return ["ok"]
        if outputs_of(items):
            raise RuntimeError("out of order")
        return [call("send", "to-Bob", to="Bob")]

    async def main() -> None:
        thread = Thread(serve(scripted(answer, tools=mails.tools)))
        await thread.run("x" * size)
        (bob,) = of(Interrupt, await thread.run("mail"))
        assert ("items" in thread.state) == (size == 1)
        with pytest.raises(RuntimeError, match="out of order"):
            await thread.answer((bob, "approve"))
        assert mails.sent == ["Bob"]
        assert (await given_next(thread))[2:] == [
            {"role": "user", "content": "mail"},
            *not_known("send", "to-Bob", to="Bob"),
            {"role": "user", "content": "next"},
        ]

    asyncio.run(main())


def test_what_ran_and_ended_well_is_known_again() -> None:
    mails = Mails()

    async def main() -> None:
        thread = Thread(mails.agent("Bob"))
        (bob,) = of(Interrupt, await thread.run("mail him"))
        await thread.answer((bob, "approve"))
        conversation = await given_next(thread)
        assert NOT_KNOWN not in json.dumps(conversation)
        assert outputs_of(conversation[:-1])["to-Bob"] == "{'sent_to': 'Bob'}"

    asyncio.run(main())


def test_of_an_agent_that_is_a_tool_and_of_a_hosted_server_the_call_that_is_open_is_not_forgotten() -> None:
    mails = Mails()
    request = McpApprovalRequest(
        id="ask", type="mcp_approval_request", name="wipe", server_label="disk", arguments='{"all": true}'
    )
    disk = HostedMCPTool(tool_config={"type": "mcp", "server_label": "disk", "server_url": "https://example.org/mcp"})
    clerk = scripted(lambda items: [call("send", "inner", to="Bob")], name="Clerk", tools=mails.tools)
    for tool, made, expected in (
        (clerk.as_tool("clerk", "Mails."), call("clerk", "outer", input="B"), not_known("clerk", "outer", input="B")),
        (disk, request, not_known("wipe", "ask", all=True)),
    ):

        def answer(items: list[Any], made: Any = made) -> list[Any]:
            return ["ok"] if asked_for(items) == "next" else [made]

        async def main(agent: Any, expected: Any) -> None:
            thread = Thread(serve(agent))
            assert of(Interrupt, await thread.run("go"))
            assert (await given_next(thread))[1:-1] == expected

        asyncio.run(main(scripted(answer, tools=[tool]), expected))


async def given_next(thread: Thread) -> list[Any]:
    """What the model is given with the next message."""
    await thread.run("next")
    given: list[Any] = thread.agent._agent.model.asked[-1]
    return given


def not_known(tool: str, call_id: str, **arguments: Any) -> list[Any]:
    """A call of which nobody knows whether it ran, as items."""
    return [
        {"type": "function_call", "call_id": call_id, "name": tool, "arguments": json.dumps(arguments)},
        {"type": "function_call_output", "call_id": call_id, "output": NOT_KNOWN},
    ]


def test_changed_arguments_are_refused_and_the_question_stays_open() -> None:
    mails = Mails()

    async def main() -> None:
        thread = Thread(mails.agent("Bob"))
        (bob,) = of(Interrupt, await thread.run("mail him"))
        with pytest.raises(AgentError) as refused:
            await thread.answer((bob, {"verdict": "approved", "arguments": {"to": "Eve"}}))
        assert refused.value.describe() == (
            "decision.arguments: the OpenAI Agents SDK runs a call as the model made it\n"
            "  → deny it, and say in its message what should be called instead"
        )
        await thread.answer((bob, {"verdict": "approved", "arguments": {"to": "Bob"}}))
        assert mails.sent == ["Bob"]

    asyncio.run(main())


def test_the_tools_of_an_agent_that_is_itself_a_tool_are_asked_about_too() -> None:
    mails = Mails()

    def clerk(items: list[Any]) -> list[Any]:
        outputs = outputs_of(items)
        return [f"done: {outputs['inner']}"] if outputs else [call("send", "inner", to=asked_for(items))]

    def boss(items: list[Any]) -> list[Any]:
        outputs = outputs_of(items)
        return [f"clerk says {outputs['outer']}"] if outputs else [call("clerk", "outer", input="Bob")]

    tool = scripted(clerk, name="Clerk", tools=mails.tools).as_tool("clerk", "Does the mail.")

    async def main() -> None:
        thread = Thread(serve(scripted(boss, tools=[tool])))
        first = await thread.run("mail Bob")
        (asked,) = of(Interrupt, first)
        assert (asked.interrupt_id, asked.metadata["tool"]) == ("inner", "send")
        events = await thread.answer((asked, "approve"))
        assert events[0] == Custom("x-approval", {"tool_call_id": "inner", "approved": True})
        assert of(ToolComplete, events) == [
            ToolComplete("clerk", "outer", "done: {'sent_to': 'Bob'}"),
        ]
        assert message_of(events) == "clerk says done: {'sent_to': 'Bob'}"
        assert sum(usage.input_tokens for usage in of(Usage, [*first, *events])) == 40
        assert mails.sent == ["Bob"]

    asyncio.run(main())


def test_a_hosted_mcp_server_is_asked_about_too() -> None:
    request = McpApprovalRequest(
        id="ask", type="mcp_approval_request", name="wipe", server_label="disk", arguments='{"all": true}'
    )
    tool = HostedMCPTool(tool_config={"type": "mcp", "server_label": "disk", "server_url": "https://example.org/mcp"})

    def answer(items: list[Any]) -> list[Any]:
        said = [item for item in items if item.get("type") == "mcp_approval_response"]
        return [f"approve: {said[-1]['approve']}"] if said else [request]

    async def main() -> None:
        for said in ("approve", "deny"):
            thread = Thread(serve(scripted(answer, tools=[tool])))
            (asked,) = of(Interrupt, await thread.run("wipe it"))
            assert asked.metadata == {
                "kind": "tool_approval",
                "tool": "wipe",
                "tool_call_id": "ask",
                "arguments": {"all": True},
            }
            assert message_of(await thread.answer((asked, said))) == f"approve: {said == 'approve'}"

    asyncio.run(main())


def test_the_context_of_a_run_is_made_anew_and_never_written_down() -> None:
    seen: list[Any] = []

    def context(ctx: Any) -> dict[str, Any]:
        return {"key": "k-1234567890", "lock": threading.Lock(), "for": ctx.principal.id}

    @function_tool(needs_approval=True)
    def who(wrapper: RunContextWrapper[Any]) -> str:
        """Say who asks."""
        seen.append(wrapper.context)
        return str(wrapper.context["for"])

    def answer(items: list[Any]) -> list[Any]:
        return [outputs_of(items)["c"]] if outputs_of(items) else [call("who", "c")]

    async def main() -> None:
        thread = Thread(serve(scripted(answer, tools=[who]), context=context))
        (asked,) = of(Interrupt, await thread.run("who asks?"))
        written = zlib.decompress(base64.b64decode(asked.state["state"])).decode()
        assert "who asks?" in written
        assert "1234567890" not in written
        assert message_of(await thread.answer((asked, "approve"))) == "ada"
        assert seen[0]["key"] == "k-1234567890"

    asyncio.run(main())


def test_an_agent_that_is_itself_a_tool_goes_on_with_the_context_of_the_run() -> None:
    @function_tool(needs_approval=True)
    def who(wrapper: RunContextWrapper[Any]) -> str:
        """Say who asks."""
        return str(wrapper.context["for"])

    def clerk(items: list[Any]) -> list[Any]:
        return [outputs_of(items)["c"]] if outputs_of(items) else [call("who", "c")]

    def boss(items: list[Any]) -> list[Any]:
        return [outputs_of(items)["o"]] if outputs_of(items) else [call("clerk", "o", input="?")]

    async def main() -> None:
        tool = scripted(clerk, name="Clerk", tools=[who]).as_tool("clerk", "Knows who.")
        agent = scripted(boss, tools=[tool])
        thread = Thread(serve(agent, context=lambda ctx: {"for": ctx.principal.id, "lock": threading.Lock()}))
        (asked,) = of(Interrupt, await thread.run("who asks?"))
        assert message_of(await thread.answer((asked, "approve"))) == "ada"

    asyncio.run(main())


def test_an_agent_that_has_changed_since_it_paused_says_so_and_the_question_stays_open() -> None:
    mails = Mails()

    async def main() -> None:
        thread = Thread(mails.agent("Bob"))
        (bob,) = of(Interrupt, await thread.run("mail him"))
        thread.agent = serve(scripted(lambda items: ["?"], name="Another"))
        with pytest.raises(AgentError) as refused:
            await thread.answer((bob, "approve"))
        assert refused.value.message.startswith("the paused run cannot be taken up: ")
        assert refused.value.hint == (
            "the agents, their names and tools must be those that it paused with; begin a new run on the thread"
        )

    asyncio.run(main())


def test_a_question_outlives_its_host(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "app.py").write_text((FOLDER / "reference_agent.py").read_text())
    (tmp_path / "agents.toml").write_text(
        f'[store]\nurl = "sqlite:///{tmp_path}/store.db"\n[agents.app]\nuse = "app.py:agent"\n'
    )
    env = {"REFERENCE_LOG": str(log)}
    with serving(tmp_path / "agents.toml", env=env) as host:
        invoke(host.url, "my name is Ann")
        paused = invoke(host.url, "mail Bob about lunch")
        assert (paused["status"], paused["interrupt"]["metadata"]["arguments"]) == (
            "paused",
            {"to": "Bob", "text": "lunch"},
        )
        assert "state" not in paused["interrupt"]
        assert not log.exists()
        host.kill()
    with serving(tmp_path / "agents.toml", env=env) as host:
        answer = httpx.post(f"{host.url}/agents/app/resume", json={"thread_id": "t", "response": "approve"})
        events = events_of(answer.text)
        assert [event["type"] for event in events] == [
            "tool_start",
            "tool_complete",
            "model_chunk",
            "model_chunk",
            "model_chunk",
            "usage",
            "done",
        ]
        assert events[-1]["message"] == "Mail to Bob sent."
        assert log.read_text() == "mail Bob\n"
        late = httpx.post(f"{host.url}/agents/app/resume", json={"thread_id": "t", "response": "approve"})
        assert late.status_code == 409
        assert invoke(host.url, "who am I")["message"] == "You are Ann."


def test_over_http_answers_come_one_by_one_or_together(served: Any) -> None:
    client = served(TWO_MAILS)
    for together in (True, False):
        thread = {"thread_id": f"t{together}"}
        paused = client.post("/agents/app/invoke", json={"prompt": "mail", **thread}).json()
        assert paused["status"] == "paused"
        answers = [{"interrupt_id": "b", "response": "approve"}, {"interrupt_id": "a", "response": "deny"}]
        for body in [{"answers": answers}] if together else answers:
            reply = client.post("/agents/app/resume", json={**thread, **body})
            assert reply.status_code == 200, reply.text
        assert events_of(reply.text)[-1]["message"] == "a: The user denied this tool call., b: sent"
        threads = client.get(f"/agents/app/threads/{thread['thread_id']}").json()
        assert threads["messages"][-1]["content"] == "a: The user denied this tool call., b: sent"


TWO_MAILS = """
from agents import function_tool
from openai_doubles import call, outputs_of, scripted


@function_tool(needs_approval=True)
def send(to: str) -> str:
    return "sent"


def answer(items):
    outputs = outputs_of(items)
    if not outputs:
        return [call("send", "a", to="Ann"), call("send", "b", to="Bob")]
    return [", ".join(f"{name}: {outputs[name]}" for name in sorted(outputs))]


agent = scripted(answer, tools=[send])
"""


def invoke(url: str, prompt: str) -> dict[str, Any]:
    answer = httpx.post(f"{url}/agents/app/invoke", json={"prompt": prompt, "thread_id": "t"}, timeout=30)
    found: dict[str, Any] = answer.json()
    return found


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(one) for one in data]
