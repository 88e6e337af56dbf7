"""Agents that misbehave in a host in another process: each harms its own runs, and neither its host nor another."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Serving
from tests.wire import Frame, Reply, Wire, ask, parse_events, request

BEAT = 0.2
"""Seconds between two heartbeats here."""

TIMEOUT = 1.0
"""Seconds that an agent here may run which never ends."""

TERMINAL_WITHIN = 0.5
"""Seconds after its timeout in which RELIABILITY wants a run's terminal event."""

BUSY = 0.4
"""Seconds that a loaded machine may take to do and to show it."""

FLOOD = 8 << 20
"""Bytes that an agent floods stdout with."""

SECRET = "postgres://user:hunter2@db"

AGENTS = f"""
import asyncio
import datetime
import sys
import threading
import time

from agenthost import Custom, Interrupt, ModelChunk, Result, ToolComplete, ToolStart

SECRET = "{SECRET}"
LET_GO = asyncio.Event()
LEFT = []


async def deaf(ctx):
    yield "begun"
    while not LET_GO.is_set():
        try:
            await LET_GO.wait()
        except asyncio.CancelledError:
            pass


async def lets_go(ctx):
    LET_GO.set()
    yield "go"


async def waits(ctx):
    yield "begun"
    await asyncio.Event().wait()


async def turns(ctx):
    yield "begun"
    while True:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            pass


async def lingers(ctx):
    yield "begun"
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.shield(asyncio.sleep(600))


def blocks(ctx):
    yield "begun"
    threading.Event().wait()


async def says(ctx):
    cycle = {{}}
    cycle["again"] = cycle
    value = {{
        "object": object(),
        "bytes": b"bytes",
        "nan": float("nan"),
        "cycle": cycle,
        "surrogate": "\\ud800",
        "datetime": datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC),
        "large": "x" * (50 << 20),
        "set": {{1}},
        "function": len,
    }}[ctx.input["value"]]
    yield "before"
    if ctx.input["inside"]:
        yield Custom("x-value", {{"value": value}})
    else:
        yield value
    yield "after"


async def says_nothing(ctx):
    return
    yield


async def fails(ctx):
    if ctx.prompt == "later":
        yield "so far"
    raise ValueError(SECRET)


async def floods_stdout(ctx):
    line = "y" * 65535 + "\\n"
    for _ in range({FLOOD} // 65536):
        sys.stdout.write(line)
    yield "flooded"


async def changes_its_mind(ctx):
    arguments, data, result, output, options = {{"n": 1}}, {{"n": 1}}, {{"n": 1}}, {{"n": 1}}, [{{"n": 1}}]
    yield ToolStart("t", "1", arguments)
    arguments["n"] = object()
    yield Custom("x-data", data)
    data["n"] = data
    yield ToolComplete("t", "1", result=result)
    result.clear()
    if ctx.prompt == "ask":
        try:
            yield Interrupt("which?", options=options, interrupt_id="q")
        finally:
            options[0]["n"] = object()
        return
    ctx.state = {{"output": output}}
    try:
        yield Result("done", output=output)
    finally:
        output["n"] = object()
        ctx.state["output"] = 1


async def leaves_tasks(ctx):
    async def goes_on():
        await asyncio.sleep(0)
        raise ValueError(SECRET)

    async def for_ever():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    LEFT.append(asyncio.create_task(for_ever()))
    asyncio.create_task(goes_on())
    yield "left"


async def closes_stdout(ctx):
    sys.stdout.close()
    sys.stderr.close()
    yield "closed"


async def meddles(ctx):
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.set_exception_handler(lambda loop, context: 1 / 0)
    sys.setswitchinterval(0.05)
    yield "meddled"


async def speaks(ctx):
    yield ctx.prompt
"""

BOUND = f'timeout = "{TIMEOUT:g}s"\nconcurrency = 1\nqueue = 0'

