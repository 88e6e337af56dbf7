"""An agent that says back what it is told, word by word: the smallest real plugin, to copy and change."""

import re
from collections.abc import AsyncIterator

from agenthost import RunContext

WORD = re.compile(r"\S{1,1000}\s{0,1000}|\s{1,1000}")  # bounded, since one event holds at most 1 MiB


async def agent(ctx: RunContext) -> AsyncIterator[str]:
    """Says the prompt back, word by word; from a thread's second turn on, with the turn's number in front."""
    turn = sum(message.role == "user" for message in ctx.messages)
    if turn > 1:
        yield f"({turn}) "
    for word in WORD.finditer(ctx.prompt):
        yield word.group()
