"""The client of a running host for programs that wait: `Client`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
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


class Client:
    """One host, as one caller; use it in a `with`, or `close` it. May be used from several threads.

    `url` is where the host is, `api_key` the key of `[[auth.keys]]`; a host of `agenthost dev` wants none. Every method
    raises `CallFailed`. Raises `ValueError` for a key that cannot be sent, without repeating it.

    Whatever starts a run carries an `Idempotency-Key`, so that the run outlives its connection: one that drops, or is
    silent for 60 seconds, is made again by itself, and what is read goes on where it stopped. After `reconnect` seconds
    without any progress that is given up (code `connection_lost`); 0 gives up at once. A caller that goes away itself,
    by Ctrl-C or by closing an iterator, cancels its run.

    It speaks to a host, whose agents are below `/agents/<name>`, not to an `AgentServer`, whose events have no numbers
    to go on from.
    """

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, *, reconnect: float = RECONNECT) -> None:
        self.url = url.rstrip("/")
        self.reconnect = reconnect
        self._http = httpx.Client(**settings(url, api_key))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def invoke(
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
        return self._done(invoked(agent, ask, learn, self._patience()))

    def stream(
        self,
        agent: str,
        prompt: str | None = None,
        *,
        thread_id: str | None = None,
        input: Any = None,  # noqa: A002 - the wire's own name for it
        metadata: Mapping[str, Any] | None = None,
    ) -> Generator[Event, None, None]:
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
    ) -> Generator[Event, None, None]:
        """Answer a paused run and yield the events of the new run that goes on with it, as `stream` does.

        `response` answers the one open question, or the one called `interrupt_id`; `answers` all at once, each with an
        `interrupt_id` and a `response`. A run that had no thread is resumed by its run id.
        """
        return self._begun(agent, "resume", resume_body(thread_id, interrupt_id, response, decision, answers, metadata))

    def start(
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
        return self._done(started(agent, ask, ask, read_run, self._patience()))

    def run(self, agent: str, run_id: str) -> RunState:
        """How a run is now."""
        return self._done(once(get_run(agent, run_id), read_run, self._patience(0)))

    def runs(self, agent: str, *, thread_id: str | None = None, status: str | None = None) -> Iterator[RunState]:
        """Yield the caller's runs, newest first; fetches them page by page. `paused` are those that ask something."""
        return self._driven(paged(agent, "runs", read_run, self._patience(0), thread_id=thread_id, status=status))

    def events(self, agent: str, run_id: str, *, after: int = 0) -> Generator[Event, None, None]:
        """Yield the events of a run that come after number `after`, to its end; raises as `stream` does.

        Closing this iterator leaves the run alone.
        """
        return self._driven(Following(agent, self._patience(), run_id=run_id, after=after).events())

    def wait(self, agent: str, run_id: str) -> RunState:
        """Wait until a run has ended, and return how; a run that failed is an answer, not an error."""
        return self._done(awaited(agent, run_id, self._patience()))

    def cancel(self, agent: str, run_id: str) -> RunState:
        """Tell a run to end, and return how it is then; `wait` for its end."""
        return self._done(once(cancel_run(agent, run_id), read_run, self._patience(0)))

    def threads(self, agent: str) -> Iterator[ThreadSummary]:
        """Yield the caller's threads, newest first; fetches them page by page."""
        return self._driven(paged(agent, "threads", lambda body: made(ThreadSummary, body), self._patience(0)))

    def thread(self, agent: str, thread_id: str) -> Thread:
        """A conversation, whole."""
        ask = Ask("GET", agent_path(agent, "threads", thread_id))
        return self._done(once(ask, lambda body: made(Thread, body), self._patience(0)))

    def delete_thread(self, agent: str, thread_id: str) -> bool:
        """Delete a conversation and all that belongs to it; returns whether there was one."""
        ask = Ask("DELETE", agent_path(agent, "threads", thread_id))
        return self._done(once(ask, lambda body: body["deleted"] is True, self._patience(0)))

    def agents(self) -> list[AgentCard]:
        """The agents that this caller may use."""
        cards = once(Ask("GET", "/agents"), read_cards, self._patience(0))
        return self._done(cards)

    def plan(self) -> dict[str, Any]:
        """What a reload of the host would change (for operators): `added`, `removed`, `changed`, … by name."""
        return self._done(once(Ask("GET", "/admin/plan"), dict, self._patience(0)))

    def health(self, agent: str | None = None) -> dict[str, Any]:
        """How the host is (for operators), or how one agent is (for everybody): `status`, and more for operators.

        An agent that does not serve is an answer, not an error.
        """
        path = "/health" if agent is None else agent_path(agent, "health")
        return self._done(once(Ask("GET", path), dict, self._patience(0), also=200 if agent is None else 503))

    def _patience(self, seconds: float | None = None) -> Patience:
        return Patience(self.url, self.reconnect if seconds is None else seconds)

    def _begun(self, agent: str, route: str, body: Mapping[str, Any]) -> Generator[Event, None, None]:
        begin = post_run(agent, route, body, streams=True)
        return self._driven(Following(agent, self._patience(), begin=begin).events())

    def _done(self, logic: Logic[Any, T]) -> T:
        driven = self._driven(logic)
        while True:
            try:
                next(driven)
            except StopIteration as end:
                result: T = end.value
                return result

    def _driven(self, logic: Logic[Item, T]) -> Generator[Item, None, T]:
        """Perform the logic's steps, yield its items, return its result; the logic hears if the caller leaves early."""
        line = _Line(self._http, self.url)
        try:
            step = next(logic)
            while True:
                if isinstance(step, Step):
                    step = advance(logic, line.perform(step))
                else:
                    yield step
                    step = next(logic)
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException:
            line.close()
            self._last_words(logic)
            raise
        finally:
            line.close()

    def _last_words(self, logic: Logic[Any, Any]) -> None:
        line = _Line(self._http, self.url)
        try:
            with suppress(StopIteration, Exception, Left):
                step = logic.throw(Left())
                while True:
                    step = advance(logic, line.perform(step))
        finally:
            line.close()


class _Line:
    """Performs steps, on at most one reply that is open."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http = http
        self._url = url
        self._reply: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def close(self) -> None:
        """Close what is open."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.close()

    def perform(self, step: Step) -> Any:
        """Perform a step; returns what came of it, also where that is an error."""
        try:
            return self._outcome(step)
        except ERRORS as error:
            return explained(error, self._url)

    def _outcome(self, step: Step) -> Any:
        match step:
            case Send(ask):
                reply = self._http.request(**request(self._url, ask))
                return answer(reply, reply.content)
            case Open(ask):
                return self._open(ask)
            case Read():
                return next(self._pieces, b"")
            case Pause(seconds):
                self.close()
                return time.sleep(seconds)

    def _open(self, ask: Ask) -> Answer:
        self.close()
        reply = self._http.send(self._http.build_request(**request(self._url, ask)), stream=True)
        self._reply = reply
        if reply.status_code != 200:
            return answer(reply, reply.read())
        self._pieces = reply.iter_bytes()
        return answer(reply)
