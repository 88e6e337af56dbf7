"""A host in a process of its own, over real sockets: a thousand runs leave nothing, bad ones end alone."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving import Process, actors, agents_toml
from tests.wire import Wire, ask, request

STUBBORN = """
import asyncio
import sys
import threading
import time

from agenthost import Result


async def counts_tasks(ctx):
    return Result(output=len(asyncio.all_tasks()))


async def leaves(ctx):
    yield "bye"
    sys.exit(3)


async def interrupts(ctx):
    raise KeyboardInterrupt
    yield


def leaves_from_a_thread(ctx):
    sys.exit(3)


async def leaves_in_a_task(ctx):
    async def tool():
        sys.exit(3)
    yield "calling"
    await asyncio.gather(tool(), asyncio.sleep(0))


async def interrupts_in_a_task(ctx):
    async def tool():
        await asyncio.sleep(0)
        raise KeyboardInterrupt
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tool())
    yield "never"


async def leaves_a_task_behind(ctx):
    async def later():
        await asyncio.sleep(0)
        sys.exit(3)
    asyncio.get_running_loop().create_task(later())
    raise ValueError


async def recurses(ctx):
    def deeper():
        return deeper()
    yield deeper()


async def deaf(ctx):
    yield "begun"
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def floods(ctx):
    while True:
        yield "x" * 1000


async def speaks(ctx):
    yield ctx.prompt
"""


def agents(folder: Path, *names: str, more: str = "") -> str:
    """`[agents.*]` tables for the functions above, written to a file beside agents.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stubborn.py").write_text(STUBBORN)
    return "".join(f'[agents.{name.replace("_", "-")}]\nuse = "stubborn.py:{name}"\n{more}\n' for name in names)


def seen(pid: int) -> tuple[int, int]:
    """How many descriptors and threads a process has."""
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    status = Path(f"/proc/{pid}/status").read_text()
    return descriptors, int(status.partition("Threads:")[2].split()[0])


def left(host: Process) -> Counter[str]:
    """How many descriptors, threads and tasks a host has."""
    descriptors, threads = seen(host.pid)
    tasks = ask(host.port, "POST", "/agents/counts-tasks/invoke", body={"prompt": "x"}).json["output"]
    return Counter(descriptors=descriptors, threads=threads, tasks=tasks)


def some_of_everything(port: int, times: int) -> None:
    """Runs that answer, stream, fail, are kept in threads, and are left by their client: five each time."""
    for place in range(times):
        with Wire(port) as wire:
            body = {"prompt": "hello", **({"thread_id": f"t{place % 7}"} if place % 3 == 0 else {})}
            assert wire.ask("POST", "/agents/say/invoke", body=body).status == 200
            assert wire.ask("POST", "/agents/everything/stream", body=body).frames[-1].data == "[DONE]"
            assert wire.ask("POST", "/agents/fail/invoke", body=body).status == 500
            assert wire.ask("POST", "/agents/fail/stream", body={"prompt": "later"}).status == 200
            wire.ask("POST", "/agents/structured/invoke", body={"input": {"item": "x"}})
        if place % 4 == 0:
            with Wire(port) as leaving:
                leaving.send(request("POST", "/agents/hold/stream", body={"prompt": "leaving"}))
                assert leaving.head().status == 200


def some_that_are_kept(port: int, times: int) -> None:
    """Detached runs, and runs with keys that are asked for twice, read once, twice, in part, never: five each time."""
    for place in range(times):
        with Wire(port) as wire:
            body = {"prompt": "hello"}
            key = {"idempotency-key": f"{times}-{place}"}
            for agent in ("everything", "fail"):
                begun = wire.ask("POST", f"/agents/{agent}/runs", body=body)
                assert begun.status == 202
                for after in range(place % 3):
                    path = f"{begun['location']}/events?after={after}"
                    assert wire.ask("GET", path).frames[-1].data == "[DONE]"
            for route, status in (("invoke", 200), ("stream", 200), ("runs", 202)):
                replies = [wire.ask("POST", f"/agents/everything/{route}", key, body) for _ in range(2)]
                assert [reply.status for reply in replies] == [status] * 2
                assert len({reply["x-run-id"] for reply in replies}) == 1
                key = {"idempotency-key": f"{times}-{place}-{route}"}
        if place % 4 == 0:
            with Wire(port) as leaving:
                leaving.send(request("POST", "/agents/drip/stream", {"idempotency-key": f"{times}-{place}-left"}, body))
                left = leaving.head()
                assert left.status == 200
            assert ask(port, "POST", f"/agents/drip/runs/{left['x-run-id']}/cancel").status == 202


