"""Every refusal is a problem body: whole, small, with an id that the log has too, and nothing of what was sent."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthost.errors import HostError, InvalidRequest, TooManyRuns, Unauthorized, catalogue
from agenthost.http.problems import MAX_DETAIL, is_under, problem
from tests.actors import SECRET
from tests.distributions import Site
from tests.serving import Hosted, actors, agents_toml, bearer, key, secret
from tests.wire import Broken, Header, Reply, Wire, ask, request

FIELDS = {"type", "title", "status", "detail", "code", "correlation_id"}
MARK = "MrkQ7zXw"
"""What no error may repeat, in any case."""


def check(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The body of a problem, which must be whole, small and without the mark."""
    assert reply.status == status
    assert reply["content-type"] == "application/problem+json"
    assert reply["cache-control"] == "no-store"
    assert len(reply.body) <= 4096
    body: dict[str, Any] = reply.json
    assert set(body) - {"run_id"} == FIELDS
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"urn:agenthost:error:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["correlation_id"]
    told = (repr(reply.headers) + reply.body.decode()).lower()
    assert MARK.lower() not in told
    return body


JSON: Header = ("content-type", "application/json")
DEEP = b'{"input": ' + b"[" * 300 + f'"{MARK}"'.encode() + b"]" * 300 + b"}"

BODIES: list[tuple[bytes, int]] = [
    (b"", 422),
    (b"null", 422),
    (f'"{MARK}"'.encode(), 422),
    (f'["{MARK}"]'.encode(), 422),
    (f'{{"{MARK}": 1}}'.encode(), 422),
    (f'{{"prompt": {{"{MARK}": 1}}}}'.encode(), 422),
    (f'{{"prompt": ["{MARK}"]}}'.encode(), 422),
    (f'{{"prompt": "x", "thread_id": "{MARK * 50}"}}'.encode(), 422),
    (f'{{"prompt": "x", "thread_id": "{MARK}\\u0000"}}'.encode(), 422),
    (f'{{"prompt": "x", "metadata": "{MARK}"}}'.encode(), 422),
    (f'{{"prompt": "x", "metadata": {{"{MARK}": {"9" * 40}}}}}'.encode(), 422),
    (f'{{"content": "", "prompt": 7, "{MARK}": "{MARK}"}}'.encode(), 422),
    (f'{{"content": [{{"type": "{MARK}"}}]}}'.encode(), 422),
    (f'{{"content": [{{"{MARK}": "text"}}]}}'.encode(), 422),
    (f'{{"content": [{{"type": "file", "media_type": "{MARK}"}}]}}'.encode(), 422),
    (f'{{"content": [{{"type": "file", "media_type": "x", "data": "{MARK}!"}}]}}'.encode(), 422),
    (f'{{"content": [{{"type": "file", "media_type": "x", "data": "é{MARK}"}}]}}'.encode(), 422),
    (f'{{"content": [{{"type": "file", "media_type": "{MARK * 40}", "uri": "x"}}]}}'.encode(), 422),
    (f'{{"prompt": "{MARK}'.encode(), 400),
    (f'{{"prompt": {MARK}}}'.encode(), 400),
    (f'{{"prompt": "\\{MARK}"}}'.encode(), 400),
    (f'{{"prompt": "{MARK}"}} {MARK}'.encode(), 400),
    (f'{{"prompt": "{MARK}\xff"}}'.encode("latin-1"), 400),
    (f'{{"prompt": "{MARK}\\ud800"}}'.encode(), 400),
    (f'{{"prompt": NaN, "x": "{MARK}"}}'.encode(), 400),
    (b"\xef\xbb\xbf" + f'{{"prompt": "{MARK}"}}'.encode(), 400),
    (f'{{"prompt": "{MARK}"}}'.encode("utf-16"), 400),
    (f'{{"prompt": "{MARK}"}}'.encode("utf-32"), 400),
    (DEEP, 400),
    (b"[" * 100_000, 400),
    (b'{"a":' * 50_000, 400),
    (b'{"prompt": ' + b"9" * 100_000 + b"}", 400),
    (b'{"prompt": 1' + b"0" * 4000 + b"}", 422),
    (b'{"metadata": {"n": 1e999999999}, "prompt": 5}', 422),
    (b"\x00" * 100, 400),
    (b'{"prompt": "\x00"}', 400),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=[repr(body[:40]) for body, _status in BODIES])
