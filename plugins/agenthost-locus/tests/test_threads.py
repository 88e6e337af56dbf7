"""Whose memory it is: the agent's own checkpointer where it has one, else the host's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from agenthost_locus.checkpointing import HostCheckpointer
from locus.memory.backends.file import FileCheckpointer
from locus.memory.backends.memory import MemoryCheckpointer
from locus.testing import FunctionModel
from locus_doubles import Agent, Thread, adapt, agent, text, tool, tool_call

from agenthost import AgentError, Part, Result, ThreadKey

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
        image = [Part(media_type="image/png", data=b"\x89PNG")]
        with pytest.raises(AgentError, match=r"^a Locus agent takes text, and this file is image/png$"):
            await Thread(served).run("", content=image)

    asyncio.run(main())
