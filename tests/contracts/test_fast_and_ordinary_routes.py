"""`/invoke` and `/stream` answer the same whether they take the fast path or the ordinary FastAPI routes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.actors import CANCELLED, HOLDING, wait_for
from tests.serving import Hosted, actors, agents_toml, bearer, key
from tests.wire import Broken, Header, Reply, Wire, chunked, request

Pair = tuple[Hosted, Hosted]

JSON: Header = ("content-type", "application/json")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The same host twice: with the fast path, and without."""
    text = (
        actors("say", "everything", "mirror", "fail", "hold", "asks", "Structured")
        + key("root")
        + key("bob", agents='["say"]')
    )
    path = agents_toml(tmp_path_factory.mktemp("pair"), text, server='max_body = "100kB"\n')
    with Hosted(path) as fast, Hosted(path, fast=False) as ordinary:
        yield fast, ordinary


VOLATILE = ("date", "x-request-id", "x-run-id", "content-location")
IDS = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b")
DURATION = re.compile(r'"duration_ms":[0-9.e-]+')


def told(reply: Reply) -> dict[str, Any]:
    """What a reply says, without what differs from run to run."""
    return {
        "status": reply.status,
        "headers": sorted(
            (name, IDS.sub("id", value)) for name, value in reply.headers if name not in {*VOLATILE, "content-length"}
        ),
        "named": sorted(name for name, _value in reply.headers if name in VOLATILE),
        "body": IDS.sub("id", DURATION.sub("duration", reply.body.decode())),
    }


def same(pair: Pair, raw: bytes) -> dict[str, Any]:
    """Send the same bytes to both; the answer, which must be the same."""
    replies = []
    for host in pair:
        with Wire(host.port) as wire:
            wire.send(raw)
            replies.append(told(wire.reply()))
    assert replies[0] == replies[1]
    return replies[0]


def post(path: str, body: bytes, *headers: Header, who: str = "root") -> bytes:
    return request("POST", path, [*bearer(who).items(), *(headers or (JSON,))], body)


BODIES = [
    b'{"prompt": "hello world"}',
    b' {"prompt":"x"} \n',
    '{"prompt": "é \u2028 \U0001f600"}'.encode(),
    b'{"prompt": "x", "thread_id": "t"}',
    b'{"prompt": "y", "thread_id": "t"}',
    '{"prompt": "y", "thread_id": "é/ %"}'.encode(),
    b'{"prompt": "x", "metadata": {"a": [1, 2.5, null, true, {"b": ""}]}}',
    b'{"prompt": "x", "metadata": {"big": 18446744073709551615}}',
    b'{"prompt": "x", "metadata": {"big": 18446744073709551616}}',
    b'{"input": {"item": "pen", "count": 2}}',
    b'{"input": {"item": "pen", "count": 0}}',
    b'{"input": {"item": 7}}',
    b'{"input": null}',
    b'{"input": 1e999}',
    b'{"content": "text"}',
    b'{"content": [{"type": "text", "text": "a"}, {"type": "data", "data": {"x": 1}}]}',
    b'{"content": [{"type": "file", "media_type": "a/b", "data": "aGk="}]}',
    b'{"content": [{"type": "file", "media_type": "a/b", "data": "?"}]}',
    '{"content": [{"type": "file", "media_type": "a/b", "data": "é"}]}'.encode(),
    b'{"content": [{"type": "file", "media_type": "a/b"}]}',
    b'{"content": [{"type": "nonsense"}]}',
    b'{"content": [{}]}',
    b'{"content": [1, 2, 3, 4, 5]}',
    b'{"content": {}}',
    b'{"content": []}',
    b'{"prompt": "p", "content": "c", "unknown": 1}',
    b'{"prompt": "p", "prompt": "q"}',
    b'{"prompt": 1}',
    b'{"prompt": null}',
    b'{"prompt": ["x"]}',
    b'{"prompt": "x", "thread_id": ""}',
    b'{"prompt": "x", "thread_id": 7}',
    b'{"prompt": "x", "thread_id": "a\\u0000b"}',
    b'{"prompt": "x", "thread_id": "' + b"a" * 201 + b'"}',
    b'{"prompt": "x", "metadata": null}',
    b'{"prompt": "x", "metadata": []}',
    b'{"prompt": 1, "thread_id": 2, "metadata": 3, "content": 4}',
    b"{}",
    b"[]",
    b"null",
    b"0",
    b'"text"',
    b"",
    b" ",
    b"{",
    b"[" * 300,
    b'{"prompt": "\xff"}',
    b'{"prompt": "\\ud83d"}',
    b'{"prompt": NaN}',
    b"\xef\xbb\xbf{}",
    b'{"prompt": ' + b"1" * 5000 + b"}",
    b'{"prompt": "' + b"x" * 99_000 + b'"}',
    b'{"prompt": "' + b"x" * 100_000 + b'"}',
]


@pytest.mark.parametrize("path", ["invoke", "stream"])
@pytest.mark.parametrize("agent", ["say", "everything", "mirror", "fail", "structured"])
def test_every_body_is_answered_the_same(pair: Pair, agent: str, path: str) -> None:
    statuses = {same(pair, post(f"/agents/{agent}/{path}", body))["status"] for body in BODIES}
    assert {400, 413, 422} < statuses


