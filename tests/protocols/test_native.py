"""The native dialect over a socket: streams that lose nothing, threads that mix nobody up, clients that leave."""

from __future__ import annotations

import asyncio
import io
import json
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenthost.agents import AgentSource, AgentSpec
from agenthost.config import load_config
from agenthost.http.access_log import AccessLog
from tests.actors import CANCELLED, HOLDING, SECRET, drip, hold, pieces, say, wait_for
from tests.serving import START, Hosted, Process, actors, agents_toml, bearer, key
from tests.wire import Frame, Reply, Wire, ask, parse_events, request

ROOT = bearer("root")


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    names = actors("say", "pieces", "everything", "mirror", "fail", "hold", "drip", "Keeper", "noted")
    text = names + key("root", more="admin = true") + key("alice") + key("bob")
    with Hosted(agents_toml(tmp_path_factory.mktemp("native"), text)) as host:
        yield host


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────

HARD = [
    "a\rb",
    "a\nb",
    "a\r\nb",
    "\r\n\r\n",
    "\n\n\n",
    "a\u2028b\u2029c",
    "a\u0085b",
    "a\x0bb\x0cc\x1cd\x1de\x1ef",
    "nul \x00 nul",
    "data: not a frame\n\ndata: [DONE]\n\n",
    "event: done\nid: 99\nretry: 1\n: comment",
    "[DONE]",
    "\ufeffmark",
    "\x7f\x9b\x1b[31m",
    "\U0001f600 \U0010ffff \ufffd \u202e",
    'quotes " and \\ back',
    " leading and trailing ",
    "",
    "x" * 100_000,
]


def naive(lines: Iterator[str]) -> list[dict[str, object]]:
    """How many clients read a stream: line by line, `data:` in front, blank lines ignored."""
    told = (line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    return [json.loads(data) for data in told if data != "[DONE]"]


def stream_of(host: Hosted, path: str, body: dict[str, object]) -> Reply:
    reply = ask(host.port, "POST", path, ROOT, body)
    assert reply.status == 200
    assert reply["content-type"] == "text/event-stream; charset=utf-8"
    assert reply["cache-control"] == "no-store"
    assert reply["x-accel-buffering"] == "no"
    return reply


def check_frames(frames: list[Frame]) -> list[Frame]:
    """The frames before `[DONE]`: ids from 1 without gaps, `event` the type in the JSON, one terminal event."""
    *events, end = frames
    assert end.data == "[DONE]"
    assert [event.id for event in events] == [str(number) for number in range(1, len(events) + 1)]
    assert all(event.event == event.json["type"] for event in events)
    assert [event.event in {"done", "error", "interrupt"} for event in events] == [False] * (len(events) - 1) + [True]
    return events


@pytest.mark.parametrize("thread", [{}, {"thread_id": "hard"}], ids=["ephemeral", "durable"])
def test_text_that_looks_like_the_protocol_comes_back_the_same_in_one_event(
    hosted: Hosted, thread: dict[str, object]
) -> None:
    reply = stream_of(hosted, "/agents/pieces/stream", {"input": HARD, **thread})
    events = check_frames(reply.frames)
    assert [event.json["content"] for event in events[:-1]] == HARD
    assert events[-1].json["message"] == "".join(HARD)
    assert [told["content"] for told in naive(iter(reply.body.decode().splitlines()))[:-1]] == HARD


def test_a_line_reading_client_gets_the_same(hosted: Hosted) -> None:
    url = f"http://127.0.0.1:{hosted.port}/agents/pieces/stream"
    with httpx.stream("POST", url, headers=ROOT, json={"input": HARD}, timeout=START) as reply:
        assert [told["content"] for told in naive(reply.iter_lines())[:-1]] == HARD


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=20))
def test_any_text_comes_back_the_same(hosted: Hosted, texts: list[str]) -> None:
    reply = stream_of(hosted, "/agents/pieces/stream", {"input": texts, "prompt": ""})
    events = check_frames(reply.frames)
    assert [event.json["content"] for event in events[:-1]] == texts
    assert [told["content"] for told in naive(iter(reply.body.decode().splitlines()))[:-1]] == texts
    invoked = ask(hosted.port, "POST", "/agents/pieces/invoke", ROOT, {"input": texts, "prompt": ""}).json
    assert invoked["message"] == events[-1].json["message"] == "".join(texts)
    assert invoked["iterations"] == len(events)


