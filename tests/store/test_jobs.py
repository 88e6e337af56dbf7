"""What is written is what was true when it was asked."""

from __future__ import annotations

import asyncio

import pytest

from agenthost.events import Entry
from agenthost.threads import ThreadKey


def test_what_is_not_json_is_refused_where_it_is_asked(store, new_run, end):
    async def main():
        with pytest.raises(TypeError):
            store.start_run(new_run("t", input={"when": object()}))
        await store.start_run(new_run("t"))
        with pytest.raises(TypeError):
            store.end_run(end("r2", state={"x": {1}}))
        await store.end_run(end("r2", state={"x": 1}))

    asyncio.run(main())


def test_what_changes_after_it_was_asked_is_not_written(store, new_run, end):
    async def main():
        given, state, log = {"prompt": "p"}, {"n": 1}, [Entry(1, "done", b"{}")]
        starting = store.start_run(new_run("t", input=given))
        given["prompt"] = "changed"
        await starting
        ending = store.end_run(end("r1", state=state, entries=log))
        state["n"] = 2
        log.clear()
        await ending
        assert (await store.get_run("r1")).input == {"prompt": "p"}
        assert len(await store.read_events("r1", 0, 9)) == 1
        assert (await store.start_run(new_run("t"))).state == {"n": 1}
        assert await store.get_thread(ThreadKey("acme", "echo", "t")) is not None

    asyncio.run(main())
