"""`agenthost runs`: the runs of an agent as a table or as JSON lines, or one of them whole with what it asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from agenthost.cli.calling import as_text, how_to_answer, of_a_host, shown, with_client
from agenthost.cli.listing import show_table
from agenthost.cli.terminal import complain, say
from agenthost.client import Client, RunState

STATUSES = ("queued", "running", "completed", "paused", "failed", "cancelled")


@click.command()
@click.argument("name")
@click.argument("run_id", required=False)
@click.option("--thread", "thread_id", help="Only those of this conversation.")
@click.option("--status", type=click.Choice(STATUSES), metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@of_a_host
def runs(
    name: str,
    run_id: str | None,
    thread_id: str | None,
    status: str | None,
    limit: int,
    as_json: bool,
    url: str,
    key: str | None,
) -> int:
    """Show the runs of agent NAME, newest first, or the one called RUN_ID with all that is known of it."""

    def show(client: Client) -> int:
        if run_id is not None:
            _show_one(client.run(name, run_id), as_json)
            return 0
        found = list(islice(client.runs(name, thread_id=thread_id, status=status), limit))
        if as_json:
            for run in found:
                say(_line(run))
        elif found:
            show_table(("run", "status", "created", "thread", "why"), [_row(run) for run in found])
        else:
            complain("no runs")
        return 0

    return with_client(url, key, show)


def _row(run: RunState) -> tuple[str, ...]:
    why = run.error.code if run.error else run.stop_reason
    return run.run_id, run.status, _time(run.created), run.thread_id or "", why or ""


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(run: RunState) -> str:
    return json.dumps(_given(asdict(run)), ensure_ascii=False)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A run as the host sends it: without what is not there."""
    kept = {name: value for name, value in fields.items() if value is not None and value != ()}
    if "interrupts" in kept:
        kept["interrupts"] = [_given(one) for one in kept["interrupts"]]
    return kept


def _show_one(run: RunState, as_json: bool) -> None:
    if as_json:
        say(_line(run))
        return
    fields = _given(asdict(run))
    for name in ("created", "ended"):
        if name in fields:
            fields[name] = _time(fields[name])
    if run.error:
        fields["error"] = f"{run.error.code}: {run.error.detail}"
    fields.pop("interrupts", None)
    width = max(map(len, fields))
    for name, value in fields.items():
        say(f"{name:{width}}  {as_text(value)}")
    for interrupt in run.interrupts:
        say(f"\nasks ({interrupt.status}, {interrupt.interrupt_id}): {shown(interrupt)}")
    if run.open_interrupts:
        complain(f"  → answer it: {how_to_answer(run.agent, run.thread_id or run.run_id)}")
