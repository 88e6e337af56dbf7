"""Any object a plugin hands over becomes an agent, or an error that says what was expected and what came."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pydantic
import pytest

from agenthost.adapters import MAX_BLOCKING, Adapted, adapt, agent
from agenthost.agents import AgentInfo, Health, RunContext
from agenthost.entries import AgentEntry
from agenthost.errors import LoadError
from agenthost.events import Custom, Event, ModelChunk, Result
from agenthost.hookspecs import Adapter
from agenthost.threads import Message, ThreadKey
from tests.agents_for_tests import hosting, kinds, served, told


async def async_generator(ctx: RunContext) -> AsyncIterator[str]:
    """Says hello.

    And more.
    """
    yield "hello "
    yield ctx.prompt


async def async_function(ctx: RunContext) -> str:
    return f"hello {ctx.prompt}"


def sync_function(ctx: RunContext) -> str:
    assert threading.current_thread() is not threading.main_thread()
    return f"hello {ctx.prompt}"


def sync_generator(ctx: RunContext) -> Iterator[str]:
    assert threading.current_thread() is not threading.main_thread()
    yield "hello "
    yield ctx.prompt


def returning_a_generator(ctx: RunContext) -> Any:
    return sync_generator(ctx)


def promising_an_async_generator(ctx: RunContext) -> AsyncIterator[str]:
    return async_generator(ctx)


class WithAsyncGenerator:
    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "hello "
        yield ctx.prompt


class WithAsyncFunction:
    async def run(self, ctx: RunContext) -> str:
        return f"hello {ctx.prompt}"


class WithSyncFunction:
    def run(self, ctx: RunContext) -> str:
        return f"hello {ctx.prompt}"


class WithSyncGenerator:
    def run(self, ctx: RunContext) -> Iterator[str]:
        yield "hello "
        yield ctx.prompt


class Callable_:
    async def __call__(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "hello "
        yield ctx.prompt


class CallableSync:
    def __call__(self, ctx: RunContext) -> str:
        return f"hello {ctx.prompt}"


class StaticRun:
    @staticmethod
    async def run(ctx: RunContext) -> AsyncIterator[str]:
        yield "hello "
        yield ctx.prompt


class NoGenerator:
    """Its run returns an iterator that is not a generator and cannot be closed."""

    def run(self, ctx: RunContext) -> AsyncIterator[str]:
        class Words:
            def __init__(self) -> None:
                self._words = iter(("hello ", ctx.prompt))

            def __aiter__(self) -> Words:
                return self

            async def __anext__(self) -> str:
                for word in self._words:
                    return word
                raise StopAsyncIteration

        return Words()


async def with_prefix(prefix: str, ctx: RunContext) -> AsyncIterator[str]:
    yield f"{prefix} "
    yield ctx.prompt


def sync_with_prefix(prefix: str, ctx: RunContext) -> str:
    return f"{prefix} {ctx.prompt}"


def wrapped_by(decorate: Callable[[Any], Any], function: Any) -> Any:
    return functools.wraps(function)(decorate(function))


def passing(function: Any) -> Any:
    def wrapper(ctx: RunContext) -> Any:
        return function(ctx)

    return wrapper


def iterating(function: Any) -> Any:
    async def wrapper(ctx: RunContext) -> AsyncIterator[Any]:
        yield await function(ctx)

    return wrapper


def collecting(function: Any) -> Any:
    async def wrapper(ctx: RunContext) -> str:
        return "".join([piece async for piece in function(ctx)])

    return wrapper


SHAPES: list[tuple[str, Any]] = [
    ("async generator", async_generator),
    ("async function", async_function),
    ("sync function", sync_function),
    ("sync generator", sync_generator),
    ("sync function that returns a generator", returning_a_generator),
    ("function that promises an async iterator", promising_an_async_generator),
    ("class, async generator", WithAsyncGenerator),
    ("class, async function", WithAsyncFunction),
    ("class, sync function", WithSyncFunction),
    ("class, sync generator", WithSyncGenerator),
    ("class, static run", StaticRun),
    ("class, iterator without aclose", NoGenerator),
    ("object", WithAsyncGenerator()),
    ("callable object", Callable_()),
    ("class of callable objects", Callable_),
    ("sync callable object", CallableSync()),
    ("bound method", WithAsyncGenerator().run),
    ("partial", functools.partial(with_prefix, "hello")),
    ("partial of a sync function", functools.partial(sync_with_prefix, "hello")),
    ("lambda", lambda ctx: f"hello {ctx.prompt}"),
    ("factory of a function", lambda: async_generator),
    ("factory of an object", lambda: WithAsyncGenerator()),
    ("factory of a class", lambda: WithAsyncGenerator),
    ("factory of a factory", lambda: lambda: sync_function),
    ("marked", agent(async_function)),
    ("wrapped, passing through", wrapped_by(passing, async_generator)),
    ("wrapped, async generator around async function", wrapped_by(iterating, async_function)),
    ("wrapped, async function around async generator", wrapped_by(collecting, async_generator)),
]


@pytest.mark.parametrize("shape", [shape for _name, shape in SHAPES], ids=[name for name, _shape in SHAPES])
def test_every_shape_of_plain_python_is_an_agent(shape: Any) -> None:
    async def main() -> None:
        async with hosting(shape) as host:
            entry = host.entries["agent"]
            assert entry.state == "ready", entry.reason
            assert (await told(host, "world"))[-1]["message"] == "hello world"

    asyncio.run(main())


class PydanticSettings(pydantic.BaseModel):
    greeting: str
    times: int = 1


@dataclass
class DataclassSettings:
    greeting: str
    times: int = 1


class OfPydantic:
    Settings = PydanticSettings

    async def run(self, ctx: RunContext) -> str:
        return f"{ctx.settings.greeting} {ctx.prompt}" * ctx.settings.times


class OfDataclass(OfPydantic):
    Settings = DataclassSettings  # type: ignore[assignment]  # any type will do


class TakesSettings(OfPydantic):
    def __init__(self, settings: PydanticSettings) -> None:
        assert settings.greeting == "hello"


@agent(settings=DataclassSettings)
async def marked_with_settings(ctx: RunContext) -> str:
    return f"{ctx.settings.greeting} {ctx.prompt}" * ctx.settings.times


async def of_a_dict(ctx: RunContext) -> str:
    return f"{ctx.settings['greeting']} {ctx.prompt}"


def factory(settings: dict[str, Any]) -> Any:
    async def made(ctx: RunContext) -> str:
        assert ctx.settings == settings
        return f"{settings['greeting']} {ctx.prompt}"

    return made


@agent(settings=PydanticSettings, title="Greeter", description="Greets")
def marked_factory(settings: PydanticSettings) -> Any:
    async def made(ctx: RunContext) -> str:
        assert ctx.settings == settings
        return f"{settings.greeting} {ctx.prompt}"

    return made


WITH_SETTINGS = [OfPydantic, OfDataclass, OfPydantic(), TakesSettings, marked_with_settings, of_a_dict, factory,
                 marked_factory]  # fmt: skip


@pytest.mark.parametrize("shape", WITH_SETTINGS, ids=lambda shape: getattr(shape, "__name__", "object"))
def test_settings_reach_the_agent_validated_by_its_own_type(shape: Any) -> None:
    async def main() -> None:
        async with hosting(served(shape, settings={"greeting": "hello"})) as host:
            assert host.entries["agent"].state == "ready", host.entries["agent"].reason
            assert (await told(host, "world"))[-1]["message"] == "hello world"

    asyncio.run(main())


def adapted(found: Any, *adapters: Adapter, **fields: Any) -> Adapted:
    return adapt(found, served(found, **fields), adapters)


def refusal(found: Any, *adapters: Adapter) -> LoadError:
    with pytest.raises(LoadError) as refused:
        adapted(found, *adapters)
    return refused.value


async def no_parameter() -> AsyncIterator[str]:
    yield "x"


async def two_parameters(ctx: RunContext, more: str) -> AsyncIterator[str]:
    yield more


async def keyword_only(ctx: RunContext, *, more: str) -> AsyncIterator[str]:
    yield more


async def async_factory(settings: dict[str, Any]) -> Any:
    return async_generator


def endless_factory() -> Any:
    return endless_factory


class NoRun:
    pass


class RunIsNoMethod:
    run = "fast"


class NeedsTwo:
    def __init__(self, one: int, two: int) -> None:
        pass

    async def run(self, ctx: RunContext) -> str:
        return ""


class RunTakesNothing:
    async def run(self) -> str:
        return ""


NOTHING = "agent 'agent' (tests:agent) is nothing the host can run: "
WRONG_SHAPES = [
    (42, "got an object of builtins.int"),
    ("text", "got an object of builtins.str"),
    (None, "got an object of builtins.NoneType"),
    (NoRun, "got an object of tests.test_adapters.NoRun"),
    (RunIsNoMethod(), "got an object of tests.test_adapters.RunIsNoMethod"),
    (lambda: 42, "got an object of builtins.int"),
    (no_parameter, "no_parameter does not take one argument (ctx)"),
    (two_parameters, "two_parameters takes (ctx, more)"),
    (keyword_only, "keyword_only takes (ctx, more)"),
    (NeedsTwo, "NeedsTwo takes (one, two)"),
    (RunTakesNothing, "RunTakesNothing.run does not take one argument (ctx)"),
    (endless_factory, "its factory returns factories without end"),
]


@pytest.mark.parametrize(("found", "problem"), WRONG_SHAPES, ids=[row[1] for row in WRONG_SHAPES])
def test_what_is_no_agent_is_refused_with_what_was_expected(found: Any, problem: str) -> None:
    refused = refusal(found)
    assert refused.message == NOTHING + problem
    assert refused.hint == (
        "hand over an async generator function taking (ctx), an async or plain function taking (ctx), "
        "an object or class with such a run(self, ctx), or a factory of one of these"
    )


def test_an_async_factory_is_told_where_slow_starts_belong() -> None:
    refused = refusal(async_factory)
    assert refused.message == NOTHING + "its factory is async"
    assert refused.hint == "make it a plain function; do slow starts in lifespan()"


def test_an_agent_without_that_power_is_well_and_keeps_no_threads() -> None:
    async def main() -> None:
        found = adapted(async_generator)
        key = ThreadKey("ann", "agent", "t")
        assert await found.ask_health() == Health()
        assert await found.read_thread(key) is None
        assert await found.drop_thread(key) is False
        assert found.lifespan is None
        assert found.info == AgentInfo(description="Says hello.")

    asyncio.run(main())


class Powerful:
    """Can do everything."""

    title = "Powerful"
    input_schema: ClassVar[dict[str, Any]] = {"type": "object"}
    output_schema: ClassVar[dict[str, Any]] = {"type": "string"}
    resumable = True
    entered = 0

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        type(self).entered += 1
        yield
        type(self).entered -= 1

    async def health(self) -> Health:
        return Health(ok=False, detail="tired")

    async def get_thread(self, key: ThreadKey) -> list[Message] | None:
        return [Message.of("user", key.thread_id)]

    async def delete_thread(self, key: ThreadKey) -> bool:
        return key.thread_id == "t"

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield str(self.entered)


def test_optional_powers_are_found_on_the_type() -> None:
    async def main() -> None:
        async with hosting(Powerful) as host:
            entry = host.entries["agent"]
            assert entry.ref is not None
            assert (await told(host))[-1]["message"] == "1"
            assert await entry.ref.health() == Health(ok=False, detail="tired")
            key = ThreadKey("ann", "agent", "t")
            assert await entry.ref.get_thread(key) == [Message.of("user", "t")]
            assert await entry.ref.delete_thread(key)
            assert not await entry.ref.delete_thread(ThreadKey("ann", "agent", "u"))
            assert entry.info == AgentInfo(
                "Powerful",
                "Can do everything.",
                {"type": "object"},
                {"type": "string"},
                resumable=True,
                keeps_threads=True,
            )
        assert Powerful.entered == 0

    asyncio.run(main())


def test_the_mark_says_what_a_function_is_and_leaves_it_as_it_was() -> None:
    schema = {"type": "object"}

    @agent(title="Greeter", description="Greets", input_schema=schema, output_schema=schema, resumable=True)
    async def greet(ctx: RunContext) -> str:
        """Says more than the mark does."""
        return "hi"

    assert adapted(greet).info == AgentInfo("Greeter", "Greets", schema, schema, resumable=True)
    assert greet.__name__ == "greet"
    assert adapted(lambda: greet).info.title == "Greeter"
    assert adapted(marked_factory, settings={"greeting": "x"}).info == AgentInfo("Greeter", "Greets")


def test_a_partial_is_described_by_the_function_in_it() -> None:
    assert adapted(functools.partial(async_generator)).info.description == "Says hello."


@pytest.mark.parametrize(
    ("value", "message", "output"),
    [
        (None, "", None),
        ("text", "text", None),
        ({"n": 1, "é": [True]}, '{"n": 1, "é": [true]}', {"n": 1, "é": [True]}),
        (42, "42", 42),
        (Result(message="m", output=3), "m", 3),
        (ModelChunk("chunk"), "chunk", None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
def test_what_a_function_returns_is_its_result(value: Any, message: str, output: Any, threaded: bool) -> None:
    async def answers(ctx: RunContext) -> Any:
        return value

    def answers_too(ctx: RunContext) -> Any:
        return value

    async def main() -> None:
        async with hosting(answers_too if threaded else answers) as host:
            done = (await told(host))[-1]
            assert (done["type"], done["message"], done.get("output")) == ("done", message, output)

    asyncio.run(main())


def test_a_sync_generator_may_return_its_result() -> None:
    def counts(ctx: RunContext) -> Any:
        yield "one"
        return Result(output=[1])

    async def main() -> None:
        async with hosting(counts) as host:
            found = await told(host)
            assert kinds(found) == ["model_chunk", "done"]
            assert (found[-1]["message"], found[-1]["output"]) == ("one", [1])

    asyncio.run(main())


def async_by_surprise(ctx: RunContext) -> Any:
    return async_function(ctx)


def async_generator_by_surprise(ctx: RunContext) -> Any:
    return async_generator(ctx)


@pytest.mark.parametrize("surprise", [async_by_surprise, async_generator_by_surprise])
def test_a_plain_function_that_returns_something_async_fails_its_run_and_the_log_says_how_to_declare_it(
    surprise: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with hosting(surprise) as host:
            assert (await told(host))[-1]["code"] == "agent_error"

    asyncio.run(main())
    assert "a plain function returned something async: declare it async, or -> AsyncIterator[str]" in caplog.text


class Foreign:
    """A framework's object, with a `run` that is not ours."""

    def run(self, one: int, two: int) -> None:
        raise AssertionError("the framework's own")


