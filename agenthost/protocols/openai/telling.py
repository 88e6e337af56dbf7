"""A run's log as a response: folded into one object, or told as the events of a stream.

What is told follows from the log alone, event by event: a stream that is asked for again from any point on has the same
events under the same numbers.
"""

from __future__ import annotations

from typing import Any

import orjson

from agenthost.ended_run import EndedRun
from agenthost.events import SUCCESS_REASONS, Entry, one_line
from agenthost.protocols.openai import items
from agenthost.protocols.openai.chat import DONE, EMPTY, plain_text
from agenthost.protocols.openai.items import Item
from agenthost.protocols.openai.pauses import is_tool_approval
from agenthost.protocols.openai.refusals import FAILED, failure_text
from agenthost.protocols.openai.resource import Subject
from agenthost.protocols.openai.usage import Tally
from agenthost.run import Run
from agenthost.runs import BEGUN_AGAIN
from agenthost.store import StoredRun


class _Open:
    """The message or the thought that is just being said."""

    def __init__(self, kind: str, item_id: str, index: int) -> None:
        self.kind, self.id, self.index = kind, item_id, index
        self.pieces: list[bytes] = []
        """What was said of it, each piece as JSON."""
        event = "response.output_text.delta" if kind == "message" else "response.reasoning_text.delta"
        self._head = f'event: {event}\ndata: {{"type":"{event}","sequence_number":'.encode()
        self._place = f',"item_id":"{item_id}","output_index":{index},"content_index":0,"delta":'.encode()
        self._tail = b',"logprobs":[]}\n\n' if kind == "message" else b"}\n\n"

    def delta(self, number: int, text: bytes) -> bytes:
        """The event that says a piece of it."""
        return b"%b%d%b%b%b" % (self._head, number, self._place, text, self._tail)

    @property
    def text(self) -> str:
        """What was said of it."""
        return "".join(map(orjson.loads, self.pieces))

    @property
    def place(self) -> dict[str, Any]:
        """Where its text is, in the words of an event."""
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}


