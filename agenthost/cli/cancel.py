"""`agenthost cancel`: end a run of a running host."""

from __future__ import annotations

import click

from agenthost.cli.calling import of_a_host, with_client
from agenthost.cli.terminal import complain, say
from agenthost.client import Client


@click.command()
@click.argument("name")
@click.argument("run_id")
@of_a_host
def cancel(name: str, run_id: str, url: str, key: str | None) -> int:
    """End the run RUN_ID of agent NAME, and wait until it has. Exits 1 if it had ended already."""

    def end(client: Client) -> int:
        client.cancel(name, run_id)
        status = client.wait(name, run_id).status
        if status == "cancelled":
            say("cancelled")
            return 0
        complain(f"it had ended already: {status}")
        return 1

    return with_client(url, key, end)
