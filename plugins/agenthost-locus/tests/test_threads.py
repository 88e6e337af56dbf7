"""Whose memory it is: the agent's own checkpointer where it has one, else the host's."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from agenthost_locus.checkpointing import MAX_KEPT, HostCheckpointer
from locus.memory.backends.file import FileCheckpointer
from locus.memory.backends.memory import MemoryCheckpointer
from locus.testing import FunctionModel
from locus_doubles import Agent, Thread, adapt, agent, text, tool, tool_call

from agenthost import AgentError, Message, Part, Result, ThreadKey

pytestmark = pytest.mark.framework


def counting(**fields: Any) -> Agent:
    """An agent that says how many messages of the user it was shown."""
    return Agent(model=FunctionModel(lambda messages, _: str(sum(one.role == "user" for one in messages))), **fields)


async def turns(thread: Thread, count: int = 3) -> list[str]:
    return [(await thread.run("x"))[-1].message for _ in range(count)]


def test_an_agent_without_a_checkpointer_remembers_through_the_hosts_threads() -> None:
    async def main() -> None:
        served = adapt(counting())
        thread, other = Thread(served), Thread(served, "other")
        assert await turns(thread) == ["1", "2", "3"]
        assert await turns(other, 1) == ["1"]
        assert not hasattr(served, "get_thread"), "the host reads and deletes them"
        assert isinstance(served._served.config.checkpointer, HostCheckpointer)

    asyncio.run(main())


def test_a_run_that_does_not_end_leaves_the_thread_as_it_was() -> None:
    async def main() -> None:
        def reply(messages: list[Any], _: Any) -> str:
            if messages[-1].content == "fail":
                raise RuntimeError
            return str(sum(one.role == "user" for one in messages))

        thread = Thread(adapt(Agent(model=FunctionModel(reply))))
        assert await turns(thread, 1) == ["1"]
        with pytest.raises(RuntimeError):
            await thread.run("fail")
        assert await turns(thread, 1) == ["2"]

    asyncio.run(main())


def test_the_authors_own_agent_is_not_given_the_hosts_threads() -> None:
    async def main() -> None:
        author = counting()
        thread = Thread(adapt(author))
        assert await turns(thread, 2) == ["1", "2"]
        assert author.config.checkpointer is None

        @tool
        def late() -> str:
            """Come late."""
            return "here"

        author.add_tool(late)
        assert "late" in [one.name for one in thread.served._served.tools], "and else it is the same"

    asyncio.run(main())


def test_an_agent_inside_another_has_no_part_in_its_thread() -> None:
    async def main(inside: Agent) -> None:
        @tool
        async def ask() -> str:
            """Ask the agent inside."""
            return [event async for event in inside.run("a sub-question", thread_id="scratch")][-1].final_message

        turns_ = [text("first"), tool_call("ask", call_id="c"), text("second"), text("third")]
        thread = Thread(adapt(agent(*turns_, tools=[ask])))
        for prompt in ("one", "two", "three"):
            await thread.run(prompt)
        shown = thread.served._served.model.received_messages[-1]
        assert [message.content for message in shown if message.role == "user"] == ["one", "two", "three"]
        assert [message.content for message in shown if message.role == "tool"] == ["1"], "it saw nothing else"
        own = HostCheckpointer()
        assert await own.list_checkpoints("scratch") == []
        assert await own.delete("scratch") is False
        assert thread.key is not None
        assert await own.list_checkpoints(thread.key.digest) == [thread.key.digest]

    for inside in (counting(), adapt(counting())._served):  # the author's own, and one that the host serves
        asyncio.run(main(inside))


def test_a_thread_that_has_grown_too_long_goes_on_from_the_hosts_messages() -> None:
    call = {"id": "c", "name": "look", "arguments": {"at": "it"}}
    history = [
        Message.of("user", "x" * MAX_KEPT),
        Message("assistant", (), tool_calls=[call]),
        Message("tool", (Part(text="seen"),), tool_call_id="c", name="look"),
        Message.of("assistant", "1"),
        Message("user", (Part(media_type="image/png", data=b"\x89PNG"),)),
    ]

    async def main() -> None:
        locus_agent = agent(text("1"), text("2"), text("3"), system_prompt="Be brief.")
        thread = Thread(adapt(locus_agent))
        await thread.run("x" * MAX_KEPT)
        assert thread.state == {"locus": "too long"}
        assert (await thread.run("go on", history=history))[-1] == Result("2")
        shown = locus_agent.model.received_messages[-1]
        assert [message.role.value for message in shown] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
            *["user"] * 2,
        ]
        assert shown[0].content == "Be brief."
        assert (shown[2].tool_calls[0].id, shown[2].tool_calls[0].arguments) == ("c", {"at": "it"})
        assert [message.content for message in shown[3:]] == ["seen", "1", "[image/png]", "go on"]
        await thread.run("go on", history=history[3:])
        assert thread.state["locus"]["messages"], "it is short again"

    asyncio.run(main())


def test_what_is_too_long_to_wait_says_so_when_it_asks() -> None:
    async def main() -> None:
        thread = Thread(adapt(agent(tool_call("ask_user", question="Why?"), completion_mode="explicit")))
        message = "it has asked a question in a conversation that is too long to wait in the host's thread (1 MiB)"
        with pytest.raises(AgentError, match=f"^{re.escape(message)}$") as failed:
            await thread.run("x" * MAX_KEPT)
        assert "checkpointer of its own" in (failed.value.hint or "")

    asyncio.run(main())


@pytest.mark.parametrize("kept", ["memory", "file"])
def test_an_agents_own_checkpointer_is_used_read_and_deleted_under_the_keys_digest(kept: str, tmp_path: Path) -> None:
    async def main() -> None:
        checkpointer = MemoryCheckpointer() if kept == "memory" else FileCheckpointer(tmp_path)
        served = adapt(counting(checkpointer=checkpointer))
        ann, bob = Thread(served), Thread(served, who="bob")
        assert await turns(ann) == ["1", "2", "3"]
        assert await turns(bob, 1) == ["1"], "somebody else's thread of that name"
        assert ann.state == {}
        assert ann.key is not None
        assert await checkpointer.load(ann.key.digest) is not None
        assert (await served.get_thread(ann.key))["messages"][1].text == "x"
        assert await served.delete_thread(ann.key) is True
        assert await served.get_thread(ann.key) is None
        assert await served.delete_thread(ann.key) is False
        assert await turns(ann, 1) == ["1"]
        assert await turns(bob, 1) == ["2"]

    asyncio.run(main())


def test_ids_that_spell_the_same_are_different_threads() -> None:
    keys = [
        ThreadKey("a", "b", "c:d"),
        ThreadKey("a:b", "c", "d"),
        ThreadKey("a", "b:c", "d"),
        ThreadKey("a", "b", "c_d"),
    ]
    served = adapt(counting(checkpointer=MemoryCheckpointer()))
    assert len({served._name(key) for key in keys}) == len(keys)


def test_under_an_agent_server_the_id_is_locus_own() -> None:
    served = adapt(counting(checkpointer=MemoryCheckpointer()))
    served.serve_alone(stream_tokens=True)
    assert served._name(ThreadKey("anon", "agent", "alpha")) == "anon:alpha"


def test_a_run_without_a_thread_leaves_nothing_in_the_agents_checkpointer() -> None:
    async def main() -> None:
        checkpointer = MemoryCheckpointer()
        served = adapt(counting(checkpointer=checkpointer))
        assert await turns(Thread(served, None), 2) == ["1", "1"]
        assert await checkpointer.list_threads() == []
        failing = adapt(agent(checkpointer=checkpointer))
        with pytest.raises(AssertionError):
            await Thread(failing, None).run("x")
        assert await checkpointer.list_threads() == []

    asyncio.run(main())


def test_a_thread_is_shown_as_locus_server_shows_it() -> None:
    @tool
    def double(n: int) -> int:
        """Twice as much."""
        return 2 * n

    async def main() -> None:
        checkpointer = MemoryCheckpointer()
        turns_ = (tool_call("double", call_id="c", n=2), text("Four."))
        served = adapt(agent(*turns_, tools=[double], checkpointer=checkpointer))
        thread = Thread(served)
        await thread.run("double 2", metadata={"lang": "en"})
        shown = await served.get_thread(thread.key)
        assert thread.key is not None
        state = await checkpointer.load(thread.key.digest)
        assert state is not None
        assert shown["iteration"] == state.iteration
        assert shown["metadata"] == state.metadata == {"lang": "en"}
        assert shown["tool_executions"] == [one.model_dump(mode="json") for one in state.tool_executions]
        for message, locus in zip(shown["messages"], state.messages, strict=True):
            assert (message.role, message.text) == (locus.role.value, locus.content or "")
            assert message.tool_calls == [call.model_dump(mode="json") for call in locus.tool_calls]
            assert (message.tool_call_id, message.name) == (locus.tool_call_id, locus.name)

    asyncio.run(main())


# ── what it is told ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_and_data_reach_the_model_as_text() -> None:
    async def main() -> None:
        served = adapt(Agent(model=FunctionModel(lambda messages, _: messages[-1].content or "")))
        content = [
            Part(text="see"),
            Part(media_type="text/csv", data=b"a,b"),
            Part(json={"n": 1}),
            Part(uri="https://x"),
        ]
        assert (await Thread(served).run("see", content=content))[-1] == Result('see\na,b\n{"n": 1}\nhttps://x')
        assert (await Thread(served).run("", input={"n": 1}))[-1] == Result('{"n": 1}')
        assert (await Thread(served).run("sum", input={"n": 1}))[-1] == Result('sum\n{"n": 1}')
        assert (await Thread(served).run("x", content=[Part(text="sum")], input=[1]))[-1] == Result("sum\n[1]")
        image = [Part(media_type="image/png", data=b"\x89PNG")]
        with pytest.raises(AgentError, match=r"^a Locus agent takes text, and this file is image/png$"):
            await Thread(served).run("", content=image)

    asyncio.run(main())
