"""Runs of Locus agents, and of whatever runs like one: new turns, and turns that go on after a pause."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from locus.core.errors import ModelAuthError, ModelThrottledError
from locus.core.structured import parse_structured

from agenthost import AgentError, AgentUnavailable, Event, Interrupt, RunContext, ThreadKey, ask_approval
from agenthost_locus.asking import prompt_of
from agenthost_locus.checkpointing import HostCheckpointer, forget, is_kept, keep_for
from agenthost_locus.conversations import conversation
from agenthost_locus.deciding import Turn, approval_id
from agenthost_locus.leash import Leash, leashed, let_go
from agenthost_locus.recognising import accepts_keyword
from agenthost_locus.resuming import resumed
from agenthost_locus.settings import ELSEWHERE, RunnableSettings, Settings
from agenthost_locus.translating import Translation


class Runnable:
    """Any object with Locus's `run(prompt, *, thread_id, metadata)`, and with its `resume` where it has one."""

    Settings: type = RunnableSettings
    description = ""

    def __init__(self, served: Any) -> None:
        self._served = served
        self._alone = False
        self._stream_tokens = True
        self._options = [name for name in ("stream_tokens", "model_kwargs") if accepts_keyword(served.run, name)]
        self.keeps_pauses = callable(getattr(served, "resume", None))
        name = getattr(getattr(served, "config", None), "name", None) or getattr(served, "name", None)
        self.title = name if isinstance(name, str) else ""

    def serve_alone(self, *, stream_tokens: bool) -> None:
        """An `AgentServer` serves it: threads have Locus's own names, decisions are its handler's."""
        self._alone = True
        self._stream_tokens = stream_tokens

    async def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
        """A turn, from the prompt or from where it paused. What runs for it in other tasks ends with it."""
        thread, earlier = self._thread_of(ctx), _earlier(ctx)
        translation = Translation(thread, ctx.thread.thread_id if ctx.thread else None, earlier.get("spent"))
        served = self._configured(ctx.settings)
        turn = self._turn(served, ctx, thread)
        calls = leashed()
        keep_for(ctx, thread)
        events = self._events(served, ctx, thread, turn)
        async with (
            AsyncExitStack() as stack
        ):  # each of these happens, in this order from the last, whatever becomes of the others
            stack.push_async_callback(self._leave, served, thread, ctx, translation)
            stack.push_async_callback(let_go, calls)
            stack.push_async_callback(_close, events)
            try:
                async for event in events:
                    for said in translation.of(event):
                        yield self._asked(ctx, said, translation, thread, turn) if type(said) is Interrupt else said
            except (ModelThrottledError, ModelAuthError) as refused:
                raise AgentUnavailable(f"the provider of its model refused: {refused.kind}") from refused
        for last in translation.result(self._parser(served)):
            yield last

    def _turn(self, served: Any, ctx: RunContext, thread: str | None) -> Turn:
        """Whose the calls are that this run holds: a new turn's, or that of the run that paused."""
        name = _earlier(ctx).get("turn") or ThreadKey(thread or ctx.principal.id, ctx.agent, ctx.run_id).digest
        turn = Turn(served, str(name), ELSEWHERE if self._alone else getattr(ctx.settings, "approvals", ""))
        turn.begin()
        return turn

    def _events(self, served: Any, ctx: RunContext, thread: str | None, turn: Turn) -> AsyncIterator[Any]:
        if ctx.answer is not None:
            return resumed(served, ctx, ctx.answer, thread, None if self._alone else turn)
        options = {
            "stream_tokens": self._stream_tokens and getattr(ctx.settings, "stream_tokens", True),
            "model_kwargs": dict(getattr(ctx.settings, "model_kwargs", {})) or None,
        }
        given = {name: options[name] for name in self._options if options[name]}
        events: AsyncIterator[Any] = served.run(prompt_of(ctx), thread_id=thread, metadata=dict(ctx.metadata), **given)
        return events

    def _asked(
        self, ctx: RunContext, said: Interrupt, translation: Translation, thread: str | None, turn: Turn
    ) -> Interrupt:
        """A pause as the host asks it: a held call that the caller may decide, as every framework's."""
        self._check_pause(ctx)
        state = {"thread": thread, "turn": turn.name, "spent": translation.spent}
        translation.paused = True
        metadata, call = said.metadata or {}, said.interrupt_id or ""
        if not turn.owns(approval_id(metadata)):
            return replace(said, state=state)
        before = (ctx.answer.interrupt.metadata if ctx.answer else None) or {}
        tool = translation.tool_of(call) or before.get("tool") or metadata.get("action") or ""
        asked = ask_approval(tool, call, metadata.get("arguments") or {}, state=state, question=said.question)
        return replace(asked, metadata={**metadata, **(asked.metadata or {})})

    def _check_pause(self, ctx: RunContext) -> None:
        """Raise `AgentError` for a pause that nothing could end."""
        if not self.keeps_pauses:
            raise AgentError(
                f"a {type(self._served).__name__} has asked a question, and has no resume() to take the answer",
                hint="give its class Locus's resume(response, *, thread_id, perform_dangling, metadata)",
            )

    def _thread_of(self, ctx: RunContext) -> str | None:
        """What Locus calls the thread. A run without one that may pause has one of its own: Locus has one for all."""
        paused = _earlier(ctx).get("thread")
        if paused is not None:
            return str(paused)
        if ctx.thread is not None:
            return self._name(ctx.thread)
        return self._name(ThreadKey(ctx.principal.id, ctx.agent, ctx.run_id)) if self.keeps_pauses else None

    def _name(self, key: ThreadKey) -> str:
        return f"{key.principal}:{key.thread_id}" if self._alone else key.digest

    def _configured(self, settings: Any) -> Any:
        return self._served

    def _parser(self, served: Any) -> Any:
        return None

    async def _leave(self, served: Any, thread: str | None, ctx: RunContext, translation: Translation) -> None:
        """The run is over. What it left behind that nobody asks for again is forgotten."""
        if ctx.thread is None and not translation.paused:
            await self._forget(thread, ctx)

    async def _forget(self, thread: str | None, ctx: RunContext) -> None:
        """Nobody asks for this thread again."""


