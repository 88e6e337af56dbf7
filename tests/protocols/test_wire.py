"""Bodies in and out: what is read, how strictly, and what is said of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.agents import RunResult
from agenthost.errors import BadRequest, HostError, InvalidRequest
from agenthost.protocols.wire import InvokeReply, invalid_request, invoke_reply, read_body, read_request, without_none
from agenthost.threads import Part

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def read(**fields: Any) -> Any:
    return read_request(json.dumps(fields).encode())


def test_a_prompt_is_all_it_takes() -> None:
    request = read(prompt="hello")
    assert (request.prompt, request.thread_id, request.input, request.metadata) == ("hello", None, None, {})
    assert request.content is None


def test_unknown_fields_are_passed_over_as_locus_does() -> None:
    assert read(prompt="x", temperature=1).prompt == "x"


def test_content_takes_the_place_of_a_prompt_in_text_or_parts() -> None:
    assert read(content="hello").prompt == "hello"
    request = read(
        content=[
            {"type": "text", "text": "one "},
            {"type": "data", "data": {"n": [1, None]}},
            {"type": "file", "media_type": "text/plain", "data": "aGk="},
            {"type": "file", "media_type": "image/png", "uri": "https://a.example/b.png"},
            {"type": "text", "text": "two"},
        ]
    )
    assert request.prompt == "one two"
    assert request.content == [
        Part(text="one "),
        Part(json={"n": [1, None]}),
        Part(media_type="text/plain", data=b"hi"),
        Part(media_type="image/png", uri="https://a.example/b.png"),
        Part(text="two"),
    ]


def test_a_prompt_beside_content_is_the_prompt() -> None:
    assert read(prompt="p", content="c").prompt == "p"
    both = read(prompt="p", content=[{"type": "text", "text": "c"}])
    assert (both.prompt, both.content) == ("p", [Part(text="c")])


@given(JSON)
def test_input_and_metadata_arrive_as_they_were_sent(value: Any) -> None:
    request = read(prompt="", input=value, metadata={"m": value})
    assert request.input == value
    assert request.metadata == {"m": value}


@given(st.binary(max_size=200) | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_request_or_refused_in_one_line_of_ascii(body: bytes) -> None:
    said = ""
    try:
        read_request(body)
    except (BadRequest, InvalidRequest) as refused:
        said = refused.detail
    assert said.isascii()
    assert "\n" not in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 01}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xc0\xaf"}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"/* */ {}",
        b"[" * 202 + b"]" * 202,
        b"1" * 5000,
    ],
)
def test_what_is_not_json_to_the_letter_is_400(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^the body is not JSON: "):
        read_body(body)


def test_no_body_is_422() -> None:
    with pytest.raises(InvalidRequest, match=r"^body: a JSON object is required$"):
        read_body(b"")


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([{"loc": (), "msg": "Input should be a dictionary", "type": "dict_type"}], "body: a JSON object is required"),
        ([{"loc": ("body",), "msg": "Field required", "type": "missing"}], "body: a JSON object is required"),
        ([{"loc": ("body", "prompt"), "msg": "Wrong", "type": "x"}], "prompt: Wrong"),
        ([{"loc": ("prompt", "secret"), "msg": "Wrong", "type": "x"}], "prompt: Wrong"),
        ([{"loc": ("body", "secret"), "msg": "Wrong", "type": "x"}], "body: Wrong"),
        ([{"loc": ("query", "limit"), "msg": "Wrong", "type": "x"}], "limit: Wrong"),
        ([{"loc": ("prompt",), "msg": "Value error, too odd", "type": "x"}], "prompt: too odd"),
        ([{"loc": ("prompt",), "msg": "x" * 1000, "type": "x"}], "prompt: " + "x" * 200),
        (
            [{"loc": ("content", 0), "msg": "Input tag 'secret' found", "type": "union_tag_invalid"}],
            "content: Input is none of the types that are expected",
        ),
        (
            [{"loc": ("prompt",), "msg": str(number), "type": "x"} for number in range(5)],
            "prompt: 0; prompt: 1; prompt: 2; and 2 more",
        ),
    ],
)
def test_what_is_wrong_is_said_in_our_words_and_place_names(errors: list[dict[str, Any]], said: str) -> None:
    assert invalid_request(errors).detail == said


def test_the_reply_is_locus_six_fields_then_ours_without_what_is_none() -> None:
    bare = invoke_reply(RunResult("r", "completed", "hi", "complete"))
    assert list(bare) == [
        *("message", "success", "stop_reason", "iterations", "tool_calls", "duration_ms"),
        *("run_id", "status"),
    ]
    full = invoke_reply(
        RunResult("r", "paused", "hi", "interrupt", "t", {"o": 1}, {"input_tokens": 1}, {"question": "?"})
    )
    assert list(full)[6:] == ["run_id", "thread_id", "status", "output", "usage", "interrupt"]
    for reply in (bare, full):
        assert InvokeReply.model_validate(reply).model_dump(exclude_none=True) == reply


def test_nothing_is_left_out_but_none() -> None:
    assert without_none({"a": None, "b": 0, "c": "", "d": False}) == {"b": 0, "c": "", "d": False}


def test_refusals_are_the_callers_to_read() -> None:
    assert all(issubclass(kind, HostError) and kind.public for kind in (BadRequest, InvalidRequest))


@pytest.mark.parametrize("part", ["1", '{"type":"x"}', '{"type":"text","text":""}'])
def test_five_million_parts_cost_no_more_than_reading_them(part: str) -> None:
    body = ('{"content":[' + ",".join([part] * (9_000_000 // (len(part) + 1))) + "]}").encode()
    began = time.process_time()
    read_body(body)
    reading = time.process_time() - began
    with pytest.raises(InvalidRequest) as refused:
        read_request(body)
    assert len(str(refused.value)) < 1000
    assert time.process_time() - began < 0.5 + 4 * reading  # it was 37 s and 5 GB


@pytest.mark.parametrize("value", ["[]", '{"a":1}'])
def test_wide_metadata_is_looked_at_once(value: str) -> None:
    body = ('{"prompt":"p","metadata":{"a":[' + ",".join([value] * (9_000_000 // (len(value) + 1))) + "]}}").encode()
    began = time.process_time()
    read_body(body)
    reading = time.process_time() - began
    assert read_request(body).prompt == "p"
    assert time.process_time() - began < 0.5 + 4 * reading