def test_every_kind_of_event_goes_out_and_invoke_folds_the_same(hosted: Hosted) -> None:
    body = {"prompt": "why"}
    events = check_frames(stream_of(hosted, "/agents/everything/stream", body).frames)
    assert [event.event for event in events] == [
        "think",
        "tool_start",
        "tool_progress",
        "tool_complete",
        "tool_start",
        "tool_complete",
        "model_chunk",
        "model_chunk",
        "usage",
        "artifact",
        "x-mark",
        "done",
    ]
    usage = {"input_tokens": 3, "output_tokens": 2, "cached_tokens": 0, "reasoning_tokens": 0}
    assert events[-1].json == {
        "type": "done",
        "message": "the end",
        "reason": "complete",
        "usage": usage,
        "output": {"seen": "why"},
    }
    invoked = ask(hosted.port, "POST", "/agents/everything/invoke", ROOT, body).json
    assert invoked.pop("duration_ms") > 0
    assert len(invoked.pop("run_id")) == 32
    assert invoked == {
        "message": "the end",
        "success": True,
        "stop_reason": "complete",
        "iterations": 12,
        "tool_calls": 2,
        "status": "completed",
        "output": {"seen": "why"},
        "usage": usage,
    }


@pytest.mark.parametrize("thread", [{}, {"thread_id": "failing"}], ids=["ephemeral", "durable"])
@pytest.mark.parametrize(("prompt", "before"), [("now", []), ("later", ["model_chunk"])])
def test_a_stream_whose_agent_raises_ends_with_one_error_and_done(
    hosted: Hosted, prompt: str, before: list[str], thread: dict[str, object]
) -> None:
    reply = stream_of(hosted, "/agents/fail/stream", {"prompt": prompt, **thread})
    events = check_frames(reply.frames)
    assert [event.event for event in events] == [*before, "error"]
    error = events[-1].json
    assert list(error) == ["type", "error", "code", "correlation_id", "run_id"]
    assert (error["error"], error["code"]) == ("internal error", "agent_error")
    assert error["run_id"] == reply["x-run-id"]
    assert SECRET not in reply.body.decode()


def test_a_heartbeat_is_a_comment_that_readers_pass_over() -> None:
    frames = parse_events(b": alive\n\ndata: 1\n\n: alive\n\ndata: [DONE]\n\n")
    assert [frame.data for frame in frames] == ["1", "[DONE]"]
    assert naive(iter(": alive\n\ndata: 1\n\n: alive\n\ndata: [DONE]\n\n".splitlines())) == [1]


# ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def thread_path(thread_id: str) -> str:
    return f"/agents/mirror/threads/{quote(thread_id, safe='')}"


def test_two_principals_have_two_threads_of_one_id(hosted: Hosted) -> None:
    for who in ("alice", "bob"):
        body = {"prompt": f"{who}'s secret", "thread_id": "shared"}
        reply = ask(hosted.port, "POST", "/agents/mirror/invoke", bearer(who), body)
        assert reply.json["output"]["messages"] == [["user", f"{who}'s secret"]]
        assert reply.json["output"]["thread"] == [who, "mirror", "shared"]
    alices = ask(hosted.port, "GET", thread_path("shared"), bearer("alice")).json
    assert [message["content"] for message in alices["messages"]] == ["alice's secret", "mirrored"]
    assert ask(hosted.port, "GET", thread_path("shared"), ROOT).status == 404, "an operator is no exception"
    assert ask(hosted.port, "DELETE", thread_path("shared"), ROOT).json == {"thread_id": "shared", "deleted": False}
    assert ask(hosted.port, "DELETE", thread_path("shared"), bearer("bob")).json["deleted"] is True
    assert ask(hosted.port, "GET", thread_path("shared"), bearer("bob")).status == 404
    assert ask(hosted.port, "GET", thread_path("shared"), bearer("alice")).status == 200


