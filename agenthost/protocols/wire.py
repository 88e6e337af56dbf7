"""The native dialect's bodies: what `/invoke` and `/stream` take, and what every native route answers.

The first six fields of `InvokeReply`, and `thread_id`, `iteration`, `messages`, `tool_executions` and `metadata` of
`Thread`, are those of a Locus 3.0.1 server.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agenthost.agents import RunRequest, RunResult
from agenthost.encoding import encode_json
from agenthost.errors import BadRequest, InvalidRequest
from agenthost.events import NotJSON
from agenthost.threads import MAX_THREAD_ID, Part, thread_id_problem

_NAMES: set[str] = set()
"""The fields of all bodies: a refusal names these, and nothing else that was sent."""


class Wire(BaseModel):
    """A body, or a part of one; fields that nobody knows are ignored, and those it has are named where one is wrong."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def __pydantic_init_subclass__(cls, **_options: Any) -> None:
        _NAMES.update(cls.model_fields)


class TextPart(Wire):
    """Text."""

    type: Literal["text"]
    text: str

    def part(self) -> Part:
        """The part of a message that it is."""
        return Part(text=self.text)


class FilePart(Wire):
    """A file: `data` (base64) or `uri`."""

    type: Literal["file"]
    media_type: str = Field(max_length=255)
    data: str | None = None
    uri: str | None = None

    def part(self) -> Part:
        """The part of a message that it is; raises `InvalidRequest` for both or neither, and for bad base64."""
        if (self.data is None) == (self.uri is None):
            raise InvalidRequest("content: a file has either data or uri")
        if self.data is None:
            return Part(media_type=self.media_type, uri=self.uri)
        try:
            return Part(media_type=self.media_type, data=base64.b64decode(self.data, validate=True))
        except ValueError:
            raise InvalidRequest("content: a file's data is base64") from None


class DataPart(Wire):
    """Structured data."""

    type: Literal["data"]
    data: Any = None

    def part(self) -> Part:
        """The part of a message that it is."""
        return Part(json=self.data)


AnyPart = Annotated[TextPart | FilePart | DataPart, Field(discriminator="type")]


MAX_PARTS = 1000
"""Parts of one message; what is wrong is told of the first bad one only, or telling would cost more than the body."""


class InvokeBody(Wire):
    """What an agent is asked: a `prompt`, or `content` in parts, or structured `input`; at least one of them."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("prompt", "content", "input")]}
    )
    prompt: str | None = Field(None, description="The user's message.", examples=["hello world"])
    content: str | Annotated[list[AnyPart], Field(max_length=MAX_PARTS, fail_fast=True)] | None = Field(
        None, description="The message in parts, instead of `prompt`."
    )
    thread_id: str | None = Field(
        None, min_length=1, max_length=MAX_THREAD_ID, description="The conversation to go on with, or to begin."
    )
    metadata: dict[str, Any] = Field(default_factory=dict, description="Handed to the agent as it is.")
    input: Any = Field(None, description="Structured input, by the agent's `input_schema`.")

    @field_validator("thread_id")
    @classmethod
    def _names_a_thread(cls, value: str | None) -> str | None:
        problem = thread_id_problem(value) if value is not None else None
        if problem:
            raise ValueError(problem)
        return value

    def request(self) -> RunRequest:
        """The run that is asked for; raises `InvalidRequest` for what no run can be made of."""
        if self.prompt is not None and self.content is None and self.input is None and not self.metadata:
            return RunRequest(self.prompt, self.thread_id)  # by far the most common
        if self.prompt is None and self.content is None and self.input is None:
            raise InvalidRequest("give a prompt, content or input")
        for name, value in (("metadata", self.metadata), ("input", self.input), ("content", self.content)):
            if value and not isinstance(value, str):
                json_only(name, value)
        prompt, parts = self.prompt, None
        if isinstance(self.content, str):
            prompt = self.content if prompt is None else prompt
        elif self.content is not None:
            parts = [part.part() for part in self.content]
            if prompt is None:
                prompt = "".join(part.text for part in parts if part.text is not None)
        return RunRequest(prompt or "", self.thread_id, self.input, self.metadata, parts)


def json_only(name: str, value: Any) -> None:
    """Raise `InvalidRequest` for what JSON cannot carry as it was sent: a lone surrogate, an int over 64 bits."""
    try:
        encode_json([part.model_dump() for part in value] if name == "content" else value)
    except NotJSON as problem:
        raise InvalidRequest(f"{name} holds {problem}") from None


_VALIDATE = InvokeBody.__pydantic_validator__.validate_python
_ECHOING = {"union_tag_invalid": "Input is none of the types that are expected"}
"""Pydantic's messages that repeat what was sent, said without."""

_NO_OBJECT = "body: a JSON object is required"


