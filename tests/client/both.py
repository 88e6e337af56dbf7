"""The two clients with one face, so that a test holds for both: the asynchronous one is driven from outside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from typing import Any

import pytest

from agenthost.client import AsyncClient, Client


class Driven:
    """An `AsyncClient` whose methods wait, on an event loop of its own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, **named)
        self.url = self._client.url

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_error: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            result = method(*arguments, **named)
            return self._runner.run(result) if inspect.iscoroutine(result) else self._items(result)

        return call

    def _items(self, generator: Any) -> Generator[Any, None, None]:
        async def following() -> Any:
            return await anext(generator)

        async def close() -> None:
            await generator.aclose()

        try:
            while True:
                try:
                    item = self._runner.run(following())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._runner.run(close())


Connect = Callable[..., Any]

both = pytest.mark.parametrize("connect", [Client, Driven], ids=["sync", "async"])
"""Runs a test with each client; `connect(url, key, reconnect=…)` makes one, to be used in a `with`."""
