"""What crosses between the host and a worker, as JSON values: runs, messages, results, errors, and what an agent is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agenthost.agents import (
    AgentInfo,
    AgentSource,
    AgentSpec,
    Answer,
    CallAgent,
    OwnThread,
    RunContext,
    RunRequest,
    RunResult,
)
from agenthost.auth import Principal
from agenthost.blame import cut_traceback, encodable
from agenthost.errors import (
    AgentError,
    AgentPaused,
    HostError,
    InvalidRequest,
    LoadError,
    RequestError,
    RunError,
    catalogue,
)
from agenthost.events import Interrupt, NotJSON, json_value
from agenthost.placement.allowance import abridged, cut
from agenthost.threads import Message, Part, ThreadKey

_RESULT = RunResult.__dataclass_fields__
_INFO = AgentInfo.__dataclass_fields__.keys() - {"module"}  # which is none of the host's process


class RaisedInWorker(Exception):
    """What an agent raised in a worker, as the text of its traceback: the cause of the `AgentError` here."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def told_message(message: Message) -> dict[str, Any]:
    """A message; what is empty is left out."""
    rest = {
        name: value
        for name in ("tool_call_id", "name", "run_id", "at", "status")
        if (value := getattr(message, name)) is not None
    }
    if message.tool_calls:
        rest["tool_calls"] = list(message.tool_calls)
    if message.metadata:
        rest["metadata"] = message.metadata
    return {"role": message.role, "content": [part.to_json() for part in message.content], **rest}


def message_of(told: Mapping[str, Any]) -> Message:
    """What `told_message` told."""
    parts = tuple(map(Part.from_json, told["content"]))
    return Message(**{**told, "content": parts, "tool_calls": tuple(told.get("tool_calls", ()))})


def told_thread(thread: OwnThread) -> Any:
    """A thread that an agent keeps itself: its messages, or a mapping with them and what else it has to show."""
    if isinstance(thread, Mapping):
        return {**thread, "messages": list(map(told_message, thread.get("messages", ())))}
    return list(map(told_message, thread))


def thread_of(told: Any) -> OwnThread:
    """What `told_thread` told."""
    if isinstance(told, Mapping):
        return {**told, "messages": list(map(message_of, told["messages"]))}
    return list(map(message_of, told))


def told_context(ctx: RunContext) -> dict[str, Any]:
    """A run, whole: `deadline` is in `time.monotonic()` seconds, which all processes of a machine share."""
    who, thread = ctx.principal, ctx.thread
    told: dict[str, Any] = {
        "op": "run",
        "prompt": ctx.prompt,
        "run_id": ctx.run_id,
        "principal": [who.id, who.groups, who.agents, who.admin, who.key_id, who.concurrency],
        "deadline": ctx.deadline,
    }
    if thread is not None:
        told["thread"] = [thread.principal, thread.agent, thread.thread_id]
    if ctx.history:
        told["history"] = list(map(told_message, ctx.history))
    if ctx.content is not None:
        told["content"] = [part.to_json() for part in ctx.content]
    for name in ("input", "metadata", "state"):
        value = getattr(ctx, name)
        if value is not None and value != {}:
            told[name] = value
    if ctx.answers:
        told["answers"] = list(map(_told_answer, ctx.answers))
    return told


def context_of(told: Mapping[str, Any], agent: str, call_agent: CallAgent) -> RunContext:
    """What `told_context` told, for agent `agent`."""
    principal_id, groups, agents, admin, key_id, concurrency = told["principal"]
    deadline, content = told["deadline"], told.get("content")
    return RunContext(
        prompt=told["prompt"],
        run_id=told["run_id"],
        agent=agent,
        principal=Principal(principal_id, tuple(groups), tuple(agents), admin, key_id, concurrency),
        history=tuple(map(message_of, told.get("history", ()))),
        content=None if content is None else tuple(map(Part.from_json, content)),
        input=told.get("input"),
        metadata=told.get("metadata", {}),
        thread=ThreadKey(*told["thread"]) if "thread" in told else None,
        answers=tuple(map(_answer_of, told.get("answers", ()))),
        state=told.get("state", {}),
        deadline=float("inf") if deadline is None else deadline,
        call_agent=call_agent,
    )


def _told_answer(answer: Answer) -> dict[str, Any]:
    return {"interrupt": told_interrupt(answer.interrupt), "state": answer.interrupt.state, **answer.stored()}


def _answer_of(told: Mapping[str, Any]) -> Answer:
    given = {name: told[name] for name in ("response", "decision", "perform_dangling")}
    return Answer(interrupt_of(told["interrupt"], told["state"]), **given)


def told_interrupt(interrupt: Interrupt) -> dict[str, Any]:
    """A question, as it is sent to clients."""
    return interrupt.payload()


