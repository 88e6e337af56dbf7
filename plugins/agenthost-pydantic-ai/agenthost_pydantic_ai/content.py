"""What a user says, from the host's parts to the framework's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import AudioUrl, BinaryContent, DocumentUrl, ImageUrl, UserContent, VideoUrl

from agenthost import Part, RunContext

UserPrompt = str | Sequence[UserContent]

_URLS: dict[str, type[ImageUrl | AudioUrl | VideoUrl]] = {"image": ImageUrl, "audio": AudioUrl, "video": VideoUrl}


class NotTaken(Exception):
    """Something the user sent that this agent does not take; the text is for them."""


def prompt_of(ctx: RunContext, *, urls: bool) -> UserPrompt:
    """The new message: its parts, and the run's structured input as JSON after them. Raises `NotTaken`."""
    parts = list(ctx.content or (Part(text=ctx.prompt),))
    if ctx.input is not None:
        if not ctx.content and not ctx.prompt:
            parts.clear()
        parts.append(Part(json=ctx.input))
    return contents(parts, urls=urls)


def contents(parts: Sequence[Part], *, urls: bool) -> UserPrompt:
    """The framework's content of a message; one text alone is a str. Raises `NotTaken`."""
    if len(parts) == 1 and parts[0].text is not None:
        return parts[0].text
    return [_content(part, urls=urls) for part in parts]


def taken_by_model(part: Part, *, urls: bool) -> bool:
    """Whether a part has a form that the framework takes."""
    try:
        _content(part, urls=urls)
    except NotTaken:
        return False
    return True


def _content(part: Part, *, urls: bool) -> UserContent:
    if part.text is not None:
        return part.text
    if part.data is not None:
        return BinaryContent(part.data, media_type=part.media_type or "application/octet-stream")
    if part.uri is None:
        return json.dumps(part.json, ensure_ascii=False)
    if part.uri.startswith("data:"):
        return _of_data_uri(part.uri)
    if not urls:
        raise NotTaken("This agent takes no files by their address: send what is in them.")
    kind: Any = _URLS.get((part.media_type or "").partition("/")[0], DocumentUrl)
    content: UserContent = kind(part.uri, media_type=part.media_type)
    return content


def _of_data_uri(uri: str) -> UserContent:
    try:
        return BinaryContent.from_data_uri(uri)
    except ValueError:
        raise NotTaken("A file's data: address is not of base64.") from None
