"""Name → served agent and its state: each is loaded by itself, within its time limit, and one that fails stays a state.

An entry is listed before it is loaded, so a loading agent is seen as loading; one that is lazy is loaded by the first
request, which waits for it. A failed load is tried again with back-off. A version that takes the place of another is
opened and asked how it is before it is listed (`build`, then `replace`); the other one drains.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from agenthost.agents import AgentInfo, AgentRef, AgentSpec, Placement
from agenthost.blame import encodable, summary
from agenthost.checkups import ANSWER_WITHIN, problem_of
from agenthost.draining import Draining
from agenthost.entries import AgentEntry
from agenthost.errors import HostError, LoadError, NotFound
from agenthost.events import NotJSON, json_value
from agenthost.schemas import input_check

RETRIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds between attempts to load an agent that failed; after the last it stays failed until it is asked for again."""

LOST = 60.0
"""Seconds after which an agent is loaded again that was lost as a whole, however often it was started again."""

PATIENCE = 2.0
"""Seconds that a request waits for an agent that is just being loaded and is not lazy: it may be there in a moment."""

TURN = 2.0
"""Seconds by which each agent that is loading may hold up the others: imports take turns of a second."""

LEAVE = 5.0
"""Seconds that an agent which cannot be served after all has to leave its lifespan."""

InputCheck = Callable[[object], str | None]

_Opened = tuple[AgentRef, AgentInfo, InputCheck | None]
"""An agent that is open, what it says of itself, and what looks at its input."""

log = logging.getLogger("agenthost.registry")


@dataclass(slots=True, eq=False)
class _Load:
    """The task that loads an agent, and whether it has tried once."""

    task: asyncio.Task[None]
    tried: asyncio.Event = field(default_factory=asyncio.Event)


