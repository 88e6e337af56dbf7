"""`AsyncClient`: what is its own, and that it loses nothing where connections and hosts are lost."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from agenthost.client import AsyncClient, Client
from tests import actors
from tests.client.both import Driven
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


def _connect(host: Hosted) -> AsyncClient:
    return AsyncClient(f"http://127.0.0.1:{host.port}", secret("ops"))


def test_both_clients_have_the_same_methods_with_the_same_parameters():
    def methods(kind: type) -> dict[str, list[str]]:
        public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
        return {name: [*inspect.signature(value).parameters] for name, value in public.items()}

    assert methods(Client) == methods(AsyncClient)
    assert inspect.signature(Client).parameters == inspect.signature(AsyncClient).parameters


def test_a_hundred_and_fifty_streams_run_side_by_side(host: Hosted):
    async def main() -> list[list[str]]:
        async with _connect(host) as client:

            async def said(number: int) -> list[str]:
                events = client.stream("pieces", "", input=[f"{number}.{piece}" for piece in range(10)])
                return [event["content"] async for event in events if event.type == "model_chunk"]

            return await asyncio.gather(*map(said, range(150)))

    assert asyncio.run(main()) == [[f"{number}.{piece}" for piece in range(10)] for number in range(150)]


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_a_task_that_is_cancelled_cancels_its_run(host: Hosted, how: str):
    async def main() -> None:
        async with _connect(host) as client:

            async def call() -> None:
                if how == "invoke":
                    await client.invoke("hold", how)
                async with aclosing(client.stream("hold", how)) as events:
                    async for _event in events:
                        pass

            task = asyncio.ensure_future(call())
            await asyncio.to_thread(actors.wait_for, actors.HOLDING, how)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        actors.wait_for(actors.CANCELLED, how)

    asyncio.run(main())


def test_a_time_limit_of_the_callers_own_cancels_the_run(host: Hosted):
    async def limited(client: AsyncClient) -> None:
        begun = asyncio.ensure_future(asyncio.to_thread(actors.wait_for, actors.HOLDING, "timed out"))
        async with asyncio.timeout(None) as limit:
            begun.add_done_callback(lambda _done: limit.reschedule(0))
            await client.invoke("hold", "timed out")

    async def main() -> None:
        async with _connect(host) as client:
            with pytest.raises(TimeoutError):
                await limited(client)
        actors.wait_for(actors.CANCELLED, "timed out")

    asyncio.run(main())


def test_who_is_cancelled_twice_leaves_at_once_and_the_last_words_are_said_all_the_same():
    speaking, hear = threading.Event(), threading.Event()

    def listens(connection: socket.socket) -> None:
        speaking.set()
        hear.wait(20)
        says(run_reply("running"))(connection)

    async def main(url: str) -> None:
        client = AsyncClient(url)
        events = client.stream("a", "x")
        await anext(events)
        task = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.to_thread(speaking.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hear.set()
        await client.close()

    with Scripted(hangs(stream(log(*chunks(3))[0])), listens) as server:
        asyncio.run(main(server.url))
    assert server.asked == ["POST /agents/a/stream", "POST /agents/a/runs/r1/cancel"]


def test_a_stream_cut_a_few_times_is_exactly_the_whole(host: Hosted):
    cut_at_random(Driven, host.port, cuts=4)


@pytest.mark.fault
def test_a_stream_cut_30_times_at_random_bytes_is_exactly_the_whole(host: Hosted):
    cut_at_random(Driven, host.port, cuts=30)


@pytest.mark.fault
def test_a_host_that_is_killed_and_started_again_ends_the_stream_as_lost(tmp_path: Path):
    killed_in_the_middle(Driven, tmp_path)
