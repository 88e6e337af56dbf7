"""Agents that hand over to each other: what is told of it, and who goes on with the thread."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agenthost_openai_agents import serve
from agents import Agent, function_tool, handoff
from openai_doubles import Thread, asked_for, call, message_of, of, outputs_of, scripted

from agenthost import Custom, Interrupt, ToolComplete, ToolStart

pytestmark = pytest.mark.framework


@function_tool(needs_approval=True)
def refund() -> str:
    """Pay back."""
    return "paid"


def desk() -> Agent[Any]:
    """A front desk, which hands over to billing, which hands back."""

    def front(items: list[Any]) -> list[Any]:
        if asked_for(items) == "bill":
            return [call("transfer_to_billing", "over")]
        return ["front"]

    def back(items: list[Any]) -> list[Any]:
        if asked_for(items) == "back":
            return [call("transfer_to_front", "home")]
        if asked_for(items) == "refund" and "pay" not in outputs_of(items):
            return [call("refund", "pay")]
        return [f"billing {outputs_of(items).get('pay', '')}".strip()]

    billing = scripted(back, name="billing", tools=[refund])
    agent = scripted(front, name="front", handoffs=[handoff(billing)])
    billing.handoffs.append(agent)
    return agent


def test_a_handoff_is_told_and_is_no_tool_call() -> None:
    async def main() -> None:
        events = await Thread(serve(desk())).run("bill")
        assert of(Custom, events) == [
            Custom("x-handoff", {"from": "front", "to": "billing"}),
            Custom("x-agent", {"agent": "billing"}),
        ]
        assert not of(ToolStart, events)
        assert not of(ToolComplete, events)
        assert message_of(events) == "billing"

    asyncio.run(main())


def test_the_thread_goes_on_with_the_agent_that_had_it_last() -> None:
    async def main() -> None:
        thread, agent = Thread(serve(desk())), desk()
        assert message_of(await thread.run("hello")) == "front"
        assert message_of(await thread.run("bill")) == "billing"
        thread.agent = serve(agent)  # the host has started again
        events = await thread.run("hello")
        assert events[0] == Custom("x-agent", {"agent": "billing"})
        assert message_of(events) == "billing"
        events = await thread.run("back")
        assert of(Custom, events)[1:] == [
            Custom("x-handoff", {"from": "billing", "to": "front"}),
            Custom("x-agent", {"agent": "front"}),
        ]
        assert of(Custom, await thread.run("hello")) == []

    asyncio.run(main())


def test_an_agent_that_is_no_longer_there_leaves_its_threads_to_the_served_one() -> None:
    async def main() -> None:
        thread = Thread(serve(desk()))
        await thread.run("bill")
        thread.agent = serve(scripted(lambda items: ["alone"], name="front"))
        assert message_of(await thread.run("hello")) == "alone"

    asyncio.run(main())


def test_a_pause_of_the_agent_that_was_handed_over_to_is_taken_up_by_it() -> None:
    async def main() -> None:
        thread = Thread(serve(desk()))
        await thread.run("bill")
        (asked,) = of(Interrupt, await thread.run("refund"))
        thread.agent = serve(desk())
        events = await thread.answer((asked, "approve"))
        assert of(ToolComplete, events) == [ToolComplete("refund", "pay", "paid")]
        assert message_of(events) == "billing paid"

    asyncio.run(main())
