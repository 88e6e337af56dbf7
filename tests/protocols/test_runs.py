"""`/runs` and `/resume` over a real socket: in the background, from any point on, for whom, and what is refused."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.actors import SECRET
from tests.agents_for_tests import refusing
from tests.serving import Hosted, actors, agents_toml, bearer, key
from tests.wire import Broken, Reply, Wire, ask, parse_events, request

ROOT = bearer("root")
ALICE = bearer("alice")
BOB = bearer("bob")

AGENTS = """
import asyncio
from agenthost import Interrupt

HELD = asyncio.Event()

async def counts(ctx):
    for number in range(29):
        yield f"{number} "

async def holds(ctx):
    yield "begun"
    await HELD.wait()

async def asks(ctx):
    if ctx.answer is None:
        yield Interrupt("really?", options=["yes", "no"], interrupt_id="q", state={"secret": "never sent"})
        return
    yield f"you said {ctx.answer.response}"


class Keeps:
    keeps_pauses = True

    async def get_thread(self, key):
        return {"messages": [], "paused": key.thread_id == "paused"} if key.thread_id in {"paused", "idle"} else None

    async def delete_thread(self, key):
        return False

    async def run(self, ctx):
        response = ctx.answer and ctx.answer.response
        if response == "broken":
            raise RuntimeError("hunter2")
        if response in (None, "undecided"):
            yield Interrupt("really?", options=["yes", "no"], interrupt_id="q", metadata={"held": "mail"})
        else:
            yield f"{response}, {dict(ctx.metadata)}, {ctx.prompt!r}"

