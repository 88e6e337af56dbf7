"""Who asks: `Credentials` (what a request carries) become a `Principal` (who it is, and what it may do)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or service named in the configuration; `id` is never derived from a key, so rotating one loses nothing.

    `agents` holds names and shell patterns (`risk-*`); `admin` may operate the host; `concurrency` is how many of this
    principal's runs may be going at once (None: no limit of its own); `key_id` says which key it came with, for logs.
    """

    id: str
    groups: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    admin: bool = False
    key_id: str | None = None
    concurrency: int | None = None

    def may_use(self, agent: str) -> bool:
        """Whether one of this principal's patterns matches the agent's name."""
        patterns = self.agents
        if "*" in patterns or agent in patterns:
            return True
        return any(fnmatchcase(agent, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request says of its sender, from headers alone; the body has not been read.

    `bearer` is the token of one well-formed `Authorization: Bearer` header, as bytes, or None without the header.
    `headers` are lower-case names to raw values, for authenticators that use others; `peer` is the sender's address
    (from `X-Forwarded-For` only where `trusted_proxies` names the connection's other end).
    """

    bearer: bytes | None = None
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    peer: str | None = None


class Authenticator(Protocol):
    """Turns credentials into a principal; registered by name, used only where `[auth] use` names it."""

    def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who this is, or None if these credentials are not of a kind this one knows.

        Called on the event loop for every request: it must not block. Compare secrets in constant time. Raise
        `Unauthorized` to refuse without asking the next authenticator; any other exception is answered 500 and logged.
        """
        ...
