"""What `POST /v1/chat/completions` takes: a conversation, whole, each time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import ConfigDict, Field

from agenthost.errors import InvalidRequest
from agenthost.protocols.openai.dialogue import (
    Conversation,
    audio_part,
    conversation,
    file_of,
    file_part,
    text_part,
)
from agenthost.protocols.openai.pauses import Given, question_of
from agenthost.protocols.openai.starting import AnyMetadata, Asking
from agenthost.protocols.wire import MAX_PARTS, Wire
from agenthost.threads import Message, Part

MAX_MESSAGES = 10_000
"""Messages of one conversation."""

PLACE = "messages"

JSON_TYPES = ("json_object", "json_schema")
"""Forms of an answer that is structured."""


class ChatText(Wire):
    """Text."""

    type: Literal["text"]
    text: str

    def part(self) -> Part:
        """The part of a message that it is."""
        return text_part(self.text)


class ChatRefusal(Wire):
    """What a model refused with, sent back as history."""

    type: Literal["refusal"]
    refusal: str

    def part(self) -> Part:
        """The part of a message that it is."""
        return text_part(self.refusal)


class ImageAddress(Wire):
    """Where an image is: a `data:` URL, or any other."""

    url: str


class ChatImage(Wire):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageAddress

    def part(self) -> Part:
        """The part of a message that it is."""
        return file_part(self.image_url.url, PLACE)


class AudioData(Wire):
    """Audio in base64."""

    data: str
    format: Literal["wav", "mp3"]


class ChatAudio(Wire):
    """Audio."""

    type: Literal["input_audio"]
    input_audio: AudioData

    def part(self) -> Part:
        """The part of a message that it is."""
        return audio_part(self.input_audio.data, self.input_audio.format, PLACE)


class FileData(Wire):
    """A file, with its data."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = Field(None, max_length=500)


class ChatFile(Wire):
    """A file."""

    type: Literal["file"]
    file: FileData

    def part(self) -> Part:
        """The part of a message that it is."""
        return file_of(self.file, PLACE)


ChatPart = Annotated[ChatText | ChatRefusal | ChatImage | ChatAudio | ChatFile, Field(discriminator="type")]


class CalledFunction(Wire):
    """A function's name, and its arguments as JSON in a string."""

    name: str = Field(max_length=500)
    arguments: str = "{}"


class ChatToolCall(Wire):
    """A call that the assistant made, sent back as history."""

    id: str = Field(max_length=500)
    function: CalledFunction


class ChatMessage(Wire):
    """One message; `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[ChatPart], Field(max_length=MAX_PARTS, fail_fast=True)] | None = None
    tool_calls: list[ChatToolCall] | None = Field(None, max_length=MAX_PARTS)
    tool_call_id: str | None = Field(None, max_length=500)
    name: str | None = Field(None, max_length=500)

    def message(self) -> Message:
        """The message that it is."""
        role = "system" if self.role == "developer" else self.role
        calls = [
            {"id": call.id, "name": call.function.name, "arguments": parsed(call.function.arguments)}
            for call in self.tool_calls or ()
        ]
        return Message(role, self.parts(), tool_calls=calls, tool_call_id=self.tool_call_id, name=self.name)

    def parts(self) -> list[Part]:
        """Its content, in parts."""
        if self.content is None:
            return []
        return [text_part(self.content)] if isinstance(self.content, str) else [part.part() for part in self.content]

    def given(self) -> Given | None:
        """The answer that it is to what an agent asked; None where it is none."""
        question = question_of(self.tool_call_id or "") if self.role == "tool" else None
        return Given(*question, text=self.message().text) if question else None


def parsed(arguments: str) -> Any:
    """A call's arguments; the text itself where it is no JSON."""
    try:
        return orjson.loads(arguments)
    except ValueError:
        return arguments


class StreamOptions(Wire):
    """What a stream has besides the answer."""

    include_usage: bool = False


class ChatBody(Asking):
    """What `POST /v1/chat/completions` takes; what the host does not act on is for the agent to read."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str = Field(max_length=200, description="The agent's name.", examples=["echo"])
    messages: list[ChatMessage] = Field(
        min_length=1, max_length=MAX_MESSAGES, description="The conversation, whole; the last message is the new one."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    response_format: dict[str, Any] | None = None
    metadata: AnyMetadata = Field(None, description="Handed to the agent as it is.")

    acted_on = frozenset({"model", "messages", "stream", "stream_options", "n", "metadata"})

    def conversation(self) -> Conversation:
        """What is said; raises `InvalidRequest` for what is no conversation.

        Tool messages at the end that answer what an agent asked are answers; earlier ones are history.
        """
        if self.n not in (None, 1):
            raise InvalidRequest("n: an agent gives one answer")
        messages, answers = list(self.messages), list[Given]()
        while messages and (given := messages[-1].given()) is not None:
            answers.insert(0, given)
            messages.pop()
        return conversation([one.message() for one in messages], answers, PLACE)

    @property
    def wants_json(self) -> bool:
        """Whether the answer is to be the agent's structured output."""
        return (self.response_format or {}).get("type") in JSON_TYPES

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what it took."""
        return self.stream_options is not None and self.stream_options.include_usage
