"""The client of a running host for asyncio: `AsyncClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

import httpx

from agenthost.client.asking import (
    Ask,
    agent_path,
    cancel_run,
    get_run,
    post_run,
    resume_body,
    run_body,
)
from agenthost.client.connection import DEFAULT_URL, ERRORS, answer, explained, request, settings
from agenthost.client.exchanges import awaited, invoked, once, paged, started
from agenthost.client.following import Following
from agenthost.client.patience import RECONNECT, Patience
from agenthost.client.replies import (
    AgentCard,
    Event,
    RunReply,
    RunState,
    Thread,
    ThreadSummary,
    made,
    read_cards,
    read_run,
)
from agenthost.client.steps import Answer, Left, Logic, Open, Pause, Read, Send, Step, advance

T = TypeVar("T")
Item = TypeVar("Item")


class AsyncClient:
    """One host, as one caller, for asyncio; use it in an `async with`, or `await close()`, on one event loop.

    What is said of `Client` holds here, method by method: what has a result is awaited, what yields is an async
    generator. A caller that is cancelled, or closes a generator (see `contextlib.aclosing`) before the end, cancels
    its run; a generator that is only dropped does so when the event loop comes round to it.
    """

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, *, reconnect: float = RECONNECT) -> None:
        self.url = url.rstrip("/")
        self.reconnect = reconnect
        self._http = httpx.AsyncClient(**settings(url, api_key))
        self._leaving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections, once those who left have cancelled their runs."""
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._http.aclose()

    async def invoke(
        self,
        agent: str,
        prompt: str | None = None,
        *,
        thread_id: str | None = None,
        input: Any = None,  # noqa: A002 - the wire's own name for it
        metadata: Mapping[str, Any] | None = None,
    ) -> RunReply:
        """Run an agent and wait for the result. A run that pauses is a result too: see its `interrupts`."""
        body = run_body(prompt, thread_id, input, metadata)
        ask = post_run(agent, "invoke", body)
        learn = post_run(agent, "runs", body, key=ask.headers["idempotency-key"])
        return await self._done(invoked(agent, ask, learn, self._patience()))

    def stream(
        self,
        agent: str,
        prompt: str | None = None,
        *,
        thread_id: str | None = None,
        input: Any = None,  # noqa: A002 - the wire's own name for it
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run an agent and yield its events as they come, each once and in order; the last is `done` or `interrupt`.

        An `error` event raises `CallFailed`. Closing the iterator before the end cancels the run.
        """
        return self._begun(agent, "stream", run_body(prompt, thread_id, input, metadata))

    def resume(
        self,
        agent: str,
        thread_id: str,
        *,
        response: Any = None,
        interrupt_id: str | None = None,
        decision: Mapping[str, Any] | None = None,
        answers: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Answer a paused run and yield the events of the new run that goes on with it, as `stream` does.

        `response` answers the one open question, or the one called `interrupt_id`; `answers` all at once, each with an
        `interrupt_id` and a `response`. A run that had no thread is resumed by its run id.
        """
        return self._begun(agent, "resume", resume_body(thread_id, interrupt_id, response, decision, answers, metadata))

    async def start(
        self,
        agent: str,
        prompt: str | None = None,
        *,
        thread_id: str | None = None,
        input: Any = None,  # noqa: A002 - the wire's own name for it
        metadata: Mapping[str, Any] | None = None,
    ) -> RunState:
        """Start a run that goes on by itself; read it with `events`, or `wait` for it."""
        ask = post_run(agent, "runs", run_body(prompt, thread_id, input, metadata))
        return await self._done(started(agent, ask, ask, read_run, self._patience()))

    async def run(self, agent: str, run_id: str) -> RunState:
        """How a run is now."""
        return await self._done(once(get_run(agent, run_id), read_run, self._patience(0)))

    def runs(
        self, agent: str, *, thread_id: str | None = None, status: str | None = None
    ) -> AsyncGenerator[RunState, None]:
        """Yield the caller's runs, newest first; fetches them page by page. `paused` are those that ask something."""
        return self._driven(paged(agent, "runs", read_run, self._patience(0), thread_id=thread_id, status=status))

    def events(self, agent: str, run_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the events of a run that come after number `after`, to its end; raises as `stream` does.

        Closing this iterator leaves the run alone.
        """
        return self._driven(Following(agent, self._patience(), run_id=run_id, after=after).events())

    async def wait(self, agent: str, run_id: str) -> RunState:
        """Wait until a run has ended, and return how; a run that failed is an answer, not an error."""
        return await self._done(awaited(agent, run_id, self._patience()))

    async def cancel(self, agent: str, run_id: str) -> RunState:
        """Tell a run to end, and return how it is then; `wait` for its end."""
        return await self._done(once(cancel_run(agent, run_id), read_run, self._patience(0)))

    def threads(self, agent: str) -> AsyncGenerator[ThreadSummary, None]:
        """Yield the caller's threads, newest first; fetches them page by page."""
        return self._driven(paged(agent, "threads", lambda body: made(ThreadSummary, body), self._patience(0)))

    async def thread(self, agent: str, thread_id: str) -> Thread:
        """A conversation, whole."""
        ask = Ask("GET", agent_path(agent, "threads", thread_id))
        return await self._done(once(ask, lambda body: made(Thread, body), self._patience(0)))

    async def delete_thread(self, agent: str, thread_id: str) -> bool:
        """Delete a conversation and all that belongs to it; returns whether there was one."""
        ask = Ask("DELETE", agent_path(agent, "threads", thread_id))
        return await self._done(once(ask, lambda body: body["deleted"] is True, self._patience(0)))

    async def agents(self) -> list[AgentCard]:
        """The agents that this caller may use."""
        cards = once(Ask("GET", "/agents"), read_cards, self._patience(0))
        return await self._done(cards)

    async def plan(self) -> dict[str, Any]:
        """What a reload of the host would change (for operators): `added`, `removed`, `changed`, … by name."""
        return await self._done(once(Ask("GET", "/admin/plan"), dict, self._patience(0)))

    async def health(self, agent: str | None = None) -> dict[str, Any]:
        """How the host is (for operators), or how one agent is (for everybody): `status`, and more for operators.

        An agent that does not serve is an answer, not an error.
        """
        path = "/health" if agent is None else agent_path(agent, "health")
        return await self._done(once(Ask("GET", path), dict, self._patience(0), also=200 if agent is None else 503))

    def _patience(self, seconds: float | None = None) -> Patience:
        return Patience(self.url, self.reconnect if seconds is None else seconds)

    def _begun(self, agent: str, route: str, body: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        begin = post_run(agent, route, body, streams=True)
        return self._driven(Following(agent, self._patience(), begin=begin).events())

    async def _done(self, logic: Logic[Any, T]) -> T:
        returned: list[T] = []
        async for _item in self._driven(logic, returned):
            pass
        return returned[0]

    async def _driven(self, logic: Logic[Item, T], returned: list[T] | None = None) -> AsyncGenerator[Item, None]:
        """Perform the logic's steps, yield its items, put its result into `returned`; hears if the caller leaves."""
        line = _Line(self._http, self.url)
        try:
            step = next(logic)
            while True:
                if isinstance(step, Step):
                    step = advance(logic, await line.perform(step))
                else:
                    yield step
                    step = next(logic)
        except StopIteration as end:
            if returned is not None:
                returned.append(end.value)
        except BaseException:
            await self._leave(logic, line)
            raise
        finally:
            await line.close()

    async def _leave(self, logic: Logic[Any, Any], line: _Line) -> None:
        """Let the logic say its last words, in a task of their own: whoever leaves may be cancelled once more."""
        task = asyncio.ensure_future(self._last_words(logic, line))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        await asyncio.wait([task])

    async def _last_words(self, logic: Logic[Any, Any], line: _Line) -> None:
        await line.close()
        line = _Line(self._http, self.url)
        try:
            with suppress(StopIteration, Exception, Left):
                step = logic.throw(Left())
                while True:
                    step = advance(logic, await line.perform(step))
        finally:
            await line.close()


class _Line:
    """Performs steps, on at most one reply that is open."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._reply: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def close(self) -> None:
        """Close what is open."""
        reply, self._reply = self._reply, None
        if reply is not None:
            await reply.aclose()

    async def perform(self, step: Step) -> Any:
        """Perform a step; returns what came of it, also where that is an error."""
        try:
            return await self._outcome(step)
        except ERRORS as error:
            return explained(error, self._url)

    async def _outcome(self, step: Step) -> Any:
        match step:
            case Send(ask):
                reply = await self._http.request(**request(self._url, ask))
                return answer(reply, reply.content)
            case Open(ask):
                return await self._open(ask)
            case Read():
                return await anext(self._pieces, b"") if self._pieces is not None else b""
            case Pause(seconds):
                await self.close()
                return await asyncio.sleep(seconds)

    async def _open(self, ask: Ask) -> Answer:
        await self.close()
        reply = await self._http.send(self._http.build_request(**request(self._url, ask)), stream=True)
        self._reply = reply
        if reply.status_code != 200:
            return answer(reply, await reply.aread())
        self._pieces = reply.aiter_bytes()
        return answer(reply)
