"""Chat completions: a run's log as one completion, or as a stream of chunks.

The tools that an agent calls are its own and not told: a client would take them for calls that it is to make. What an
agent asks is told so: as calls of `ask_user`, answered by tool messages.
"""

from __future__ import annotations

from typing import Any

import orjson

from agenthost.ended_run import EndedRun
from agenthost.events import SUCCESS_REASONS, Entry, one_line
from agenthost.protocols.openai.pauses import FUNCTION, arguments, call_id
from agenthost.protocols.openai.refusals import failure_body
from agenthost.protocols.openai.usage import Tally, chat_usage
from agenthost.run import Run
from agenthost.runs import BEGUN_AGAIN

DONE = b"data: [DONE]\n\n"
EMPTY = b'""'

PLAIN = b'{"type":"model_chunk","content":'
"""How the commonest entry begins; what follows, up to the brace, is the text as JSON."""

_AT = len(PLAIN)
_REASONING = b',"reasoning":'


def created_at(run: Run | EndedRun) -> int:
    """When a run was made, in whole seconds."""
    return int(run.stored.created if isinstance(run, EndedRun) else run.created)


def plain_text(data: bytes) -> bytes | None:
    """The text of a `model_chunk` that is nothing but text, still as JSON: by far the most entries are."""
    return data[_AT:-1] if data[:_AT] == PLAIN and _REASONING not in data else None


class Completion:
    """A run's log, folded; its `stream` is what is to be sent of each entry."""

    def __init__(self, run: Run | EndedRun, model: str, *, as_json: bool = False, with_usage: bool = False) -> None:
        self._run_id = run.id
        self._frame: dict[str, Any] = {
            "id": f"chatcmpl-{run.id}",
            "object": "chat.completion.chunk",
            "created": created_at(run),
            "model": model,
        }
        self._as_json = as_json
        self._with_usage = with_usage
        self._tally = Tally()
        self._text: list[bytes] = []
        """What was said, each piece as JSON."""
        self._thought: list[str] = []
        self._asked: list[dict[str, Any]] = []
        self._ended: dict[str, Any] = {}
        self._failed: dict[str, Any] | None = None
        self._piece = self._chunk({"content": "\0"}).replace(b"%", b"%%").replace(b'"\\u0000"', b"%b")

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._framed([choice], {"usage": None} if self._with_usage else {})

    def _framed(self, choices: list[Any], more: dict[str, Any]) -> bytes:
        return b"data: " + one_line(orjson.dumps({**self._frame, "choices": choices, **more})) + b"\n\n"

    def begin(self) -> bytes:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def entry(self, entry: Entry) -> bytes:
        """Take in an entry, and return its chunk; empty where it has none."""
        if entry.type != "model_chunk":
            return self._rare(entry)
        text = plain_text(entry.data)
        if text is None:
            return self._reasoned(orjson.loads(entry.data))
        self._text.append(text)
        return self._piece % text if text != EMPTY and not self._as_json else b""

    def _reasoned(self, told: dict[str, Any]) -> bytes:
        said = b""
        if told.get("reasoning"):
            said += self._thinks(told["reasoning"])
        if told["content"]:
            text = orjson.dumps(told["content"])
            self._text.append(text)
            said += b"" if self._as_json else self._chunk({"content": told["content"]})
        return said

    def _thinks(self, text: str) -> bytes:
        self._thought.append(text)
        return self._chunk({"reasoning_content": text})

    def _rare(self, entry: Entry) -> bytes:
        told = orjson.loads(entry.data)
        match entry.type:
            case "think":
                return self._thinks(told["content"])
            case "usage":
                self._tally.add(told)
            case "interrupt":
                self._asked.append(told)
            case "done":
                self._ended = told
            case "error":
                self._failed = told
            case other if other == BEGUN_AGAIN:
                self._text.clear()
        return b""

    def end(self) -> bytes:
        """What was asked, how it ended, what it took, and `[DONE]`."""
        if self._failed is not None:
            return b"data: " + orjson.dumps(failure_body(self._failed)) + b"\n\n" + DONE
        said = b""
        if self._as_json:
            said += self._chunk({"content": self._content()})
        elif self._ended.get("message") and not any(text != EMPTY for text in self._text):
            said += self._chunk({"content": self._ended["message"]})
        if self._asked:
            said += self._chunk({"tool_calls": [{"index": at, **call} for at, call in enumerate(self._calls())]})
        said += self._chunk({}, self._finish_reason())
        if self._with_usage:
            said += self._framed([], {"usage": chat_usage(self._tally)})
        return said + DONE

    def whole(self) -> dict[str, Any]:
        """The completion, as one answer."""
        message: dict[str, Any] = {"role": "assistant", "content": self._content(), "refusal": None}
        if self._thought:
            message["reasoning_content"] = "".join(self._thought)
        if self._asked:
            message["content"] = message["content"] or None
            message["tool_calls"] = self._calls()
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason()}
        frame = {**self._frame, "object": "chat.completion"}
        return {**frame, "choices": [choice], "usage": chat_usage(self._tally)}

    def _content(self) -> str:
        if self._as_json and self._ended.get("output") is not None:
            return orjson.dumps(self._ended["output"]).decode()
        if "message" in self._ended:
            message: str = self._ended["message"]
            return message
        return "".join(map(orjson.loads, self._text))

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": call_id(self._run_id, asked),
                "type": "function",
                "function": {"name": FUNCTION, "arguments": arguments(asked)},
            }
            for asked in self._asked
        ]

    def _finish_reason(self) -> str:
        if self._asked:
            return "tool_calls"
        return "stop" if self._ended.get("reason") in SUCCESS_REASONS else "length"
