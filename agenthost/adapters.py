"""Any object a plugin hands over becomes an `Agent`: functions, generators, classes, factories, frameworks' objects."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar, overload

from agenthost.agents import AgentInfo, AgentSpec, Health, OwnThread, RunContext
from agenthost.blame import cut_traceback, summary
from agenthost.daemon_threads import DaemonThreads, iterate
from agenthost.errors import LoadError
from agenthost.events import Event, Result, json_value
from agenthost.frameworks import missing_adapter
from agenthost.hookspecs import ANY_MODULE, Adapter
from agenthost.settings import validate_settings
from agenthost.threads import ThreadKey

MAX_BLOCKING = 64
"""Threads for one agent's blocking runs; more runs wait."""

_SHAPES = (
    "hand over an async generator function taking (ctx), an async or plain function taking (ctx), "
    "an object or class with such a run(self, ctx), or a factory of one of these"
)

F = TypeVar("F", bound=Callable[..., Any])


@overload
def agent(function: F, /) -> F: ...
@overload
def agent(
    *,
    title: str = "",
    description: str = "",
    input_schema: Mapping[str, Any] | None = None,
    output_schema: Mapping[str, Any] | None = None,
    settings: type | None = None,
    resumable: bool = False,
) -> Callable[[F], F]: ...
def agent(function: F | None = None, /, *, settings: type | None = None, **info: Any) -> F | Callable[[F], F]:
    """Mark a function as an agent and say what it is.

    `input_schema` is checked before each run, `settings` is the type that validates `settings` in agents.toml. The
    function stays as it was; a plain function needs no mark unless it has something to say here.
    """

    def mark(target: F) -> F:
        target.__agenthost__ = (AgentInfo(**info), settings)  # type: ignore[attr-defined]  # functions take attributes
        return target

    return mark if function is None else mark(function)


class _Run(Protocol):
    def __call__(self, ctx: RunContext) -> AsyncIterator[Event | str]: ...


@dataclass(frozen=True, slots=True)
class Adapted:
    """An agent ready to run, with its optional powers looked up once: None where it has not that power."""

    run: _Run
    info: AgentInfo
    settings: Any
    once: Callable[[RunContext], Awaitable[Any]] | None = None
    """The async function behind `run`, where it is one: awaiting it spares a generator per run (see `returned`)."""
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    health: Callable[[], Any] | None = None
    get_thread: Callable[[ThreadKey], Any] | None = None
    delete_thread: Callable[[ThreadKey], Any] | None = None

    async def ask_health(self) -> Health:
        """The agent's own word, or well."""
        if self.health is None:
            return Health()
        health: Health = await self.health()
        return health

    async def read_thread(self, key: ThreadKey) -> OwnThread | None:
        """The agent's own thread."""
        thread: OwnThread | None = None if self.get_thread is None else await self.get_thread(key)
        return thread

    async def drop_thread(self, key: ThreadKey) -> bool:
        """Delete the agent's own thread."""
        return False if self.delete_thread is None else bool(await self.delete_thread(key))


def adapt(handed_over: Any, spec: AgentSpec, adapters: Sequence[Adapter] = ()) -> Adapted:
    """Make an agent of what a plugin handed over; raises `LoadError` saying what was expected and what came.

    Frameworks' objects come first: they often have a `run` of their own. A class is instantiated with its settings;
    a callable with no parameter, or one called `settings`, is a factory and its result is looked at once more.
    """
    return _adapt(handed_over, spec, adapters, made_by=())


def _adapt(found: Any, spec: AgentSpec, adapters: Sequence[Adapter], made_by: tuple[Any, ...]) -> Adapted:
    if len(made_by) > 3:
        raise _refused(spec, "its factory returns factories without end")
    adapter = _adapter_for(found, spec, adapters)
    if adapter is not None:
        return _adapt(_by_adapter(adapter, found, spec), spec, (), (*made_by, found))
    unadapted = missing_adapter(found, spec)
    if unadapted is not None:
        raise unadapted
    info, declared = _mark(found, made_by)
    settings = validate_settings(declared or _settings_type(found, made_by), spec)
    if inspect.isclass(found):
        return _adapt(_call(found, settings, spec), spec, adapters, (*made_by, found))
    body = getattr(found, "run", None) if not inspect.isroutine(found) else None
    if body is not None and callable(body):
        return _object_agent(found, body, info, settings, spec)
    if not callable(found):
        raise _refused(spec, f"got {_named(found)}")
    if _is_factory(found):
        return _adapt(_call(found, settings, spec), spec, adapters, (*made_by, found))
    return Adapted(_runner(found, spec), _limited(info or _info(found), found), settings, once=_once(found))