class Registry:
    """Loads and unloads agents; `entries` is what routing reads. `on_ready` is told of each agent that was loaded."""

    def __init__(
        self,
        placements: Callable[[], Mapping[str, Placement]],
        dialects: Callable[[], Collection[str]],
        prepare: Callable[[AgentEntry], Awaitable[None]],
        on_ready: Callable[[AgentEntry], None] = lambda _entry: None,
    ) -> None:
        self.entries: dict[str, AgentEntry] = {}
        self.draining = Draining(self.close_one)
        self._on_ready = on_ready
        self._placements = placements
        self._dialects = dialects
        self._prepare = prepare
        self._loads: dict[AgentEntry, _Load] = {}
        self._building = 0
        self._start_is_over = False

    def start(self, specs: Sequence[AgentSpec]) -> None:
        """List every spec and begin to load those that are enabled and not lazy; returns at once."""
        for spec in specs:
            self.put(spec)

    def put(self, spec: AgentSpec) -> AgentEntry:
        """List one agent and begin to load it, unless that waits for a request.

        An agent of that name that has not loaded is given up, and one that serves drains.
        """
        entry = AgentEntry(spec)
        self.replace(entry)
        if not spec.enabled:
            entry.become("disabled")
        elif spec.load == "eager" or spec.problem is not None:
            self.load(entry)
        return entry

    def load(self, entry: AgentEntry) -> None:
        """Begin to load an agent that is listed, now: also one that is to be tried again later."""
        self.give_up(entry)
        if entry.spec.problem is not None:
            self._failed(entry, entry.spec.problem)
            return
        entry.become("loading")
        self._begin(entry)

    def _begin(self, entry: AgentEntry, after: float = 0.0) -> None:
        loading = asyncio.get_running_loop().create_task(self._load(entry, after), name=f"load {entry.name}")
        self._loads[entry] = _Load(loading)

    def give_up(self, entry: AgentEntry) -> None:
        """Load an agent no further, where it is just being loaded or to be tried again."""
        load = self._loads.pop(entry, None)
        if load is not None:
            load.task.cancel()
            load.tried.set()

    async def tried(self, entry: AgentEntry, seconds: float) -> None:
        """Wait until an agent that is being loaded has been tried once, at most so long."""
        load = self._loads.get(entry)
        if load is not None and entry.state == "loading":
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await load.tried.wait()

    async def _wake(self, entry: AgentEntry) -> AgentEntry:
        """Have a request wait for an agent that loads, a lazy one for this very request; see `AgentEntry.awake`."""
        if not entry.gone:
            lazy = entry.spec.load == "lazy"
            if lazy and entry.state == "discovered":
                self.load(entry)
            await self.tried(entry, entry.spec.load_timeout if lazy else PATIENCE)
            if entry.successor is not None:
                return await entry.awake()
        if entry.gone:
            raise NotFound("no agent by that name")
        return entry

    async def build(self, spec: AgentSpec) -> AgentEntry:
        """Open an agent and ask it how it is, without listing it; raises `HostError`, and leaves nothing open then."""
        if spec.problem is not None:
            raise spec.problem
        entry = AgentEntry(spec)
        self._building += 1
        try:
            ref, info, check = await self._opened(entry)
            self._serve(entry, ref, info, check)
            unwell = await problem_of(entry, ref, ANSWER_WITHIN)
            if unwell:
                raise self._blamed(spec, f"was loaded, and is not well: {encodable(unwell)}")
            if entry.reason is not None:  # it was lost meanwhile
                raise entry.reason
        except BaseException:
            await self.close_one(entry, LEAVE)
            raise
        finally:
            self._building -= 1
        return entry

    def check(self, spec: AgentSpec) -> None:
        """Raise `LoadError` where an agent names a placement or a dialect that is not there; opens nothing."""
        self._placement(spec)

    def replace(self, entry: AgentEntry) -> None:
        """List `entry`, in the place of the version that has its name, which drains.

        What waits for that one goes over to `entry`, unless `entry` is disabled: then the old version still serves it.
        """
        former = self.entries.get(entry.name)
        self.entries[entry.name] = entry
        entry.wake = self._wake
        if former is None:
            return
        self.give_up(former)
        former.gone = not entry.spec.enabled
        if not former.gone:
            entry.traffic, former.successor = former.traffic, entry
        self.draining.add(former, "it was disabled" if former.gone else "a newer version has taken its place")

    def remove(self, name: str) -> None:
        """List an agent no longer; it drains."""
        entry = self.entries.pop(name)
        self.give_up(entry)
        entry.gone = True
        self.draining.add(entry, "it is no longer in agents.toml")

    async def swap(self, spec: AgentSpec) -> AgentEntry:
        """Open `spec` through its placement, then serve it in the place of the version that has its name.

        Raises `HostError`, and the version that serves goes on, where the new one cannot be opened or is not well.
        """
        entry = await self.build(spec)
        self.replace(entry)
        self._on_ready(entry)
        return entry

    async def settled(self, seconds: float) -> None:
        """Wait until every agent has been tried once, at most `seconds`; those that come later are logged."""
        deadline = time.monotonic() + seconds
        for entry in tuple(self._loads):
            await self.tried(entry, max(0.0, deadline - time.monotonic()))
        self._start_is_over = True

    async def _load(self, entry: AgentEntry, after: float) -> None:
        await asyncio.sleep(after)
        for pause in (*RETRIES, None):
            try:
                outcome: _Opened | HostError = await self._opened(entry)
            except HostError as problem:
                outcome = problem
            load = self._loads.get(entry)
            if load is None or load.task is not asyncio.current_task():  # given up, which its placement did not hear
                if not isinstance(outcome, HostError):
                    await self._leave(entry.spec, outcome[0], LEAVE)
                return
            if isinstance(outcome, HostError):
                self._failed(entry, outcome, None if pause is None else time.time() + pause)
            else:
                self._serve(entry, *outcome)
                if self._start_is_over:
                    log.info("agent '%s' is ready", entry.name, extra={"agent": entry.name})
                self._on_ready(entry)
            load.tried.set()
            if entry.serving or pause is None:
                self._loads.pop(entry, None)
                return
            await asyncio.sleep(pause)

    async def _opened(self, entry: AgentEntry) -> _Opened:
        """Open an agent, and read what it says of itself. Raises `HostError`, and nothing is open then."""
        spec, limit = entry.spec, None
        try:
            placement = self._placement(spec)
            await self._prepare(entry)  # an environment that is to be made first takes its own time
            async with asyncio.timeout(self.outer_limit(spec)) as limit:
                ref = await placement.open(spec)
        except HostError:
            raise
        except BaseException as raised:  # a placement is a plugin: its fault, whatever it is, is this agent's state
            if limit is not None and limit.expired():
                late = f"took longer than its load_timeout of {spec.load_timeout:g} s to load"
                raise self._blamed(spec, late) from None
            if isinstance(raised, asyncio.CancelledError) and self._cancelled():
                raise
            raise self._blamed(spec, f"failed to load: {summary(raised)}") from None
        try:
            info = self._told(spec, ref)
            return ref, info, self._input_check(spec, info)
        except LoadError:
            await self._leave(spec, ref, LEAVE)
            raise

    def _serve(self, entry: AgentEntry, ref: AgentRef, info: AgentInfo, check: InputCheck | None) -> None:
        entry.ref, entry.info, entry.check_input = ref, info, check
        entry.become("ready")
        lost = getattr(ref, "lost", None)
        if lost is not None:
            lost.add_done_callback(lambda done: self._lost(entry, ref, done))

    def _lost(self, entry: AgentEntry, ref: AgentRef, lost: asyncio.Future[HostError]) -> None:
        """An agent can run no more: it has failed, and is loaded again after a while; one on its way out just goes."""
        if entry.ref is not ref or not entry.serving or lost.cancelled():
            return
        entry.ref = None
        self.draining.add(AgentEntry(entry.spec, ref=ref), "it was lost")
        self._failed(entry, lost.result(), time.time() + LOST)
        if self.entries.get(entry.name) is entry:
            self._begin(entry, LOST)

    def outer_limit(self, spec: AgentSpec) -> float:
        """Seconds after which a placement that keeps no time limit is given up, waiting for its turn included.

        A placement counts `load_timeout` itself, from where the agent's own code begins.
        """
        return 2 * spec.load_timeout + TURN * (len(self._loads) + self._building)

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

    def _input_check(self, spec: AgentSpec, info: AgentInfo) -> InputCheck | None:
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
        """Stop loading and close every agent, also those that drain, side by side, each within `grace` seconds."""
        loads = [load.task for load in self._loads.values()]
        for entry in tuple(self._loads):
            self.give_up(entry)
        if loads:
            await asyncio.wait(loads, timeout=grace)
        await asyncio.gather(self.draining.close(), *(self.close_one(one, grace) for one in self.entries.values()))

    async def close_one(self, entry: AgentEntry, grace: float) -> None:
        """Close an agent that was loaded, within `grace` seconds; its runs have ended."""
        ref, entry.ref = entry.ref, None
        if ref is None:
            return
        entry.become("draining", entry.reason)
        await self._leave(entry.spec, ref, grace)
        entry.become("unloaded", entry.reason)

    async def _leave(self, spec: AgentSpec, ref: AgentRef, grace: float) -> None:
        try:
            await ref.close(grace)
        except Exception as raised:  # noqa: BLE001 - an agent that cannot leave must not keep the others from leaving
            log.error("agent '%s' failed while closing: %s", spec.name, summary(raised), extra={"agent": spec.name})