class Telling:
    """One run told to one client; events up to number `after` are not sent, nor any where it is `silent`."""

    def __init__(self, run: Run | EndedRun | StoredRun, *, after: int = -1, silent: bool = False) -> None:
        self.subject = Subject(run)
        self.output: list[Item] = []
        self._after = after
        self._silent = silent
        self._number = 0
        self._index = 0
        self._said: list[bytes] = []
        """What is to be sent and has not been."""
        self._open: _Open | None = None
        self._calls: dict[str, tuple[int, int, Item]] = {}
        """Tool calls that go on, by their id: index, place in `output`, item."""
        self._spoken: list[str] = []
        self._tally = Tally()
        self._ended: dict[str, Any] = {}
        self._failed: dict[str, Any] | None = None
        self._json = self.subject.wants_json

    @property
    def _heard(self) -> bool:
        """Whether the next event is sent."""
        return not self._silent and self._number > self._after

    # ── as a stream ──────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> bytes:
        """The events before anything is said."""
        first = ["created", "queued", "in_progress"] if self.subject.detached else ["created", "in_progress"]
        for kind in first:
            status = "queued" if self.subject.detached and kind != "in_progress" else "in_progress"
            self._tell(f"response.{kind}", response=self.subject.resource(status, []))
        return self._sent()

    def entry(self, entry: Entry) -> bytes:
        """Take in an entry, and return its events."""
        if entry.type == "model_chunk":
            text, now = plain_text(entry.data), self._open
            if text is not None and text != EMPTY and now is not None and now.kind == "message" and self._heard:
                now.pieces.append(text)  # by far the most: no more than this
                self._number += 1
                return now.delta(self._number - 1, text)
            if text is None:
                told = orjson.loads(entry.data)
                if told.get("reasoning"):
                    self._say("reasoning", orjson.dumps(told["reasoning"]))
                text = orjson.dumps(told["content"])
            if text != EMPTY and not self._json:
                self._say("message", text)
        else:
            self._rare(entry.type, entry.data)
        return self._sent()

    def end(self) -> bytes:
        """The events of its end, and `[DONE]`."""
        self._close()
        final = self.final()
        kind = {"completed": "completed", "incomplete": "incomplete"}.get(final["status"], "failed")
        self._tell(f"response.{kind}", response=final)
        return self._sent() + DONE

    # ── as one object ────────────────────────────────────────────────────────────────────────────────────────────────

    def whole(self) -> dict[str, Any]:
        """The response of a run that has ended."""
        self._close()
        return self.final()

    def now(self) -> dict[str, Any]:
        """The response as far as it goes."""
        return self.subject.resource(self.subject.status, [*self.output])

    def final(self) -> dict[str, Any]:
        """The response as it ended."""
        error = None
        if self._failed is not None:
            told = self._failed
            status = "cancelled" if told["code"] == "cancelled" else "failed"
            error = {"code": FAILED, "message": failure_text(told["error"], told["code"], told["correlation_id"])}
        else:
            gave_up = self._ended and self._ended["reason"] not in SUCCESS_REASONS
            status = "incomplete" if gave_up else "completed"
        return self.subject.resource(status, self.output, self._tally, error)

    # ── what entries become ──────────────────────────────────────────────────────────────────────────────────────────

    def _rare(self, kind: str, data: bytes) -> None:
        match kind:
            case "think":
                self._finish()
                self._say("reasoning", orjson.dumps(orjson.loads(data)["content"]))
                self._finish()
            case "tool_start":
                self._call(orjson.loads(data))
            case "tool_complete":
                self._answered(orjson.loads(data))
            case "usage":
                self._tally.add(orjson.loads(data))
            case "interrupt":
                self._ask(orjson.loads(data))
            case "done":
                self._done(orjson.loads(data))
            case "error":
                self._failed = orjson.loads(data)
            case other if other == BEGUN_AGAIN:
                self._close()
                self.output.clear()
                self._spoken.clear()

    def _say(self, kind: str, text: bytes) -> None:
        now = self._open
        if now is None or now.kind != kind:
            self._finish()
            now = self._begin(kind)
        now.pieces.append(text)
        if self._heard:
            self._said.append(now.delta(self._number, text))
        self._number += 1

    def _begin(self, kind: str) -> _Open:
        short = "msg" if kind == "message" else "rs"
        self._open = now = _Open(kind, f"{short}_{self.subject.run_id}_{self._index}", self._index)
        self._index += 1
        item = (items.message if kind == "message" else items.reasoning)(now.id, "in_progress")
        self._tell("response.output_item.added", output_index=now.index, item=item)
        part = items.output_text("") if kind == "message" else items.reasoning_text("")
        self._tell("response.content_part.added", **now.place, part=part)
        return now

    def _finish(self, status: str = "completed") -> None:
        """End what is just being said."""
        now, self._open = self._open, None
        if now is None:
            return
        text = now.text
        if now.kind == "message":
            self._spoken.append(text)
            part = items.output_text(text)
            item = items.message(now.id, status, [part])
            self._tell("response.output_text.done", **now.place, text=text, logprobs=[])
        else:
            part = items.reasoning_text(text)
            item = items.reasoning(now.id, status, text)
            self._tell("response.reasoning_text.done", **now.place, text=text)
        self._tell("response.content_part.done", **now.place, part=part)
        self._put(now.index, item)

    def _put(self, index: int, item: Item) -> None:
        self.output.append(item)
        self._tell("response.output_item.done", output_index=index, item=item)

    def _call(self, told: dict[str, Any]) -> None:
        self._finish()
        index, self._index = self._index, self._index + 1
        item = items.tool_call(f"mcp_{self.subject.run_id}_{index}", self.subject.agent, told)
        self._calls[str(told["tool_call_id"])] = (index, len(self.output), item)
        self.output.append(item)
        place = {"item_id": item["id"], "output_index": index}
        self._tell("response.output_item.added", output_index=index, item={**item, "arguments": ""})
        self._tell("response.mcp_call.in_progress", **place)
        self._tell("response.mcp_call_arguments.delta", **place, delta=item["arguments"])
        self._tell("response.mcp_call_arguments.done", **place, arguments=item["arguments"])

    def _answered(self, told: dict[str, Any]) -> None:
        call_id = str(told["tool_call_id"])
        if call_id not in self._calls:  # its call was in the run that paused
            self._call({**told, "arguments": {}})
        index, place, call = self._calls.pop(call_id)
        item = self.output[place] = items.answered(call, told)
        kind = "response.mcp_call.failed" if item["status"] == "failed" else "response.mcp_call.completed"
        self._tell(kind, item_id=item["id"], output_index=index)
        self._tell("response.output_item.done", output_index=index, item=item)

    def _ask(self, told: dict[str, Any]) -> None:
        self._finish()
        run_id, index = self.subject.run_id, self._index
        self._index += 1
        if is_tool_approval(told):
            item = items.approval(run_id, self.subject.agent, told)
            self._tell("response.output_item.added", output_index=index, item=item)
        else:
            item_id = f"fc_{run_id}_{index}"
            item = items.question(run_id, item_id, "completed", told)
            place = {"item_id": item_id, "output_index": index}
            begun = items.question(run_id, item_id, "in_progress", told)
            self._tell("response.output_item.added", output_index=index, item=begun)
            self._tell("response.function_call_arguments.delta", **place, delta=item["arguments"])
            self._tell("response.function_call_arguments.done", **place, name=item["name"], arguments=item["arguments"])
        self._put(index, item)

    def _done(self, told: dict[str, Any]) -> None:
        """Say what of the answer has not been said: all of it, or its rest."""
        self._ended = told
        message: str = told["message"]
        if self._json:
            output = told.get("output")
            message = message if output is None else orjson.dumps(output).decode()
        elif "".join(self._spoken) + (self._open.text if self._open is not None else "") == message:
            return
        now = self._open.text if self._open is not None and self._open.kind == "message" else ""
        if message != now and message.startswith(now) and (now or not self._is_said(message)):
            self._say("message", orjson.dumps(message[len(now) :]))

    def _is_said(self, message: str) -> bool:
        return bool(self._spoken) and self._spoken[-1] == message

    def _close(self) -> None:
        """End what goes on: as it is where the run completed or paused, else as incomplete."""
        status = "completed" if self._failed is None else "incomplete"
        self._finish(status)
        for index, place, call in self._calls.values():
            item = self.output[place] = {**call, "status": "incomplete"}
            self._tell("response.output_item.done", output_index=index, item=item)
        self._calls.clear()

    # ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, event: str, **fields: Any) -> None:
        if self._heard:
            told = one_line(orjson.dumps({"type": event, "sequence_number": self._number, **fields}))
            self._said.append(b"event: %b\ndata: %b\n\n" % (event.encode(), told))
        self._number += 1

    def _sent(self) -> bytes:
        said, self._said = self._said, []
        return said[0] if len(said) == 1 else b"".join(said)