class LocusAgent(Runnable):
    """A Locus `Agent` whose threads the host keeps."""

    Settings = Settings

    def __init__(self, served: Any) -> None:
        super().__init__(served)
        schema = served.config.output_schema
        self.output_schema = schema.model_json_schema() if schema is not None else None
        self._made: tuple[Any, Any] = (None, None)

    def _configured(self, settings: Any) -> Any:
        """The agent itself, or one made like it where settings say otherwise: other names may serve it as it is."""
        if not isinstance(settings, Settings) or not settings.configured:
            return self._served
        if self._made[0] is not settings:
            config = self._served.config
            changed = {**settings.configured, "hooks": [*config.hooks, Leash()]}
            self._made = settings, type(self._served)(config=config.model_copy(update=changed))
        return self._made[1]

    def _check_pause(self, ctx: RunContext) -> None:
        if isinstance(self._served.config.checkpointer, HostCheckpointer) and not is_kept(ctx):
            raise AgentError(
                "it has asked a question in a conversation that is too long to wait in the host's thread (1 MiB)",
                hint="give the agent a checkpointer of its own, or a conversation manager that keeps it short",
            )

    async def _leave(self, served: Any, thread: str | None, ctx: RunContext, translation: Translation) -> None:
        if not self._alone:  # a pause is in the checkpoint; in memory it would stay if nobody answers
            served._interrupts.pop(thread, None)
        await super()._leave(served, thread, ctx, translation)

    def _parser(self, served: Any) -> Any:
        schema = served.config.output_schema
        return (lambda text: _parsed(text, schema)) if schema is not None else None


class OwnThreads:
    """What is kept by the agent's own checkpointer is read and deleted there."""

    _served: Any
    _name: Any

    async def get_thread(self, key: ThreadKey) -> Mapping[str, Any] | None:
        """The thread's last state; None where there is none."""
        state = await self._served.config.checkpointer.load(self._name(key))
        return None if state is None else conversation(state)

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete it; whether there was one."""
        return bool(await self._served.config.checkpointer.delete(self._name(key)))

    async def _forget(self, thread: str | None, ctx: RunContext) -> None:
        if thread is not None:
            await forget(self._served.config.checkpointer, thread, ctx)


class CheckpointedRunnable(OwnThreads, Runnable):
    """What runs like a Locus agent and has a checkpointer of its own."""


class CheckpointedAgent(OwnThreads, LocusAgent):
    """A Locus `Agent` with a checkpointer of its own."""


def _earlier(ctx: RunContext) -> Mapping[str, Any]:
    """What was kept with the pause that this run answers."""
    state = ctx.answer.interrupt.state if ctx.answer is not None else None
    return state if isinstance(state, Mapping) else {}


async def _close(events: Any) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


def _parsed(text: str, schema: Any) -> Any:
    """The structured output that the text holds; None where it holds none."""
    found = parse_structured(text, schema, strict=False).parsed
    return None if found is None else found.model_dump(mode="json")
