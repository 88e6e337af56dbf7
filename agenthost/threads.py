"""A conversation: whose it is (`ThreadKey`) and what was said in it (`Message`, made of `Part`s)."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_THREAD_ID = 200

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ThreadKey:
    """One principal's thread with one agent: three columns, compared one by one and never joined into a string.

    `agent` is the name in agents.toml. Two ids that differ in any code point are two threads: nothing is normalised.
    """

    principal: str
    agent: str
    thread_id: str

    @property
    def digest(self) -> str:
        """32 hex digits that stand for this key where a framework needs a single string (SHA-256, length-prefixed)."""
        parts = (self.principal, self.agent, self.thread_id)
        raw = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        return hashlib.sha256(raw).hexdigest()[:32]


def thread_id_problem(thread_id: str) -> str | None:
    """Say why `thread_id` cannot name a thread, or None if it can.

    1 to 200 characters; no control, format (bidirectional marks among them) or surrogate characters, which make two
    ids look alike or cannot be sent back.
    """
    if thread_id.isascii() and thread_id.isprintable() and 0 < len(thread_id) <= MAX_THREAD_ID:
        return None
    if not thread_id:
        return "a thread id has at least one character"
    if len(thread_id) > MAX_THREAD_ID:
        return f"a thread id has at most {MAX_THREAD_ID} characters"
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in thread_id):
        return "a thread id holds no control, bidirectional or surrogate characters"
    return None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message: exactly one of `text`, a file (`data` as bytes, or `uri`), or `json`."""

    text: str | None = None
    media_type: str | None = None
    data: bytes | None = None
    uri: str | None = None
    json: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; bytes are base64."""
        if self.text is not None:
            return {"type": "text", "text": self.text}
        if self.data is not None:
            return {"type": "file", "media_type": self.media_type, "data": base64.b64encode(self.data).decode()}
        if self.uri is not None:
            return {"type": "file", "media_type": self.media_type, "uri": self.uri}
        return {"type": "data", "data": self.json}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Part:
        """Rebuild a part from `to_json`'s form; raises `ValueError` for an unknown type or bad base64."""
        match raw.get("type"):
            case "text":
                return cls(text=raw["text"])
            case "file" if "data" in raw:
                return cls(media_type=raw.get("media_type"), data=base64.b64decode(raw["data"], validate=True))
            case "file":
                return cls(media_type=raw.get("media_type"), uri=raw["uri"])
            case "data":
                return cls(json=raw.get("data"))
            case other:
                raise ValueError(f"unknown part type {other!r}")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `tool_calls` (on an assistant's message) is a sequence of `{"id", "name", "arguments"}`; `tool_call_id` and `name`
    (on a tool's message) say which call it answers. `at` is seconds since the epoch, `run_id` the run that wrote it,
    and `status` that run's status where it is not `completed`.
    """

    role: Role
    content: Sequence[Part] = ()
    tool_calls: Sequence[Mapping[str, Any]] = ()
    tool_call_id: str | None = None
    name: str | None = None
    run_id: str | None = None
    at: float | None = None
    status: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, role: Role, text: str, **fields: Any) -> Message:
        """Make a message of one text part."""
        return cls(role, (Part(text=text),), **fields)

    @property
    def text(self) -> str:
        """The text parts, joined."""
        if len(self.content) == 1:
            return self.content[0].text or ""
        return "".join(part.text for part in self.content if part.text is not None)
