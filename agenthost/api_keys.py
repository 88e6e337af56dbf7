"""The built-in authenticator: bearer keys named in agents.toml, found by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from agenthost.auth import Credentials, Principal
from agenthost.config import Config


class ApiKeys:
    """Keys by their SHA-256. No comparison ever sees a secret: how long a look-up takes tells at most about digests."""

    def __init__(self, keys: Iterable[tuple[bytes, Principal]]) -> None:
        """Take pairs of a key's 32-byte SHA-256 and whose key it is."""
        self._keys = dict(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return whose key the bearer token is, or None."""
        if credentials.bearer is None:
            return None
        return self._keys.get(hashlib.sha256(credentials.bearer).digest())


def digest(secret: str) -> bytes:
    """The digest under which a key is known."""
    return hashlib.sha256(secret.encode()).digest()


def keys_of(config: Config) -> Iterator[tuple[bytes, Principal]]:
    """The keys of agents.toml: the digest of each, and whose it is."""
    for key in config.auth.keys:
        principal = Principal(
            key.principal, agents=tuple(key.agents), admin=key.admin, key_id=key.id, concurrency=key.concurrency
        )
        if key.secret is not None:
            yield digest(key.secret.get_secret_value()), principal
        elif key.sha256 is not None:
            yield bytes.fromhex(key.sha256), principal
