"""The built-in authenticator: bearer keys named in agents.toml, found by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from agenthost.auth import Credentials, Principal


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