keeps = Keeps()
"""


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "background.py").write_text(AGENTS)
    text = "".join(f'[agents.{name}]\nuse = "background.py:{name}"\n' for name in ("counts", "holds", "asks", "keeps"))
    text += '[agents.one-slot]\nuse = "background.py:holds"\nconcurrency = 1\nqueue = 1\n'
    text += key("root", more="admin = true") + key("alice") + key("bob")
    with Hosted(agents_toml(folder, text + actors("say"), store=f"sqlite:///{folder}/store.db")) as running:
        yield running


def begin(host: Any, agent: str, body: dict[str, Any] | None = None, who: dict[str, str] = ALICE) -> Reply:
    return ask(host.port, "POST", f"/agents/{agent}/runs", who, body or {"prompt": "p"})


def state(host: Any, agent: str, run_id: str, who: dict[str, str] = ALICE) -> dict[str, Any]:
    found: dict[str, Any] = ask(host.port, "GET", f"/agents/{agent}/runs/{run_id}", who).json
    return found


def read(host: Any, agent: str, run_id: str, after: int | None = None, **headers: str) -> list[tuple[str, str]]:
    query = "" if after is None else f"?after={after}"
    reply = ask(host.port, "GET", f"/agents/{agent}/runs/{run_id}/events{query}", {**ALICE, **headers})
    assert reply.status == 200
    return [("" if frame.data == "[DONE]" else frame.id, frame.data) for frame in reply.frames]


def cancel(host: Any, agent: str, run_id: str, who: dict[str, str] = ALICE) -> Reply:
    return ask(host.port, "POST", f"/agents/{agent}/runs/{run_id}/cancel", who)


def test_a_run_in_the_background_says_where_it_is_and_what_came_of_it(hosted: Any) -> None:
    reply = begin(hosted, "counts", {"prompt": "p", "thread_id": "t"})
    run_id = reply.json["run_id"]
    place = f"/agents/counts/runs/{run_id}"
    assert reply.status == 202
    assert (reply["location"], reply["content-location"]) == (place, place)
    assert (reply["x-run-id"], reply["x-thread-id"]) == (run_id, "t")
    assert read(hosted, "counts", run_id)[-1][1] == "[DONE]"
    ended = state(hosted, "counts", run_id)
    assert (ended["status"], ended["thread_id"], ended["stop_reason"]) == ("completed", "t", "complete")
    assert ended["message"].startswith("0 1 2 ")


def test_a_stream_that_is_cut_after_each_event_is_joined_to_the_whole(hosted: Any) -> None:
    run_id = begin(hosted, "counts").json["run_id"]
    whole = read(hosted, "counts", run_id)
    assert [number for number, _data in whole[:-1]] == [str(number) for number in range(1, 31)]
    for seen in range(31):
        assert whole[:seen] + read(hosted, "counts", run_id, seen) == whole
        assert whole[:seen] + read(hosted, "counts", run_id, **{"last-event-id": str(seen)}) == whole
    assert read(hosted, "counts", run_id, 3, **{"last-event-id": "29"}) == whole[29:]
    assert read(hosted, "counts", run_id, 1000) == [("", "[DONE]")]


@pytest.mark.parametrize("wrong", ["-1", "x", "1e3", "9" * 30])
def test_a_place_that_is_none_is_refused(hosted: Any, wrong: str) -> None:
    run_id = begin(hosted, "counts").json["run_id"]
    path = f"/agents/counts/runs/{run_id}/events"
    assert ask(hosted.port, "GET", f"{path}?after={wrong}", ALICE).status == 422
    assert ask(hosted.port, "GET", path, {**ALICE, "last-event-id": wrong}).status == 422


def test_it_goes_on_without_readers_and_ends_when_it_is_cancelled(hosted: Any) -> None:
    run_id = begin(hosted, "holds").json["run_id"]
    with Wire(hosted.port) as leaving:
        leaving.send(request("GET", f"/agents/holds/runs/{run_id}/events", ALICE))
        assert leaving.head().status == 200
    assert state(hosted, "holds", run_id)["status"] == "running"
    assert cancel(hosted, "holds", run_id).status == 202
    frames = read(hosted, "holds", run_id)
    assert json.loads(frames[-2][1])["code"] == "cancelled"
    again = cancel(hosted, "holds", run_id)
    assert (again.status, again.json["status"]) == (202, "cancelled")
    assert state(hosted, "holds", run_id)["error"] == {"code": "cancelled", "detail": "The run was cancelled"}


def test_a_run_for_which_there_is_no_room_is_queued_and_one_too_many_refused(hosted: Any) -> None:
    first, second = (begin(hosted, "one-slot").json for _ in range(2))
    assert (first["status"], second["status"]) == ("running", "queued")
    third = begin(hosted, "one-slot")
    assert (third.status, third.json["code"]) == (503, "agent_overloaded")
    assert state(hosted, "one-slot", second["run_id"])["status"] == "queued"
    listed = ask(hosted.port, "GET", "/agents/one-slot/runs?status=queued", ALICE).json["runs"]
    assert [run["run_id"] for run in listed] == [second["run_id"]]
    assert cancel(hosted, "one-slot", first["run_id"]).status == 202
    assert read(hosted, "one-slot", first["run_id"])[-1][1] == "[DONE]"
    with Wire(hosted.port) as reading:
        reading.send(request("GET", f"/agents/one-slot/runs/{second['run_id']}/events", ALICE))
        assert reading.head().status == 200
    cancel(hosted, "one-slot", second["run_id"])
    assert json.loads(read(hosted, "one-slot", second["run_id"])[-2][1])["code"] == "cancelled"


def test_a_run_is_its_principals_and_the_operators(hosted: Any) -> None:
    run_id = begin(hosted, "counts").json["run_id"]
    for path, method in ((run_id, "GET"), (f"{run_id}/events", "GET"), (f"{run_id}/cancel", "POST")):
        assert ask(hosted.port, method, f"/agents/counts/runs/{path}", BOB).status == 404
        assert ask(hosted.port, method, f"/agents/say/runs/{path}", ALICE).status == 404
        assert ask(hosted.port, method, f"/agents/counts/runs/{path}", ROOT).status in {200, 202}
    assert not ask(hosted.port, "GET", "/agents/counts/runs", BOB).json["runs"]


def test_runs_are_listed_by_pages(hosted: Any) -> None:
    ids = [begin(hosted, "say", {"prompt": "p", "thread_id": f"page{n % 2}"}, BOB).json["run_id"] for n in range(1)]
    for number in range(4):
        run_id = begin(hosted, "say", {"prompt": "p", "thread_id": f"n{number}"}, BOB).json["run_id"]
        ids.append(run_id)
    listed: list[str] = []
    cursor = ""
    while True:
        page = ask(hosted.port, "GET", f"/agents/say/runs?limit=2{cursor}", BOB).json
        listed += [run["run_id"] for run in page["runs"]]
        if "next_cursor" not in page:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert listed == ids[::-1]
    one = ask(hosted.port, "GET", "/agents/say/runs?thread_id=n2", BOB).json["runs"]
    assert [run["run_id"] for run in one] == [ids[3]]
    for wrong in ("status=asleep", "limit=0", "limit=201", "cursor=x"):
        assert ask(hosted.port, "GET", f"/agents/say/runs?{wrong}", BOB).status == 422


def test_a_run_that_is_not_recorded_is_its_one_readers(hosted: Any) -> None:
    with Wire(hosted.port) as streaming:
        streaming.send(request("POST", "/agents/holds/stream", ALICE, {"prompt": "p"}))
        run_id = streaming.head()["x-run-id"]
        assert state(hosted, "holds", run_id)["status"] == "running"
        refused = ask(hosted.port, "GET", f"/agents/holds/runs/{run_id}/events", ALICE)
        assert (refused.status, refused.json["code"]) == (409, "not_recorded")
        assert cancel(hosted, "holds", run_id).status == 202


def test_unknown_ids_are_404_and_ids_of_long_ago_410(hosted: Any) -> None:
    for run_id in ("x", "0" * 32, "g" * 32):
        assert ask(hosted.port, "GET", f"/agents/say/runs/{run_id}", ALICE).status == 404
    gone = ask(hosted.port, "GET", f"/agents/say/runs/{'0123456789ab' + '0' * 20}/events", ALICE)
    assert (gone.status, gone.json["code"]) == (410, "events_expired")


@pytest.mark.parametrize("route", ["invoke", "stream", "runs"])
def test_the_same_key_is_the_same_run_on_every_route(hosted: Any, route: str) -> None:
    headers = {**ALICE, "idempotency-key": f"key-of-{route}"}
    replies = [ask(hosted.port, "POST", f"/agents/counts/{one}", headers, {"prompt": "k"}) for one in (route, "invoke")]
    assert len({reply["x-run-id"] for reply in replies}) == 1
    other = ask(hosted.port, "POST", f"/agents/counts/{route}", headers, {"prompt": "other"})
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("wrong", ["", " ", "k" * 201, "k\x7f", "schlüssel"])
def test_a_key_that_is_none_is_refused(hosted: Any, wrong: str) -> None:
    headers = {**ALICE, "idempotency-key": wrong}
    for route in ("invoke", "stream", "runs"):
        assert ask(hosted.port, "POST", f"/agents/say/{route}", headers, {"prompt": "k"}).status in {400, 422}


def test_a_question_is_seen_listed_and_answered_once(hosted: Any) -> None:
    paused = ask(hosted.port, "POST", "/agents/asks/invoke", ALICE, {"prompt": "p", "thread_id": "t"}).json
    assert (paused["success"], paused["status"], paused["stop_reason"]) == (False, "paused", "interrupt")
    (listed,) = ask(hosted.port, "GET", "/agents/asks/runs?status=paused", ALICE).json["runs"]
    assert listed["run_id"] == paused["run_id"]
    (question,) = state(hosted, "asks", paused["run_id"])["interrupts"]
    assert (question["interrupt_id"], question["status"], question["options"]) == ("q", "open", ["yes", "no"])
    assert "never sent" not in json.dumps(state(hosted, "asks", paused["run_id"]))
    headers = {**ALICE, "idempotency-key": "the-answer"}
    body = {"thread_id": "t", "response": "yes"}
    replies = [ask(hosted.port, "POST", "/agents/asks/resume", headers, body) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert [frame.data for frame in replies[0].frames] == [frame.data for frame in replies[1].frames]
    assert json.loads(replies[0].frames[-2].data)["message"] == "you said yes"
    late = ask(hosted.port, "POST", "/agents/asks/resume", ALICE, body)
    assert (late.status, late.json["code"]) == (409, "already_answered")
    resumed = state(hosted, "asks", replies[0]["x-run-id"])
    assert resumed["resumes"] == paused["run_id"]
    assert state(hosted, "asks", paused["run_id"])["resumed_by"] == resumed["run_id"]
    assert not ask(hosted.port, "GET", "/agents/asks/runs?status=paused", ALICE).json["runs"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"thread_id": ""}, 422),
        ({"thread_id": "none"}, 404),
        ({"thread_id": "w", "response": "maybe"}, 422),
        ({"thread_id": "w", "interrupt_id": "other", "response": "yes"}, 404),
        ({"thread_id": "w", "answers": []}, 422),
        ({"thread_id": "w", "answers": [{"response": "yes"}]}, 422),
        ({"thread_id": "w", "response": "yes", "answers": [{"interrupt_id": "q", "response": "yes"}]}, 422),
        ({"thread_id": "w", "answers": [{"interrupt_id": "q", "response": "yes"}] * 2}, 422),
        ({"thread_id": "w", "answers": [{"interrupt_id": "q"}] * 101}, 422),
        ({"thread_id": "w", "response": "yes", "decision": "x"}, 422),
        ({"thread_id": "w", "response": "yes", "metadata": 1}, 422),
    ],
)
def test_a_resume_that_answers_nothing_that_was_asked_is_refused(
    hosted: Any, body: dict[str, Any], status: int
) -> None:
    ask(hosted.port, "POST", "/agents/asks/invoke", ROOT, {"prompt": "p", "thread_id": "w"})
    assert ask(hosted.port, "POST", "/agents/asks/resume", ROOT, body).status == status
    (question,) = ask(hosted.port, "GET", "/agents/asks/runs?status=paused", ROOT).json["runs"]
    assert question["thread_id"] == "w"


def test_a_queued_run_outlives_a_host_that_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "background.py").write_text(AGENTS)
    text = key("alice") + '[agents.holds]\nuse = "background.py:holds"\nconcurrency = 1\n'
    config = agents_toml(tmp_path, text, server='drain = "0s"', store=f"sqlite:///{tmp_path}/store.db")
    config.write_text(config.read_text().replace('drain = "1s"\n', ""))
    with Hosted(config) as host:
        first, second = (begin(host, "holds").json["run_id"] for _ in range(2))
        reading = Wire(host.port)
        reading.send(request("GET", f"/agents/holds/runs/{second}/events", ALICE))
        assert reading.head().status == 200
    with reading, pytest.raises(Broken):
        reading.reply()
    with Hosted(config) as host:
        assert state(host, "holds", first)["error"]["code"] == "host_stopping"
        deadline = time.monotonic() + 20
        while cancel(host, "holds", second).status != 202:  # it is about to begin
            assert time.monotonic() < deadline
        frames = read(host, "holds", second)
        assert [json.loads(data)["type"] for _id, data in frames[:-1]] in (["model_chunk", "error"], ["error"])


def test_what_was_kept_is_read_though_the_agent_does_not_serve(tmp_path: Path) -> None:
    text = key("alice") + actors("say")
    config = agents_toml(tmp_path, text, store=f"sqlite:///{tmp_path}/store.db")
    with Hosted(config) as host:
        run_id = begin(host, "say").json["run_id"]
        whole = read(host, "say", run_id)
    broken = key("alice") + '[agents.say]\nuse = "nowhere:nothing"\n'
    with Hosted(agents_toml(tmp_path, broken, store=f"sqlite:///{tmp_path}/store.db")) as host:
        assert state(host, "say", run_id)["status"] == "completed"
        assert read(host, "say", run_id) == whole
        assert begin(host, "say").status == 503


# ── pauses over the wire ─────────────────────────────────────────────────────────────────────────────────────────────


def resume(host: Any, body: dict[str, Any], **headers: str) -> Reply:
    return ask(host.port, "POST", "/agents/asking/resume", {**ALICE, **headers}, body)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("asking")
    text = '[agents.asking]\nuse = "tests.actors:asks"\n' + key("alice") + key("bob")
    with Hosted(agents_toml(folder, text, store=f"sqlite:///{folder}/store.db")) as running:
        yield running


def paused(host: Any, route: str, body: dict[str, Any]) -> tuple[str, str]:
    """Run `asks` by that route until it has paused: the run's id, and its thread's."""
    reply = ask(host.port, "POST", f"/agents/asking/{route}", ALICE, body)
    run_id = reply["x-run-id"]
    if route == "runs":
        assert reply.status == 202
        read(host, "asking", run_id)
    else:
        assert reply.status == 200
    if route == "invoke":
        answer = reply.json
        assert (answer["success"], answer["status"], answer["stop_reason"]) == (False, "paused", "interrupt")
        assert answer["interrupt"]["question"] == "really?"
        assert (answer["thread_id"], reply["x-thread-id"]) == (body.get("thread_id", run_id),) * 2
    if route == "stream":
        assert [frame.event for frame in reply.frames[:-1]] == ["model_chunk"] + ["interrupt"] * body.get("input", 1)
    assert SECRET not in reply.body.decode()
    return run_id, body.get("thread_id", run_id)


@pytest.mark.parametrize("thread_id", [None, "t"])
@pytest.mark.parametrize("route", ["invoke", "stream", "runs"])
def test_a_run_that_pauses_is_answered_on_its_thread_or_on_one_by_its_own_name(
    asking: Any, route: str, thread_id: str | None
) -> None:
    body = {"prompt": f"{route} it", **({"thread_id": f"{route}-{thread_id}"} if thread_id else {})}
    run_id, thread = paused(asking, route, body)
    before = state(asking, "asking", run_id)
    assert (before["status"], before["thread_id"], before["stop_reason"]) == ("paused", thread, "interrupt")
    said = ask(asking.port, "GET", f"/agents/asking/threads/{thread}", ALICE).json["messages"]
    assert [(one["role"], one["content"]) for one in said] == [("user", f"{route} it"), ("assistant", "let me ask")]
    reply = resume(asking, {"thread_id": thread, "response": "yes", "metadata": {"a": 1}})
    assert reply.status == 200
    assert (reply["content-type"], reply["x-thread-id"]) == ("text/event-stream; charset=utf-8", thread)
    assert reply["x-run-id"] != run_id
    assert [frame.id for frame in reply.frames[:-1]] == ["1", "2"]
    assert reply.frames[-2].json["message"] == f"{route} it: q0 yes"
    after = state(asking, "asking", run_id)
    assert (after["status"], after["resumed_by"]) == ("paused", reply["x-run-id"])
    assert [one["status"] for one in after["interrupts"]] == ["answered"]
    assert state(asking, "asking", reply["x-run-id"])["resumes"] == run_id
    assert SECRET not in json.dumps([before, after, said]) + reply.body.decode()


@pytest.mark.parametrize("route", ["stream", "runs"])
@pytest.mark.parametrize("thread_id", [None, "seen"])
def test_a_client_that_answers_in_the_moment_it_sees_the_question_is_heard(
    asking: Any, route: str, thread_id: str | None
) -> None:
    for number in range(10):
        body = {"prompt": "x", **({"thread_id": f"{route}{number}"} if thread_id else {})}
        with Wire(asking.port) as wire:
            wire.send(request("POST", f"/agents/asking/{route}", ALICE, body))
            head = wire.head() if route == "stream" else wire.reply()
            thread = body.get("thread_id", head["x-run-id"])
            if route == "runs":
                wire.send(request("GET", f"/agents/asking/runs/{head['x-run-id']}/events", ALICE))
                assert wire.head().status == 200
            sent = b""
            for chunk in wire.chunks():
                sent += chunk
                if b"event: interrupt" in sent:
                    break
            assert resume(asking, {"thread_id": thread, "response": "yes"}).status == 200


def test_several_questions_are_answered_one_by_one_or_together(asking: Any) -> None:
    for together in (False, True):
        run_id, thread = paused(asking, "invoke", {"prompt": "x", "input": 3})
        refused = resume(asking, {"thread_id": thread, "response": "yes"})
        assert (refused.status, refused.json["detail"]) == (
            422,
            "3 questions are open on this thread; name one by interrupt_id",
        )
        answers = [{"interrupt_id": f"q{place}", "response": "yes"} for place in (2, 0, 1)]
        bodies = [{"answers": answers}] if together else [dict(answer) for answer in answers]
        for count, answer in enumerate(bodies, 1):
            reply = resume(asking, {"thread_id": thread, **answer})
            assert reply.status == 200
            statuses = [one["status"] for one in state(asking, "asking", run_id)["interrupts"]]
            assert statuses.count("answered") == (3 if together else count)
        late = resume(asking, {"thread_id": thread, **bodies[0]})
        assert (late.status, late.json["code"]) == (409, "already_answered")
        assert late.json["detail"] == "this question is no longer open: it has been answered"
        listed = ask(asking.port, "GET", "/agents/asking/runs?status=paused&limit=200", ALICE).json["runs"]
        assert run_id not in [run["run_id"] for run in listed]


def test_nobody_else_answers(asking: Any) -> None:
    _run_id, thread = paused(asking, "invoke", {"prompt": "x"})
    reply = ask(asking.port, "POST", "/agents/asking/resume", BOB, {"thread_id": thread, "response": "yes"})
    assert (reply.status, reply.json["detail"]) == (404, "nothing is paused on this thread")
    assert resume(asking, {"thread_id": thread, "response": "yes"}).status == 200


def test_the_events_of_a_run_without_a_thread_are_its_one_readers_until_it_has_paused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    text = '[agents.asking]\nuse = "tests.actors:asks"\n' + key("alice")
    with Hosted(agents_toml(tmp_path, text, store=f"sqlite:///{path}")) as host, Wire(host.port) as streaming:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the pause is being written, and is not yet
            streaming.send(request("POST", "/agents/asking/stream", ALICE, {"prompt": "x"}))
            run_id = streaming.head()["x-run-id"]
            events = f"/agents/asking/runs/{run_id}/events"
            while not host.run(pausing(host, run_id)):
                pass
            early = ask(host.port, "GET", events, ALICE)
            assert (early.status, early.json["code"]) == (409, "not_recorded")
            other.execute("ROLLBACK")
        sent = parse_events(b"".join(streaming.chunks()))
        assert [frame.event for frame in sent] == ["model_chunk", "interrupt", "message"]
        late = ask(host.port, "GET", events, ALICE)
        assert [(frame.id, frame.data) for frame in late.frames] == [(frame.id, frame.data) for frame in sent[1:]]


async def pausing(host: Any, run_id: str) -> bool:
    return bool(host.host.runs.going[run_id].closing)


# ── keys over a restart ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("route", ["invoke", "stream", "runs", "resume"])
def test_a_key_gives_the_same_answer_after_a_restart_on_the_same_file(tmp_path: Path, route: str) -> None:
    text = actors("fail") + '[agents.asking]\nuse = "tests.actors:asks"\n' + key("alice") + key("bob")
    config = agents_toml(tmp_path, text, store=f"sqlite:///{tmp_path}/store.db")
    headers = {"idempotency-key": "the-key"}
    told: list[Any] = []

    def once(port: int) -> None:
        body = {"thread_id": thread, "response": "yes"} if route == "resume" else {"prompt": "x", "thread_id": "t"}
        agents = ["asking"] if route == "resume" else ["asking", "fail"]
        for agent in agents:
            reply = ask(port, "POST", f"/agents/{agent}/{route}", {**ALICE, **headers}, body)
            view = reply.json if reply["content-type"].startswith("application/") else reply.body
            if route == "runs":
                ask(port, "GET", f"{reply['location']}/events", ALICE)  # to its end
                view = ask(port, "GET", reply["location"], ALICE).json
            told.append((agent, reply.status, reply["x-run-id"], view))
            other = ask(port, "POST", f"/agents/{agent}/{route}", {**ALICE, **headers}, {**body, "metadata": {"a": 1}})
            assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")

    with Hosted(config) as host:
        thread = paused(host, "invoke", {"prompt": "x"})[1] if route == "resume" else ""
        once(host.port)
        once(host.port)
    with Hosted(config) as host:
        once(host.port)
        listed = ask(host.port, "GET", "/agents/asking/runs", ALICE).json["runs"]
        assert len(listed) == (2 if route == "resume" else 1), "its agent ran once"
        if route != "resume":
            mine = ask(host.port, "POST", f"/agents/asking/{route}", {**BOB, **headers}, {"prompt": "x"})
            assert mine["x-run-id"] not in {run_id for _agent, _status, run_id, _view in told}
    by_agent = {agent: [one for one in told if one[0] == agent] for agent, *_rest in told}
    assert all(len(same) == 3 and same[1:] == same[:-1] for same in by_agent.values())
    if route == "invoke":
        assert by_agent["fail"][0][1] == 500
        assert by_agent["fail"][0][3]["detail"] == "The agent failed"


def test_two_keys_at_once_are_none(asking: Any) -> None:
    headers = [*ALICE.items(), ("idempotency-key", "one"), ("idempotency-key", "two")]
    for route in ("invoke", "stream", "runs"):
        assert ask(asking.port, "POST", f"/agents/asking/{route}", headers, {"prompt": "x"}).status in {400, 422}


def test_a_client_that_leaves_does_not_end_a_run_with_a_key(hosted: Any) -> None:
    for route in ("invoke", "stream"):
        headers = {**ALICE, "idempotency-key": f"left {route}".replace(" ", "-")}
        raw = request("POST", f"/agents/holds/{route}", headers, {"prompt": "p"})
        with Wire(hosted.port) as leaving:
            leaving.send(raw)
            while not (running := going(hosted, "holds", headers["idempotency-key"])):
                pass
        again = ask(hosted.port, "POST", "/agents/holds/runs", headers, {"prompt": "p"})
        assert (again.status, again.json["run_id"], again.json["status"]) == (202, running, "running")
        cancel(hosted, "holds", running)
        assert read(hosted, "holds", running)[-1][1] == "[DONE]"


def going(host: Any, agent: str, idempotency_key: str) -> str | None:
    """The run of this key, once it goes."""

    async def look() -> str | None:
        runs = host.host.runs.going.values()
        return next((run.id for run in runs if run.request.idempotency_key == idempotency_key), None)

    found: str | None = host.run(look())
    return found


# ── a store that refuses ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_whose_store_refuses_says_so_and_goes_on_without_a_restart_once_it_does_not(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Hosted(agents_toml(tmp_path, actors("say") + key("alice"), store=f"sqlite:///{path}")) as host:
        assert ask(host.port, "GET", "/health/ready").status == 200
        with refusing(path, "UPDATE ON meta", "INSERT ON events", "UPDATE OF ended ON runs"):
            while ask(host.port, "GET", "/health/ready").status == 200:
                pass
            reply = ask(host.port, "POST", "/agents/say/invoke", ALICE, {"prompt": "x", "thread_id": "t"})
            assert (reply.status, reply.json["code"], reply.json["detail"]) == (
                500,
                "store",
                "The run could not be recorded",
            )
            streamed = ask(host.port, "POST", "/agents/say/stream", ALICE, {"prompt": "x", "thread_id": "t"})
            assert [frame.event for frame in streamed.frames[:-1]] == ["error"]
            run_id = streamed["x-run-id"]
            assert state(host, "say", run_id)["error"]["code"] == "store"
            assert ask(host.port, "POST", "/agents/say/invoke", ALICE, {"prompt": "unrecorded"}).status == 200
        while ask(host.port, "GET", "/health/ready").status != 200:
            pass
        while "ended" not in state(host, "say", run_id):
            pass
        assert state(host, "say", run_id)["error"] == {"code": "store", "detail": "The run could not be recorded"}
        assert [json.loads(data)["type"] for _id, data in read(host, "say", run_id)[:-1]] == ["error"]
        assert ask(host.port, "POST", "/agents/say/invoke", ALICE, {"prompt": "x", "thread_id": "t"}).status == 200


# ── agents that keep their pauses themselves ─────────────────────────────────────────────────────────────────────────


def go_on(host: Any, body: dict[str, Any]) -> Reply:
    return ask(host.port, "POST", "/agents/keeps/resume", ALICE, body)


def said_in(reply: Reply) -> str:
    assert reply.status == 200
    return "".join(json.loads(one.data).get("content", "") for one in reply.frames if one.event == "model_chunk")


def test_an_answer_that_decides_nothing_is_409_and_the_question_stays_open(hosted: Any) -> None:
    body = {"prompt": "p", "thread_id": "held", "metadata": {"of": "the paused run"}}
    assert ask(hosted.port, "POST", "/agents/keeps/invoke", ALICE, body).json["status"] == "paused"
    for _ in range(2):
        reply = go_on(hosted, {"thread_id": "held", "response": "undecided"})
        assert (reply.status, reply["content-type"]) == (409, "application/problem+json")
        asked = {"thread_id": "held", "interrupt_id": "q", "question": "really?", "metadata": {"held": "mail"}}
        assert {"type": "approval_pending", "code": "approval_pending", **asked}.items() <= reply.json.items()
    reply = go_on(hosted, {"thread_id": "held", "response": "free text", "metadata": {"of": "this one"}})
    assert said_in(reply) == "free text, {'of': 'this one'}, 'p'", "its options and metadata are its own affair"
    assert go_on(hosted, {"thread_id": "held", "response": "yes"}).json["code"] == "already_answered"


def test_one_that_fails_before_its_first_word_is_a_status_and_can_be_resumed_again(hosted: Any) -> None:
    ask(hosted.port, "POST", "/agents/keeps/invoke", ALICE, {"prompt": "p", "thread_id": "fails"})
    reply = go_on(hosted, {"thread_id": "fails", "response": "broken"})
    assert (reply.status, reply.json["code"]) == (500, "agent_error")
    assert reply["x-run-id"] == reply.json["run_id"]
    assert b"hunter2" not in reply.body
    assert said_in(go_on(hosted, {"thread_id": "fails", "response": "yes"})) == "yes, {}, 'p'"


def test_a_thread_that_paused_elsewhere_goes_on_where_its_agent_says_that_it_is_paused(hosted: Any) -> None:
    assert go_on(hosted, {"thread_id": "paused", "response": "undecided"}).json["code"] == "approval_pending"
    assert said_in(go_on(hosted, {"thread_id": "paused", "response": "yes"})) == "yes, {}, ''"
    roles = [one["role"] for one in ask(hosted.port, "GET", "/agents/keeps/threads/paused", ALICE).json["messages"]]
    assert "user" not in roles, "an answer is no message"
    for thread in ("idle", "unknown"):
        reply = go_on(hosted, {"thread_id": thread, "response": "yes"})
        assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert ask(hosted.port, "GET", "/agents/keeps/threads/unknown", ALICE).status == 404, "and nothing is left of it"


def test_a_question_that_is_open_here_is_not_answered_under_another_name_though_its_agent_keeps_pauses(
    hosted: Any,
) -> None:
    body = {"prompt": "buy", "thread_id": "paused"}
    assert ask(hosted.port, "POST", "/agents/keeps/invoke", BOB, body).json["status"] == "paused"
    answer = {"thread_id": "paused", "interrupt_id": "another", "response": "yes"}
    refused = ask(hosted.port, "POST", "/agents/keeps/resume", BOB, answer)
    assert (refused.status, refused.json["code"]) == (404, "not_found")
    told = ask(hosted.port, "POST", "/agents/keeps/resume", BOB, {**answer, "interrupt_id": "q"})
    assert json.loads(told.frames[-2].data)["message"].startswith("yes, ")