def test_a_thread_is_one_agents(hosted: Hosted) -> None:
    ask(hosted.port, "POST", "/agents/mirror/invoke", ROOT, {"prompt": "x", "thread_id": "own"})
    assert ask(hosted.port, "GET", "/agents/say/threads/own", ROOT).status == 404
    listed = ask(hosted.port, "GET", "/agents/say/threads", bearer("alice")).json
    assert listed == {"threads": []}


NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
KEPT = [
    "a_b",
    "a.b",
    "a-b",
    "a:b",
    "A_B",
    "a b",
    " a b",
    "a b ",
    "a/b",
    "a//b",
    "/a",
    "a/",
    "a\\b",
    "..",
    "../x",
    "a/../b",
    ".",
    "%2e",
    "%252e",
    "%",
    "%00",
    "a%b",
    "a+b",
    "a?b",
    "a#b",
    "a;b",
    "a&b=c",
    NFC,
    NFD,
    "Å",
    "K",
    "ﬁ",
    "fi",
    "ı",
    "i",
    "İ",
    "\U0001f600",
    "alice:a_b",
    "root",
    "'; drop table threads; --",
    '"quoted"',
    "\ufffd",
    "x" * 200,
    "é" * 200,
    "\U0001f600" * 200,
    "0",
    "00",
    "null",
    "threads",
]
REFUSED = [
    "",
    "x" * 201,
    "x" * 10_000,
    "a\x00b",
    "a\nb",
    "a\r\nb",
    "a\tb",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202ea",
    "\u200b",
    "\ufeffa",
    "\u2066x",
]


def test_ids_that_differ_are_different_threads_and_are_kept_exactly(hosted: Hosted) -> None:
    assert len(set(KEPT)) == len(KEPT)
    for number, thread_id in enumerate(KEPT):
        body = {"prompt": str(number), "thread_id": thread_id}
        for path in ("invoke", "stream"):
            assert ask(hosted.port, "POST", f"/agents/mirror/{path}", bearer("alice"), body).status == 200, thread_id
    for number, thread_id in enumerate(KEPT):
        reply = ask(hosted.port, "GET", thread_path(thread_id), bearer("alice"))
        assert reply.status == 200, thread_id
        assert reply.json["thread_id"] == thread_id
        assert [m["content"] for m in reply.json["messages"] if m["role"] == "user"] == [str(number)] * 2
    listed: list[str] = []
    cursor = ""
    while True:
        page = ask(hosted.port, "GET", f"/agents/mirror/threads?limit=7{cursor}", bearer("alice")).json
        listed += [thread["thread_id"] for thread in page["threads"]]
        if "next_cursor" not in page:
            break
        cursor = f"&cursor={quote(page['next_cursor'])}"
    assert [one for one in listed if one in KEPT] == KEPT[::-1]
    for thread_id in KEPT:
        reply = ask(hosted.port, "DELETE", thread_path(thread_id), bearer("alice"))
        assert reply.json == {"thread_id": thread_id, "deleted": True}
        assert ask(hosted.port, "GET", thread_path(thread_id), bearer("alice")).status == 404


@pytest.mark.parametrize("thread_id", REFUSED, ids=repr)
def test_an_id_that_no_thread_can_have_is_422_in_body_and_path(hosted: Hosted, thread_id: str) -> None:
    for path in ("invoke", "stream"):
        body = {"prompt": "x", "thread_id": thread_id}
        assert ask(hosted.port, "POST", f"/agents/mirror/{path}", ROOT, body).status == 422
    for method in ("GET", "DELETE"):
        path = thread_path(thread_id)
        refused = 422 if len(path) < 8000 else 414  # what is longer than any address may be is no address
        assert ask(hosted.port, method, path, ROOT).status == refused


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../../../agents", 404),
        ("..%2f..%2fagents", 404),
        ("%2e%2e", 404),
        ("a%00b", 422),
        ("%ff", 400),
        ("a%ffb", 400),
        ("%c0%ae", 400),
        ("%ed%a0%80", 400),
        ("%EF%BF%BD", 404),
        ("", 422),
        ("x" * 60_000, 414),
        ("%41" * 5000, 414),
        ("x;y", 404),
        ("x?y", 404),
        ("x%3Fy", 404),
    ],
)
def test_a_thread_in_a_path_is_a_name_and_never_a_way(hosted: Hosted, path: str, status: int) -> None:
    for method, missing in (("GET", 404), ("DELETE", 200)):
        reply = ask(hosted.port, method, f"/agents/say/threads/{path}", bearer("bob"))
        assert reply.status == (missing if status == 404 else status)
        if method == "DELETE" and status == 404:
            assert reply.json["deleted"] is False


