"""The socket, the announcement, and a stop that lets runs end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agenthost.errors import StartError
from agenthost.http.app import create_app
from agenthost.http.server import Server, listen
from tests.actors import GATES, HOLDING, wait_for
from tests.serving import ROOT, START, Hosted, actors, agents_toml, bearer, key
from tests.wire import Wire, ask, request


def test_port_0_is_a_free_one() -> None:
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", 0) as second:
        assert first.getsockname()[1] != second.getsockname()[1] != 0


def test_a_port_that_is_taken_is_said_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as refused:
            listen("127.0.0.1", port)
    assert refused.value.message == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert refused.value.hint == "choose another with --port"


def test_an_address_that_is_not_ours_is_said_with_what_to_do() -> None:
    with pytest.raises(StartError, match=r"cannot listen on 203\.0\.113\.9:0: ") as refused:
        listen("203.0.113.9", 0)
    assert refused.value.hint == "correct --host or --port"


def test_a_name_that_nobody_knows_is_said_with_what_to_do() -> None:
    with pytest.raises(StartError, match=r"cannot listen on nowhere\.invalid: ") as refused:
        listen("nowhere.invalid", 0)
    assert refused.value.hint == "correct --host"


def test_replies_name_no_server(hosted: Hosted) -> None:
    assert ask(hosted.port, "GET", "/health/live").all("server") == []


def test_a_stop_lets_runs_end_refuses_new_ones_and_says_which_it_ended(tmp_path: Path) -> None:
    path = agents_toml(tmp_path, actors("gated", "hold") + key("root"))
    path.write_text(path.read_text().replace('drain = "1s"', 'drain = "3s"'))
    with Hosted(path) as host, Wire(host.port) as finite, Wire(host.port) as endless:
        assert ask(host.port, "GET", "/health/ready").status == 200
        finite.send(request("POST", "/agents/gated/stream", bearer("root"), {"prompt": "finite"}))
        endless.send(request("POST", "/agents/hold/stream", bearer("root"), {"prompt": "until the stop"}))
        wait_for(HOLDING, "finite")
        wait_for(HOLDING, "until the stop")
        stopping = threading.Thread(target=host.stop)
        stopping.start()
        deadline = time.monotonic() + START
        while ask(host.port, "GET", "/health/ready").status == 200:
            assert time.monotonic() < deadline
        refused = ask(host.port, "POST", "/agents/hold/invoke", bearer("root"), {"prompt": "too late"})
        assert (refused.status, refused.json["code"]) == (503, "agent_not_ready")
        assert (refused["connection"], refused["retry-after"]) == ("close", "1")
        host.loop.call_soon_threadsafe(GATES["finite"].set)
        completed = finite.reply().frames
        assert completed[-2].json == {"type": "done", "message": "begun ended", "reason": "complete"}
        told = endless.reply().frames
        assert told[-2].event == "error"
        assert told[-2].json["code"] == "host_stopping"
        assert told[-1].data == completed[-1].data == "[DONE]"
        stopping.join()


def test_a_stop_without_runs_is_quick_and_leaves_nothing_listening(tmp_path: Path) -> None:
    with Hosted(agents_toml(tmp_path, actors("say") + key("root"))) as host, Wire(host.port) as idle:
        assert idle.ask("GET", "/health/live").status == 200
        port = host.port
    with pytest.raises(OSError, match="refused"):
        Wire(port)


@contextlib.asynccontextmanager
async def noted_lifespan(_agent: object) -> AsyncIterator[None]:
    """Notes that it was entered and left."""
    left.append("entered")
    yield
    left.append("left")


class Lasting:
    """An agent with a lifespan."""

    lifespan = noted_lifespan

    async def run(self, _ctx: Any) -> AsyncIterator[str]:
        yield "x"


left: list[str] = []


def test_a_server_that_is_told_to_stop_before_it_serves_stops_in_order(tmp_path: Path) -> None:
    text = '[agents.lasting]\nuse = "tests.http.test_server:Lasting"\n'
    app = create_app(agents_toml(tmp_path, text + key("root")))
    server = Server(app, app.host, on_started=lambda: left.append("served"))
    server.should_exit = True
    with listen("127.0.0.1", 0) as listening:
        server.run(sockets=[listening])
    assert left == ["entered", "left"]


_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, int(sys.argv[1])))
from agenthost.http.app import create_app
from agenthost.http.server import Server
app = create_app(sys.argv[2])
print(Server(app, app.host).config.http.keywords["limits"].connections, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("hard", "connections"), [(1000, 800), (300, 100), (2000, 1800)])
def test_connections_are_as_many_as_files_allow_but_for_a_reserve(tmp_path: Path, hard: int, connections: int) -> None:
    path = agents_toml(tmp_path, key("root"))
    command = [sys.executable, "-c", _FILES, str(hard), str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=START)
    assert ended.stdout.split() == [str(connections), str(hard), str(hard)]


def test_a_start_leaves_the_collector_lazy_with_the_young_and_as_it_was_with_the_old(hosted: Hosted) -> None:
    assert ask(hosted.port, "GET", "/health/live").status == 200
    assert gc.get_threshold() == (10_000, 10, 10)
    assert gc.get_freeze_count() > 0


def test_plain_functions_that_go_on_when_they_were_cancelled_leave_threads_to_others(tmp_path: Path) -> None:
    """Frameworks run plain functions on the loop's default executor, which nobody can stop."""
    held, later = threading.Event(), list[str]()
    with Hosted(agents_toml(tmp_path, actors("say"), store="memory:"), dev=True) as hosted:

        async def fill() -> None:
            loop = asyncio.get_running_loop()
            for _ in range(40):
                loop.run_in_executor(None, held.wait, START)
            later.append(await asyncio.wait_for(asyncio.to_thread(lambda: "ran"), START / 2))

        try:
            hosted.run(fill())
        finally:
            held.set()
    assert later == ["ran"]
