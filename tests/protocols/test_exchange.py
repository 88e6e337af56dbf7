"""One request as dialects see it: its place, its headers, and how a client that leaves is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.errors import Cancelled, NotFound
from agenthost.protocols import ClientWatch, Exchange, exchange_of
from agenthost.protocols.exchange import SCOPE_KEY, header_value
from agenthost.threads import thread_id_problem


def exchange(path: str = "/agents/say", **scope: Any) -> Exchange:
    return Exchange({"method": "GET", "path": path, "headers": [], **scope}, None, "id-1", 0.0)


def test_the_path_is_without_the_place_where_the_app_is_mounted() -> None:
    assert exchange("/inner/agents/say", root_path="/inner").path == "/agents/say"
    assert exchange("/agents/say").path == "/agents/say"


def test_every_reply_carries_the_requests_id() -> None:
    assert exchange().reply_headers == [(b"x-request-id", b"id-1")]


def test_a_dialect_finds_the_exchange_in_the_scope() -> None:
    found = exchange()
    assert exchange_of({SCOPE_KEY: found}) is found


def test_a_path_that_names_no_agent_has_none() -> None:
    with pytest.raises(NotFound, match="no agent by that name"):
        _ = exchange("/metrics").agent


def test_run_headers_say_which_run_and_thread() -> None:
    made = exchange("/inner/agents/say/invoke", root_path="/inner")
    made.agent_path = "/agents/say"
    run: Any = SimpleNamespace(id="r1", thread=SimpleNamespace(thread_id="a b/é"))
    expected = [
        (b"x-run-id", b"r1"),
        (b"content-location", b"/inner/agents/say/runs/r1"),
        (b"x-thread-id", b"a%20b%2F%C3%A9"),
    ]
    assert made.run_headers(run) == expected
    assert made.run_fields == expected, "for the error that may come after"
    assert made.run_id == "r1"


@given(st.text(min_size=1, max_size=200).filter(lambda text: thread_id_problem(text) is None))
def test_any_thread_id_can_be_read_back_from_its_header(thread_id: str) -> None:
    value = header_value(thread_id)
    assert value.isascii()
    assert value.decode().isprintable()
    assert value == value.strip()
    assert unquote(value.decode()) == thread_id


# ── clients that leave ───────────────────────────────────────────────────────────────────────────────────────────────

Body = Callable[[Callable[[], None]], Awaitable[None]]


def watched(body: Body) -> tuple[ClientWatch, BaseException | None]:
    """Run `body(leave)` under a watch; what comes out of it."""

    async def main() -> tuple[ClientWatch, BaseException | None]:
        left = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        watch = ClientWatch(receive)
        raised = None
        try:
            with watch:
                await body(left.set)
        except BaseException as error:
            raised = error
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling(), "the cancel was for what is inside only"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {task}, "nobody listens any more"
        return watch, raised

    return asyncio.run(main())


def test_a_client_that_leaves_cancels_what_is_inside_and_nothing_else() -> None:
    async def body(leave: Callable[[], None]) -> None:
        leave()
        await asyncio.Event().wait()

    watch, raised = watched(body)
    assert watch.gone
    assert raised is None


def test_what_the_run_raises_because_its_reader_left_is_not_told_to_nobody() -> None:
    async def body(leave: Callable[[], None]) -> None:
        leave()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Cancelled from None

    watch, raised = watched(body)
    assert watch.gone
    assert raised is None


def test_another_error_comes_out_although_the_client_left() -> None:
    async def body(leave: Callable[[], None]) -> None:
        leave()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    watch, raised = watched(body)
    assert watch.gone
    assert isinstance(raised, ZeroDivisionError)


def test_a_client_that_stays_is_not_heard_of() -> None:
    async def quick(_leave: Callable[[], None]) -> None:
        await asyncio.sleep(0)

    async def slow(_leave: Callable[[], None]) -> None:
        await asyncio.sleep(0.1)  # longer than it takes until the host listens

    for body in (quick, slow):
        watch, raised = watched(body)
        assert not watch.gone
        assert raised is None


def test_a_cancel_from_elsewhere_is_not_swallowed() -> None:
    async def main() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        async def inside() -> None:
            with ClientWatch(receive):
                await asyncio.Event().wait()

        task = asyncio.create_task(inside())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
