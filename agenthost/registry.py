"""Name → served agent and its state: each is loaded by itself, within its time limit, and one that fails stays a state.

An entry is listed before it is loaded, so a loading agent is seen as loading. A failed load is tried again with
back-off; requests hold the entry they looked up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from agenthost.agents import AgentEntry, AgentInfo, AgentRef, AgentSpec, Placement
from agenthost.blame import encodable, summary
from agenthost.errors import HostError, LoadError
from agenthost.events import NotJSON, json_value
from agenthost.schemas import input_check

RETRIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds between attempts to load an agent that failed; after the last it stays failed until it is asked for again."""

TURN = 2.0
"""Seconds by which each agent that is loading may hold up the others: imports take turns of a second."""

LEAVE = 5.0
"""Seconds that an agent which cannot be served after all has to leave its lifespan."""

log = logging.getLogger("agenthost.registry")


class Registry:
    """Loads and unloads agents; `entries` is what routing reads."""

    def __init__(
        self, placements: Callable[[], Mapping[str, Placement]], dialects: Callable[[], Collection[str]]
    ) -> None:
        self.entries: dict[str, AgentEntry] = {}
        self._placements = placements
        self._dialects = dialects
        self._loads: dict[AgentEntry, asyncio.Task[None]] = {}
        self._start_is_over = False

    def start(self, specs: Sequence[AgentSpec]) -> None:
        """List every spec and begin to load those that are enabled; returns at once."""
        for spec in specs:
            self.put(spec)

    def put(self, spec: AgentSpec) -> AgentEntry:
        """List one agent and begin to load it; an agent of that name that has not loaded is given up."""
        former = self._loads.get(self.entries[spec.name]) if spec.name in self.entries else None
        if former is not None:
            former.cancel()
        entry = AgentEntry(spec)
        self.entries[spec.name] = entry
        if not spec.enabled:
            entry.become("disabled")
        elif spec.problem is not None:
            self._failed(entry, spec.problem)
        else:
            entry.become("loading")
            self._loads[entry] = asyncio.get_running_loop().create_task(self._load(entry), name=f"load {spec.name}")
        return entry

    async def settled(self, seconds: float) -> None:
        """Wait until every agent has been tried once, at most `seconds`; those that come later are logged."""
        deadline = time.monotonic() + seconds
        while any(entry.state == "loading" for entry in self.entries.values()) and self._loads:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            await asyncio.wait(tuple(self._loads.values()), timeout=min(remaining, 0.05))
        self._start_is_over = True

    async def _load(self, entry: AgentEntry) -> None:
        try:
            for pause in (*RETRIES, None):
                problem = await self._try(entry)
                if problem is None:
                    if self._start_is_over:
                        log.info("agent '%s' is ready", entry.name, extra={"agent": entry.name})
                    return
                self._failed(entry, problem, None if pause is None else time.time() + pause)
                if pause is None:
                    return
                await asyncio.sleep(pause)
        finally:
            self._loads.pop(entry, None)

    async def _try(self, entry: AgentEntry) -> HostError | None:
        spec = entry.spec
        limit = asyncio.timeout(self.outer_limit(spec))
        try:
            async with limit:
                ref = await self._placement(spec).open(spec)
        except HostError as problem:
            return problem
        except BaseException as raised:  # a placement is a plugin: its fault, whatever it is, is this agent's state
            if limit.expired():
                return self._blamed(spec, f"took longer than its load_timeout of {spec.load_timeout:g} s to load")
            if isinstance(raised, asyncio.CancelledError) and self._cancelled():
                raise
            return self._blamed(spec, f"failed to load: {summary(raised)}")
        try:
            info = self._told(spec, ref)
            entry.check_input = self._input_check(spec, info)
        except LoadError as problem:
            await self._leave(spec, ref, LEAVE)
            return problem
        entry.ref, entry.info = ref, info
        entry.become("ready")
        return None

    def outer_limit(self, spec: AgentSpec) -> float:
        """Seconds after which a placement that keeps no time limit is given up, waiting for its turn included.

        A placement counts `load_timeout` itself, from where the agent's own code begins.
        """
        return 2 * spec.load_timeout + TURN * len(self._loads)

    def _told(self, spec: AgentSpec, ref: AgentRef) -> AgentInfo:
        """What the agent says of itself, as JSON: cards and lists repeat it, and one must not spoil all of them."""
        try:
            info, told = ref.info, {}
            for name, kinds in (("title", str), ("description", str), ("input_schema", Mapping | None),
                                ("output_schema", Mapping | None)):  # fmt: skip
                value = getattr(info, name)
                if not isinstance(value, kinds):
                    raise NotJSON(f"{name} is of type {type(value).__name__}")
                try:
                    told[name] = json_value(dict(value) if isinstance(value, Mapping) else value)
                except NotJSON as inside:
                    raise NotJSON(f"{name} holds {inside}") from None
            return replace(info, **told)
        except Exception as raised:  # noqa: BLE001 - what it says of itself may be an object that raises anything
            why = str(raised) if isinstance(raised, NotJSON) else summary(raised)
            raise self._blamed(spec, f"says of itself what is not JSON: {encodable(why)}") from None

    def _cancelled(self) -> bool:
        """Whether this task was told to stop, rather than that an agent raised `CancelledError` by itself."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _placement(self, spec: AgentSpec) -> Placement:
        missing = [name for name in spec.protocols or () if name not in self._dialects()]
        if missing:
            raise self._blamed(
                spec,
                f"needs a protocol that is not installed: {', '.join(missing)}",
                hint=f"install its plugin, or take it out of protocols under [agents.{spec.name}]",
            )
        placement = self._placements().get(spec.placement)
        if placement is None:
            raise self._blamed(
                spec,
                f"asks for placement '{spec.placement}', which is not installed",
                hint=f"one of: {', '.join(sorted(self._placements()))}",
            )
        return placement

    def _input_check(self, spec: AgentSpec, info: AgentInfo) -> Callable[[object], str | None] | None:
        if info.input_schema is None and not info.needs_input:
            return None
        try:
            return input_check({} if info.input_schema is None else info.input_schema, needed=info.needs_input)
        except (ValueError, TypeError) as invalid:
            problem = str(invalid).partition("\n")[0]
            raise self._blamed(spec, f"has an input_schema that is not a JSON Schema: {problem}") from None

    def _blamed(self, spec: AgentSpec, problem: str, hint: str | None = None) -> LoadError:
        return LoadError(
            f"agent '{spec.name}' ({spec.source.label}) {problem}",
            hint=hint or f"correct it, or set enabled = false under [agents.{spec.name}]",
            distribution=spec.source.distribution,
            version=spec.source.version,
        )

    def _failed(self, entry: AgentEntry, problem: HostError, retry_at: float | None = None) -> None:
        problem.message = encodable(problem.message)  # an agent may raise a `LoadError` of its own
        first = entry.reason is None or entry.reason.message != problem.message
        entry.become("failed", problem, retry_at)
        if first:
            trace = getattr(problem, "traceback", None)
            log.error("%s", problem.describe() + (f"\n{trace}" if trace else ""), extra={"agent": entry.name})

    async def close(self, grace: float) -> None:
        """Stop loading and close every agent, side by side, each within `grace` seconds."""
        loads = tuple(self._loads.values())
        for load in loads:
            load.cancel()
        if loads:
            await asyncio.wait(loads, timeout=grace)
        await asyncio.gather(*(self._close(entry, grace) for entry in self.entries.values()))

    async def _close(self, entry: AgentEntry, grace: float) -> None:
        ref, entry.ref = entry.ref, None
        if ref is None:
            return
        entry.become("draining")
        await self._leave(entry.spec, ref, grace)
        entry.become("unloaded")

    async def _leave(self, spec: AgentSpec, ref: AgentRef, grace: float) -> None:
        try:
            await ref.close(grace)
        except Exception as raised:  # noqa: BLE001 - an agent that cannot leave must not keep the others from leaving
            log.error("agent '%s' failed while closing: %s", spec.name, summary(raised), extra={"agent": spec.name})
