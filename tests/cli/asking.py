"""A host whose agents talk, ask and hold, for the commands that talk to a running host."""

from __future__ import annotations

from pathlib import Path

from tests.serving import Hosted, agents_toml, key

AGENTS = '''
import json

from agenthost import Interrupt, Result, ToolComplete, ToolStart

FIELDS = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["item", "count"],
}


async def asks(ctx):
    """Asks each question of its prompt, which stand between bars; says what it was answered."""
    if ctx.answers:
        yield "answered: " + ", ".join(json.dumps(answer.response) for answer in ctx.answers)
        return
    yield "Before I go on: "
    for question in ctx.prompt.split("|"):
        yield Interrupt(question, options=["yes", "no"])


async def order(ctx):
    """Asks for an order."""
    if ctx.answer:
        yield json.dumps(ctx.answer.response)
        return
    yield Interrupt("What shall it be?", fields=FIELDS)


async def final(ctx):
    return Result("the message")


async def tool(ctx):
    yield ToolStart("look_up", "1", {"of": ctx.prompt})
    yield ToolComplete("look_up", "1", result="found")
    yield "it is there"
'''

ASKING = ("asks", "order", "final", "tool")
OF_ACTORS = ("say", "pieces", "fail", "gives_up", "Structured", "mirror", "hold")


def asking_host(folder: Path) -> Hosted:
    """The host, to be entered; its callers send `secret("me")`."""
    text = "".join(f'[agents.{name.lower().replace("_", "-")}]\nuse = "tests.actors:{name}"\n' for name in OF_ACTORS)
    text += "".join(f'[agents.{name}]\nuse = "asking_agents.py:{name}"\n' for name in ASKING)
    config = agents_toml(folder, text + key("me"))
    (folder / "asking_agents.py").write_text(AGENTS)
    return Hosted(config)
