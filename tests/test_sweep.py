"""Many deadlines, one timer: each item is due once, near its time, unless it is discarded before."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from agenthost.sweep import Sweep


class Item:
    pass


def test_an_item_is_due_once_at_its_deadline_or_a_little_later() -> None:
    async def main() -> None:
        due: dict[str, float] = {}
        over = asyncio.Event()

        def take(name: str) -> None:
            assert name not in due
            due[name] = time.monotonic() - begun
            if len(due) == 2:
                over.set()

        sweep = Sweep(0.02, take)
        begun = time.monotonic()
        sweep.add("later", 0.1)
        sweep.add("soon", 0.01)
        sweep.add("never", 0.05)
        sweep.discard("never")
        sweep.discard("unknown")
        await asyncio.wait_for(over.wait(), 5)
        assert list(due) == ["soon", "later"]
        assert due["soon"] >= 0.01
        assert due["later"] >= 0.1

    asyncio.run(main())


def test_one_that_discards_another_or_raises_does_not_keep_the_rest_waiting() -> None:
    async def main() -> None:
        due: list[str] = []
        over = asyncio.Event()
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context["exception"]))

        def take(name: str) -> None:
            due.append(name)
            if name == "first":
                sweep.discard("second")
            elif name == "bad":
                raise ValueError(name)
            elif name == "last":
                over.set()

        sweep = Sweep(0.01, take)
        for name in ("first", "second", "bad", "after"):
            sweep.add(name, 0.0)
        sweep.add("last", 0.05)
        await asyncio.wait_for(over.wait(), 5)
        assert due == ["first", "bad", "after", "last"]
        assert [str(problem) for problem in problems] == ["bad"]

    asyncio.run(main())


def test_each_loop_has_its_own_items_and_none_is_kept_alive() -> None:
    due: list[str] = []
    sweep = Sweep(0.01, due.append)

    async def main(name: str) -> None:
        sweep.add(name, 0.01)
        sweep.add(f"never {name}", 60)
        async with asyncio.timeout(5):
            while name not in due:
                await asyncio.sleep(0.001)
        sweep.discard(f"never {name}")

    for name in ("one", "two"):
        asyncio.run(main(name))
    assert due == ["one", "two"]


def test_an_item_that_is_discarded_is_let_go() -> None:
    async def main() -> None:
        sweep: Sweep[Item] = Sweep(0.01, pytest.fail)
        item = Item()
        sweep.add(item, 60)
        gone = weakref.ref(item)
        sweep.discard(item)
        del item
        gc.collect()
        assert gone() is None

    asyncio.run(main())