_BEATING = f"""
import agenthost.streaming
agenthost.streaming.HEARTBEAT = {BEAT}
from agenthost.cli import main
main()
"""


def serving(folder: Path, *names: str, more: str = "", **options: Any) -> Serving:
    """`agenthost dev` with these agents and `speaks`, its heart beating faster than usual; `more` is for each."""
    (folder / "app.py").write_text(AGENTS)
    tables = [f'[agents.{name.replace("_", "-")}]\nuse = "app.py:{name}"\n{more}\n' for name in names]
    (folder / "agents.toml").write_text(
        f'[server]\ndrain = "1s"\n[store]\nurl = "sqlite:///{folder}/runs.db"\n'
        f'[defaults]\nplacement = "in-process"\n{"".join(tables)}'
        '[agents.speaks]\nuse = "app.py:speaks"\n'
    )
    arguments = ("dev", "--no-access-log", "--log-format", "json")
    return Serving(*arguments, cwd=folder, python=(sys.executable, "-c", _BEATING), **options)


def records(served: Serving, **fields: Any) -> list[dict[str, Any]]:
    """What the host has logged so far, each line of which must be JSON, with these fields.

    Without what its watchdog says: on a busy machine anything may take long.
    """
    lines = [json.loads(line) for line in served.err.splitlines(keepends=True) if line.endswith("\n")]
    told = [line for line in lines if line["logger"] != "agenthost.watchdog"]
    return [line for line in told if all(line.get(name) == value for name, value in fields.items())]


def recorded(served: Serving, **fields: Any) -> dict[str, Any]:
    """Wait for the one log record with these fields."""
    (line,) = served.until(lambda: records(served, **fields))
    return line


def run(served: Serving, agent: str, how: str = "invoke", headers: Any = (), **body: Any) -> Reply:
    return ask(served.port, "POST", f"/agents/{agent}/{how}", headers, {"prompt": "x", **body})