def test_a_body_that_is_not_right_is_refused_at_once_and_not_repeated(hosted: Hosted, body: bytes, status: int) -> None:
    for path in ("/agents/say/invoke", "/agents/say/stream"):
        reply = ask(hosted.port, "POST", path, [*bearer("root").items(), JSON], body)
        check(reply, status, "bad_request" if status == 400 else "invalid_request")
        assert reply.seconds < 0.25


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "body: a JSON object is required"),
        (b"[]", "body: a JSON object is required"),
        (b"{}", "give a prompt, content or input"),
        (b'{"prompt": 1}', "prompt: Input should be a valid string"),
        (b'{"prompt": "x", "thread_id": ""}', "thread_id: String should have at least 1 character"),
        (
            b'{"prompt": "x", "thread_id": "\\u202e"}',
            "thread_id: a thread id holds no control, bidirectional or surrogate characters",
        ),
        (b'{"content": [{"type": "file", "media_type": "x"}]}', "content: a file has either data or uri"),
        (b'{"content": [{"type": "file", "media_type": "x", "data": "?"}]}', "content: a file's data is base64"),
        (b'{"prompt": "x", "metadata": {"n": 99999999999999999999}}', "metadata holds an int over 64 bits"),
    ],
)
def test_a_422_says_what_is_wrong_and_where(hosted: Hosted, body: bytes, detail: str) -> None:
    reply = ask(hosted.port, "POST", "/agents/say/invoke", [*bearer("root").items(), JSON], body)
    assert check(reply, 422, "invalid_request")["detail"] == detail


