"""`Client`: what is its own, and that it loses nothing where connections and hosts are lost."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agenthost.client import Client
from tests import actors
from tests.client.losses import cut_at_random, killed_in_the_middle
from tests.client.played import chunks, log
from tests.client.scripted import Scripted, hangs, says, stream
from tests.client.scripted import run as run_reply
from tests.serving import Hosted, agents_toml, key, secret


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    text = key("ops") + "".join(f'[agents.{name}]\nuse = "tests.actors:{name}"\n' for name in ("pieces", "hold"))
    with Hosted(agents_toml(tmp_path_factory.mktemp("host"), text)) as served:
        yield served


def test_one_client_serves_several_threads(host: Hosted):
    with Client(f"http://127.0.0.1:{host.port}", secret("ops")) as client, ThreadPoolExecutor(8) as pool:

        def said(number: int) -> list[str]:
            events = client.stream("pieces", "", input=[f"{number}.{piece}" for piece in range(50)])
            return [event["content"] for event in events if event.type == "model_chunk"]

        told = list(pool.map(said, range(8)))
    assert told == [[f"{number}.{piece}" for piece in range(50)] for number in range(8)]


def test_an_exception_of_the_callers_own_cancels_the_run(host: Hosted):
    def reading(client: Client) -> None:
        for _event in client.stream("hold", "raised"):
            actors.wait_for(actors.HOLDING, "raised")
            raise RuntimeError("of the caller's own")

    with Client(f"http://127.0.0.1:{host.port}", secret("ops")) as client:
        with pytest.raises(RuntimeError):
            reading(client)
        actors.wait_for(actors.CANCELLED, "raised")


def test_an_interrupt_while_it_waits_cancels_the_run_by_its_key():
    def interrupts(connection: socket.socket) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        hangs()(connection)

    acts = [interrupts, says(run_reply("running")), says(run_reply("running"))]
    with Scripted(*acts) as server, Client(server.url) as client, pytest.raises(KeyboardInterrupt):
        client.invoke("a", "x")
    assert server.asked == ["POST /agents/a/invoke", "POST /agents/a/runs", "POST /agents/a/runs/r1/cancel"]
    first, second, _cancel = (request.lower().partition("idempotency-key: ")[2][:32] for request in server.requests)
    assert first == second


def test_a_client_that_is_closed_has_no_connection_left():
    with Scripted(says(stream(*log(*chunks(1))))) as server:
        client = Client(server.url)
        assert len(list(client.stream("a", "x"))) == 2
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.invoke("a", "x")


def test_a_stream_cut_a_few_times_is_exactly_the_whole(host: Hosted):
    cut_at_random(Client, host.port, cuts=4)


@pytest.mark.fault
def test_a_stream_cut_30_times_at_random_bytes_is_exactly_the_whole(host: Hosted):
    cut_at_random(Client, host.port, cuts=30)


@pytest.mark.fault
def test_a_host_that_is_killed_and_started_again_ends_the_stream_as_lost(tmp_path: Path):
    killed_in_the_middle(Client, tmp_path)
