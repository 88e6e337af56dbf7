"""Runs that OpenAI's API asks for: which agent, what it is told, and which paused run an answer goes on with."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import ConfigDict, Field

from agenthost.agents import RunRequest
from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.errors import InvalidRequest, NotFound
from agenthost.protocols.exchange import Exchange
from agenthost.protocols.openai.dialogue import Conversation
from agenthost.protocols.openai.pauses import reply_to
from agenthost.protocols.openai.refusals import no_model
from agenthost.protocols.streaming_replies import keyed, keyed_resume
from agenthost.protocols.wire import Wire, json_only
from agenthost.resuming import ResumeRequest
from agenthost.run import Run
from agenthost.threads import ThreadKey

PROTOCOL = "openai"
"""The dialect's name; and what an agent finds in `ctx.metadata`, where all is that the host did not act on."""

MAX_PAIRS = 16
"""Pairs of a client's metadata, as with OpenAI."""

_Word = Annotated[str, Field(max_length=512)]
AnyMetadata = Annotated[dict[Annotated[str, Field(max_length=64)], _Word], Field(max_length=MAX_PAIRS)] | None


class Asking(Wire):
    """A body that asks an agent for something."""

    model_config = ConfigDict(frozen=True, extra="allow")
    acted_on: ClassVar[frozenset[str]] = frozenset()
    """Fields that are the host's to act on; an agent finds all others in its metadata."""

    metadata: AnyMetadata = None

    def told(self, **more: Any) -> dict[str, Any]:
        """What the agent gets as metadata: the client's own, and under `openai` what else the client asked for.

        Raises `InvalidRequest` for what JSON cannot carry, and where the client's own takes that name.
        """
        own = dict(self.metadata or {})
        if PROTOCOL in own:
            raise InvalidRequest(f"metadata: the name '{PROTOCOL}' is the host's own")
        rest = self.model_dump(exclude=set(self.acted_on), exclude_none=True, exclude_unset=True)
        json_only("body", rest)
        return {**own, PROTOCOL: {**rest, **{name: value for name, value in more.items() if value is not None}}}


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The client's own part of a run's metadata, where it is as OpenAI has it: text under names."""
    return {name: value for name, value in metadata.items() if name != PROTOCOL and isinstance(value, str)}


def chosen(exchange: Exchange, model: str) -> AgentEntry:
    """The agent of that name; raises `Forbidden`, `AgentNotReady`, and `NotFound` as for a model."""
    try:
        return exchange.choose(model, PROTOCOL)
    except NotFound as unknown:
        raise no_model(unknown) from None


def new_thread(exchange: Exchange, entry: AgentEntry) -> str:
    """The id of a thread that begins; the same for a request that is sent again under its idempotency key."""
    key = exchange.headers.get(b"idempotency-key")
    if key is None:
        return f"conv_{secrets.token_hex(16)}"
    whose = json.dumps([exchange.caller.id, entry.name, key.decode("latin-1")])
    return f"conv_{hashlib.sha256(whose.encode()).hexdigest()[:32]}"


async def begin(
    exchange: Exchange,
    entry: AgentEntry,
    said: Conversation,
    metadata: Mapping[str, Any],
    thread_id: str | None = None,
    *,
    detached: bool = False,
) -> Run | EndedRun:
    """Start the run that is asked for, or the one that goes on with an answer. Raises what these raise."""
    entry = entry if entry.serving else await entry.awake()
    if said.answers:
        return await _resume(exchange, entry, said, metadata, detached=detached)
    request = RunRequest(
        said.prompt,
        thread_id,
        _structured(said.prompt) if entry.info.needs_input else None,
        metadata,
        said.content,
        said.history,
    )
    request = keyed(exchange, request)
    request.detached = detached
    run: Run | EndedRun = await exchange.host.runs.ask(entry, exchange.caller, request)
    return run


def _structured(prompt: str) -> Any:
    """The input of an agent that takes no prompt."""
    try:
        return orjson.loads(prompt)
    except ValueError:
        raise InvalidRequest("this agent takes structured input: send it as JSON, in the message's text") from None


async def _resume(
    exchange: Exchange, entry: AgentEntry, said: Conversation, metadata: Mapping[str, Any], *, detached: bool
) -> Run | EndedRun:
    paused = {given.run_id for given in said.answers}
    if len(paused) > 1:
        raise InvalidRequest("the answers belong to two paused runs; answer one at a time")
    thread_id = await thread_of(exchange, entry, paused.pop())
    key = ThreadKey(exchange.caller.id, entry.name, thread_id)
    questions = await exchange.host.store.interrupts(key)
    replies = [reply_to(given, questions) for given in said.answers]
    request = keyed_resume(exchange, ResumeRequest(thread_id, replies, metadata, detached=detached))
    run: Run | EndedRun = await exchange.host.runs.resume(entry, exchange.caller, request)
    return run


async def thread_of(exchange: Exchange, entry: AgentEntry, run_id: str) -> str:
    """The thread of a run of this agent; raises `NotFound` where there is no such run, or it has none."""
    found = await exchange.host.runs.find(entry, exchange.caller, run_id)
    thread_id = found.thread.thread_id if isinstance(found, Run | EndedRun) and found.thread else None
    if thread_id is None:
        raise NotFound("nothing is paused there")
    return str(thread_id)