class Derived(Foreign):
    """A user's subclass, in a module of their own."""


Derived.__module__ = "users_own"


class AsOurs:
    def __init__(self, foreign: Any) -> None:
        self.foreign = foreign

    async def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
        yield Custom("made-of", type(self.foreign).__name__)
        yield "adapted"


def by(name: str = "acme", modules: tuple[str, ...] = ("tests",), **fields: Any) -> Adapter:
    return Adapter(name, modules, **{"adapt": AsOurs, **fields})


def test_a_frameworks_object_is_known_by_the_modules_of_its_classes() -> None:
    for found in (Foreign(), Derived()):
        assert isinstance(adapted(found, by()).run.__self__, AsOurs)  # type: ignore[attr-defined]  # a bound method
    assert refusal(Foreign(), by(modules=("other",))).message == NOTHING + "Foreign.run takes (one, two)"


def test_accepts_narrows_what_an_adapter_takes() -> None:
    assert adapted(Foreign(), by("no", accepts=lambda found: False), by("yes", accepts=lambda found: True))
    assert refusal(Foreign(), by(accepts=lambda found: False)).message == NOTHING + "Foreign.run takes (one, two)"


def test_an_adapter_for_any_module_takes_what_it_accepts_where_nobody_claims_it_by_name() -> None:
    class Other:
        run = None

    Other.__module__ = "users_own"
    anything = by("any", modules=("*",), accepts=lambda found: isinstance(found, Foreign | Other), adapt=lambda _: say)
    assert adapted(Other(), by(), anything).once is say
    assert adapted(Foreign(), anything, by()).once is None, "claimed by name"
    assert adapted(async_function, by(accepts=lambda found: False), anything).once is async_function


