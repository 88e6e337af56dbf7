"""`agenthost call`: one run of one agent of a running host, its answer on stdout, everything else on stderr."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import click

from agenthost.cli.calling import Told, how_to_answer, of_a_host, say_answer, shown, tell, with_client
from agenthost.cli.terminal import complain
from agenthost.client import Client


@click.command()
@click.argument("name")
@click.argument("prompt", required=False)
@click.option("--thread", "thread_id", help="The conversation to go on with, or to begin.")
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option("--input", "given", metavar="JSON", help="Structured input, by the agent's input_schema.")
@of_a_host
def call(
    name: str, prompt: str | None, thread_id: str | None, stream: bool, given: str | None, url: str, key: str | None
) -> int:
    """Run agent NAME on PROMPT and print what it says. Exits 1 if the run did not succeed; Ctrl-C cancels it."""
    if prompt is None and given is None:
        raise click.UsageError("give a PROMPT, or --input JSON")
    asked: dict[str, Any] = {"prompt": prompt, "thread_id": thread_id, "input": _parsed(given)}
    return with_client(url, key, lambda client: (_stream if stream else _invoke)(client, name, asked))


def _parsed(given: str | None) -> Any:
    if given is None:
        return None
    try:
        return json.loads(given, parse_constant=_no_number)
    except ValueError as wrong:
        raise click.BadParameter(f"not JSON: {wrong}", param_hint="--input") from None


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _invoke(client: Client, name: str, asked: dict[str, Any]) -> int:
    reply = client.invoke(name, **asked)
    say_answer(reply.message, reply.output)
    told = Told(reply.run_id, reply.stop_reason, list(reply.interrupts))
    return _ending(name, told, asked["thread_id"])


def _stream(client: Client, name: str, asked: dict[str, Any]) -> int:
    told = Told()
    with closing(client.stream(name, **asked)) as events:
        tell(events, told)
    return _ending(name, told, asked["thread_id"])


def _ending(name: str, told: Told, thread_id: str | None) -> int:
    """Say why a run that failed in nothing did not succeed either; returns the exit code."""
    if told.success:
        return 0
    for interrupt in told.interrupts:
        complain(f"paused, it asks: {shown(interrupt)}")
    if told.interrupts:
        complain(f"  → answer it: {how_to_answer(name, thread_id or told.run_id or '')}")
    else:
        complain(f"stopped: {told.reason}")
    return 1
