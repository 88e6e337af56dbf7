"""An agent's dependencies for one run, made by a function of the user's and put away when the run ends."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agenthost import RunContext
from agenthost_pydantic_ai.settings import MakeDeps


@asynccontextmanager
async def provided(make_deps: MakeDeps | None, deps_type: Any, ctx: RunContext) -> AsyncIterator[Any]:
    """Give the deps for a run: what `make_deps(ctx)` returns, awaits to, or yields once.

    Without a function they are the `RunContext` itself where that is the agent's `deps_type`, else None.
    """
    if make_deps is None:
        yield ctx if deps_type is RunContext else None
        return
    made = make_deps(ctx)
    if inspect.isasyncgenfunction(inspect.unwrap(make_deps)):
        # only a function that says so: deps may well be context managers that outlive a run
        async with made if hasattr(made, "__aenter__") else asynccontextmanager(lambda: made)() as deps:
            yield deps
        return
    yield await made if inspect.isawaitable(made) else made
