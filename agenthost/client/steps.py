"""What the client's logic asks of whoever does its I/O: generators yield these, and are sent what came of them.

The logic knows no sockets, no clocks' sleep and no event loop; `sync_client` and `async_client` perform its steps.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from agenthost.client.asking import Ask


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request brought: header names are in lower case; `body` is empty for a reply that is being streamed."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Send:
    """Ask, and read the whole reply; sent back: an `Answer`."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Open:
    """Ask, and keep a reply of 200 open for `Read`; sent back: an `Answer`, whole for any other status.

    Closes what was open before.
    """

    ask: Ask


@dataclass(frozen=True, slots=True)
class Read:
    """The next bytes of what is open; sent back: bytes, empty at the end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while; sent back: None."""

    seconds: float


Step: TypeAlias = Send | Open | Read | Pause

T = TypeVar("T")
Item = TypeVar("Item")

Logic: TypeAlias = Generator[Step | Item, Any, T]
"""Yields steps, and between them items for the caller; returns a `T`. A step that fails raises inside it."""


class ConnectionBroke(Exception):
    """A step found the connection gone, or silent for too long; `unreachable` if nobody took it up at all."""

    def __init__(self, why: str, *, unreachable: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.unreachable = unreachable


class Left(BaseException):
    """Raised inside the logic when its caller goes away early; the steps it still yields are its last words."""


def advance(logic: Logic[Item, Any], outcome: Any) -> Step | Item:
    """Tell the logic what came of its step, raising it inside where that is an error; returns what it yields next."""
    return logic.throw(outcome) if isinstance(outcome, Exception) else logic.send(outcome)
