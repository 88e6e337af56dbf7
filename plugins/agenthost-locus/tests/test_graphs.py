"""Locus's graphs: progress node by node, the final state as output, interrupts of nodes as pauses."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from locus.core.command import Command
from locus.core.interrupt import interrupt
from locus.memory.backends.memory import MemoryCheckpointer
from locus.multiagent.graph import END, START, StateGraph, emit_custom
from locus.server import GraphRunnable
from locus_doubles import Thread, adapt, of
from pydantic import BaseModel

from agenthost import AgentError, Custom, Interrupt, Result, Think

pytestmark = pytest.mark.framework


async def plan(state: dict[str, Any]) -> dict[str, Any]:
    await emit_custom({"progress": 0.5})
    return {"plan": f"paint {state['prompt']}"}


async def paint(state: dict[str, Any]) -> dict[str, Any]:
    return {"answer": f"did {state['plan']}"}


async def review(state: dict[str, Any]) -> dict[str, Any]:
    verdict = interrupt({"question": f"Shall I {state['plan']}?", "options": ["yes", "no"]})
    return {"plan": f"{state['plan']} ({verdict})"}


async def broken(state: dict[str, Any]) -> dict[str, Any]:
    raise LookupError("no brush")


def graph(*nodes: Any, **compiled: Any) -> StateGraph:
    """The nodes in a row."""
    made = StateGraph(name="painter", description="Paints.")
    before = START
    for node in nodes:
        made.add_node(node.__name__, node)
        made.add_edge(before, node.__name__)
        before = node.__name__
    made.add_edge(before, END)
    return made.compile(**compiled)


def test_nodes_are_told_and_the_final_state_is_the_result() -> None:
    async def main() -> None:
        served = adapt(graph(plan, paint))
        assert (served.title, served.description) == ("painter", "Paints.")
        events = await Thread(served, settings=served.Settings(output_key="answer")).run("doors")
        told = of(Custom, events)
        assert [(event.type, event.data["node_id"]) for event in told] == [
            ("graph_custom", None),
            ("graph_values", "plan"),
            ("graph_values", "paint"),
        ]
        assert told[0].data["data"] == {"progress": 0.5}
        output = {"prompt": "doors", "plan": "paint doors", "answer": "did paint doors"}
        assert events[-1] == Result("did paint doors", output)

    asyncio.run(main())


def test_input_is_the_state_and_without_an_output_key_the_message_is_json() -> None:
    async def main() -> None:
        events = await Thread(adapt(graph(paint))).run("", input={"plan": "all"})
        assert events[-1] == Result('{"plan": "all", "answer": "did all"}', {"plan": "all", "answer": "did all"})

    asyncio.run(main())


@pytest.mark.parametrize("checkpointer", [None, MemoryCheckpointer()], ids=["without a checkpointer", "with one"])
def test_an_interrupt_of_a_node_pauses_and_the_answer_goes_on_there(checkpointer: Any) -> None:
    async def main() -> None:
        thread = Thread(adapt(graph(plan, review, paint, checkpointer=checkpointer)))
        asked = (await thread.run("doors"))[-1]
        assert isinstance(asked, Interrupt)
        assert (asked.question, asked.options) == ("Shall I paint doors?", ["yes", "no"])
        thread.served = adapt(graph(plan, review, paint, checkpointer=checkpointer))
        assert (await thread.resume("yes"))[-1].output["answer"] == "did paint doors (yes)"

    asyncio.run(main())


def test_threads_of_two_people_do_not_meet_in_the_graphs_checkpointer() -> None:
    async def main() -> None:
        served = adapt(graph(plan, review, paint, checkpointer=MemoryCheckpointer()))
        ann, bob = Thread(served), Thread(served, who="bob")
        await ann.run("doors")
        await bob.run("walls")
        assert (await ann.resume("yes"))[-1].output["answer"] == "did paint doors (yes)"
        assert (await bob.resume("no"))[-1].output["answer"] == "did paint walls (no)"

    asyncio.run(main())


class Order(BaseModel):
    number: int = 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (object(), "a object"),
        (Order(), "a Order"),
        ((1, 2), "a tuple"),
        ({1}, "a set"),
        ([Order()], "a Order"),
        ({"of": [{"it": b"x"}]}, "a bytes"),
        ({1: "one"}, "a key of type int"),
    ],
)
def test_a_state_that_would_not_come_back_as_it_was_cannot_wait_without_a_checkpointer(value: Any, shown: str) -> None:
    async def main() -> None:
        message = f"a graph without a checkpointer cannot wait with {shown} in its state, under 'order'"
        with pytest.raises(AgentError, match=f"^{re.escape(message)}$"):
            await Thread(adapt(graph(review))).run("", input={"plan": "x", "order": value})

    asyncio.run(main())


def test_what_a_node_returned_may_be_anything_where_the_state_is_json() -> None:
    async def go(state: dict[str, Any]) -> Any:
        return Command(update={"plan": "paint"})

    async def main() -> None:
        thread = Thread(adapt(graph(go, review, paint)))
        await thread.run("doors")
        assert (await thread.resume("yes"))[-1].output["answer"] == "did paint (yes)"

    asyncio.run(main())


def test_a_thread_in_the_graphs_checkpointer_is_found_and_deleted_with_the_hosts() -> None:
    async def main() -> None:
        checkpointer = MemoryCheckpointer()
        served = adapt(graph(plan, review, paint, checkpointer=checkpointer))
        ann, bob = Thread(served), Thread(served, who="bob")
        await ann.run("my secret")
        await bob.run("walls")
        assert ann.key is not None
        assert bob.key is not None
        assert await served.get_thread(ann.key) == {"messages": [], "paused": True}
        assert await served.delete_thread(ann.key) is True
        assert await served.get_thread(ann.key) is None
        assert await served.delete_thread(ann.key) is False
        assert await checkpointer.list_threads() == [bob.key.digest]
        await bob.resume("yes")
        assert await served.get_thread(bob.key) == {"messages": [], "paused": False}

    asyncio.run(main())


def test_a_run_without_a_thread_leaves_nothing_in_the_graphs_checkpointer() -> None:
    async def main() -> None:
        checkpointer = MemoryCheckpointer()
        thread = Thread(adapt(graph(plan, review, paint, checkpointer=checkpointer)), None)
        await thread.run("doors")
        assert len(await checkpointer.list_threads()) == 1, "the pause is there"
        assert (await thread.resume("yes"))[-1].output["answer"] == "did paint doors (yes)"
        assert await checkpointer.list_threads() == []

    asyncio.run(main())


def test_a_graph_without_a_checkpointer_keeps_no_threads() -> None:
    assert not hasattr(adapt(graph(plan)), "get_thread"), "the host does"


def test_a_node_that_raises_fails_the_run() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"^node 'broken' failed: .*no brush"):
            await Thread(adapt(graph(broken))).run("x")

    asyncio.run(main())


def test_a_cancelled_run_ends_after_its_node_has() -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def wait(state: dict[str, Any]) -> dict[str, Any]:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                for _ in range(10):  # it has something to put away
                    await asyncio.sleep(0)
                ended.set()
            return {}

        run = asyncio.create_task(Thread(adapt(graph(wait))).run("x"))
        await asyncio.wait_for(begun.wait(), 10)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 10)
        assert ended.is_set()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_graph_runnable_says_what_locus_has_it_say() -> None:
    async def main() -> None:
        served = adapt(GraphRunnable(graph(plan, paint), output_key="answer"))
        events = await Thread(served).run("doors")
        assert of(Think, events) != []
        assert events[-1] == Result("did paint doors")

    asyncio.run(main())