async def say(ctx: RunContext) -> str:
    return ctx.prompt


def test_two_claims_on_one_object_are_an_error_that_names_both() -> None:
    refused = refusal(Foreign(), by("web"), by("acme"))
    assert refused.message == (
        "agent 'agent': more than one adapter claims an object of tests.test_adapters.Foreign: acme, web"
    )
    assert refused.hint == "uninstall one, or name its distribution under [plugins] block"


def boom(found: Any) -> Any:
    raise RuntimeError("boom")


@pytest.mark.parametrize("broken", [{"accepts": boom}, {"adapt": boom}], ids=["accepts", "adapt"])
def test_an_adapter_that_raises_is_named(broken: dict[str, Any]) -> None:
    refused = refusal(Foreign(), by(**broken))
    assert refused.message == (
        "agent 'agent': adapter 'acme' failed on an object of tests.test_adapters.Foreign: RuntimeError: boom"
    )
    assert refused.hint == "upgrade or correct the adapter's distribution"
    assert refused.traceback is not None
    assert "boom" in refused.traceback


def test_a_factory_may_make_a_frameworks_object_and_settings_still_reach_the_run() -> None:
    @agent(settings=DataclassSettings)
    def make(settings: DataclassSettings) -> Any:
        return Foreign()

    found = adapted(make, by(accepts=lambda found: isinstance(found, Foreign)), settings={"greeting": "hello"})
    assert found.settings == DataclassSettings("hello")


def test_a_factory_that_raises_is_this_agents_failure() -> None:
    def make() -> Any:
        raise RuntimeError("no database")

    async def main() -> None:
        async with hosting(served(make, "broken"), served(async_generator)) as host:
            entry = host.entries["broken"]
            assert entry.state == "failed"
            assert entry.reason is not None
            assert entry.reason.message == "agent 'broken' (tests:broken) failed to load: RuntimeError: no database"
            assert (await told(host, "world"))[-1]["message"] == "hello world"

    asyncio.run(main())


def test_an_agent_that_blocks_has_no_more_slots_than_threads() -> None:
    def blocks(ctx: RunContext) -> str:
        return ctx.prompt

    async def waits(ctx: RunContext) -> str:
        return ctx.prompt

    found = {agent.__name__: adapt(agent, served(agent), ()).info for agent in (blocks, waits)}
    assert {name: info.max_runs for name, info in found.items()} == {"blocks": MAX_BLOCKING, "waits": None}
    entry = AgentEntry(served(blocks, concurrency=256), info=found["blocks"])
    assert (entry.slots, AgentEntry(served(blocks, concurrency=3), info=found["blocks"]).slots) == (MAX_BLOCKING, 3)
