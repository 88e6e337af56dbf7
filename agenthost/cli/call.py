"""`agenthost call`: one run of one agent of a running host, its answer on stdout, everything else on stderr."""

from __future__ import annotations

import json
from typing import Any

import click

from agenthost.cli.terminal import complain, say
from agenthost.client import DEFAULT_URL, CallFailed, Client, HostUnreachable
from agenthost.events import SUCCESS_REASONS


@click.command()
@click.argument("name")
@click.argument("prompt", required=False)
@click.option("--thread", "thread_id", help="The conversation to go on with, or to begin.")
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option("--input", "given", metavar="JSON", help="Structured input, by the agent's input_schema.")
@click.option("--url", envvar="AGENTHOST_URL", show_envvar=True, default=DEFAULT_URL, show_default=True,
              help="Where the host is.")  # fmt: skip
@click.option("--key", envvar="AGENTHOST_API_KEY", show_envvar=True, help="The key to call with.")
def call(
    name: str, prompt: str | None, thread_id: str | None, stream: bool, given: str | None, url: str, key: str | None
) -> int:
    """Run agent NAME on PROMPT and print what it says. Exits 1 if the run did not succeed."""
    if prompt is None and given is None:
        raise click.UsageError("give a PROMPT, or --input JSON")
    asked: dict[str, Any] = {"prompt": prompt, "thread_id": thread_id, "input": _parsed(given)}
    try:
        client = Client(url, key or None)
    except ValueError as unusable:
        raise click.BadParameter(str(unusable), param_hint="--key") from None
    with client:
        try:
            return (_stream if stream else _invoke)(client, name, asked)
        except UnicodeEncodeError:
            raise click.UsageError("what is to be sent is not UTF-8") from None
        except CallFailed as failed:
            complain(_explanation(failed, key))
            return 1


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
    _say_answer(reply.get("message", ""), reply.get("output"))
    return _ending(reply.get("success") is True, str(reply.get("stop_reason")), reply.get("interrupt"))


def _stream(client: Client, name: str, asked: dict[str, Any]) -> int:
    said = False
    event: dict[str, Any] = {}
    try:
        for event in client.stream(name, **asked):
            if event["type"] == "model_chunk" and event.get("content"):
                say(event["content"], end="")
                said = True
    finally:
        if said:
            say()
    if event["type"] == "interrupt":
        return _ending(False, "interrupt", event)
    _say_answer("" if said else event.get("message", ""), event.get("output"))
    return _ending(event.get("reason") in SUCCESS_REASONS, str(event.get("reason")), None)


def _say_answer(message: str, output: Any) -> None:
    if message:
        say(message)
    if output is not None:
        say(json.dumps(output, ensure_ascii=False))


def _ending(success: bool, reason: str, interrupt: Any) -> int:
    """Say why a run that failed in nothing did not succeed either; returns the exit code."""
    if success:
        return 0
    if isinstance(interrupt, dict):
        options = f" ({', '.join(map(str, interrupt['options']))})" if interrupt.get("options") else ""
        complain(f"paused, it asks: {interrupt.get('question')}{options}")
    else:
        complain(f"stopped: {reason}")
    return 1


def _explanation(failed: CallFailed, key: str | None) -> str:
    marks = {"code": failed.code, "correlation id": failed.correlation_id, "run": failed.run_id}
    told = ", ".join(f"{name} {value}" for name, value in marks.items() if value)
    text = f"{failed.detail} ({told})" if told else failed.detail
    if isinstance(failed, HostUnreachable):
        return f"{text}\n  → start a host: agenthost dev, or say where one is: --url or AGENTHOST_URL"
    if failed.status == 401:
        hint = "that host does not know this key" if key else "give a key: --key or AGENTHOST_API_KEY"
        return f"{text}\n  → {hint}"
    return text