def _adapter_for(found: Any, spec: AgentSpec, adapters: Sequence[Adapter]) -> Adapter | None:
    packages = {kind.__module__.partition(".")[0] for kind in type(found).__mro__}
    candidates = [adapter for adapter in adapters if packages.intersection(adapter.modules)]
    claims = [adapter for adapter in candidates if _accepts(adapter, found, spec)]
    claims = claims or [one for one in adapters if ANY_MODULE in one.modules and _accepts(one, found, spec)]
    if len(claims) > 1:
        names = ", ".join(sorted(claim.name for claim in claims))
        raise LoadError(
            f"agent '{spec.name}': more than one adapter claims {_named(found)}: {names}",
            hint="uninstall one, or name its distribution under [plugins] block",
        )
    return claims[0] if claims else None


def _accepts(adapter: Adapter, found: Any, spec: AgentSpec) -> bool:
    try:
        return adapter.accepts is None or bool(adapter.accepts(found))
    except Exception as raised:
        raise _adapter_failed(adapter, found, spec, raised) from raised


def _by_adapter(adapter: Adapter, found: Any, spec: AgentSpec) -> Any:
    try:
        return adapter.adapt(found)
    except LoadError:
        raise
    except Exception as raised:
        raise _adapter_failed(adapter, found, spec, raised) from raised


def _adapter_failed(adapter: Adapter, found: Any, spec: AgentSpec, raised: Exception) -> LoadError:
    return LoadError(
        f"agent '{spec.name}': adapter '{adapter.name}' failed on {_named(found)}: {summary(raised)}",
        hint="upgrade or correct the adapter's distribution",
        traceback=cut_traceback(raised),
    )


def _mark(found: Any, made_by: tuple[Any, ...]) -> tuple[AgentInfo | None, type | None]:
    """What `@agent` says of it, or of the factory it came from."""
    for place in (found, *reversed(made_by)):
        mark: tuple[AgentInfo, type | None] | None = getattr(place, "__agenthost__", None)
        if mark is not None:
            return mark
    return None, None


def _settings_type(found: Any, made_by: tuple[Any, ...]) -> type | None:
    for place in (found, *made_by):
        declared = getattr(place, "Settings", None)
        if inspect.isclass(declared):
            return declared
    return None


def _call(factory: Any, settings: Any, spec: AgentSpec) -> Any:
    made = factory(settings) if _parameters(factory, spec) else factory()
    if inspect.isawaitable(made) or inspect.isasyncgen(made):
        if inspect.iscoroutine(made):
            made.close()
        raise _refused(spec, "its factory is async", hint="make it a plain function; do slow starts in lifespan()")
    return made


