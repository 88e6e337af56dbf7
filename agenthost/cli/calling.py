"""What the commands that talk to a running host share: where it is, its refusals explained, a run's events told."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from agenthost.cli.terminal import complain, murmur, say
from agenthost.client import DEFAULT_URL, CallFailed, Client, Event, HostUnreachable, Interrupt, read_interrupt
from agenthost.events import SUCCESS_REASONS

F = TypeVar("F", bound=Callable[..., Any])

MOST_SHOWN = 200
"""Characters of a tool's arguments or result that are shown."""

_url = click.option("--url", envvar="AGENTHOST_URL", show_envvar=True, default=DEFAULT_URL, show_default=True,
                    help="Where the host is.")  # fmt: skip
_key = click.option("--key", envvar="AGENTHOST_API_KEY", show_envvar=True, help="The key to call with.")


def of_a_host(command: F) -> F:
    """Give a command the options that say which host, and as whom."""
    return _url(_key(command))


def with_client(url: str, key: str | None, work: Callable[[Client], int]) -> int:
    """Do what a command does, with a client; returns its exit code, 1 with an explanation if a call failed."""
    try:
        client = Client(url, key or None)
    except ValueError as unusable:
        raise click.BadParameter(str(unusable), param_hint="--key") from None
    with client:
        try:
            return work(client)
        except UnicodeEncodeError:
            raise click.UsageError("what is to be sent is not UTF-8") from None
        except CallFailed as failed:
            complain(explanation(failed, key))
            return 1


def explanation(failed: CallFailed, key: str | None) -> str:
    """What is wrong, what finds it in the log, and what to do where that is known."""
    marks = {"code": failed.code, "correlation id": failed.correlation_id, "run": failed.run_id}
    told = ", ".join(f"{name} {value}" for name, value in marks.items() if value)
    text = f"{failed.detail} ({told})" if told else failed.detail
    if isinstance(failed, HostUnreachable):
        return f"{text}\n  → start a host: agenthost dev, or say where one is: --url or AGENTHOST_URL"
    if failed.status == 401:
        hint = "that host does not know this key" if key else "give a key: --key or AGENTHOST_API_KEY"
        return f"{text}\n  → {hint}"
    return text


@dataclass(slots=True)
class Told:
    """What a run's events came to, once they have been told, or as far as they were."""

    run_id: str | None = None
    reason: str = ""
    interrupts: list[Interrupt] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether it completed, and not because the agent gave up."""
        return not self.interrupts and self.reason in SUCCESS_REASONS


def tell(events: Iterable[Event], told: Told, *, tools: bool = False) -> None:
    """Print a run's answer on stdout as it comes; with `tools`, thoughts and tool calls on stderr.

    `told` is filled in event by event, so that it is right even where this is left by an exception.
    """
    said = mid_line = False
    try:
        for event in events:
            told.run_id = event.run_id
            if event.type == "model_chunk" and event.get("content"):
                say(event["content"], end="")
                said, mid_line = True, not str(event["content"]).endswith("\n")
            elif event.type == "interrupt":
                told.interrupts.append(read_interrupt(event))
            elif event.type == "done":
                told.reason = str(event.get("reason"))
                if mid_line:
                    say()
                    mid_line = False
                say_answer("" if said else event.get("message", ""), event.get("output"))
            elif tools and (line := _beside(event)):
                if mid_line:
                    say()
                    mid_line = False
                murmur(line)
    finally:
        if mid_line:
            say()


def say_answer(message: str, output: Any) -> None:
    """Print a run's message and its structured output, as far as there are any."""
    if message:
        say(message)
    if output is not None:
        say(json.dumps(output, ensure_ascii=False))


def _beside(event: Event) -> str:
    """A line about what is not the answer, or nothing."""
    match event.type:
        case "think":
            return f"· {_short(event.get('content'))}"
        case "tool_start":
            return f"· {event.get('tool')} {_short(event.get('arguments'))}"
        case "tool_complete" if event.get("error") is not None:
            return f"· {event.get('tool')} failed: {_short(event['error'])}"
        case "tool_complete":
            return f"· {event.get('tool')} → {_short(event.get('result'))}"
    return ""


def _short(value: Any) -> str:
    text = " ".join(as_text(value).split())
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def shown(interrupt: Interrupt) -> str:
    """A question in a line, with what may be answered."""
    if interrupt.options:
        return f"{interrupt.question} ({', '.join(map(as_text, interrupt.options))})"
    if interrupt.fields and properties_of(interrupt.fields):
        return f"{interrupt.question} ({', '.join(properties_of(interrupt.fields))})"
    return interrupt.question


def how_to_answer(name: str, thread_id: str) -> str:
    """The command that goes on with a thread that asks something."""
    return f"agenthost chat {name} --thread {shlex.quote(thread_id)}"


def as_text(value: Any) -> str:
    """A JSON value as a person would write it: text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def properties_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties that a JSON Schema of an object names; none for any other."""
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}
