"""Thousands of requests that are wrong: none gets a 5xx, a cut reply, a long wait, or its own words back."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mutator import Mutant, Mutator
from tests.serving import Process, agents_toml, bearer, key, secret
from tests.wire import Broken, Reply, Wire, ask

MARK = "Zq7MrkX9"
SLOWEST = 0.25
SEEDS: list[tuple[str, str, Any]] = [
    ("POST", "/agents/echo/invoke", {"prompt": "hello world"}),
    ("POST", "/agents/echo/invoke", {"prompt": "hello", "thread_id": "t", "metadata": {"a": [1, {"b": None}]}}),
    ("POST", "/agents/echo/stream", {"prompt": "hello world"}),
    ("POST", "/agents/echo/stream", {"content": [{"type": "text", "text": "a"}, {"type": "data", "data": {"x": 1}}]}),
    ("POST", "/agents/echo/invoke", {"content": [{"type": "file", "media_type": "text/plain", "data": "aGk="}]}),
    ("POST", "/agents/calculator/invoke", {"prompt": "(2+3)*4"}),
    ("POST", "/agents/calculator/stream", {"prompt": "sqrt(2); ans*2", "thread_id": "c"}),
    ("POST", "/agents/calculator/invoke", {"input": {"expression": "1/3", "precision": 4}}),
    ("GET", "/agents/echo/threads", None),
    ("GET", "/agents/echo/threads?limit=5", None),
    ("GET", "/agents/echo/threads/t", None),
    ("DELETE", "/agents/echo/threads/t", None),
    ("GET", "/agents/echo/health", None),
    ("GET", "/agents/calculator", None),
    ("GET", "/agents", None),
    ("GET", "/health", None),
    ("GET", "/health/ready", None),
    ("GET", "/plugins", None),
    ("GET", "/metrics", None),
    ("GET", "/agents/calculator/openapi.json", None),
    ("GET", "/docs", None),
    ("GET", "/v1/models", None),
    ("POST", "/v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}),
    ("POST", "/v1/responses", {"model": "echo", "input": [{"role": "user", "content": "hi"}], "metadata": {"a": "b"}}),
    ("POST", "/v1/responses", {"model": "calculator", "input": "1+1", "stream": True, "store": False}),
    ("GET", "/v1/responses/resp_x?stream=true&starting_after=1", None),
]
AGENTS = '[agents.echo]\nuse = "agenthost_echo:agent"\n[agents.calculator]\nuse = "agenthost_calculator:agent"\n'
FIELDS = {"type", "title", "status", "detail", "code", "correlation_id"}


def problem_with(mutant: Mutant, reply: Reply) -> str | None:
    """What is wrong with the reply to a wrong request, or None."""
    if reply.status >= 500:
        return f"a {reply.status}: {reply.body[:200]!r}"
    if reply.status < 400:
        streamed = reply.all("content-type")[:1] == ["text/event-stream; charset=utf-8"]
        return "a stream without an end" if streamed and not reply.body.endswith(b"data: [DONE]\n\n") else None
    if len(reply.body) > 4096:
        return f"an error of {len(reply.body)} bytes"
    if MARK.lower() in (repr(reply.headers) + reply.body.decode("latin-1")).lower():
        return "an error that repeats what was sent"
    if mutant.bodiless:
        return None
    body = reply.json
    if set(body) == {"error"}:  # below /v1, where errors have OpenAI's shape
        known = set(body["error"]) == {"message", "type", "param", "code"}
        return None if known else f"not a whole error: {reply.body!r}"
    if set(body) - {"run_id"} != FIELDS or body["status"] != reply.status:
        return f"not a whole problem: {reply.body!r}"
    return None


def bombard(port: int, seed: int, count: int) -> tuple[list[str], Counter[str], list[float]]:
    """Send `count` mutants; returns what went wrong, the statuses, and the seconds each reply took."""
    mutator = Mutator(seed, MARK, secret("root"), SEEDS)
    problems: list[str] = []
    statuses: Counter[str] = Counter()
    seconds: list[float] = []
    wire: Wire | None = None
    for number in range(count):
        mutant = mutator.mutant()
        wire = wire or Wire(port)
        try:
            reply = exchange(wire, mutant)
        except (Broken, ConnectionError, TimeoutError) as broken:
            reply = None
            # a request that is not whole and was not refused for its head has nothing to be answered
            if mutant.complete or not str(broken).startswith("the connection was closed after b''"):
                problems.append(f"{number}: {mutant.told}: {broken}")
            statuses["no reply to half a request"] += 1
        if reply is not None:
            statuses[str(reply.status)] += 1
            seconds.append(reply.seconds)
            found = problem_with(mutant, reply) or slow(port, mutant, reply)
            if found:
                problems.append(f"{number}: {mutant.told}: {found}")
        if reply is None or not mutant.complete or "close" in reply.all("connection") or b"close" in mutant.raw[:9000]:
            wire.socket.close()
            wire = None
    if wire is not None:
        wire.socket.close()
    return problems, statuses, seconds


def slow(port: int, mutant: Mutant, reply: Reply) -> str | None:
    """Say so if the reply took too long, and takes so long whenever it is asked for: once is a busy machine's doing."""
    seconds = [reply.seconds]
    while seconds[-1] > SLOWEST and len(seconds) < 5:
        with Wire(port) as wire:
            seconds.append(exchange(wire, mutant).seconds)
    return f"took {min(seconds) * 1000:.0f} ms" if min(seconds) > SLOWEST else None


