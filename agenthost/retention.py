"""Deletes from the store what is older than agents.toml says it is kept, now and then, as long as the host serves."""

from __future__ import annotations

import asyncio
import logging
import time

from agenthost.errors import StoreError
from agenthost.store import Store

EVERY = 600.0
"""Seconds between two looks; fewer where something is kept for less."""

SHORTEST = 1.0
"""Seconds between two looks at least."""

log = logging.getLogger("agenthost.store")


async def keep_tidy(store: Store, run_retention: float, thread_retention: float) -> None:
    """Look until cancelled; retentions are in seconds, 0 for ever. A store that refuses is asked again later."""
    pause = min([EVERY, *(kept for kept in (run_retention, thread_retention) if kept)])
    refused = False
    while True:
        try:
            gone = await store.expire(time.time(), run_retention, thread_retention)
        except StoreError as problem:
            if not refused:
                log.warning("what is too old could not be deleted: %s", problem.describe())
            refused = True
        else:
            refused = False
            if gone.runs or gone.threads or gone.interrupts:
                log.info(
                    "deleted what was kept long enough: %d runs, %d threads; %d questions have expired",
                    gone.runs,
                    gone.threads,
                    gone.interrupts,
                )
        await asyncio.sleep(max(pause, SHORTEST))
