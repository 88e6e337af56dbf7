"""What a Locus agent is given as text: prompts with files and data, and answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agenthost import AgentError, Part, RunContext


def prompt_of(ctx: RunContext) -> str:
    """The user's message and the run's input as one text: Locus's messages are text.

    Raises `AgentError` for a file that is none.
    """
    said = [_text(part) for part in ctx.content] if ctx.content else [ctx.prompt] if ctx.prompt else []
    return "\n".join([*said, *([text_of(ctx.input)] if ctx.input is not None else [])])


def kept_text(parts: Sequence[Part]) -> str:
    """A message of a thread as one text; a file that is none is named by its type."""
    return "\n".join(f"[{part.media_type}]" if _is_binary(part) else _text(part) for part in parts)


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
    if _is_binary(part):
        raise AgentError(f"a Locus agent takes text, and this file is {part.media_type}")
    return part.data.decode()


def _is_binary(part: Part) -> bool:
    try:
        (part.data or b"").decode()
    except UnicodeDecodeError:
        return True
    return False