def exchange(wire: Wire, mutant: Mutant) -> Reply:
    """Send one, and read its reply, which may come before all of it is sent."""
    with contextlib.suppress(OSError):
        wire.send(mutant.raw)
        if not mutant.complete:
            wire.socket.shutdown(socket.SHUT_WR)
    return wire.reply(bodiless=mutant.bodiless)


def survive(tmp_path: Path, seed: int, count: int, tell: Callable[[str, object], None]) -> None:
    """Bombard a host in a process of its own, and see that it is as before."""
    config = agents_toml(
        tmp_path,
        AGENTS + key("root", more="admin = true"),
        server='max_body = "64kB"\n',
        store=f"sqlite:///{tmp_path}/mutants.db",
    )
    with Process(config) as host:
        for path in ("/agents/echo/invoke", "/agents/calculator/invoke", "/agents/echo/nothing"):
            ask(host.port, "POST", path, bearer("root"), {"prompt": "1"})  # what is made on first use
        problems, statuses, seconds = bombard(host.port, seed, count)
        assert not problems, "\n".join(problems[:20])
        seconds.sort()
        p50, p99, most = (1000 * seconds[int(len(seconds) * share) - 1] for share in (0.5, 0.99, 1.0))
        tell("statuses", dict(statuses.most_common()))
        tell("reply times", f"p50 {p50:.2f} ms, p99 {p99:.1f} ms, max {most:.1f} ms")
        assert ask(host.port, "GET", "/health/ready").status == 200
        assert ask(host.port, "POST", "/agents/echo/invoke", bearer("root"), {"prompt": "x"}).json["message"] == "x"
        deadline = time.monotonic() + 20
        while (report := ask(host.port, "GET", "/health", bearer("root")).json)["runs"]:
            assert time.monotonic() < deadline
        assert all(agent["running"] == agent["queued"] == 0 for agent in report["agents"].values())
    logged = host.log.read_text()
    assert "Traceback" not in logged
    assert len({"200", "400", "401", "403", "404", "405", "413", "415", "421", "422"} - set(statuses)) == 0


def test_1500_mutated_requests_are_all_answered_properly(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    survive(tmp_path, 20261123, 1500, record_property)


@pytest.mark.fault
def test_10000_mutated_requests_are_all_answered_properly(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    def tell(name: str, value: object) -> None:
        record_property(name, value)
        print(f"{name}: {value}")

    survive(tmp_path, 3, 10_000, tell)
