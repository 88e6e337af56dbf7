"""A conversation: whose it is, what may name it, what was said in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.threads import MAX_THREAD_ID, Message, Part, ThreadKey, thread_id_problem

GOOD = [
    "t",
    "a_b",
    "a.b",
    "A_B",
    "..",
    "/",
    "%2e",
    "../../etc",
    "x" * MAX_THREAD_ID,
    "é",
    "e\u0301",
    "世界",
    "🙂",
    " ",
    "a b",
    "ann:t",
]


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_a_thread_may_be_called_anything_that_can_be_seen(name: str) -> None:
    assert thread_id_problem(name) is None


BAD = [
    ("", "a thread id has at least one character"),
    ("x" * (MAX_THREAD_ID + 1), "a thread id has at most 200 characters"),
    *(
        (f"a{one}b", "a thread id holds no control, bidirectional or surrogate characters")
        for one in "\0\n\r\t\x1f\x7f\x85\u200b\u200e\u2028\u2029\u202e\u2066\ufeff\ud800\U000e0001"
    ),
]


@pytest.mark.parametrize(("name", "problem"), BAD, ids=[ascii(row[0][:5]) for row in BAD])
def test_but_nothing_that_hides_or_cannot_be_sent(name: str, problem: str) -> None:
    assert thread_id_problem(name) == problem


@given(st.text())
def test_what_may_be_a_thread_can_be_encoded_and_stands_on_one_line(name: str) -> None:
    if thread_id_problem(name) is None:
        assert 0 < len(name.encode()) <= 4 * MAX_THREAD_ID
        assert len(name.splitlines()) == 1


@given(st.tuples(st.text("ab:/"), st.text("ab:/"), st.text("ab:/")), st.tuples(*[st.text("ab:/")] * 3))
def test_two_keys_have_one_digest_only_if_all_three_parts_are_the_same(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    first, second = ThreadKey(*one), ThreadKey(*two)
    assert (first.digest == second.digest) is (first == second) is (one == two)


def test_a_digest_is_32_hex_digits_and_the_same_for_ever() -> None:
    assert ThreadKey("ann", "echo", "t").digest == "a4fd39a40f246574c62a7bcc4fe44fec"
    assert ThreadKey("ann", "echo", "é").digest != ThreadKey("ann", "echo", "e\u0301").digest


PARTS = [
    (Part(text="t"), {"type": "text", "text": "t"}),
    (Part(text=""), {"type": "text", "text": ""}),
    (Part(media_type="image/png", data=b"\0\xff"), {"type": "file", "media_type": "image/png", "data": "AP8="}),
    (Part(media_type="image/png", uri="s3://b/k"), {"type": "file", "media_type": "image/png", "uri": "s3://b/k"}),
    (Part(json={"a": [1]}), {"type": "data", "data": {"a": [1]}}),
    (Part(), {"type": "data", "data": None}),
]


@pytest.mark.parametrize(("part", "raw"), PARTS, ids=[row[1]["type"] for row in PARTS])
def test_a_part_and_its_json_are_the_same(part: Part, raw: dict[str, object]) -> None:
    assert part.to_json() == raw
    assert Part.from_json(json.loads(json.dumps(raw))) == part


@pytest.mark.parametrize("raw", [{}, {"type": "sound"}, {"type": "file", "data": "no base64!"}], ids=str)
def test_json_that_is_no_part_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown part type|base64|Invalid|padding"):
        Part.from_json(raw)


def test_a_messages_text_is_its_text_parts_joined() -> None:
    assert Message.of("user", "hi").text == "hi"
    assert Message("user", (Part(text="a"), Part(json=1), Part(text="b"))).text == "ab"
    assert Message("user").text == Message("user", (Part(json=1),)).text == ""
    assert Message.of("tool", "r", tool_call_id="c", name="t").tool_call_id == "c"