@pytest.mark.parametrize("path", ["invoke", "stream"])
def test_every_refusal_before_the_body_is_the_same(pair: Pair, path: str) -> None:
    body = b'{"prompt": "x"}'
    where = f"/agents/say/{path}"
    root = bearer("root").items()
    seen = [
        same(pair, post(f"/agents/mirror/{path}", body, who="bob"))["status"],
        same(pair, post(f"/agents/nobody/{path}", body))["status"],
        same(pair, post(where, body, JSON, ("origin", "https://evil.example")))["status"],
        same(pair, post(where, body, JSON, ("host", "evil.example")))["status"],
        same(pair, request("POST", where, [JSON], body))["status"],
        *(same(pair, request(method, where, root, b"{}"))["status"] for method in ("PUT", "PATCH", "DELETE")),
        *(same(pair, request(method, where, root))["status"] for method in ("GET", "OPTIONS", "TRACE", "POST")),
        same(pair, post(where + "/", body))["status"],
        same(pair, post(where + "%0A", body))["status"],
    ]
    assert seen == [403, 404, 403, 421, 401, 415, 415, 415, 405, 405, 405, 422, 404, 422]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        'application/json; charset="utf-16"',
        "Application/JSON;",
        "application/json ; x",
        "application/ld+json",
        "application/+json",
        "application/x.y-z+json; a=b; c=d",
        "application/json;;;",
        "text/plain",
        "application/json, text/plain",
        "application/json\t",
        "application /json",
        "",
    ],
)
def test_every_type_of_body_is_answered_the_same(pair: Pair, kind: str) -> None:
    same(pair, post("/agents/say/invoke", b'{"prompt": "x"}', ("content-type", kind)))


def test_chunked_bodies_are_answered_the_same(pair: Pair) -> None:
    headers: list[Header] = [*bearer("root").items(), JSON, ("transfer-encoding", "chunked")]
    for pieces in ([b'{"pro', b'mpt": "x"}'], [b"{"], [], [b"x" * 60_000, b"y" * 60_000]):
        same(pair, request("POST", "/agents/mirror/invoke", headers, chunked(*pieces)))


@pytest.mark.parametrize("path", ["invoke", "stream"])
@pytest.mark.parametrize("thread", [b"", b', "thread_id": "paused"'], ids=["without a thread", "on a thread"])
def test_a_run_that_pauses_is_answered_the_same(pair: Pair, path: str, thread: bytes) -> None:
    answer = same(pair, post(f"/agents/asks/{path}", b'{"prompt": "x", "input": 2' + thread + b"}"))
    assert answer["status"] == 200
    assert "really?" in answer["body"]


KEYS = ["k", "x" * 200, " k ", "", " ", "x" * 201, "a b", "a\tb", "\x7f", "\u00e9", b"\xff"]


@pytest.mark.parametrize("path", ["invoke", "stream"])
@pytest.mark.parametrize("agent", ["everything", "fail", "asks"])
def test_every_key_is_answered_the_same_and_the_second_time_as_the_first(pair: Pair, agent: str, path: str) -> None:
    statuses = set()
    for key_ in KEYS:
        raw = post(f"/agents/{agent}/{path}", b'{"prompt": "x"}', JSON, ("idempotency-key", key_))
        first = same(pair, raw)
        statuses.add(first["status"])
        if first["status"] in {200, 500}:
            assert same(pair, raw)["body"] == first["body"]
            other = post(f"/agents/{agent}/{path}", b'{"prompt": "y"}', JSON, ("idempotency-key", key_))
            assert same(pair, other)["status"] == 422
    assert statuses == {500 if (agent, path) == ("fail", "invoke") else 200, 422, 400}
    twice = post(f"/agents/{agent}/{path}", b'{"prompt": "x"}', JSON, *[("idempotency-key", "k")] * 2)
    assert same(pair, twice)["status"] == 422


@pytest.mark.parametrize("path", ["hold/invoke", "hold/stream"])
def test_a_client_that_leaves_the_ordinary_route_cancels_the_agent_too(pair: Pair, path: str) -> None:
    prompt = f"ordinary {path}"
    with Wire(pair[1].port) as wire:
        wire.send(request("POST", f"/agents/{path}", bearer("root"), {"prompt": prompt}))
        wait_for(HOLDING, prompt)
    left = time.monotonic()
    assert wait_for(CANCELLED, prompt) - left <= 0.25


@pytest.mark.parametrize("path", ["invoke", "stream"])
def test_a_body_that_does_not_come_whole_is_no_request_on_either(pair: Pair, path: str) -> None:
    for host in pair:
        with Wire(host.port) as wire:
            headers = [*bearer("root").items(), JSON, ("content-length", "100")]
            wire.send(request("POST", f"/agents/hold/{path}", headers, b'{"prompt": "not whole"}'))
            wire.socket.shutdown(1)
            with pytest.raises(Broken):
                wire.reply()
        host.tasks()
    assert "not whole" not in HOLDING


NAMES = st.sampled_from(["prompt", "content", "thread_id", "metadata", "input", "type", "text", "data", "x"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(max_size=20) | VALUES,
        "content": VALUES
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["text", "file", "data", "odd"])},
                optional=dict.fromkeys(("text", "data", "uri", "media_type"), VALUES),
            ),
            max_size=3,
        ),
        "thread_id": st.text(max_size=5) | VALUES,
        "metadata": st.dictionaries(st.text(max_size=4), VALUES, max_size=3) | VALUES,
        "input": VALUES,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=SHAPED | VALUES, path=st.sampled_from(["mirror/invoke", "mirror/stream", "structured/invoke"]))
def test_any_json_is_answered_the_same(pair: Pair, value: Any, path: str) -> None:
    body = json.dumps(value).encode("utf-8", "surrogatepass")
    assert same(pair, post(f"/agents/{path}", body))["status"] in {200, 400, 422}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=60))
def test_any_bytes_are_answered_the_same(pair: Pair, body: bytes) -> None:
    assert same(pair, post("/agents/say/invoke", body))["status"] in {200, 400, 422}
