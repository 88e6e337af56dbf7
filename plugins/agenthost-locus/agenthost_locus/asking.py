"""What a Locus agent is given as text: prompts with files and data, and answers."""

from __future__ import annotations

import json
from typing import Any

from agenthost import AgentError, Part, RunContext


def prompt_of(ctx: RunContext) -> str:
    """The user's message as one text; raises `AgentError` for a file that is none. Locus's messages are text."""
    if ctx.content:
        return "\n".join(_text(part) for part in ctx.content)
    return text_of(ctx.input) if not ctx.prompt and ctx.input is not None else ctx.prompt


def text_of(value: Any) -> str:
    """A text as it is, nothing as no text, all else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _text(part: Part) -> str:
    if part.text is not None:
        return part.text
    if part.uri is not None:
        return part.uri
    if part.data is None:
        return text_of(part.json)
    try:
        return part.data.decode()
    except UnicodeDecodeError:
        raise AgentError(f"a Locus agent takes text, and this file is {part.media_type}") from None
