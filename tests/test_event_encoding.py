"""What agents yield is encoded alike by the host and by a worker; what they may yield is in `test_encoding`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthost.encoding import encode_event, encode_json
from agenthost.errors import BadEvent
from agenthost.event_encoding import encode_event_plainly, encode_question_state, encode_state
from agenthost.events import Interrupt, Result
from agenthost.events import encode_json as encode_json_plainly
from tests.test_encoding import BAD, EVENTS

TEXTS = ["", "plain", "é \u2028 \u0085 \0 \x1f \x7f / \\ \" '", "\U0001f600", "a" * 10000]


@pytest.mark.parametrize(("event", "data"), EVENTS, ids=[row[1][:40] for row in EVENTS])
def test_both_encoders_write_the_same_bytes(event: Any, data: str) -> None:
    assert encode_event_plainly(7, event) == encode_event(7, event)
    assert encode_event_plainly(7, event).data.decode() == data


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:10]))
def test_both_encoders_write_the_same_text(text: str) -> None:
    assert encode_event_plainly(1, text) == encode_event(1, text)


@pytest.mark.parametrize(("event", "problem"), BAD, ids=[row[1] for row in BAD])
def test_both_encoders_refuse_the_same(event: Any, problem: str) -> None:
    with pytest.raises(BadEvent) as refused:
        encode_event_plainly(1, event)
    assert refused.value.message == f"the agent yielded what cannot be sent: {problem}"


RESULTS = [
    (Result("m"), {"message": "m", "reason": "complete"}),
    (Result(reason='"'), {"reason": '"'}),
    (Result("é", {"o": 1}), {"message": "é", "output": {"o": 1}, "reason": "complete"}),
]


@pytest.mark.parametrize(("result", "told"), RESULTS, ids=lambda value: str(value)[:20])
def test_a_worker_encodes_every_result_since_it_is_sent(result: Result, told: Any) -> None:
    data = encode_event_plainly(1, result).data
    assert json.loads(data) == {"type": "result", **told}
    assert data == encode_json_plainly(result.payload())


@pytest.mark.parametrize("encode", [encode_json, encode_json_plainly], ids=["host", "worker"])
def test_state_is_one_json_object_of_at_most_a_mebibyte(encode: Any) -> None:
    assert encode_state({"a": (1, None)}, encode) == b'{"a":[1,null]}'
    for state, problem in (
        ([], "list"),
        ({"a": object()}, "object"),
        ({"a": "x" * (1 << 20)}, "more than 1 MiB"),
    ):
        with pytest.raises(BadEvent, match=f"ctx.state cannot be kept: {problem}"):
            encode_state(state, encode)


@pytest.mark.parametrize("encode", [encode_json, encode_json_plainly], ids=["host", "worker"])
def test_a_questions_state_is_json_of_at_most_a_mebibyte(encode: Any) -> None:
    assert encode_question_state(Interrupt("q", state=[1]), encode) == b"[1]"
    for state, problem in ((object(), ": object"), ("x" * (1 << 20), " of more than 1 MiB")):
        with pytest.raises(BadEvent, match=f"Interrupt.state{problem}"):
            encode_question_state(Interrupt("q", state=state), encode)
