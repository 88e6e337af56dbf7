"""A reply that is a run's log: one that cannot begin is a problem, one that has begun is cut by nothing but its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving import Hosted, actors, agents_toml, bearer, key
from tests.wire import ask

ROOT = bearer("root")


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    text = actors("say", "fail") + key("root", more="admin = true")
    with Hosted(agents_toml(tmp_path_factory.mktemp("replies"), text)) as running:
        yield running


def test_every_reply_of_a_run_names_it_and_may_not_be_kept(hosted: Any) -> None:
    reply = ask(hosted.port, "POST", "/agents/say/stream", ROOT, {"prompt": "p", "thread_id": "t"})
    run_id = reply["x-run-id"]
    assert reply["content-location"] == f"/agents/say/runs/{run_id}"
    assert reply["x-thread-id"] == "t"
    assert (reply["cache-control"], reply["x-accel-buffering"]) == ("no-store", "no")
    events = ask(hosted.port, "GET", f"/agents/say/runs/{run_id}/events", ROOT)
    assert (events["x-run-id"], events["content-type"]) == (run_id, "text/event-stream; charset=utf-8")
    assert events.body == reply.body


def test_what_cannot_begin_is_a_problem_and_no_stream(hosted: Any) -> None:
    for method, path in (("GET", "/agents/say/runs/none/events"), ("POST", "/agents/say/resume")):
        body = {"thread_id": "none"} if method == "POST" else None
        reply = ask(hosted.port, method, path, ROOT, body)
        assert (reply.status, reply["content-type"]) == (404, "application/problem+json")


def test_a_run_that_failed_under_a_key_is_the_same_problem_again(hosted: Any) -> None:
    headers = {**ROOT, "idempotency-key": "k"}
    one, two = (ask(hosted.port, "POST", "/agents/fail/invoke", headers, {"prompt": "first"}) for _ in range(2))
    assert (one.status, two.status) == (500, 500)
    assert one.json == two.json
