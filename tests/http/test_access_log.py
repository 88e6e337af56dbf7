"""One line per request, and nothing in it that a request could forge."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest

from agenthost.http.access_log import AccessLog
from tests.actors import CANCELLED, HOLDING, wait_for
from tests.serving import Hosted, actors, agents_toml, bearer, key
from tests.wire import Wire, ask, request


def logged(tmp_path: Path, log_format: str, paths: list[tuple[str, str, dict[str, str]]]) -> list[str]:
    """The lines that these requests leave, in order."""
    stream = io.StringIO()
    log = AccessLog(log_format, stream)
    with Hosted(agents_toml(tmp_path, actors("say", "hold") + key("root")), access_log=log) as host:
        for method, path, headers in paths:
            ask(host.port, method, path, headers, {"prompt": "x"} if method == "POST" else None)
    return stream.getvalue().splitlines()


def test_a_line_says_who_asked_which_agent_which_run_and_how_it_went(tmp_path: Path) -> None:
    invoke, refused, missing = logged(
        tmp_path,
        "text",
        [
            ("POST", "/agents/say/invoke", bearer("root")),
            ("POST", "/agents/say/invoke", {}),
            ("GET", "/agents/none", bearer("root")),
        ],
    )
    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [0-9a-f]{16} "
    assert re.fullmatch(at + r"root say [0-9a-f]{32} POST /agents/say/invoke 200 \d+\.\dms", invoke)
    assert re.fullmatch(at + r"- - - POST /agents/say/invoke 401 \d+\.\dms", refused)
    assert re.fullmatch(at + r"root - - GET /agents/none 404 \d+\.\dms", missing)


def test_a_json_line_has_the_same_and_the_keys_name(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, "json", [("POST", "/agents/say/stream", bearer("root"))])
    fields = json.loads(line)
    assert list(fields) == [
        "at", "request_id", "principal", "key", "agent", "run_id", "method", "path", "status", "ms",
    ]  # fmt: skip
    assert fields["principal"] == fields["key"] == "root"
    assert (fields["agent"], fields["status"], fields["path"]) == ("say", 200, "/agents/say/stream")
    assert fields["ms"] > 0


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_path_makes_two_lines_or_a_long_one(tmp_path: Path, log_format: str) -> None:
    paths = ["/a%0d%0a2026 forged", "/b%1b[31m", "/c%E2%80%A8x", "/d%C2%85x", "/e%00", "/f%7F", "/" + "g" * 8_000]
    lines = logged(tmp_path, log_format, [("GET", path.replace(" ", "%20"), bearer("root")) for path in paths])
    assert len(lines) == len(paths)
    assert all(len(line) < 1000 for line in lines)
    assert all(character >= " " and character not in "\x7f\x85\u2028" for line in lines for character in line)


def test_no_query_is_logged_since_it_may_hold_a_secret(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, "text", [("GET", "/agents?api_key=hunter2", {})])
    assert "hunter2" not in line


def test_a_client_that_left_is_gone(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = AccessLog("text", stream)
    path = agents_toml(tmp_path, actors("hold") + key("root"))
    with Hosted(path, access_log=log) as host, Wire(host.port) as wire:
        wire.send(request("POST", "/agents/hold/invoke", bearer("root"), {"prompt": "to be logged"}))
        wait_for(HOLDING, "to be logged")
        wire.socket.close()
        wait_for(CANCELLED, "to be logged")
    (line,) = stream.getvalue().splitlines()
    assert " gone " in line
    assert "hold" in line


def test_lines_are_written_together_and_within_moments(tmp_path: Path) -> None:
    class Counting(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    stream = Counting()
    with Hosted(agents_toml(tmp_path, actors("say") + key("root")), access_log=AccessLog("text", stream)) as host:
        with Wire(host.port) as wire:
            for _ in range(50):
                wire.ask("GET", "/health/live")
        deadline = time.monotonic() + 10
        while len(stream.getvalue().splitlines()) < 50:
            assert time.monotonic() < deadline
            host.run(_nothing())
        assert stream.writes < 50


async def _nothing() -> None:
    """A turn of the loop."""


def test_a_log_that_cannot_be_written_ends_no_request(tmp_path: Path) -> None:
    stream = io.StringIO()
    stream.close()
    with Hosted(agents_toml(tmp_path, actors("say") + key("root")), access_log=AccessLog("text", stream)) as host:
        for _ in range(3):
            assert ask(host.port, "GET", "/health/live").status == 200
