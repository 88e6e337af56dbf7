"""The runs that a lost host left and that were promised to go on: begun again once their agent serves, or ended."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence

from agenthost.auth import Principal
from agenthost.encoding import encode_host_event
from agenthost.entries import AgentEntry
from agenthost.errors import HostError, HostLost
from agenthost.events import Error
from agenthost.registry import Registry
from agenthost.runs import Runs
from agenthost.starting import answer_to
from agenthost.store import RunEnd, StoredRun

LOOK = 0.1
"""Seconds between looks at whether an agent serves by now."""

log = logging.getLogger("agenthost.runs")

FindPrincipal = Callable[[StoredRun], Principal]
"""Who started a run, with what that one may do now."""


class LeftRuns:
    """Takes up what `Store.recover` returned."""

    def __init__(self, runs: Runs, registry: Registry, principal_of: FindPrincipal) -> None:
        self._runs = runs
        self._registry = registry
        self._principal_of = principal_of

    async def take_up(self, left: Sequence[StoredRun]) -> None:
        """Begin each again once its agent serves; those whose agent does not, and will not, end as `host_lost`."""
        waiting = list(left)
        while waiting and not self._runs.stopping:
            for run in tuple(waiting):
                if await self._settled(run):
                    waiting.remove(run)
            if waiting:
                await asyncio.sleep(LOOK)

    async def _settled(self, run: StoredRun) -> bool:
        """Begin a run again or end it, or return False where that cannot be told yet."""
        entry = self._registry.entries.get(run.agent)
        try:
            if entry is None or entry.state in {"disabled", "unloaded"} or _failed_for_good(entry):
                await self._end(run)
            elif not entry.serving:
                if entry.state == "discovered":  # what was promised is a request for it
                    self._registry.load(entry)
                return False
            elif not self._goes_on(run, entry):
                await self._end(run)
            else:
                await self._begin(run, entry)
        except HostError as refused:
            log.warning("run %s, which a lost host left, waits: %s", run.run_id, refused.message)
            return False
        except Exception:  # one that cannot be read must not keep the others from going on
            log.exception("run %s, which a lost host left, cannot begin again", run.run_id)
        return True

    def _goes_on(self, run: StoredRun, entry: AgentEntry) -> bool:
        return (run.status == "queued" or entry.info.resumable) and self._principal_of(run).may_use(run.agent)

    async def _begin(self, run: StoredRun, entry: AgentEntry) -> None:
        claimed = await self._runs.store.interrupts_claimed_by(run.run_id) if run.resumes else []
        answers = [answer_to(asked, asked.answer or {}) for asked in claimed]
        log.info(
            "run %s of agent '%s', which a lost host left, begins again",
            run.run_id,
            run.agent,
            extra={"agent": run.agent, "run_id": run.run_id},
        )
        self._runs.begin_again(entry, self._principal_of(run), run, answers)

    async def _end(self, run: StoredRun) -> None:
        said = Error(HostLost.title, HostLost.code, secrets.token_hex(16), run.run_id)
        await self._runs.store.end_run(
            RunEnd(
                run_id=run.run_id,
                epoch=run.epoch,
                status="failed",
                stop_reason=HostLost.code,
                code=HostLost.code,
                entries=[encode_host_event(run.last_seq + 1, said)],
                ended=time.time(),
                result={},
            )
        )


def _failed_for_good(entry: AgentEntry) -> bool:
    return entry.state == "failed" and entry.retry_at is None
