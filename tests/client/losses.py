"""Connections cut at random, and hosts killed, under a client that is streaming: nothing may be missing or twice."""

from __future__ import annotations

import os
import random
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from agenthost.client import CallFailed
from tests.client.both import Connect
from tests.client.scripted import Cutting, lasting
from tests.serving import Process, agents_toml, key, secret

PIECES = 400

_ON_A_PORT = """\
import sys
from agenthost.http.app import create_app
from agenthost.http.server import Server, listen
app = create_app(sys.argv[1])
listening = listen("127.0.0.1", {port})
Server(app, app.host, on_started=lambda: print(listening.getsockname()[1], flush=True)).run(sockets=[listening])
"""


def cut_at_random(connect: Connect, port: int, *, cuts: int) -> None:
    """Stream through a proxy that cuts so many connections, each after a random number of bytes."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    pieces = [f"{number}: " + "x" * chance.randrange(200) for number in range(PIECES)]
    places = [chance.randrange(1, 3000) for _ in range(cuts)]
    with Cutting(port, places) as proxy, connect(proxy.url, secret("ops")) as client:
        events = list(client.stream("pieces", "", input=pieces))
        assert [event.id for event in events] == list(range(1, PIECES + 2)), f"seed {seed}"
        assert [event["content"] for event in events[:-1]] == pieces, f"seed {seed}"
        assert events[-1]["message"] == "".join(pieces), f"seed {seed}"
        assert len({event.run_id for event in events}) == 1, f"seed {seed}"
        assert proxy.waiting == 0, f"seed {seed}: the stream ended before it was cut so often"


def killed_in_the_middle(connect: Connect, folder: Path) -> None:
    """Kill a host while a run of it is streamed, and start it again on the same port and store."""
    text = key("ops") + '[agents.drip]\nuse = "tests.actors:drip"\n'
    config = agents_toml(folder, text, store=f"sqlite:///{folder}/store.db")
    seen: list[Any] = []
    with Process(config) as first:
        port = first.port
        with connect(f"http://127.0.0.1:{port}", secret("ops")) as client:
            events = client.stream("drip", "x")
            seen += islice(events, 20)
            os.kill(first.pid, signal.SIGKILL)
            with Process(config, program=_ON_A_PORT.format(port=port)), pytest.raises(CallFailed) as failed:
                lasting(events, seen)
    assert (failed.value.code, failed.value.run_id) == ("host_lost", seen[0].run_id)
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert {event["content"] for event in seen} == {"drop "}