def test_input_that_does_not_meet_the_schema_is_told_which_rule_and_not_what_was_sent(hosted: Hosted) -> None:
    for sent, detail in (
        ({"item": MARK * 10}, "input.item does not meet 'maxLength' (20)"),
        ({"item": "x", MARK: 1}, "input does not meet 'additionalProperties' (False)"),
        ({"item": "x", "count": MARK}, "input.count does not meet 'type' ('integer')"),
        (MARK, "input does not meet 'type' ('object')"),
    ):
        reply = ask(hosted.port, "POST", "/agents/structured/invoke", bearer("root"), {"input": sent})
        assert check(reply, 422, "invalid_request")["detail"] == detail


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", f"/{MARK}", {}, 404, "not_found"),
        ("GET", f"/agents/{MARK}", {}, 404, "not_found"),
        ("GET", f"/agents/{MARK}/health", {}, 404, "not_found"),
        ("GET", f"/agents/say/{MARK}", {}, 404, "not_found"),
        ("GET", f"/agents/say/threads/{MARK}", {}, 404, "not_found"),
        ("GET", f"/agents/say/threads/{MARK * 30}", {}, 422, "invalid_request"),
        ("DELETE", f"/agents/say/threads/{MARK}%00", {}, 422, "invalid_request"),
        ("GET", f"/agents/say/threads?limit={MARK}", {}, 422, "invalid_request"),
        ("GET", f"/agents/say/threads?limit=0&{MARK}={MARK}", {}, 422, "invalid_request"),
        ("GET", f"/agents/say/threads?cursor={MARK}", {}, 422, "invalid_request"),
        ("GET", f"/agents/say/threads?cursor={MARK * 100}", {}, 422, "invalid_request"),
        ("GET", f"/agents/say/threads/%ff{MARK}", {}, 400, "bad_request"),
        ("PUT", "/agents/say/invoke", {}, 405, "method_not_allowed"),
        ("POST", f"/agents/say/invoke/?{MARK}", {}, 404, "not_found"),
        ("GET", "/agents", {"host": f"{MARK}.example"}, 421, "wrong_host"),
        ("POST", "/agents/say/invoke", {"origin": f"https://{MARK}.example"}, 403, "forbidden"),
        ("POST", "/agents/say/invoke", {"content-type": MARK, "content-length": "2"}, 415, "unsupported_media_type"),
        ("GET", "/agents", {"authorization": f"Bearer {MARK}"}, 401, "unauthorized"),
        ("GET", "/agents", {"authorization": f"{MARK} x"}, 401, "unauthorized"),
    ],
)  # fmt: skip
def test_a_refusal_repeats_no_path_query_or_header(
    hosted: Hosted, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    reply = ask(
        hosted.port,
        method,
        path,
        {**bearer("root"), f"x-{MARK}": MARK, "cookie": MARK, **headers},
        b"{}" if "content-length" in headers else None,
    )
    check(reply, status, code)


def test_a_key_without_the_scope_is_not_told_what_exists(hosted: Hosted) -> None:
    replies = [ask(hosted.port, "GET", f"/agents/{name}/", bearer("bob")) for name in ("mirror", MARK)]
    details = [check(reply, 403, "forbidden")["detail"] for reply in replies]
    assert details == ["'bob' may not use this agent"] * 2
    assert check(ask(hosted.port, "GET", "/plugins", bearer("bob")), 403, "forbidden")["detail"] == (
        "'bob' may not operate this host"
    )


def test_a_405_says_what_is_allowed(hosted: Hosted) -> None:
    assert ask(hosted.port, "PUT", "/agents/say/invoke", bearer("root"))["allow"] == "POST"
    assert ask(hosted.port, "POST", "/agents", bearer("root"))["allow"] == "GET"


def test_an_agent_that_fails_is_500_with_the_run_in_body_and_headers_and_not_a_word_of_its_own(
    hosted: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {**bearer("root")}
    reply = ask(hosted.port, "POST", "/agents/fail/invoke", headers, {"prompt": "now", "thread_id": "failing é"})
    body = check(reply, 500, "agent_error")
    assert SECRET not in reply.body.decode()
    assert "RuntimeError" not in reply.body.decode()
    assert reply["x-run-id"] == body["run_id"]
    assert reply["content-location"] == f"/agents/fail/runs/{body['run_id']}"
    assert reply["x-thread-id"] == "failing%20%C3%A9"
    (record,) = [record for record in caplog.records if SECRET in caplog.text and record.name == "agenthost.runs"]
    assert record.correlation_id == body["correlation_id"]
    assert record.run_id == body["run_id"]


def test_an_agent_that_ends_the_process_ends_its_run(tmp_path: Path) -> None:
    with Hosted(
        agents_toml(
            tmp_path, actors("quit_process", "say").replace("[agents.quit_process]", "[agents.quit]") + key("root")
        )
    ) as host:
        reply = ask(host.port, "POST", "/agents/quit/invoke", bearer("root"), {"prompt": ""})
        check(reply, 500, "agent_error")
        assert ask(host.port, "POST", "/agents/say/invoke", bearer("root"), {"prompt": "x"}).status == 200


# ── a plugin's routes ────────────────────────────────────────────────────────────────────────────────────────────────

MISBEHAVING = """
import asyncio
from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse
from agenthost.errors import HostError, NotFound
from agenthost.hookspecs import Dialect, hookimpl

def routes(host, agent):
    router = APIRouter()

    @router.post("/raise")
    async def raises():
        raise ZeroDivisionError("the database password is hunter2")

    @router.post("/exit")
    async def exits():
        raise ExceptionGroup("many", [ValueError("hunter2")])

    @router.post("/known")
    async def known():
        raise NotFound("no such order")

    @router.post("/internal")
    async def internal():
        raise HostError("hunter2 is wrong", hint="hunter3")

    @router.post("/status/{code}")
    async def status(code: int):
        raise HTTPException(code, "hunter2", headers={"X-Mood": "low"})

    @router.post("/half")
    async def half():
        async def pieces():
            yield b"half of it"
            raise ZeroDivisionError("hunter2")
        return StreamingResponse(pieces(), media_type="text/plain")

    return router

async def bare(scope, receive, send):
    path = scope["path"]
    if path.endswith("/raise"):
        raise ZeroDivisionError("hunter2")
    if path.endswith("/plain"):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})
        return
    length = [(b"content-length", b"100")] if path.endswith("/declared") else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if path.endswith("/refuse"):
        raise NotFound("no more of it")
    raise ZeroDivisionError("hunter2")

def shaped(error, correlation_id):
    if error.code == "unauthorized":
        return 401, {"Content-Type": "application/json"}, b'{"shape": "own", "id": "%s"}' % correlation_id.encode()
    if error.code == "not_found":
        raise ZeroDivisionError("hunter2")
    return 400, {"Content-Type": "text/\\u2603"}, b""

@hookimpl
def register_protocols(register):
    register(Dialect("acme", prefix="/acme", endpoints=routes))
    register(Dialect("acme-all", prefix="/acme-all", endpoints=routes, scope="host"))
    register(Dialect("bare", prefix="/bare", endpoints=lambda host, agent: bare))
    register(Dialect("shaped", prefix="/shaped", endpoints=routes, scope="host", render_error=shaped))
"""


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("misbehaving")
    with Site(folder / "site") as site:
        site.install("acme", plugins={"acme": "acme_misbehaving"}, modules={"acme_misbehaving": MISBEHAVING})
        with Hosted(agents_toml(folder, actors("say") + key("root"))) as host:
            yield host


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "path", ["/agents/say/acme/raise", "/acme-all/raise", "/agents/say/bare/raise", "/acme-all/exit"]
)
def test_a_plugins_route_that_raises_is_a_500_with_an_id_and_logged_once_with_its_traceback(
    misbehaving: Hosted, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = ask(misbehaving.port, "POST", path, bearer("root"))
    body = check(reply, 500, "internal")
    assert "hunter2" not in reply.body.decode()
    assert reply["x-request-id"] == body["correlation_id"]
    (record,) = errors(caplog)
    assert record.levelno == logging.ERROR
    assert record.request_id == body["correlation_id"]
    assert record.exc_info is not None
    assert record.exc_info[0] in {ZeroDivisionError, ExceptionGroup}


def test_a_plugins_route_may_raise_the_hosts_own_errors(misbehaving: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    reply = ask(misbehaving.port, "POST", "/agents/say/acme/known", bearer("root"))
    assert check(reply, 404, "not_found")["detail"] == "no such order"
    assert errors(caplog) == []
    reply = ask(misbehaving.port, "POST", "/agents/say/acme/internal", bearer("root"))
    assert check(reply, 500, "internal")["detail"] == "Internal error"
    (record,) = errors(caplog)
    assert "hunter2 is wrong" in record.getMessage()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"), (401, "unauthorized"), (402, "bad_request"), (403, "forbidden"), (404, "not_found"),
        (405, "method_not_allowed"), (413, "body_too_large"), (415, "unsupported_media_type"), (418, "bad_request"),
        (422, "invalid_request"), (429, "bad_request"), (500, "internal"), (501, "internal"), (503, "internal"),
    ],
)  # fmt: skip
def test_a_frameworks_exception_keeps_its_status_and_headers(misbehaving: Hosted, status: int, code: str) -> None:
    reply = ask(misbehaving.port, "POST", f"/agents/say/acme/status/{status}", bearer("root"))
    check(reply, status, code)
    assert reply["x-mood"] == "low"
    assert "hunter2" not in reply.body.decode()


@pytest.mark.parametrize("path", ["acme/half", "bare/half", "bare/declared", "bare/refuse"])
def test_a_failure_after_the_reply_began_cuts_the_connection(
    misbehaving: Hosted, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Wire(misbehaving.port) as wire:
        wire.send(request("POST", f"/agents/say/{path}", bearer("root")))
        with pytest.raises(Broken, match="was closed"):
            wire.reply()
    traced = [record for record in errors(caplog) if record.exc_info]
    assert len(traced) == 1
    assert all(record.request_id for record in traced)


def test_an_app_that_sends_no_headers_at_all_gets_the_hosts(misbehaving: Hosted) -> None:
    reply = ask(misbehaving.port, "GET", "/agents/say/bare/plain", bearer("root"))
    assert reply.body == b"plain"
    assert reply["x-request-id"]


def test_a_dialect_shapes_its_own_errors(misbehaving: Hosted) -> None:
    reply = ask(misbehaving.port, "POST", "/shaped/known")
    assert reply.status == 401
    assert reply["content-type"] == "application/json"
    assert reply["www-authenticate"].startswith("Bearer")
    assert reply.json == {"shape": "own", "id": reply["x-request-id"]}
    assert ask(misbehaving.port, "POST", "/shapedx").json["code"] == "unauthorized", "the prefix ends at a slash"


@pytest.mark.parametrize(("path", "status", "code"), [("known", 404, "not_found"), ("raise", 500, "internal")])
def test_a_dialect_that_fails_to_shape_an_error_does_not_keep_it_from_the_client(
    misbehaving: Hosted, path: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(ask(misbehaving.port, "POST", f"/shaped/{path}", bearer("root")), status, code)
    assert "protocol 'shaped' failed to render an error" in caplog.text


# ── the function ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [kind for kind in catalogue() if kind.__init__ is HostError.__init__])
def test_every_error_has_a_body_under_4_kb_whatever_it_says(kind: type[HostError]) -> None:
    long: Callable[[str], int] = lambda text: len(problem(kind(text * 5000), "c" * 32)[2])  # noqa: E731 - a table's formula
    assert max(map(long, ["x", "é", "\x00", "\U0001f600", "\u2028", '"'])) <= 4096
    assert MAX_DETAIL < 5000


def test_only_what_is_public_is_told() -> None:
    assert b"secret" not in problem(HostError("secret"), "1")[2]
    assert b"said" in problem(InvalidRequest("said"), "1")[2]


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    for seconds, header in ((0.2, b"1"), (1.0, b"1"), (2.6, b"3")):
        assert (b"retry-after", header) in problem(TooManyRuns(retry_after=seconds), "1")[1]
    assert problem(TooManyRuns(), "1")[1] == [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
    ]
    assert any(re.match(rb"Bearer ", value) for _name, value in problem(Unauthorized(), "1")[1])


def test_where_a_prefix_ends() -> None:
    assert is_under("/v1", "/v1")
    assert is_under("/v1/models", "/v1")
    assert is_under("/anything", "")
    assert not is_under("/v11", "/v1")


def test_no_key_is_ever_told(hosted: Hosted) -> None:
    reply = ask(hosted.port, "GET", "/nothing", bearer("root"))
    assert secret("root") not in repr(reply)
