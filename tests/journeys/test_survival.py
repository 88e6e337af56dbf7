"""Runs outlive their readers, their connections and their host: what a client saw once is there for good."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Process, agents_toml
from tests.survivors import END, PIECES, Follower, arrived, lines, number_of, patiently, told, whole_frames
from tests.wire import Broken, Reply, Wire, ask, request

pytestmark = pytest.mark.fault

KILLS = 8
"""Deaths of a host in CI; 200 were tried by hand."""

A_FILE = 25
"""Deaths that one file is made to see."""

STILLBORN = 0.25
"""The share of deaths after which the next host dies while it starts."""

READY = 2.0
"""Seconds after which a host that was killed is to be ready again."""

BUSY = 4.0
"""Seconds that a machine with other work to do may add to that."""

RACERS = 50

SILENT = 8
"""Readers that read nothing."""

AGENTS = ("chatter", "bulky", "slow", "brief", "Steadfast", "finite", "thinks", "counted", "asks", "mortal")


def config(folder: Path) -> Path:
    """An agents.toml with every agent of `tests/survivors.py`, on a file."""
    text = "".join(f'[agents.{name.lower()}]\nuse = "tests.survivors:{name}"\n' for name in AGENTS)
    text += '[agents.narrow]\nuse = "tests.survivors:narrow"\nconcurrency = 1\n'
    return agents_toml(folder, text, store=f"sqlite:///{folder}/store.db")


def ready(host: Process) -> None:
    """Wait until a host says that it is ready."""
    while (reply := ask(host.port, "GET", "/health/ready")).status != 200:
        assert reply.status == 503
        threading.Event().wait(0.01)


def kill(host: Process) -> None:
    """End a host with no chance to do anything, and wait until it is gone."""
    os.kill(host.pid, signal.SIGKILL)
    host._process.wait()


# ── kill -9 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def crew(mark: str) -> list[Follower]:
    """Sixteen runs of every kind that is durable: on a thread, detached, with a key, and several of these."""
    on_threads = ["chatter", "chatter", "chatter", "bulky", "slow", "brief"]
    detached = ["chatter", "chatter", "bulky", "slow", "steadfast"]
    keyed = ["chatter", "slow", "steadfast", "bulky"]
    return [
        *(
            Follower(name, "stream", body={"prompt": "go", "thread_id": f"{mark}-{place}"})
            for place, name in enumerate(on_threads)
        ),
        *(Follower(name, "runs") for name in detached),
        *(Follower(name, "stream", key=f"{mark}-{place}") for place, name in enumerate(keyed)),
        Follower("brief", "runs", key=f"{mark}-b", body={"prompt": "go", "thread_id": f"{mark}-b"}),
    ]


def queue(port: int, mark: str, promised: list[Follower]) -> None:
    """Ask for three runs of an agent that takes one at a time; those that wait are noted as promised."""
    for prompt in ("long", "short", "short"):
        asked = Follower("narrow", "runs", key=f"{mark}-{len(promised)}-{prompt}", body={"prompt": prompt})
        try:
            reply = asked.start(port)
        except (ConnectionError, Broken):
            return
        assert reply.status == 202
        asked.run_id = reply["x-run-id"]
        if reply.json["status"] == "queued":
            promised.append(asked)


class Deaths:
    """Kills hosts on one file, one after another, and looks at what each next one finds."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.config = config(folder)
        self.store = folder / "store.db"
        self.chance = chance
        self.carried: list[Follower] = []
        self.promised: list[Follower] = []
        self.figures = dict.fromkeys(("kills", "stillborn", "events", "runs", "completed", "begun again", "queued"), 0)
        self.seconds: list[float] = []
        """Until ready, of each start."""

    def run(self, kills: int) -> None:
        """Start a host, kill it, and so on; the last one is only looked at."""
        for number in range(kills + 1):
            if number and self.chance.random() < STILLBORN:
                self.die_early()
            before = time.monotonic()
            with Process(self.config, dev=True) as host:
                ready(host)
                seconds = time.monotonic() - before
                self.seconds.append(seconds)
                assert seconds <= READY + BUSY
                self.look(host.port)
                if number < kills:
                    self.live_and_die(host, f"r{number}")
        assert not self.promised

    def die_early(self) -> None:
        """Kill a host while it starts, or looks at what the one before it left."""
        host = Process(self.config, dev=True)
        death = threading.Timer(self.chance.uniform(0.1, 0.9), lambda: host._process.kill())
        death.start()
        try:
            with host:
                death.join()
        except AssertionError:
            assert "Traceback" not in host.log.read_text()
        death.join()
        self.figures["stillborn"] += 1
        for follower in self.carried:
            follower.losses += 1

    def live_and_die(self, host: Process, mark: str) -> None:
        """Start runs, follow them, kill the host at a random moment."""
        fresh = crew(mark)
        self.chance.shuffle(fresh)
        following = [*self.carried, *fresh]
        for follower in following:
            follower.follow(host.port)
        queueing = threading.Thread(target=queue, args=(host.port, mark, self.promised))
        queueing.start()
        threading.Event().wait(self.chance.uniform(0.0, 0.7))
        kill(host)
        queueing.join()
        for follower in following:
            follower.leave()
            follower.losses += not follower.ended
        self.carried = [follower for follower in following if follower.run_id]
        self.figures["kills"] += 1

    def look(self, port: int) -> None:
        """Everything that clients saw is there, and what was promised goes on."""
        self._look_into_the_file()
        self.carried = [follower for follower in self.carried if not self._settled(follower, port)]
        for asked in self.promised:
            assert (
                patiently(port, "POST", "/agents/narrow/runs", {"idempotency-key": asked.key}, asked.body)["x-run-id"]
                == asked.run_id
            )
            frames = patiently(port, "GET", f"{asked.path}/events").body
            assert [told(frame)["type"] for frame in whole_frames(frames)[:-1]] == [
                "model_chunk",
                "model_chunk",
                "done",
            ]
            self.figures["queued"] += 1
        self.promised.clear()

    def _look_into_the_file(self) -> None:
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            gaps = "SELECT run_id FROM events GROUP BY run_id HAVING min(seq) <> 1 OR max(seq) <> count(*)"
            assert file.execute(gaps).fetchall() == []
            ends = (
                "SELECT run_id, (SELECT type FROM events e WHERE e.run_id = r.run_id ORDER BY seq DESC LIMIT 1) last "
                "FROM runs r WHERE ended IS NOT NULL AND last NOT IN ('done', 'error')"
            )
            assert file.execute(ends).fetchall() == []

    def _settled(self, follower: Follower, port: int) -> bool:
        """Look at a run; False if it goes on, to be followed again."""
        if follower.key:
            again = patiently(
                port, "POST", f"/agents/{follower.agent}/runs", {"idempotency-key": follower.key}, follower.body
            )
            assert (again.status, again["x-run-id"]) == (202, follower.run_id)
        run = patiently(port, "GET", follower.path).json
        if run["status"] in {"queued", "running"}:
            assert follower.agent == "steadfast", run
            assert prefix(port, follower) == follower.frames
            return False
        *frames, end = whole_frames(patiently(port, "GET", f"{follower.path}/events").body)
        assert end == END
        assert frames[: len(follower.frames)] == follower.frames, "an event that a client saw is another, or gone"
        assert [number_of(frame) for frame in frames] == list(range(1, len(frames) + 1))
        assert [told(frame)["type"] in {"done", "error"} for frame in frames].index(True) == len(frames) - 1
        self._look_at_the_end(follower, run, [told(frame) for frame in frames])
        self.figures["events"] += len(follower.frames)
        self.figures["runs"] += 1
        return True

    def _look_at_the_end(self, follower: Follower, run: dict[str, Any], events: list[dict[str, Any]]) -> None:
        last = events[-1]
        if last["type"] == "done":
            assert run["status"] == "completed"
            assert follower.agent in {"brief", "steadfast"}
            self.figures["completed"] += 1
        else:
            assert (last["code"], last["run_id"]) == ("host_lost", follower.run_id)
            assert (run["status"], run["error"]["code"]) == ("failed", "host_lost")
            assert follower.agent != "steadfast" or follower.losses >= 3, "it was not begun again"
        if follower.agent == "steadfast":
            attempts = [event["data"]["attempt"] for event in events if event.get("name") == "x-begun-again"]
            assert attempts == sorted(set(attempts))
            assert set(attempts) <= {2, 3}
            self.figures["begun again"] += bool(attempts)
            if last["type"] == "done":
                assert last["message"] == "".join(f"{number} " for number in range(PIECES))


