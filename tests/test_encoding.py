"""Events to bytes: what an agent may yield, what is made of it, and what is refused; JSON itself is in `contracts/`."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from agenthost import events
from agenthost.encoding import encode_event, encode_host_event
from agenthost.errors import BadEvent
from agenthost.events import (
    MAX_EVENT,
    Artifact,
    Custom,
    Done,
    Error,
    Event,
    Interrupt,
    ModelChunk,
    Result,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
)

EVENTS: list[tuple[Any, str]] = [
    ("text", '{"type":"model_chunk","content":"text"}'),
    (ModelChunk("text"), '{"type":"model_chunk","content":"text"}'),
    (ModelChunk("t", reasoning="r"), '{"type":"model_chunk","content":"t","reasoning":"r"}'),
    (Think("hm"), '{"type":"think","content":"hm"}'),
    (ToolStart("add", "c1", {"a": 1}), '{"type":"tool_start","tool":"add","tool_call_id":"c1","arguments":{"a":1}}'),
    (ToolProgress("c1", [1]), '{"type":"tool_progress","tool_call_id":"c1","data":[1]}'),
    (ToolComplete("add", "c1"), '{"type":"tool_complete","tool":"add","tool_call_id":"c1","result":null,"error":null}'),
    (Interrupt("q?", interrupt_id="i"), '{"type":"interrupt","question":"q?","interrupt_id":"i"}'),
    (Usage(cost_usd=0.5),
     '{"type":"usage","input_tokens":0,"output_tokens":0,"cached_tokens":0,"reasoning_tokens":0,"cost_usd":0.5}'),
    (Artifact("a", "text/plain", text="t"), '{"type":"artifact","name":"a","media_type":"text/plain","text":"t"}'),
    (Custom("mark", 1), '{"type":"x-mark","name":"mark","data":1}'),
    (Custom("x-mark", 1), '{"type":"x-mark","name":"x-mark","data":1}'),
    (Custom("mark", [1], type="frame"), '{"type":"frame","name":"mark","data":[1]}'),
    (Result("m", {"o": 1}, "complete"), '{"type":"result","message":"m","output":{"o":1},"reason":"complete"}'),
]  # fmt: skip


@pytest.mark.parametrize(("event", "data"), EVENTS, ids=[row[1][:40] for row in EVENTS])
def test_every_event_has_one_spelling(event: Any, data: str) -> None:
    entry = encode_event(7, event)
    assert (entry.seq, entry.data.decode()) == (7, data)
    assert entry.type == json.loads(data)["type"]
    assert entry.data == events.encode_json(ModelChunk(event).payload() if isinstance(event, str) else event.payload())


def test_a_result_of_plain_text_is_not_even_encoded_since_it_is_not_sent() -> None:
    assert encode_event(1, Result("m")).data == b""
    assert json.loads(encode_event(1, Result("é")).data)["message"] == "é"
    for bad in (Result("\ud800"), Result(reason="\ud800")):
        with pytest.raises(BadEvent):
            encode_event(1, bad)


def test_a_frameworks_own_frame_keeps_its_keys() -> None:
    entry = encode_event(1, Custom("frame", {"a": 1, "type": "done"}, type="frame"))
    assert (entry.type, orjson.loads(entry.data)) == ("frame", {"a": 1, "type": "frame"})


def test_an_interrupt_without_an_id_gets_one_and_its_state_stays() -> None:
    entry = encode_event(1, Interrupt("q?", state={"secret": 1}))
    sent = orjson.loads(entry.data)
    assert sent["interrupt_id"].startswith("int_")
    assert len(sent["interrupt_id"]) == 20
    assert b"secret" not in entry.data
    assert isinstance(entry.event, Interrupt)
    assert (entry.event.interrupt_id, entry.event.state) == (sent["interrupt_id"], {"secret": 1})


def test_what_some_readers_take_for_the_end_of_a_line_is_escaped() -> None:
    for event in ("a\u2028b\u2029c\u0085d\n", Think("a\u2028b\u2029c\u0085d\n")):
        entry = encode_event(1, event)
        assert not any(end in entry.data.decode() for end in "\u2028\u2029\u0085\n\r")
        assert orjson.loads(entry.data)["content"] == "a\u2028b\u2029c\u0085d\n"


def test_letters_that_share_bytes_with_line_ends_stay() -> None:
    for text in ("Å", "â\x80", "\u2027\u202a", "\u0084\u0086", "¨©"):
        assert orjson.loads(encode_event(1, text).data)["content"] == text


def test_a_subclass_of_str_is_a_chunk_like_any() -> None:
    class Word(str):
        pass

    entry = encode_event(1, Word("w"))
    assert (entry.type, entry.data) == ("model_chunk", b'{"type":"model_chunk","content":"w"}')


class Disguised(ModelChunk):
    kind = "done"

    def payload(self) -> dict[str, Any]:
        return {"type": "done", "message": "", "reason": "complete"}


BAD: list[tuple[Any, str]] = [
    (object(), "object"),
    (b"x", "bytes"),
    (None, "NoneType"),
    ({"type": "done"}, "dict"),
    (Event(), "Event"),
    (Done("", "complete"), "Done"),
    (Error("", "", "", ""), "Error"),
    (Disguised("x"), "Disguised"),
    (ModelChunk, "type"),
    ("\ud800", "a str with a lone surrogate"),
    (Think("\ud800"), "a str with a lone surrogate"),
    (ModelChunk(3), "ModelChunk with content of int"),  # type: ignore[arg-type]  # that is the point
    (Usage(input_tokens=1.5), "Usage with a count that is not an int from 0 up"),  # type: ignore[arg-type]
    (Usage(output_tokens=-1), "Usage with a count that is not an int from 0 up"),
    (Usage(cost_usd="1"), "Usage with a cost_usd of str"),  # type: ignore[arg-type]
    (Interrupt(None), "Interrupt whose question or interrupt_id is not a str"),  # type: ignore[arg-type]
    (Result(3), "Result whose message or reason is not a str"),  # type: ignore[arg-type]
    ("x" * MAX_EVENT, "model_chunk of more than 1 MiB"),
    (Custom("big", "x" * MAX_EVENT), "x-big of more than 1 MiB"),
]


@pytest.mark.parametrize(("event", "problem"), BAD, ids=[row[1] for row in BAD])
def test_what_is_no_event_is_named_by_type_or_limit(event: Any, problem: str) -> None:
    with pytest.raises(BadEvent) as refused:
        encode_event(1, event)
    assert refused.value.message == f"the agent yielded what cannot be sent: {problem}"
    assert refused.value.hint == (
        "yield str or an event from agenthost.events whose values are JSON, at most 1 MiB each"
    )
    assert refused.value.detail == "The agent sent an event that cannot be encoded"


def test_the_largest_event_is_exactly_a_mebibyte() -> None:
    around = len(encode_event(1, "").data)
    assert len(encode_event(1, "x" * (MAX_EVENT - around)).data) == MAX_EVENT
    with pytest.raises(BadEvent):
        encode_event(1, "x" * (MAX_EVENT - around + 1))


def test_the_hosts_last_word_is_an_event_like_any() -> None:
    entry = encode_host_event(3, Error("internal error", "agent_error", "c", "r"))
    assert entry.data == (
        b'{"type":"error","error":"internal error","code":"agent_error","correlation_id":"c","run_id":"r"}'
    )
    assert encode_host_event(1, Done("m\u2028", "complete")).data == (
        b'{"type":"done","message":"m\\u2028","reason":"complete"}'
    )
