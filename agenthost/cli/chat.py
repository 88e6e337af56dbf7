"""`agenthost chat`: a conversation with one agent at a prompt; tokens as they come, what it asks asked right there."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing, suppress
from uuid import uuid4

import click

from agenthost.cli.calling import Told, explanation, how_to_answer, of_a_host, tell, with_client
from agenthost.cli.questions import answered, read_line
from agenthost.cli.terminal import complain, murmur
from agenthost.client import CallFailed, Client, Event, Interrupt

Events = Generator[Event, None, None]

OVER = frozenset({200, 404, 409})
"""Statuses of a resume after which its question is open no more, or not for us."""


@click.command()
@click.argument("name")
@click.option("--thread", "thread_id", help="The conversation to go on with; else a new one is begun.")
@of_a_host
def chat(name: str, thread_id: str | None, url: str, key: str | None) -> int:
    """Talk with agent NAME, line by line.

    Ctrl-C cancels a run that is going; at the prompt, it or Ctrl-D ends the session.
    """
    thread = thread_id or uuid4().hex
    return with_client(url, key, lambda client: Chat(client, name, thread, key).run(new=thread_id is None))


class Chat:
    """One conversation on one thread."""

    def __init__(self, client: Client, name: str, thread_id: str, key: str | None) -> None:
        self._client = client
        self._name = name
        self._thread = thread_id
        self._key = key
        self._asked: list[Interrupt] = []
        """What the agent waits to be told before it goes on."""

    def run(self, *, new: bool) -> int:
        """Talk until there is nothing more to read; returns the exit code. Raises `CallFailed` if it cannot begin."""
        self._asked = self._left_open()
        if new:
            murmur(f"a new thread; to go on with it later: {how_to_answer(self._name, self._thread)}")
        try:
            while True:
                self._turn()
        except (EOFError, KeyboardInterrupt):
            if sys.stdin.isatty():
                complain("")  # the prompt's line is still open
        if self._asked:
            complain(f"a question stays open\n  → answer it: {how_to_answer(self._name, self._thread)}")
        return 0

    def _left_open(self) -> list[Interrupt]:
        """What the thread waits to be told."""
        paused = next(self._client.runs(self._name, thread_id=self._thread, status="paused"), None)
        return list(self._client.run(self._name, paused.run_id).open_interrupts) if paused is not None else []

    def _turn(self) -> None:
        """One line of the person's and what comes of it, or the answers to what is asked. Raises `EOFError`."""
        if self._asked:
            answers = answered(self._asked)
            self._tell(self._client.resume(self._name, self._thread, **answers))
            return
        prompt = read_line("> ")
        if prompt.strip():
            self._tell(self._client.stream(self._name, prompt, thread_id=self._thread))

    def _tell(self, events: Events) -> None:
        """Tell a run to its end, however it ends; what it asks is kept for the next turn."""
        told = Told()
        try:
            with closing(events):
                tell(events, told, tools=True)
        except KeyboardInterrupt:
            self._cancelled(told)
            return
        except CallFailed as failed:
            complain(explanation(failed, self._key))
            if self._asked and told.run_id is None and failed.status not in OVER:
                return  # the answers did not get through: they are asked for again
        self._asked = told.interrupts
        if told.reason and not told.success:
            complain(f"stopped: {told.reason}")

    def _cancelled(self, told: Told) -> None:
        complain("cancelled")
        self._asked = []
        with suppress(CallFailed, KeyboardInterrupt):
            if told.run_id is not None:
                self._client.cancel(self._name, told.run_id)  # an interrupt may fall where the client cannot see it
                self._client.wait(self._name, told.run_id)  # until then the thread takes no other run
            self._asked = self._left_open()  # a cancelled answer may be wanted again
