"""A conversation as it comes with a request: what was said before, the new message, and answers to what was asked."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from agenthost.encoding import encode_json
from agenthost.errors import InvalidRequest
from agenthost.events import NotJSON
from agenthost.placement.carrying import told_message
from agenthost.protocols.openai.pauses import Given
from agenthost.threads import Message, Part

ANY_IMAGE = "image/*"
"""The media type of an image of which no more is known."""


@dataclass(slots=True)
class Conversation:
    """What a client sends: `history` before the user's new `message`, or `answers` and no new message."""

    history: list[Message] = field(default_factory=list)
    message: Message | None = None
    answers: list[Given] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        """The new message's text."""
        return self.message.text if self.message is not None else ""

    @property
    def content(self) -> Sequence[Part] | None:
        """The new message in parts, where it is more than text."""
        parts = self.message.content if self.message is not None else ()
        return parts if any(part.text is None for part in parts) else None


def conversation(messages: Sequence[Message], answers: Sequence[Given], where: str) -> Conversation:
    """Tell the new message from what was said before; `where` is the body's field they came in.

    Answers take the place of a new message. Raises `InvalidRequest` where there is neither.
    """
    try:
        encode_json([*map(told_message, messages), *((given.text, given.reason) for given in answers)])
    except NotJSON as problem:
        raise InvalidRequest(f"{where} holds {problem}") from None
    if answers:
        return Conversation(list(messages), None, list(answers))
    last = next((at for at in reversed(range(len(messages))) if messages[at].role != "system"), None)
    if last is None or messages[last].role != "user":
        raise InvalidRequest(f"{where}: the last message is the user's, or answers what the agent asked")
    return Conversation([*messages[:last], *messages[last + 1 :]], messages[last])


def text_part(text: str) -> Part:
    """Text."""
    return Part(text=text)


def file_part(url: str, where: str, media_type: str | None = None, name: str | None = None) -> Part:
    """A file by its `data:` URL, whose bytes come with it, or by any other, which the agent may fetch.

    Raises `InvalidRequest` for a `data:` URL that is none.
    """
    if not url.startswith("data:"):
        guessed = mimetypes.guess_type(url.partition("?")[0])[0]
        return Part(media_type=media_type or guessed or ANY_IMAGE, uri=url)
    head, comma, body = url[len("data:") :].partition(",")
    kind, *options = head.split(";")
    if not comma:
        raise InvalidRequest(f"{where}: a data URL has a comma before its data")
    raw = decoded(body, where) if "base64" in options else unquote_to_bytes(body)
    known = mimetypes.guess_type(name or "")[0]
    return Part(media_type=kind or media_type or known or "application/octet-stream", data=raw)


def decoded(text: str, where: str) -> bytes:
    """The bytes behind base64; raises `InvalidRequest`."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InvalidRequest(f"{where}: it is not base64") from None


def audio_part(data: str, form: str, where: str) -> Part:
    """Audio, in base64."""
    return Part(media_type="audio/mpeg" if form == "mp3" else f"audio/{form}", data=decoded(data, where))


def file_of(part: Any, where: str) -> Part:
    """The part for `file_data` (a data URL, or base64 alone) or `file_url`; a `file_id` names nothing here."""
    if part.file_data is not None:
        data = part.file_data if part.file_data.startswith("data:") else f"data:;base64,{part.file_data}"
        return file_part(data, where, name=part.filename)
    url = getattr(part, "file_url", None)
    if url is None:
        raise InvalidRequest(f"{where}: a file comes with its data or its URL; this host stores none")
    return file_part(url, where, media_type=mimetypes.guess_type(part.filename or "")[0])
