"""Responses: runs that go on from one another, are asked for again, and answered at once or as they go."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from functools import partial
from typing import Any

from fastapi import Path, Query, Request
from fastapi.responses import Response

from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.errors import AgentNotReady, Cancelled, InvalidRequest, NotFound
from agenthost.protocols.exchange import Exchange, exchange_of
from agenthost.protocols.openai.dialogue import Conversation
from agenthost.protocols.openai.input_wire import ResponseBody
from agenthost.protocols.openai.resource import PREFIX
from agenthost.protocols.openai.starting import begin, chosen, new_thread
from agenthost.protocols.openai.telling import Telling
from agenthost.protocols.runs import LATER, first_word
from agenthost.protocols.streaming_replies import Answer, fold_run, json_reply, stream_run
from agenthost.run import Run
from agenthost.store import StoredRun
from agenthost.streaming import ready
from agenthost.threads import ThreadKey

AT_ONCE = 1.0
"""Seconds that a cancel waits for the run to end, so that its answer says so."""

_RESPONSE = re.compile(rf"{PREFIX}([0-9a-f]{{32}})")

Found = Run | EndedRun | StoredRun


async def create(body: ResponseBody, request: Request) -> Response:
    """`POST /v1/responses`."""
    exchange = exchange_of(request.scope)
    body.check()
    said, metadata = body.said(), body.told()
    previous = None
    if body.previous_response_id is not None:
        previous = await find(exchange, body.previous_response_id)
    entry = chosen(exchange, agent_of(previous) if body.model is None else body.model)

    async def start() -> Run | EndedRun:
        thread_id = await _going_on(exchange, entry, body, said, previous)
        return await begin(exchange, entry, said, metadata, thread_id, detached=bool(body.background))

    if body.stream:
        look = first_word if said.answers and entry.info.keeps_pauses else None
        return Answer(stream_run, exchange, start, 0, look, Telling)
    if body.background:
        run = await start()
        return json_reply(Telling(run).now(), headers=exchange.run_headers(run))
    return Answer(fold_run, exchange, start, partial(Telling, silent=True))


def agent_of(previous: Found | None) -> str:
    """The agent that a run is of."""
    if isinstance(previous, Run):
        return previous.entry.name
    assert previous is not None  # the body has been checked
    return previous.stored.agent if isinstance(previous, EndedRun) else previous.agent


async def _going_on(
    exchange: Exchange, entry: AgentEntry, body: ResponseBody, said: Conversation, previous: Found | None
) -> str | None:
    """The thread to go on with; None where nothing is kept.

    Where it does not go on from the newest response of its thread, another begins with what was said until then.
    """
    if said.answers:
        return None  # they say what they go on with
    if previous is not None:
        thread = _thread_of(previous)
        if body.stored and agent_of(previous) == entry.name and await _is_newest(exchange, thread, previous):
            return thread.thread_id
        if entry.info.keeps_threads:
            raise InvalidRequest(
                "previous_response_id: this agent keeps its conversations itself, and goes on from the newest response"
            )
        system = [message for message in said.history if message.role == "system"]
        brought = [message for message in said.history if message.role != "system"]
        said.history = [*system, *await _until(exchange, thread, previous), *brought]
    if not body.stored:
        return None
    return body.thread_id or new_thread(exchange, entry)


def _thread_of(found: Found) -> ThreadKey:
    if isinstance(found, StoredRun):
        if found.thread_id is not None:
            return ThreadKey(found.principal, found.agent, found.thread_id)
    elif found.thread is not None:
        return found.thread
    raise InvalidRequest("previous_response_id: nothing was kept of this response")


def _run_id(found: Found) -> str:
    return found.run_id if isinstance(found, StoredRun) else found.id


async def _is_newest(exchange: Exchange, thread: ThreadKey, found: Found) -> bool:
    store = exchange.host.store
    page = await store.list_runs(thread.agent, thread.principal, thread_id=thread.thread_id, limit=1)
    return bool(page.items) and page.items[0].run_id == _run_id(found)


async def _until(exchange: Exchange, thread: ThreadKey, found: Found) -> list[Any]:
    """What a thread holds up to the end of a run."""
    stored = await exchange.host.store.get_thread(thread)
    messages = stored.messages if stored is not None else []
    last = next((at for at in reversed(range(len(messages))) if messages[at].run_id == _run_id(found)), -1)
    return messages[: last + 1]


async def find(exchange: Exchange, response_id: str) -> Found:
    """The run of a response; raises `NotFound` where it is none that this caller may see and was kept."""
    missing = NotFound("no such response")
    named = _RESPONSE.fullmatch(response_id)
    if named is None:
        raise missing
    try:
        found: Found = await exchange.host.runs.find(None, exchange.caller, named[1])
    except NotFound:
        raise missing from None
    if isinstance(found, Run) and not found.recorded:
        raise missing
    return found


_ID = Path(min_length=1, max_length=200, description="The response's id: `resp_` and the run's.")


async def retrieve(
    request: Request,
    response_id: str = _ID,
    stream: bool = Query(False, description="Its events, as long as it goes."),
    starting_after: int = Query(
        -1, ge=-1, le=(1 << 31) - 1, description="The number of the last event that is not wanted again."
    ),
) -> Response:
    """`GET /v1/responses/{id}`."""
    exchange = exchange_of(request.scope)
    found = await find(exchange, response_id)
    if not stream:
        return json_reply(await _as_it_stands(found))

    async def join() -> Run | EndedRun:
        if isinstance(found, StoredRun):
            raise AgentNotReady("this run is about to begin again", retry_after=LATER)
        return found

    return Answer(stream_run, exchange, join, 0, None, partial(Telling, after=starting_after))


async def _as_it_stands(found: Found) -> dict[str, Any]:
    telling = Telling(found, silent=True)
    if isinstance(found, StoredRun):
        return telling.now()
    over = isinstance(found, EndedRun) or found.outcome_known is not None
    reader = found.read()
    try:
        for entry in await ready(reader):
            telling.entry(entry)
    finally:
        reader.close()
    return telling.whole() if over else telling.now()


async def delete(request: Request, response_id: str = _ID) -> Response:
    """`DELETE /v1/responses/{id}`."""
    exchange = exchange_of(request.scope)
    found = await find(exchange, response_id)
    await exchange.host.store.delete_run(_run_id(found))
    return json_reply({"id": response_id, "object": "response", "deleted": True})


async def cancel(request: Request, response_id: str = _ID) -> Response:
    """`POST /v1/responses/{id}/cancel`."""
    exchange = exchange_of(request.scope)
    found = await find(exchange, response_id)
    if isinstance(found, Run):
        found.cancel(Cancelled("it was cancelled by request"))
        with suppress(TimeoutError):
            async with asyncio.timeout(AT_ONCE):
                await found.ended()
    elif isinstance(found, StoredRun):
        raise AgentNotReady("this run is about to begin again, or to end", retry_after=LATER)
    return json_reply(await _as_it_stands(found))
