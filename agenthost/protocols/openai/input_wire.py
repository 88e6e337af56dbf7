"""What `POST /v1/responses` takes: text or items, what they go on from, and how they are to be answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from agenthost.errors import InvalidRequest
from agenthost.protocols.openai.chat_wire import MAX_MESSAGES, AudioData, ChatRefusal, parsed
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
from agenthost.threads import MAX_THREAD_ID, Message, Part

PLACE = "input"


class InputText(Wire):
    """Text: the user's, or what was answered before."""

    type: Literal["input_text", "output_text", "text", "reasoning_text", "summary_text"]
    text: str

    def part(self) -> Part:
        """The part of a message that it is."""
        return text_part(self.text)


class InputImage(Wire):
    """An image, by its URL."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None

    def part(self) -> Part:
        """The part of a message that it is; raises `InvalidRequest` for one without a URL."""
        if self.image_url is None:
            raise InvalidRequest("input: an image comes with its URL; this host stores none")
        return file_part(self.image_url, PLACE)


class InputFile(Wire):
    """A file, with its data or its URL."""

    type: Literal["input_file"]
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = Field(None, max_length=500)

    def part(self) -> Part:
        """The part of a message that it is."""
        return file_of(self, PLACE)


class InputAudio(Wire):
    """Audio."""

    type: Literal["input_audio"]
    input_audio: AudioData

    def part(self) -> Part:
        """The part of a message that it is."""
        return audio_part(self.input_audio.data, self.input_audio.format, PLACE)


InputPart = Annotated[
    InputText | ChatRefusal | InputImage | InputFile | InputAudio,
    Field(discriminator="type"),
]
Parts = Annotated[list[InputPart], Field(max_length=MAX_PARTS, fail_fast=True)]


class InputItem(Wire):
    """One item of the input: a message, an answer, or an item of an earlier response sent back as history."""

    type: Literal[
        "message",
        "function_call",
        "function_call_output",
        "mcp_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "reasoning",
    ] = "message"
    id: str | None = Field(None, max_length=500)
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | Parts | None = None
    call_id: str | None = Field(None, max_length=500)
    name: str | None = Field(None, max_length=500)
    arguments: str | None = None
    output: str | Parts | None = None
    approval_request_id: str | None = Field(None, max_length=500)
    approve: bool | None = None
    reason: str | None = None

    def given(self) -> Given | None:
        """The answer that it is to what an agent asked; None where it is none."""
        if self.type == "function_call_output":
            question = question_of(self.call_id or "")
            return Given(*question, text=Message("tool", _parts(self.output)).text) if question else None
        if self.type == "mcp_approval_response":
            question = question_of(self.approval_request_id or "")
            if question is None or self.approve is None:
                raise InvalidRequest("input: an approval names the request that it answers, and says approve or not")
            return Given(*question, approved=self.approve, reason=self.reason)
        return None

    def messages(self) -> list[Message]:
        """What it is in the conversation; empty for what a conversation does not hold."""
        match self.type:
            case "message":
                if self.role is None:
                    raise InvalidRequest("input: a message has a role")
                return [Message("system" if self.role == "developer" else self.role, _parts(self.content))]
            case "function_call":
                return [self._call(self.call_id)]
            case "function_call_output":
                return [Message("tool", _parts(self.output), tool_call_id=self.call_id)]
            case "mcp_call":
                answer = Message("tool", _parts(self.output), tool_call_id=self.id, name=self.name)
                return [self._call(self.id), answer]
        return []

    def _call(self, call_id: str | None) -> Message:
        call = {"id": call_id or "", "name": self.name or "", "arguments": parsed(self.arguments or "{}")}
        return Message("assistant", tool_calls=(call,))


def _parts(content: str | list[InputPart] | None) -> list[Part]:
    if content is None:
        return []
    return [text_part(content)] if isinstance(content, str) else [part.part() for part in content]


class ConversationName(Wire):
    """A conversation by its id."""

    id: str = Field(min_length=1, max_length=MAX_THREAD_ID)


class ResponseBody(Asking):
    """What `POST /v1/responses` takes; what the host does not act on is for the agent to read."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The agent's name; else that of the response it goes on from.",
    )
    input: str | Annotated[list[InputItem], Field(max_length=MAX_MESSAGES)] = Field(
        description="What is said: text, or items of which the last is the user's message, or an answer."
    )
    instructions: str | None = Field(None, description="A system message that holds for this response alone.")
    previous_response_id: str | None = Field(None, max_length=200, description="The response to go on from.")
    conversation: str | ConversationName | None = Field(None, description="The thread to go on with, or to begin.")
    store: bool | None = Field(None, description="False: nothing is kept, and nothing can go on from it.")
    background: bool | None = Field(None, description="Answer at once; the run goes on whoever listens.")
    stream: bool | None = None
    metadata: AnyMetadata = Field(None, description="Handed to the agent as it is.")
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    acted_on = frozenset({"model", "input", "conversation", "store", "background", "stream", "metadata"})

    @property
    def stored(self) -> bool:
        """Whether it may be asked for again, and gone on from."""
        return self.store is not False

    @property
    def thread_id(self) -> str | None:
        """The conversation that is named; None where none is."""
        named = self.conversation
        return named.id if isinstance(named, ConversationName) else named

    def check(self) -> None:
        """Raise `InvalidRequest` for what contradicts itself."""
        if self.model is None and self.previous_response_id is None:
            raise InvalidRequest("model: name an agent, or a response to go on from")
        if self.conversation is not None and self.previous_response_id is not None:
            raise InvalidRequest("conversation: give either it or previous_response_id")
        if not self.stored and (self.background or self.conversation is not None):
            raise InvalidRequest("store: what runs in the background, or in a conversation, is stored")

    def said(self) -> Conversation:
        """What is said; raises `InvalidRequest` for what is no conversation.

        Where the host knows the conversation, every answer is one; where the client brings it whole, those behind its
        last message are, and earlier ones are history.
        """
        if isinstance(self.input, str):
            messages, answers = [Message("user", [text_part(self.input)])], list[Given]()
        else:
            known = self.previous_response_id is not None or self.conversation is not None
            messages, answers = _read(self.input, known)
            if known and answers and any(message.role == "user" for message in messages):
                raise InvalidRequest("input: answer what was asked, or say something new; not both at once")
        said = conversation(messages, answers, PLACE)
        if self.instructions:
            said.history.insert(0, Message("system", [text_part(self.instructions)]))
        return said


def _read(items: list[InputItem], known: bool) -> tuple[list[Message], list[Given]]:
    messages: list[Message] = []
    answers: list[tuple[Given, InputItem]] = []
    for item in items:
        given = item.given()
        if given is not None:
            answers.append((given, item))
            continue
        said = item.messages()
        if said and not known:  # what was answered before this is history
            messages += [message for _given, answer in answers for message in answer.messages()]
            answers.clear()
        messages += said
    return messages, [given for given, _item in answers]
