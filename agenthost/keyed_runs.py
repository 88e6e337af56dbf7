"""One run for each `Idempotency-Key`: by one principal, on one agent, also after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agenthost.agents import RunRequest
from agenthost.auth import Principal
from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.errors import AgentNotReady, KeyReused
from agenthost.run import Run
from agenthost.store import KeyTaken, Store

Key = tuple[str, str, str]
"""Agent, principal, idempotency key."""

TAKEN_UP = 1.0
"""Seconds after which a caller may ask again for a run that a lost host left and that begins again soon."""

StartRun = Callable[[AgentEntry, Principal, RunRequest], Awaitable[Run]]


@dataclass(frozen=True, slots=True)
class _First:
    """The request that came first with a key, and the start of its run, which no client's leaving cancels."""

    digest: str | None
    begun: asyncio.Task[Run | EndedRun]


class KeyedRuns:
    """Finds the run of a key, among those that are going and in the store, or starts it."""

    def __init__(self, store: Store, start: StartRun, going: Callable[[str], Run | None]) -> None:
        """`start` starts a run; `going` finds one that is going by its id."""
        self._store = store
        self._start = start
        self._going = going
        self._firsts: dict[Key, _First] = {}

    async def start(self, entry: AgentEntry, principal: Principal, request: RunRequest) -> Run | EndedRun:
        """The run of the request's key. Raises `KeyReused` for another request's key, and what starting a run raises.

        A start that was refused leaves nothing: the same key may be tried again.
        """
        key = (entry.name, principal.id, request.idempotency_key or "")
        first = self._firsts.get(key)
        if first is None:
            begun = asyncio.get_running_loop().create_task(self._find_or_start(entry, principal, request))
            first = self._firsts[key] = _First(request.request_digest, begun)
            begun.add_done_callback(lambda done: self._begun(key, done))
        elif first.digest != request.request_digest:
            raise _reused()
        return await asyncio.shield(first.begun)

    async def known(
        self, entry: AgentEntry, principal: Principal, key: str, digest: str | None
    ) -> Run | EndedRun | None:
        """The run of a key, None where there is none yet. Raises `KeyReused`."""
        first = self._firsts.get((entry.name, principal.id, key))
        if first is None:
            return await self._find(entry, principal, key, digest)
        if first.digest != digest:
            raise _reused()
        return await asyncio.shield(first.begun)

    def _begun(self, key: Key, done: asyncio.Task[Run | EndedRun]) -> None:
        """Keep the key while its run is going; one that was refused, or had ended, is looked up again."""
        refused = done.cancelled() or done.exception() is not None
        if refused or not isinstance(run := done.result(), Run) or run.released:
            self._firsts.pop(key, None)

    async def _find_or_start(self, entry: AgentEntry, principal: Principal, request: RunRequest) -> Run | EndedRun:
        known = await self._find(entry, principal, request.idempotency_key or "", request.request_digest)
        if known is not None:
            return known
        try:
            return await self._start(entry, principal, request)
        except KeyTaken as taken:  # it came between, from another loop
            raise AgentNotReady(f"run {taken.run_id} is just beginning", retry_after=TAKEN_UP) from None

    async def _find(
        self, entry: AgentEntry, principal: Principal, key: str, digest: str | None
    ) -> Run | EndedRun | None:
        stored = await self._store.find_key(entry.name, principal.id, key)
        if stored is None:
            return None
        if stored.request_digest != digest:
            raise _reused()
        going = self._going(stored.run_id)
        if going is not None:
            return going
        if stored.ended is None:
            raise AgentNotReady(f"run {stored.run_id} is about to begin again", retry_after=TAKEN_UP)
        return EndedRun(stored, self._store.read_events)

    def ended(self, run: Run) -> None:
        """A run has ended: the store knows its key."""
        if run.request.idempotency_key is not None:
            self._firsts.pop((run.entry.name, run.principal.id, run.request.idempotency_key), None)


def _reused() -> KeyReused:
    return KeyReused(
        "this Idempotency-Key came with another request before",
        hint="use a new key for each request, the same to retry",
    )