@pytest.mark.fault
@pytest.mark.parametrize("some", [some_of_everything, some_that_are_kept])
def test_a_thousand_runs_leave_no_descriptor_no_thread_no_task_and_no_memory(
    tmp_path: Path, some: Callable[[int, int], None]
) -> None:
    text = actors("say", "everything", "fail", "Structured", "hold", "drip") + agents(tmp_path, "counts_tasks")
    with Process(agents_toml(tmp_path, text, store=f"sqlite:///{tmp_path}/store.db"), dev=True) as host:
        some(host.port, 60)
        before, memory = left(host), host.resident()
        some(host.port, 200)
        deadline = time.monotonic() + 20
        while (more := left(host) - before) and time.monotonic() < deadline:
            time.sleep(0.05)  # connections that were left are closed when the host notices
        assert more["descriptors"] <= 2
        assert more["threads"] <= 2
        assert more["tasks"] == 0
        assert host.resident() - memory <= 10 << 20


DEADLY = [
    "leaves", "interrupts", "leaves_from_a_thread", "leaves_in_a_task", "interrupts_in_a_task", "leaves_a_task_behind",
    "recurses",
]  # fmt: skip


@pytest.mark.parametrize("name", DEADLY)
def test_an_agent_that_would_end_the_process_ends_its_run_alone(tmp_path: Path, name: str) -> None:
    text = agents(tmp_path, name, "speaks")
    name = name.replace("_", "-")
    with Process(agents_toml(tmp_path, text), dev=True) as host:
        for _ in range(3):
            invoked = ask(host.port, "POST", f"/agents/{name}/invoke", body={"prompt": "x"})
            assert (invoked.status, invoked.json["code"], invoked.json["detail"]) == (
                500,
                "agent_error",
                "The agent failed",
            )
            assert invoked.json["run_id"] == invoked["x-run-id"]
            streamed = ask(host.port, "POST", f"/agents/{name}/stream", body={"prompt": "x"})
            assert streamed.status == 200
            end = streamed.frames[-2].json
            assert (end["type"], end["error"], end["code"]) == ("error", "internal error", "agent_error")
            assert ask(host.port, "POST", "/agents/speaks/invoke", body={"prompt": "alive"}).json["message"] == "alive"


def test_a_run_that_is_over_its_time_ends_on_the_wire_whatever_its_agent_does(tmp_path: Path) -> None:
    text = agents(tmp_path, "deaf", more='timeout = "300ms"') + agents(tmp_path, "speaks")
    with Process(agents_toml(tmp_path, text), dev=True) as host:
        before = time.monotonic()
        invoked = ask(host.port, "POST", "/agents/deaf/invoke", body={"prompt": "x"})
        assert time.monotonic() - before < 0.3 + 0.5 + 0.25
        assert (invoked.status, invoked.json["code"], invoked.json["detail"]) == (
            504,
            "timeout",
            "The run took too long",
        )
        streamed = ask(host.port, "POST", "/agents/deaf/stream", body={"prompt": "x"})
        assert [frame.event for frame in streamed.frames] == ["model_chunk", "error", "message"]
        assert ask(host.port, "POST", "/agents/speaks/invoke", body={"prompt": "alive"}).status == 200


def test_a_client_that_reads_nothing_costs_little_and_its_leaving_ends_the_flood(tmp_path: Path) -> None:
    with Process(agents_toml(tmp_path, agents(tmp_path, "floods", "speaks")), dev=True) as host:
        with Wire(host.port) as warm:
            warm.send(request("POST", "/agents/floods/stream", body={"prompt": ""}))
            assert warm.head().status == 200
            next(warm.chunks())
        memory = host.resident()
        silent = []
        for _ in range(10):
            wire = Wire(host.port)
            wire.send(request("POST", "/agents/floods/stream", body={"prompt": ""}))
            silent.append(wire)
        try:
            answered = threading.Event()
            for _ in range(20):
                assert ask(host.port, "POST", "/agents/speaks/invoke", body={"prompt": "hi"}).seconds < 5
                answered.wait(0.05)
            assert host.resident() - memory < 10 * (5 << 18), "a megabyte each, and a quarter for the allocator"
        finally:
            for wire in silent:
                wire.socket.close()
        deadline = time.monotonic() + 10
        while ask(host.port, "GET", "/health").json["runs"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert ask(host.port, "GET", "/health").json["runs"] == 0