def read_body(body: bytes) -> Any:
    """Parse a JSON body strictly: UTF-8 without a mark, no NaN, some 200 levels deep at most. Raises `BadRequest`."""
    if not body:
        raise InvalidRequest(_NO_OBJECT)
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as invalid:
        raise BadRequest(f"the body is not JSON: {invalid}") from None


def read_request(body: bytes) -> RunRequest:
    """The run that the body of `/invoke` or `/stream` asks for; raises `BadRequest` or `InvalidRequest`."""
    try:
        parsed: InvokeBody = _VALIDATE(read_body(body))
    except ValidationError as invalid:
        raise invalid_request(invalid.errors(include_url=False, include_context=False, include_input=False)) from None
    return parsed.request()


def invalid_request(errors: Any) -> InvalidRequest:
    """Say what is wrong, where, in at most three sentences, without repeating what was sent."""
    said = []
    for error in errors[:3]:
        place, parts = _place(error["loc"])
        message = _ECHOING.get(error["type"]) or error["msg"].removeprefix("Value error, ")
        said.append(f"{place}: {message[:200]}" if parts else _NO_OBJECT)
    if len(errors) > 3:
        said.append(f"and {len(errors) - 3} more")
    return InvalidRequest("; ".join(said))


def _place(loc: Sequence[int | str]) -> tuple[str, Sequence[int | str]]:
    """The name of what is wrong, where it is one of ours and not one that was sent; and the way to it."""
    if loc and loc[0] in {"query", "path", "header"}:
        return str(loc[1]), loc
    parts = loc[1:] if loc and loc[0] == "body" else loc
    return (str(parts[0]) if parts and parts[0] in _NAMES else "body"), parts


class InvokeReply(Wire):
    """How a run ended."""

    message: str
    success: bool
    stop_reason: str
    iterations: int = 0
    tool_calls: int = 0
    duration_ms: float = 0.0
    run_id: str
    thread_id: str | None = None
    status: Literal["completed", "paused"]
    output: Any = None
    usage: dict[str, Any] | None = None
    interrupt: dict[str, Any] | None = None


def invoke_reply(result: RunResult) -> dict[str, Any]:
    """`/invoke`'s answer: Locus's six fields, then ours; what is None is left out."""
    reply: dict[str, Any] = {
        "message": result.message,
        "success": result.success,
        "stop_reason": result.stop_reason,
        "iterations": result.iterations,
        "tool_calls": result.tool_calls,
        "duration_ms": result.duration_ms,
        "run_id": result.run_id,
    }
    if result.thread_id is not None:
        reply["thread_id"] = result.thread_id
    reply["status"] = result.status
    if result.output is not None:
        reply["output"] = result.output
    if result.usage is not None:
        reply["usage"] = result.usage
    if result.interrupt is not None:
        reply["interrupt"] = result.interrupt
    return reply


class Problem(Wire):
    """Why a request was not served (RFC 9457); `detail` is the field that Locus clients read."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    correlation_id: str
    run_id: str | None = None


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route's OpenAPI says that it may answer with a problem: under these statuses, or 414 as any may."""
    body = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    problem = {"description": Problem.__doc__, "model": Problem, "content": body}
    return dict.fromkeys(sorted({*statuses, 414}), problem)


class ThreadMessage(Wire):
    """One message of a thread; `content` is its text, `parts` are there where it is more than text."""

    role: str
    content: str | None = None
    parts: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] = []
    tool_call_id: str | None = None
    name: str | None = None
    metadata: dict[str, Any] = {}
    run_id: str | None = None
    at: float | None = None
    status: str | None = None


class ToolExecution(Wire):
    """A tool call and what came of it."""

    tool_name: str
    tool_call_id: str
    arguments: Any = None
    result: str | None = None
    error: str | None = None


class RunSummary(Wire):
    """A run of a thread."""

    run_id: str
    status: str
    stop_reason: str | None = None
    created: float | None = None
    ended: float | None = None


class Thread(Wire):
    """A conversation, whole."""

    thread_id: str
    iteration: int
    messages: list[ThreadMessage]
    tool_executions: list[ToolExecution]
    runs: list[RunSummary] = []
    metadata: dict[str, Any] = {}


class ThreadSummary(Wire):
    """A conversation, in a list."""

    thread_id: str
    created: float
    updated: float


class ThreadPage(Wire):
    """A page of threads, newest first; `next_cursor` is there where there are more."""

    threads: list[ThreadSummary]
    next_cursor: str | None = None


class ThreadDeleted(Wire):
    """Whether there was such a thread; deleting one that is not there is no error."""

    thread_id: str
    deleted: bool


class AgentStatus(Wire):
    """`ok`, or the state the agent is in; with an operator's key also why."""

    model_config = ConfigDict(frozen=True, extra="allow")
    status: str


class AgentCard(Wire):
    """An agent, as its callers see it."""

    name: str
    title: str
    description: str
    state: str
    protocols: list[str]
    url: str
    addresses: dict[str, str]
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class AgentList(Wire):
    """The agents that this caller may use."""

    agents: list[AgentCard]


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
