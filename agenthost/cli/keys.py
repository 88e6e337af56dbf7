"""`agenthost keys new`: a key, shown once, and the lines of agents.toml that know it by its digest."""

from __future__ import annotations

import json
import secrets

import click
from pydantic import ValidationError

from agenthost.api_keys import digest
from agenthost.cli.terminal import say
from agenthost.config import KeyConfig

PREFIX = "ah_"
"""How a key begins, so that scanners for leaked secrets find it."""

RANDOM_BYTES = 32


@click.group()
def keys() -> None:
    """Make keys for callers."""


@keys.command()
@click.argument("key_id", metavar="ID")
def new(key_id: str) -> None:
    """Make a key called ID (for logs), print it once, and the block of agents.toml that lets it in.

    The file gets the key's digest only: whoever reads it cannot call. A lost key is replaced, not found again.
    """
    key = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    sha256 = digest(key).hex()
    try:
        KeyConfig.model_validate({"id": key_id, "principal": key_id, "sha256": sha256, "agents": ("*",)})
    except ValidationError as invalid:
        found = invalid.errors(include_url=False, include_input=False)[0]
        reason = found.get("ctx", {}).get("error", found["msg"])
        raise click.BadParameter(str(reason), param_hint="ID") from None
    named = json.dumps(key_id, ensure_ascii=False)
    say(f"the key, shown this once:\n\n  {key}\n")
    say(f"its sha256: {sha256}\n\nfor agents.toml:\n")
    say(f"[[auth.keys]]\nid = {named}\nprincipal = {named}  # whose threads it sees; several keys may share one")
    say(f'secret = {{ sha256 = "{sha256}" }}')
    say('agents = ["*"]  # names and patterns of what it may use; "*" is everything')