def report(served: Serving, agent: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(served.port, "GET", f"/agents/{agent}/health").json
    return found


def events(frames: list[Frame]) -> list[str]:
    assert frames[-1].data == "[DONE]"
    return [frame.event for frame in frames[:-1]]


def well(served: Serving) -> None:
    """An agent beside the bad one answers."""
    reply = run(served, "speaks", prompt="well")
    assert (reply.status, reply.json["message"]) == (200, "well")


def processor(pid: int) -> float:
    """Seconds of processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def eventually(there: Callable[[], Any]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 20
    while not there():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@pytest.mark.fault
def test_an_agent_that_swallows_its_cancel_is_named_keeps_its_slot_and_costs_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, "deaf", "lets_go", more=BOUND) as served:
        reply = run(served, "deaf", "stream", thread_id="t")
        begun, had = time.monotonic(), processor(served.process.pid)
        assert events(reply.frames) == ["model_chunk", "error"]
        assert reply.frames[-2].json["code"] == "timeout"

        assert run(served, "deaf").status == 503
        assert run(served, "deaf", thread_id="t").status == 409
        state = report(served, "deaf")
        assert (state["state"], state["running"], state["stuck"]) == ("degraded", 1, 1)
        assert state["reason"] == "agent 'deaf' does not end when it is cancelled: 1 slots are taken so"
        well(served)

        warning = recorded(served, agent="deaf", level="warning")
        assert (processor(served.process.pid) - had) / (time.monotonic() - begun) <= 0.10
        assert warning["message"] == (
            "agent 'deaf' goes on after its run was cancelled twice; it keeps its slot until it ends"
        )
        assert warning["run_id"] == reply["x-run-id"]
        well(served)

        assert run(served, "lets-go").status == 200
        eventually(lambda: report(served, "deaf")["state"] == "ready")
        assert report(served, "deaf")["running"] == 0
        assert run(served, "deaf", thread_id="t").json["message"] == "begun"


@pytest.mark.fault
@pytest.mark.parametrize("name", ["deaf", "waits", "turns", "lingers", "blocks"])
def test_a_run_that_never_ends_is_ended_on_time_and_its_heart_beats_till_then(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, name, more=f'timeout = "{TIMEOUT:g}s"') as served:
        before = time.monotonic()
        reply = run(served, name, "stream")
        took = time.monotonic() - before
        assert TIMEOUT <= took < TIMEOUT + TERMINAL_WITHIN + BUSY
        frames = reply.frames
        assert events(frames) == ["model_chunk", "error"]
        assert (frames[1].json["code"], frames[1].json["run_id"]) == ("timeout", reply["x-run-id"])
        assert len(frames[1].comments) >= 2

        before = time.monotonic()
        invoked = run(served, name)
        assert time.monotonic() - before < TIMEOUT + TERMINAL_WITHIN + BUSY
        assert (invoked.status, invoked.json["code"]) == (504, "timeout")
        begun = run(served, name, "runs", {"idempotency-key": "k"})
        assert begun.status == 202
        eventually(lambda: ask(served.port, "GET", begun["location"]).json["status"] == "failed")
        well(served)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One host for all that needs none of its own."""
    names = ("says", "says_nothing", "fails", "changes_its_mind", "leaves_tasks")
    with serving(tmp_path_factory.mktemp("quick"), *names) as served:
        yield served


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("object", "object"),
        ("bytes", "bytes"),
        ("cycle", None),
        ("surrogate", "a str with a lone surrogate"),
        ("large", "of more than 1 MiB"),
        ("set", "set"),
        ("function", "builtin_function_or_method"),
    ],
)
def test_what_is_not_json_fails_its_run_and_names_the_type_to_the_operator_alone(
    quick: Serving, value: str, problem: str | None, inside: bool
) -> None:
    asked = {"input": {"value": value, "inside": inside}}
    invoked, streamed = run(quick, "says", **asked), run(quick, "says", "stream", **asked)
    assert (invoked.status, invoked.json["code"], len(invoked.body) < 4096) == (500, "bad_event", True)
    assert events(streamed.frames) == ["model_chunk", "error"]
    error = streamed.frames[1].json
    assert (error["code"], error["error"]) == ("bad_event", "The agent sent an event that cannot be encoded")
    message = recorded(quick, run_id=error["run_id"])["message"]
    if problem is None:
        problem = "levels deep" if inside else "dict"
    assert message.startswith("run failed: agent 'says' (app.py:says): bad_event: the agent yielded what cannot be")
    assert problem in message
    assert "0x" not in message
    assert len(message) < 500


@pytest.mark.parametrize(("value", "seen"), [("nan", None), ("datetime", "2026-11-23T00:00:00+00:00")])
def test_what_can_be_encoded_is(quick: Serving, value: str, seen: Any) -> None:
    streamed = run(quick, "says", "stream", input={"value": value, "inside": True})
    assert events(streamed.frames) == ["model_chunk", "x-value", "model_chunk", "done"]
    assert streamed.frames[1].json["data"] == {"value": seen}
    assert run(quick, "says", input={"value": value, "inside": True}).json["message"] == "beforeafter"


def test_an_agent_that_ends_without_a_word_has_completed(quick: Serving) -> None:
    invoked = run(quick, "says-nothing").json
    assert (invoked["status"], invoked["success"], invoked["message"]) == ("completed", True, "")
    assert events(run(quick, "says-nothing", "stream").frames) == ["done"]


@pytest.mark.parametrize(("prompt", "before"), [("now", []), ("later", ["model_chunk"])])
def test_what_an_agent_raises_is_for_the_operator_alone(quick: Serving, prompt: str, before: list[str]) -> None:
    invoked, streamed = run(quick, "fails", prompt=prompt), run(quick, "fails", "stream", prompt=prompt)
    problem = invoked.json
    assert (invoked.status, invoked["content-type"]) == (500, "application/problem+json")
    assert (problem["code"], problem["run_id"]) == ("agent_error", invoked["x-run-id"])
    assert events(streamed.frames) == [*before, "error"]
    error = streamed.frames[-2].json
    for reply, correlation_id in ((invoked, problem["correlation_id"]), (streamed, error["correlation_id"])):
        for word in (SECRET, "ValueError", "app.py", "Traceback"):
            assert word.encode() not in reply.body
        assert SECRET in recorded(quick, correlation_id=correlation_id)["traceback"]