def test_rotating_a_key_loses_nothing(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/threads.db"
    body = {"prompt": "before", "thread_id": "t"}
    old = actors("mirror") + key("old", principal="acme")
    with Hosted(agents_toml(tmp_path, old, store=store)) as host:
        assert ask(host.port, "POST", "/agents/mirror/invoke", bearer("old"), body).status == 200
    new = actors("mirror") + key("new", principal="acme")
    with Hosted(agents_toml(tmp_path, new, store=store)) as host:
        assert ask(host.port, "GET", "/agents/mirror/threads/t", bearer("old")).status == 401
        thread = ask(host.port, "GET", "/agents/mirror/threads/t", bearer("new")).json
        assert [message["content"] for message in thread["messages"]] == ["before", "mirrored"]


def test_a_path_that_ends_in_a_line_break_is_not_the_path_without(hosted: Hosted) -> None:
    """The router's patterns end before a last line break, so it would name another thread, or another route."""
    ask(hosted.port, "POST", "/agents/say/invoke", ROOT, {"prompt": "x", "thread_id": "broken"})
    for path in ("/agents/say/threads/broken%0A", "/agents/say/threads%0A", "/agents/say/health%0A", "/agents%0A"):
        assert ask(hosted.port, "GET", path, ROOT).status == 422
    assert ask(hosted.port, "DELETE", "/agents/say/threads/broken%0A", ROOT).status == 422
    assert ask(hosted.port, "GET", "/agents/say/threads/broken", ROOT).status == 200


def test_text_of_every_kind_survives_the_store(hosted: Hosted) -> None:
    for number, text in enumerate(HARD):
        body = {"prompt": text, "thread_id": f"kept-{number}"}
        assert ask(hosted.port, "POST", "/agents/say/invoke", bearer("bob"), body).json["message"] == text
        thread = ask(hosted.port, "GET", f"/agents/say/threads/kept-{number}", bearer("bob")).json
        assert [message["content"] for message in thread["messages"]] == [text, text]


def test_a_second_run_on_a_busy_thread_is_409_and_its_deletion_too(hosted: Hosted) -> None:
    body = {"prompt": "busy", "thread_id": "busy"}
    with Wire(hosted.port) as first:
        first.send(request("POST", "/agents/hold/stream", ROOT, body))
        wait_for(HOLDING, "busy")
        second = ask(hosted.port, "POST", "/agents/hold/invoke", ROOT, body)
        assert (second.status, second.json["code"]) == (409, "thread_busy")
        assert ask(hosted.port, "DELETE", "/agents/hold/threads/busy", ROOT).status == 409
    wait_for(CANCELLED, "busy")


def test_an_agent_that_keeps_its_own_threads_is_asked_for_them(hosted: Hosted) -> None:
    path = "/agents/keeper/threads/own"
    assert ask(hosted.port, "POST", "/agents/keeper/invoke", ROOT, {"prompt": "mine", "thread_id": "own"}).status == 200
    thread = ask(hosted.port, "GET", path, ROOT).json
    assert [(message["role"], message["content"]) for message in thread["messages"]] == [("user", "mine")]
    assert ask(hosted.port, "DELETE", path, ROOT).json == {"thread_id": "own", "deleted": True}
    assert ask(hosted.port, "GET", path, ROOT).status == 404
    assert ask(hosted.port, "DELETE", path, ROOT).json == {"thread_id": "own", "deleted": False}


# ── clients that leave ───────────────────────────────────────────────────────────────────────────────────────────────


def nothing_is_left(host: Hosted) -> None:
    """No run, no slot, no turn, and no task but those of connections that are open."""
    deadline = time.monotonic() + START
    while host.host.runs.going or any(entry.running or entry.queued for entry in host.host.entries.values()):
        assert time.monotonic() < deadline
        host.tasks()
    admission = host.host.runs.admission
    assert not admission._turns
    assert not admission._principals
    assert not admission._waiting


@pytest.mark.parametrize("thread", [False, True], ids=["ephemeral", "durable"])
@pytest.mark.parametrize("path", ["hold/invoke", "hold/stream", "drip/stream", "drip/invoke"])
def test_a_client_that_leaves_cancels_the_agent_within_250_ms(hosted: Hosted, path: str, thread: bool) -> None:
    taken = []
    for number in range(10):
        prompt = f"{path} {thread} {number}"
        body: dict[str, object] = {"prompt": prompt, **({"thread_id": prompt} if thread else {})}
        with Wire(hosted.port) as wire:
            wire.send(request("POST", f"/agents/{path}", ROOT, body))
            wait_for(HOLDING, prompt)
        left = time.monotonic()
        taken.append(wait_for(CANCELLED, prompt) - left)
    assert max(taken) <= 0.25, taken
    nothing_is_left(hosted)
    if thread:
        stored = ask(
            hosted.port, "GET", f"/agents/{path.partition('/')[0]}/threads/{quote(prompt, safe='')}", ROOT
        ).json
        assert [run["status"] for run in stored["runs"]] == ["cancelled"]
        assert [(message["role"], message["status"]) for message in stored["messages"]] == [("user", "cancelled")]


def test_a_client_that_leaves_while_it_waits_for_a_slot_leaves_the_queue(tmp_path: Path) -> None:
    config = load_config(agents_toml(tmp_path, key("root")), {})
    spec = AgentSpec(name="hold", source=AgentSource(use="hold", load=lambda: hold), concurrency=1)
    with Hosted(config, specs=[spec]) as host:
        entry = host.host.entries["hold"]
        with Wire(host.port) as first:
            first.send(request("POST", "/agents/hold/stream", ROOT, {"prompt": "has the slot"}))
            wait_for(HOLDING, "has the slot")
            for path in ("invoke", "stream"):
                for thread in ({}, {"thread_id": "queued"}):
                    with Wire(host.port) as second:
                        second.send(request("POST", f"/agents/hold/{path}", ROOT, {"prompt": "waits", **thread}))
                        wait_until(host, lambda: entry.queued == 1)
                    wait_until(host, lambda: entry.queued == 0)
            assert entry.running == 1
        wait_for(CANCELLED, "has the slot")
        nothing_is_left(host)
        assert "waits" not in HOLDING


def test_a_client_that_leaves_while_it_waits_for_a_thread_leaves_the_queue(tmp_path: Path) -> None:
    config = load_config(agents_toml(tmp_path, key("root")), {})
    spec = AgentSpec(name="hold", source=AgentSource(use="hold", load=lambda: hold), on_busy_thread="queue")
    lines = io.StringIO()
    log = AccessLog("text", lines)
    with Hosted(config, specs=[spec], access_log=log) as host, Wire(host.port) as first:
        first.send(request("POST", "/agents/hold/stream", ROOT, {"prompt": "has the turn", "thread_id": "t"}))
        wait_for(HOLDING, "has the turn")
        (turn,) = host.host.runs.admission._turns.values()
        with Wire(host.port) as second:
            second.send(request("POST", "/agents/hold/invoke", ROOT, {"prompt": "waits its turn", "thread_id": "t"}))
            wait_until(host, lambda: len(turn.waiting) == 1)
        wait_until(host, lambda: " gone " in lines.getvalue())
        first.socket.close()
        wait_for(CANCELLED, "has the turn")
        nothing_is_left(host)
        assert "waits its turn" not in HOLDING


def wait_until(host: Hosted, condition: object) -> None:
    """Wait for something that the host does on its loop."""
    assert callable(condition)
    deadline = time.monotonic() + START
    while not condition():
        assert time.monotonic() < deadline
        host.tasks()


def test_200_streams_at_once_on_two_agents_have_no_error_and_leave_nothing(tmp_path: Path) -> None:
    specs = [
        AgentSpec(name=agent.__name__, source=AgentSource(use="x", load=lambda agent=agent: agent))
        for agent in (say, pieces)
    ]
    config = load_config(agents_toml(tmp_path, key("root")), {})
    with Hosted(config, specs=specs) as host:
        before = host.tasks()

        async def one(client: httpx.AsyncClient, number: int) -> None:
            name = ("say", "pieces")[number % 2]
            body = {"prompt": f"{number}", "input": [f"{number} "] * 50}
            if number % 4 < 2:
                body["thread_id"] = f"thread {number}"
            reply = await client.post(f"/agents/{name}/stream", json=body)
            assert reply.status_code == 200
            events = check_frames(parse_events(reply.content))
            assert events[-1].json["message"] == (f"{number}" if name == "say" else f"{number} " * 50)

        async def everybody() -> None:
            limits = httpx.Limits(max_connections=200)
            base = f"http://127.0.0.1:{host.port}"
            async with httpx.AsyncClient(base_url=base, headers=ROOT, limits=limits, timeout=60) as client:
                await asyncio.gather(*(one(client, number) for number in range(200)))

        asyncio.run(everybody())
        nothing_is_left(host)
        wait_until(host, lambda: host.tasks() <= before)


def test_200_waiting_streams_are_cancelled_when_their_clients_go(tmp_path: Path) -> None:
    specs = [
        AgentSpec(name=agent.__name__, source=AgentSource(use="x", load=lambda agent=agent: agent))
        for agent in (hold, drip)
    ]
    config = load_config(agents_toml(tmp_path, key("root")), {})
    with Hosted(config, specs=specs) as host:
        before = host.tasks()
        wires = []
        for number in range(200):
            wire = Wire(host.port)
            wire.send(
                request("POST", f"/agents/{('hold', 'drip')[number % 2]}/stream", ROOT, {"prompt": f"many {number}"})
            )
            wires.append(wire)
        for number in range(200):
            wait_for(HOLDING, f"many {number}")
        left = time.monotonic()
        for wire in wires:
            wire.socket.close()
        ended = [wait_for(CANCELLED, f"many {number}") for number in range(200)]
        assert max(ended) - left <= 1.0
        nothing_is_left(host)
        wait_until(host, lambda: host.tasks() <= before)


@pytest.mark.fault
def test_how_long_a_cancel_takes_from_another_process(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    """200 of each kind, against a host in a process of its own; the figures are in the report of the run."""
    figures: dict[str, list[float]] = {}
    with Process(agents_toml(tmp_path, actors("hold", "drip", "noted") + key("root"))) as host:

        def noted() -> dict[str, dict[str, float]]:
            output = ask(host.port, "POST", "/agents/noted/invoke", ROOT, {"prompt": ""}).json["output"]
            found: dict[str, dict[str, float]] = output
            return found

        for path in ("hold/invoke", "hold/stream", "drip/stream"):
            for number in range(200):
                prompt = f"{path} {number}"
                with Wire(host.port) as wire:
                    wire.send(request("POST", f"/agents/{path}", ROOT, {"prompt": prompt}))
                    deadline = time.monotonic() + START
                    while prompt not in noted()["holding"]:
                        assert time.monotonic() < deadline
                left = time.monotonic()
                while prompt not in noted()["cancelled"]:
                    assert time.monotonic() < left + START
                figures.setdefault(path, []).append(noted()["cancelled"][prompt] - left)
    for path, taken in figures.items():
        taken.sort()
        p50, p99, most = (1000 * taken[int(len(taken) * share) - 1] for share in (0.5, 0.99, 1.0))
        record_property(f"cancel {path}", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {most:.1f} ms")
        print(f"cancel {path}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {most:.1f} ms")
        assert p99 <= 50
        assert most <= 250


def test_many_at_once_keep_their_threads_apart(hosted: Hosted) -> None:
    def talk(number: int) -> None:
        with Wire(hosted.port) as wire:
            for turn in range(5):
                body = {"prompt": f"{number}.{turn}", "thread_id": f"apart {number}"}
                reply = wire.ask("POST", "/agents/mirror/invoke", bearer("alice"), body)
                said = [text for role, text in reply.json["output"]["messages"] if role == "user"]
                assert said == [f"{number}.{past}" for past in range(turn + 1)]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(talk, range(16)))