def interrupt_of(told: Mapping[str, Any], state: Any = None) -> Interrupt:
    """What `told_interrupt` told."""
    return Interrupt(**{name: value for name, value in told.items() if name != "type"}, state=state)


def plain_request(request: RunRequest) -> RunRequest:
    """The request of a `ctx.call` with plain values of its own: what two agents share is copied, as on any wire.

    Raises `InvalidRequest` naming what cannot be.
    """
    if not isinstance(request.prompt, str):
        raise InvalidRequest(f"ctx.call: prompt is a str, not {type(request.prompt).__name__}")
    plain = {}
    for name in ("prompt", "input", "metadata"):
        try:
            plain[name] = json_value(getattr(request, name))
        except NotJSON as problem:
            raise InvalidRequest(f"ctx.call: {name} holds {problem}") from None
    return replace(request, **plain)


def told_call(run: int, name: str, request: RunRequest) -> dict[str, Any]:
    """A `ctx.call` of the run that is the host's call `run`; raises as `plain_request`."""
    plain = plain_request(request)
    asked = {part: getattr(plain, part) for part in ("prompt", "input", "metadata", "thread_id")}
    return {"op": "call", "run": run, "name": name, "request": asked}


def told_result(result: RunResult) -> dict[str, Any]:
    """How a run ended."""
    return {name: getattr(result, name) for name in _RESULT}


def result_of(told: Mapping[str, Any]) -> RunResult:
    """What `told_result` told."""
    return RunResult(**told)


def told_info(info: AgentInfo, say: Callable[[str], LoadError]) -> dict[str, Any]:
    """What an agent says of itself; raises what `say` makes of the reason where that is not JSON."""
    told = {}
    for name in _INFO:
        value = getattr(info, name)
        try:
            told[name] = json_value(dict(value) if isinstance(value, Mapping) else value)
        except (NotJSON, RecursionError) as inside:
            raise say(f"{name} holds {inside}") from None
    return told


def info_of(told: Mapping[str, Any]) -> AgentInfo:
    """What `told_info` told."""
    return AgentInfo(**told)


def told_spec(spec: AgentSpec, base_dir: Path, block: Sequence[str]) -> dict[str, Any]:
    """What a worker needs to find, load and run an agent."""
    return {
        "op": "load",
        "name": spec.name,
        "use": spec.source.use,
        "base_dir": str(base_dir),
        "block": list(block),
        "settings": spec.settings,
        "load_timeout": spec.load_timeout,
        "concurrency": spec.concurrency,
        "max_memory": spec.process.max_memory,
    }


def spec_of(told: Mapping[str, Any], source: AgentSource) -> AgentSpec:
    """What `told_spec` told, with what was found under its `use`."""
    same = {name: told[name] for name in ("name", "settings", "load_timeout", "concurrency")}
    return AgentSpec(source=source, **same)


def told_error(error: BaseException) -> dict[str, Any]:
    """An error with what operators are told of it; one that is none of ours is an `AgentError` that names its class."""
    ours = isinstance(error, HostError)
    words = error.message if isinstance(error, HostError) else f"{type(error).__name__} was raised"
    told: dict[str, Any] = {
        "code": error.code if isinstance(error, HostError) else AgentError.code,
        "message": encodable(cut(words)),
    }
    if isinstance(error, HostError):
        told["hint"] = None if error.hint is None else encodable(cut(error.hint))
        told["retry_after"] = error.retry_after
    if isinstance(error, RunError):
        told["run_id"], told["correlation_id"] = error.run_id, error.correlation_id
    if isinstance(error, LoadError):
        told["distribution"], told["version"] = error.distribution, error.version
    if isinstance(error, AgentPaused):
        told["interrupt"] = told_interrupt(error.interrupt)
    cause = error.__cause__ if ours else error
    trace = getattr(error, "traceback", None) or (cut_traceback(cause) if cause is not None else None)
    told["traceback"] = None if trace is None else encodable(abridged(trace))
    return told


def error_of(told: Mapping[str, Any]) -> HostError:
    """What `told_error` told: an error of the same class, its traceback as its cause."""
    kinds = (one for one in catalogue() if one.code == told["code"] and one not in {RunError, RequestError})
    kind = next(kinds, AgentError)
    error: HostError
    if issubclass(kind, AgentPaused):
        error = AgentPaused(interrupt_of(told["interrupt"]))
    elif issubclass(kind, LoadError):
        named = {name: told[name] for name in ("hint", "distribution", "version", "traceback")}
        error = LoadError(told["message"], **named)
    else:
        error = kind(told["message"], hint=told.get("hint"), retry_after=told.get("retry_after"))
    if isinstance(error, RunError):
        error.run_id, error.correlation_id = told.get("run_id"), told.get("correlation_id")
        if told.get("traceback"):
            error.__cause__ = RaisedInWorker(told["traceback"])
    return error