def prefix(port: int, follower: Follower) -> list[bytes]:
    """As many events of a run that goes on as its client saw, read from the start."""
    if not follower.frames:
        return []
    with Wire(port) as wire:
        wire.send(request("GET", f"{follower.path}/events"))
        while (head := wire.head()).status == 503:
            wire.send(request("GET", f"{follower.path}/events"))
        assert head.status == 200, head
        return take(wire, len(follower.frames))


def take(wire: Wire, count: int) -> list[bytes]:
    """So many events from a stream that goes on."""
    body = b""
    for chunk in wire.chunks():
        body += chunk
        if len(frames := whole_frames(body)) >= count:
            return frames[:count]
    return whole_frames(body)


def test_what_any_client_saw_before_its_host_was_killed_is_there_afterwards(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    times: list[float] = []
    for start in range(0, KILLS, A_FILE):
        deaths = Deaths(tmp_path / str(start), chance)
        try:
            deaths.run(min(A_FILE, KILLS - start))
        finally:
            times += deaths.seconds
            print(deaths.figures, f"ready p50 {sorted(times)[len(times) // 2]:.2f} max {max(times):.2f} s")
        assert deaths.figures["events"]


def test_runs_that_waited_when_their_host_was_killed_begin_though_others_would_be_refused(tmp_path: Path) -> None:
    where = config(tmp_path)
    with Process(where, dev=True) as host:
        begun(host.port, "narrow", prompt="long")
        waiting = [begun(host.port, "narrow", prompt="short") for _ in range(4)]
        kill(host)
    where.write_text(where.read_text().replace("concurrency = 1\n", "concurrency = 1\nqueue = 1\n"))
    with Process(where, dev=True) as host:
        for path in waiting:
            assert told(read(host.port, path)[-1])["type"] == "done"


# ── readers that are cut off ──────────────────────────────────────────────────────────────────────────────────────────


def begun(port: int, agent: str, **body: Any) -> str:
    """Start a detached run; its path."""
    reply = ask(port, "POST", f"/agents/{agent}/runs", body={"prompt": "go", **body})
    assert reply.status == 202, reply.body
    return reply["location"]


def read(port: int, path: str, after: int = 0) -> list[bytes]:
    """The events of a run to its end."""
    reply = patiently(port, "GET", f"{path}/events", {"last-event-id": str(after)})
    assert reply.status == 200, reply.body
    *frames, end = whole_frames(reply.body)
    assert end == END
    return frames


def test_a_detached_stream_that_is_cut_after_each_event_and_joined_again_is_the_whole(tmp_path: Path) -> None:
    with Process(config(tmp_path), dev=True) as host:
        path = begun(host.port, "finite")
        joined: list[bytes] = []
        while len(joined) < 30:
            with Wire(host.port) as wire:
                wire.send(request("GET", f"{path}/events", {"last-event-id": str(len(joined))}))
                assert wire.head().status == 200
                joined += take(wire, 1)
        whole = read(host.port, path)
        assert joined == whole
        assert [number_of(frame) for frame in whole] == list(range(1, 31))
        assert told(whole[-1])["message"] == "".join(f"{number} " for number in range(29))
        for place in range(31):
            assert read(host.port, path, place) == whole[place:]


# ── races ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def race(port: int, racers: Sequence[bytes]) -> list[Reply]:
    """Send all of these requests at once, each on a connection of its own."""
    line = threading.Barrier(len(racers))
    replies: list[Reply | BaseException] = []

    def run(asked: bytes) -> None:
        try:
            with Wire(port) as wire:
                line.wait(20)
                wire.send(asked)
                replies.append(wire.reply())
        except BaseException as failed:
            replies.append(failed)

    threads = [threading.Thread(target=run, args=(asked,)) for asked in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    found = [reply for reply in replies if isinstance(reply, Reply)]
    assert len(found) == len(racers), replies
    return found


def asked_of(port: int, agent: str, prompt: str, file: Path) -> tuple[str, str]:
    """Let an agent ask; the thread that waits for the answer (which is the run's id), and the run's path."""
    paused = ask(port, "POST", f"/agents/{agent}/invoke", body={"prompt": prompt, "input": str(file)}).json
    assert paused["status"] == "paused", paused
    return paused["run_id"], f"/agents/{agent}/runs/{paused['run_id']}"


def question(port: int, path: str) -> str:
    """What has become of the one question of a run."""
    (asked,) = ask(port, "GET", path).json["interrupts"]
    status: str = asked["status"]
    return status


ROUNDS = 5
"""Times each race is run."""


def test_of_fifty_resumes_of_one_question_one_wins_and_its_agent_runs_once(tmp_path: Path) -> None:
    with Process(config(tmp_path), dev=True) as host:
        for number in range(ROUNDS):
            ran = tmp_path / f"ran-{number}"
            thread, path = asked_of(host.port, "asks", "x", ran)
            racers = [{"thread_id": thread, "response": "yes" if place % 2 else "no"} for place in range(RACERS)]
            replies = race(host.port, [request("POST", "/agents/asks/resume", body=body) for body in racers])
            assert sorted(reply.status for reply in replies) == [200] + [409] * (RACERS - 1)
            assert {reply.json["code"] for reply in replies if reply.status == 409} == {"already_answered"}
            assert lines(ran) == 1
            (won,) = [reply for reply in replies if reply.status == 200]
            assert won.frames[-2].json["message"] in {"yes", "no"}
            assert question(host.port, path) == "answered"
            assert ask(host.port, "GET", path).json["resumed_by"] == won["x-run-id"]


@pytest.mark.parametrize("route", ["invoke", "stream", "runs", "resume"])
def test_fifty_requests_with_one_idempotency_key_are_one_run(tmp_path: Path, route: str) -> None:
    with Process(config(tmp_path), dev=True) as host:
        for number in range(ROUNDS):
            ran = tmp_path / f"ran-{number}"
            agent, body = "counted", {"prompt": "x", "input": str(ran)}
            if route == "resume":
                agent, body = "asks", {"thread_id": asked_of(host.port, "asks", "x", ran)[0], "response": "yes"}
            one = request("POST", f"/agents/{agent}/{route}", {"idempotency-key": f"k{number}"}, body)
            replies = race(host.port, [one] * RACERS)
            assert {reply.status for reply in replies} == {202 if route == "runs" else 200}
            (run_id,) = {reply["x-run-id"] for reply in replies}
            read(host.port, f"/agents/{agent}/runs/{run_id}")
            assert lines(ran) == 1
            if route in {"stream", "resume"}:
                assert len({reply.body for reply in replies}) == 1
            again = ask(host.port, "POST", f"/agents/{agent}/{route}", {"idempotency-key": f"k{number}"}, body)
            assert again["x-run-id"] == run_id
            other = ask(
                host.port,
                "POST",
                f"/agents/{agent}/{route}",
                {"idempotency-key": f"k{number}"},
                {**body, "metadata": {"a": 1}},
            )
            assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
            assert lines(ran) == 1


@pytest.mark.parametrize("key", ["", "a-key"])
def test_a_question_whose_answer_was_claimed_by_a_run_that_died_before_a_word_can_be_answered(
    tmp_path: Path, key: str
) -> None:
    ran = tmp_path / "ran"
    headers = {"idempotency-key": key} if key else {}
    where = config(tmp_path)
    with Process(where, dev=True) as host:
        thread, path = asked_of(host.port, "mortal", "dies", ran)
        with Wire(host.port) as wire:
            wire.send(request("POST", "/agents/mortal/resume", headers, {"thread_id": thread, "response": 1}))
            assert b"data:" not in arrived(wire)
        host._process.wait()
    assert lines(ran) == 1
    with Process(where, dev=True) as host:
        ready(host)
        assert question(host.port, path) == "open"
        waiting = ask(host.port, "GET", "/agents/mortal/runs?status=paused").json["runs"]
        assert [run["run_id"] for run in waiting] == [thread]
        body = {"thread_id": thread, "response": 1}
        if key:
            first = ask(host.port, "POST", "/agents/mortal/resume", headers, body)
            assert (first.status, first.frames[-2].json["code"]) == (200, "host_lost")
            assert question(host.port, path) == "open"
        replies = race(host.port, [request("POST", "/agents/mortal/resume", body=body)] * RACERS)
        assert sorted(reply.status for reply in replies) == [200] + [409] * (RACERS - 1)
        (won,) = [reply for reply in replies if reply.status == 200]
        assert won.frames[-2].json["message"] == "survived"
        assert question(host.port, path) == "answered"
        assert lines(ran) == 2


def test_a_question_that_a_run_had_begun_to_act_on_when_its_host_died_is_answered(tmp_path: Path) -> None:
    where = config(tmp_path)
    with Process(where, dev=True) as host:
        thread, path = asked_of(host.port, "mortal", "speaks", tmp_path / "ran")
        with Wire(host.port) as wire:
            wire.send(request("POST", "/agents/mortal/resume", body={"thread_id": thread, "response": 1}))
            head = wire.head()
            assert told(take(wire, 1)[0])["content"] == "answered "
            kill(host)
    with Process(where, dev=True) as host:
        ready(host)
        assert question(host.port, path) == "answered"
        refused = ask(host.port, "POST", "/agents/mortal/resume", body={"thread_id": thread, "response": 2})
        assert (refused.status, refused.json["code"]) == (409, "already_answered")
        run = ask(host.port, "GET", f"/agents/mortal/runs/{head['x-run-id']}").json
        assert (run["status"], run["error"]["code"], run["resumes"]) == ("failed", "host_lost", thread)
        assert [told(frame)["type"] for frame in read(host.port, f"/agents/mortal/runs/{run['run_id']}")] == [
            "model_chunk",
            "error",
        ]


def answer_and_die(host: Process, chance: random.Random, mark: str, folder: Path) -> list[tuple[str, Path, Follower]]:
    """Answer twelve questions, some with a key, while the host is killed at a random moment."""
    asked = []
    for number in range(12):
        ran = folder / f"ran-{mark}-{number}"
        thread, path = asked_of(host.port, "asks", "x", ran)
        key = f"{mark}-{number}" if number % 2 else ""
        asked.append((path, ran, Follower("asks", "resume", key=key, body={"thread_id": thread, "response": "yes"})))
    for place, (_path, _ran, follower) in enumerate(asked):
        follower.follow(host.port)
        if place == 6:
            threading.Event().wait(chance.uniform(0.0, 0.02))
    threading.Event().wait(chance.uniform(0.0, 0.08))
    kill(host)
    for _path, _ran, follower in asked:
        follower.leave()
    return asked


def test_a_question_is_open_or_answered_whenever_its_host_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    where = config(tmp_path)
    found = {"open": 0, "answered": 0}
    asked: list[tuple[str, Path, Follower]] = []
    for number in range(KILLS // 2 + 1):
        with Process(where, dev=True) as host:
            ready(host)
            for path, ran, follower in asked:
                status = question(host.port, path)
                found[status] += 1
                assert status == "answered" or not follower.frames, f"seed {seed}: it is asked again, after an answer"
                again = ask(host.port, "POST", "/agents/asks/resume", body=follower.body)
                assert again.status == (200 if status == "open" else 409), f"seed {seed}: {again.body!r}"
                assert question(host.port, path) == "answered"
                assert lines(ran) in ({1, 2} if status == "open" else {1})
            if number < KILLS // 2:
                asked = answer_and_die(host, chance, str(number), tmp_path)
    print(found)


# ── readers that read nothing, and many that do ───────────────────────────────────────────────────────────────────────


def silent(port: int, path: str) -> Wire:
    """A reader that has asked for a run's events, and reads nothing."""
    wire = Wire(port)
    wire.send(request("GET", f"{path}/events"))
    return wire


def side_by_side(count: int, work: Callable[[], Any]) -> list[Any]:
    """What `work` returns in so many threads."""
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_readers_that_read_nothing_hold_no_run_up_cost_little_and_miss_nothing(tmp_path: Path) -> None:
    events = 2000  # 20 MB
    with Process(config(tmp_path), dev=True) as host, ExitStack() as open_wires:
        for _ in range(2):
            read(host.port, begun(host.port, "thinks", input=events))
        before = time.monotonic()
        read(host.port, begun(host.port, "thinks", input=events))
        alone = time.monotonic() - before
        memory = host.resident()
        host.forget_peak()
        before = time.monotonic()
        path = begun(host.port, "thinks", input=events)
        wires = [open_wires.enter_context(silent(host.port, path)) for _ in range(SILENT)]
        whole = read(host.port, path)
        together = time.monotonic() - before
        cost = host.peak() - memory
        print(
            f"alone {alone:.2f} s, with {SILENT} silent {together:.2f} s, {cost / SILENT / 1e6:.2f} MB each at the peak"
        )
        assert ask(host.port, "GET", path).json["status"] == "completed"
        assert len(whole) == events + 1
        assert cost <= SILENT << 20
        for wire in wires:
            assert wire.head().status == 200
            assert whole_frames(b"".join(wire.chunks())) == [*whole, END]


def test_twenty_readers_of_one_run_get_the_same_bytes(tmp_path: Path) -> None:
    with Process(config(tmp_path), dev=True) as host:
        path = begun(host.port, "thinks", input=500)
        bodies = side_by_side(20, lambda: ask(host.port, "GET", f"{path}/events").body)
        assert len(bodies) == 20
        assert len(set(bodies)) == 1
        assert len(whole_frames(bodies[0])) == 502