def _parameters(function: Any, spec: AgentSpec) -> list[str]:
    """The names of what must be given, positionally."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
        and (parameter.default is parameter.empty or parameter.name == "settings")
    ]
    keyword_only = [
        parameter.name
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    ]
    if len(needed) > 1 or keyword_only:
        raise _refused(spec, f"{_named(function)} takes ({', '.join([*needed, *keyword_only])})")
    return needed


def _is_factory(function: Any) -> bool:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    if _kind(function) in {"async generator", "async function"}:
        return names == ["settings"]  # and is refused when its result is looked at
    return not names or names == ["settings"]


def _kind(function: Any) -> str:
    called = function if inspect.isroutine(function) else type(function).__call__
    for target in (called, inspect.unwrap(function)):
        if inspect.isasyncgenfunction(target):
            return "async generator"
        if inspect.iscoroutinefunction(target):
            return "async function"
        if inspect.isgeneratorfunction(target):
            return "generator"
    return "function"


def _object_agent(found: Any, body: Any, info: AgentInfo | None, settings: Any, spec: AgentSpec) -> Adapted:
    return Adapted(
        _runner(body, spec),
        _limited(info or _info(found), body),
        settings,
        once=_once(body),
        lifespan=_power(found, "lifespan"),
        health=_power(found, "health"),
        get_thread=_power(found, "get_thread"),
        delete_thread=_power(found, "delete_thread"),
    )


def _power(found: Any, name: str) -> Callable[..., Any] | None:
    return getattr(found, name) if callable(getattr(type(found), name, None)) else None


def _info(found: Any) -> AgentInfo:
    if isinstance(found, partial):
        return _info(found.func)
    holder = type(found) if not inspect.isroutine(found) else found
    written = inspect.getdoc(found) if inspect.isroutine(found) else (type(found).__doc__ or "")
    first_line = (written or "").strip().partition("\n")[0]

    def said(name: str, default: Any) -> Any:
        value = getattr(found, name, default)
        return default if inspect.isroutine(value) or value is None else value

    return AgentInfo(
        title=str(said("title", "")),
        description=str(said("description", first_line)),
        input_schema=said("input_schema", None),
        output_schema=said("output_schema", None),
        needs_input=bool(said("needs_input", False)),
        resumable=bool(said("resumable", False)),
        keeps_threads=callable(getattr(holder, "get_thread", None)),
        keeps_pauses=bool(said("keeps_pauses", False)),
        module=str(getattr(holder, "__module__", "")),
    )


def _runner(function: Any, spec: AgentSpec) -> _Run:
    """Make `run(ctx)` of any kind of callable; raises `LoadError` if it does not take one argument."""
    if len(_parameters(function, spec)) != 1:
        raise _refused(spec, f"{_named(function)} does not take one argument (ctx)")
    kind = _kind(function)
    if kind == "async generator":
        return _as_run(function)
    if kind == "async function":
        return _awaited(function)
    if kind == "function" and _says_async(function):
        return _as_run(function)
    threads = DaemonThreads(f"agent {spec.name}", min(spec.concurrency, MAX_BLOCKING))
    return _blocking(function, threads, generator=kind == "generator")


def _as_run(function: Any) -> _Run:
    run: _Run = function
    return run


def _limited(info: AgentInfo, function: Any) -> AgentInfo:
    """What the agent says of itself, and how many runs its threads allow where it needs a thread for each."""
    blocks = _kind(function) in {"generator", "function"} and not _says_async(function)
    return replace(info, max_runs=MAX_BLOCKING) if blocks else info


def _says_async(function: Any) -> bool:
    promised = str(inspect.signature(function).return_annotation)
    return "AsyncIterator" in promised or "AsyncGenerator" in promised or "AsyncIterable" in promised


def _once(function: Any) -> Callable[[RunContext], Awaitable[Any]] | None:
    return function if _kind(function) == "async function" else None


def _awaited(function: Callable[[RunContext], Any]) -> _Run:
    async def run(ctx: RunContext) -> AsyncIterator[Event | str]:
        for event in returned(await function(ctx)):
            yield event

    return run


def _blocking(function: Callable[[RunContext], Any], threads: DaemonThreads, *, generator: bool) -> _Run:
    def start(ctx: RunContext) -> Iterator[Any]:
        value = (yield from function(ctx)) if generator else function(ctx)
        if inspect.isasyncgen(value) or inspect.iscoroutine(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError("a plain function returned something async: declare it async, or -> AsyncIterator[str]")
        if inspect.isgenerator(value):
            value = yield from value
        if value is not None or not generator:
            yield from returned(value)

    def run(ctx: RunContext) -> AsyncIterator[Event | str]:
        return iterate(threads, lambda: start(ctx))

    return run


def returned(value: Any) -> Sequence[Event]:
    """What a function's return value says: an event is itself, a str the message, anything else the output.

    A structured output is the message as well, as JSON text, so that clients that read only the message get it.
    """
    if isinstance(value, Event):
        return [value]
    if value is None or isinstance(value, str):
        return [Result(message=value)]
    try:
        text = json.dumps(json_value(value), ensure_ascii=False)
    except ValueError:
        text = ""  # the event's own encoding fails the run and names the type
    return [Result(message=text, output=value)]


def _named(found: Any) -> str:
    return getattr(found, "__qualname__", None) or f"an object of {type(found).__module__}.{type(found).__qualname__}"


def _refused(spec: AgentSpec, problem: str, hint: str = _SHAPES) -> LoadError:
    return LoadError(
        f"agent '{spec.name}' ({spec.source.label}) is nothing the host can run: {problem}",
        hint=hint,
        distribution=spec.source.distribution,
        version=spec.source.version,
    )