def test_what_an_agent_does_to_what_it_has_yielded_changes_nothing(quick: Serving) -> None:
    streamed = run(quick, "changes-its-mind", "stream", thread_id="t")
    start, custom, complete, done = [frame.json for frame in streamed.frames[:-1]]
    assert (start["arguments"], custom["data"], complete["result"], done["output"]) == ({"n": 1},) * 4
    assert run(quick, "changes-its-mind").json["output"] == {"n": 1}
    again = ask(quick.port, "GET", f"{streamed['content-location']}/events")
    assert again.body == streamed.body
    messages = ask(quick.port, "GET", "/agents/changes-its-mind/threads/t").json["messages"]
    assert messages[1]["tool_calls"][0]["arguments"] == {"n": 1}
    assert json.loads(messages[2]["content"]) == {"n": 1}
    assert messages[-1]["content"] == "done"


def test_a_question_stays_as_it_was_asked(quick: Serving) -> None:
    paused = run(quick, "changes-its-mind", prompt="ask", thread_id="asks").json
    assert (paused["status"], paused["interrupt"]["options"]) == ("paused", [{"n": 1}])


def test_tasks_that_an_agent_leaves_behind_are_its_own_affair(quick: Serving) -> None:
    for _ in range(3):
        assert run(quick, "leaves-tasks").json["message"] == "left"
        well(quick)
    assert report(quick, "leaves-tasks")["running"] == 0


@pytest.mark.fault
def test_a_flood_on_stdout_does_not_end_the_host_while_somebody_reads_it(tmp_path: Path) -> None:
    with serving(tmp_path, "floods_stdout") as served:
        assert run(served, "floods-stdout").json["message"] == "flooded"
        served.until(lambda: len(served.out) >= FLOOD - 65536)  # the rest is in the agent's own buffer
        well(served)
        assert all(line["logger"].startswith("agenthost") for line in records(served))


@pytest.mark.fault
def test_an_agent_that_closes_stdout_and_stderr_closes_them_for_agents_alone(tmp_path: Path) -> None:
    with serving(tmp_path, "closes_stdout", "fails") as served:
        assert run(served, "closes-stdout").json["message"] == "closed"
        for how in ("invoke", "stream", "runs"):
            recorded(served, run_id=run(served, "fails", how)["x-run-id"])
        well(served)
        assert served.stop() == 0


@pytest.mark.fault
def test_an_agent_that_meddles_with_the_loop_does_not_stop_it(tmp_path: Path) -> None:
    with serving(tmp_path, "meddles", "leaves_tasks", "fails") as served:
        for _ in range(2):
            assert run(served, "meddles").json["message"] == "meddled"
            assert run(served, "leaves-tasks").status == 200
            assert run(served, "fails", "stream").frames[-1].data == "[DONE]"
            well(served)


@pytest.mark.fault
def test_a_host_stops_in_time_whatever_its_agents_have_left(tmp_path: Path) -> None:
    with serving(tmp_path, "leaves_tasks", "deaf", "blocks", more='timeout = "300ms"') as served:
        for name in ("leaves-tasks", "deaf", "blocks"):
            run(served, name)
        with Wire(served.port) as wire:
            wire.send(request("POST", "/agents/deaf/stream", body={"prompt": "x"}))
            assert wire.head().status == 200
            before = time.monotonic()
            served.stop()
            assert time.monotonic() - before < 1.0 + 1.0 + BUSY
            frames = parse_events(b"".join(wire.chunks()))
            assert frames[-2].json["code"] in {"timeout", "host_stopping"}
