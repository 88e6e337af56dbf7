"""The rows of the table: what is asked of which server, and the goal that stands beside the figure."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from .bench import Bench
from .driver import Job, target
from .figures import PER_EVENT, PER_REQUEST, Values, at_most, combine, figure, first_event_ms, latency_ms, ratio, read
from .processes import ROOT, Server, Unmeasured, environment, settled_bytes
from .servers import our_host
from .table import Line, against, measured
from .workers import cancel_ms, children, events_per_second, unread

WEB_FRAMEWORKS = ("fastapi", "starlette", "uvicorn")


def invoke(bench: Bench) -> list[Line]:
    """Runs without a thread, the key checked, with and without the access log."""
    path = "/agents/echo/invoke"
    logged = bench.ours("logged", access_log=True)
    sides = {
        "R": target(bench.raw(), "/invoke"),
        "F": target(bench.plain(), "/invoke"),
        "ours": target(bench.ours(), path),
        "logged": target(logged, path),
    }
    cpu = {name: read(found, PER_REQUEST) for name, found in bench.compare("invoke", sides).items()}
    unit, what = "µs CPU", "invoke, key checked, no thread, 16 clients"
    return [
        measured("invoke", "R: raw ASGI", unit, figure(cpu["R"])),
        measured("invoke", "F: plain FastAPI", unit, figure(cpu["F"])),
        at_most("invoke", what, unit, cpu["ours"], 0.40, "F", cpu["F"]),
        at_most("invoke", what, unit, cpu["ours"], 2.2, "R", cpu["R"]),
        at_most("invoke", "the same with the access log on", unit, cpu["logged"], 0.50, "F", cpu["F"]),
    ]


def durable(bench: Bench) -> list[Line]:
    """Runs on threads in SQLite with full durability; ten runs share a thread."""
    host, plain, path = bench.ours(), bench.plain(), "/agents/echo/invoke"
    sides = {
        "F, 16 clients": target(plain, "/invoke"),
        "durable, 16 clients": target(host, path, threads=True),
        "F, one client": target(plain, "/invoke", clients=1),
        "durable, one client": target(host, path, threads=True, clients=1),
        "no thread, one client": target(host, path, clients=1),
    }
    found = bench.compare("durable", sides)
    cpu = {name: read(rounds, PER_REQUEST) for name, rounds in found.items()}
    wait = {name: read(rounds, latency_ms) for name, rounds in found.items()}
    row, unit, at_16, at_1 = "durable", "µs CPU", "durable, 16 clients", "durable, one client"
    added = combine(wait[at_1], wait["no thread, one client"], lambda value, other: value - other)
    what = "latency p50 that a thread adds, one client"
    sync = f"this disk syncs 4 kB in {sync_ms(bench.folder):.2f} ms (p50)"
    return [
        measured(row, "F: plain FastAPI, no store, one client", unit, figure(cpu["F, one client"])),
        at_most(row, "invoke on a thread, 16 clients", unit, cpu[at_16], 1.5, "F", cpu["F, 16 clients"]),
        at_most(row, "invoke on a thread, one client", unit, cpu[at_1], 4, "F", cpu["F, one client"]),
        against(row, what, "ms", added, "≤ 1 ms", added, high=1.0, note=sync),
    ]


def sync_ms(folder: Path) -> float:
    """How long this disk takes to make 4 kB durable (p50 of 50), the floor below any durable run."""
    taken = []
    with (folder / "sync").open("wb") as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken) * 1000


def stream(bench: Bench) -> list[Line]:
    """Streams of 200 events and a `done`, 16 clients: all ready at once, and one per loop turn."""
    wanted = {"stream": True, "min_events": 200}
    host, raw = bench.ours(), bench.raw()
    sides = {
        "R, one send per event": target(raw, "/stream", **wanted),
        "R, one event per loop turn": target(raw, "/stream/turns", **wanted),
        "R, all in one send": target(raw, "/stream/whole", **wanted),
        "F": target(bench.plain(), "/stream", **wanted),
        "ready": target(host, "/agents/ready/stream", **wanted),
        "turns": target(host, "/agents/turns/stream", **wanted),
    }
    cpu = {name: read(found, PER_EVENT) for name, found in bench.compare("stream", sides).items()}
    unit, sends, turns = "µs CPU per event", "R, one send per event", "R, one event per loop turn"
    return [
        *(measured("stream", name, unit, figure(cpu[name])) for name in sides if name.startswith(("R", "F"))),
        at_most("stream", "200 ready events, 16 clients", unit, cpu["ready"], 0.5, "R (a send each)", cpu[sends]),
        at_most(
            "stream", "one event per loop turn, 16 clients", unit, cpu["turns"], 1.4, "R (a turn each)", cpu[turns]
        ),
    ]


def protocols(bench: Bench) -> list[Line]:
    """What an event costs in the words of other protocols, against the same agent's events in the host's own frames."""
    row, host, said = "protocols", bench.ours(), "What is the capital of France?"
    wanted = {"stream": True, "min_events": 200}
    chat = {"model": "ready", "stream": True, "messages": [{"role": "user", "content": said}]}
    response = {"model": "ready", "stream": True, "store": False, "input": said}
    sides = {
        "native": target(host, "/agents/ready/stream", **wanted),
        "openai chat": target(host, "/v1/chat/completions", body=chat, **wanted),
        "openai responses": target(host, "/v1/responses", body=response, **wanted),
    }
    cpu = {name: read(found, PER_EVENT) for name, found in bench.compare(row, sides).items()}
    unit = "µs CPU per event"
    return [
        measured(row, "native: 200 ready events, 16 clients", unit, figure(cpu["native"])),
        at_most(row, "the same as chat completion chunks", unit, cpu["openai chat"], 2, "native", cpu["native"]),
        at_most(row, "the same as a response's events", unit, cpu["openai responses"], 2.5, "native", cpu["native"]),
    ]


def worker(bench: Bench) -> list[Line]:
    """An agent in a worker process against the same agent in the host's; CPU is that of both processes."""
    row, host, streams = "worker", bench.ours("placed", our_host.placed()), {"stream": True, "min_events": 200}
    workers = () if isinstance(host, Unmeasured) else children(host.pid)
    sides = {
        "in-process": target(host, "/agents/echo/invoke"),
        "worker": target(host, "/agents/echo-worker/invoke", workers=workers),
        "events in-process": target(host, "/agents/ready/stream", **streams),
        "events": target(host, "/agents/ready-worker/stream", **streams, workers=workers),
    }
    found = bench.compare(row, sides)
    cpu = {name: read(rounds, PER_EVENT if "events" in name else PER_REQUEST) for name, rounds in found.items()}
    added = combine(cpu["worker"], cpu["in-process"], lambda value, other: value - other)
    (rate, cpus), cancelled, ahead = events_per_second(bench.cores), cancel_ms(20 * bench.starts), unread()
    unit, of_both = "µs CPU per event", "CPU of host and worker"
    return [
        measured(row, "invoke in-process", "µs CPU", figure(cpu["in-process"])),
        against(row, "invoke in a worker", "µs CPU", figure(cpu["worker"]), "≤ +60 µs", added, high=60.0, note=of_both),
        measured(row, "200 ready events in-process, 16 clients", unit, figure(cpu["events in-process"])),
        measured(row, "the same in a worker", unit, figure(cpu["events"]), note=of_both),
        against(row, "events a second from a worker, a core for each side", "", figure(rate), "≥ 150,000", figure(rate),
                low=150_000.0, high=float("inf"), note=cpus),
        against(row, "cancel reaches the agent, p99", "ms", figure(cancelled), "≤ 10 ms", figure(cancelled), high=10.0),
        against(row, "events unread when a reader stops", "", figure(ahead), "≤ 256", figure(ahead), high=256.0),
    ]  # fmt: skip


def first_event(bench: Bench) -> list[Line]:
    """How long 128 clients wait for the first event of an agent whose events are all ready.

    Each asks again as soon as its stream has ended, so the server is never idle: what counts is how soon a new stream
    gets a turn among 127 others.
    """
    wanted = {"stream": True, "min_events": 200, "clients": 128}
    sides = {
        "R": target(bench.raw(), "/stream/turns", **wanted),
        "ours": target(bench.ours(), "/agents/ready/stream", **wanted),
    }
    wait = {name: read(found, first_event_ms) for name, found in bench.compare("first-event", sides).items()}
    what = "time to first event p99, 128 clients"
    return [
        measured("first-event", "R, one event per loop turn, p99", "ms", figure(wait["R"])),
        at_most("first-event", what, "ms", wait["ours"], 2, "R", wait["R"]),
    ]


def agents(bench: Bench) -> list[Line]:
    """A thousand agents: how soon their host lives, what each costs, and whether the last is as fast as the first."""
    count = bench.agents
    row, last = "agents", f"a{count - 1:04}"
    live, host = start_many(bench, count)
    alone = memory_of(bench.ours("one agent", our_host.many(1)))
    each = combine(memory_of(host), alone, lambda value, other: (value - other) / (count - 1) / 1000)
    sides = {name: target(host, f"/agents/{name}/invoke") for name in ("a0000", last)}
    cpu = {name: read(found, PER_REQUEST) for name, found in bench.compare(row, sides, finer=3).items()}
    even = ratio(cpu[last], cpu["a0000"])
    what = f"invoke of the last of {count} agents against the first"
    return [
        against(row, what, "µs CPU", figure(cpu[last]), "1.00 ± 0.05 × the first", even, low=0.95, high=1.05),
        against(row, f"start to live, {count} agents", "s", figure(live), "≤ 1.5 s", figure(live), high=1.5),
        against(row, "memory of an agent not yet used", "kB", each, "≤ 20 kB", each, high=20.0),
    ]


def memory_of(server: Server | Unmeasured) -> Values:
    """Resident memory of a server that is at rest, bytes."""
    try:
        return server if isinstance(server, Unmeasured) else [settled_bytes(server.pid)]
    except Unmeasured as reason:
        return reason


def start_many(bench: Bench, count: int) -> tuple[Values, Server | Unmeasured]:
    """Seconds from start to live of a host with `count` agents, and the last one started, ready."""
    name, taken = f"{count} agents", []
    for left in reversed(range(3 if bench.starts > 1 else 1)):
        server = bench.spawn_ours(name, our_host.many(count))
        try:
            taken.append(server.wait())
        except Unmeasured as reason:
            server.stop()
            return reason, reason
        if left:
            server.stop()
    host = bench.running(name, server, "/health/ready")
    return (host if isinstance(host, Unmeasured) else taken), host


def idle_stream(bench: Bench) -> list[Line]:
    """What one open stream costs that has sent its first event and now waits."""
    row, unit = "idle-stream", "kB"
    raw = bytes_per_stream(bench, bench.running("idle R", bench.spawn_raw()), "/stream/idle")
    host = bench.running("idle", bench.spawn_ours("idle", our_host.one_each()), "/health/ready")
    mine = bytes_per_stream(bench, host, "/agents/idle/stream")
    what = f"an open idle stream, {bench.streams} of them"
    return [
        measured(row, "R: raw ASGI", unit, figure(raw)),
        against(row, what, unit, figure(mine), "≤ 24 kB", figure(mine), high=24.0),
    ]


def bytes_per_stream(bench: Bench, server: Server | Unmeasured, path: str) -> Values:
    """Resident memory that open streams add, in kB each.

    The server is new, since an old one would put them where earlier work was; a few streams come and go first, for
    what is made once.
    """
    if isinstance(server, Unmeasured):
        return server
    try:
        with held(bench, server, path, 5):
            pass
        before = settled_bytes(server.pid)
        with held(bench, server, path, bench.streams):
            return [(settled_bytes(server.pid) - before) / bench.streams / 1000]
    except Unmeasured as reason:
        return reason


@contextmanager
def held(bench: Bench, server: Server, path: str, clients: int) -> Iterator[None]:
    """Streams that are open for as long as this is."""
    try:
        bench.load.hold(Job(server.pid, server.port, path, clients=clients, stream=True, hold=True))
        yield
    finally:
        bench.load.release()


def start(bench: Bench) -> list[Line]:
    """From the start of the process to the first 200, in turn; one start of each goes before, to compile modules."""
    spawn: dict[str, Callable[[], Server]] = {
        "R": bench.spawn_raw,
        "F": bench.spawn_plain,
        "ours": lambda: bench.spawn_ours("start", our_host.one_each()),
    }
    taken: dict[str, list[float] | Unmeasured] = {name: [] for name in spawn}
    for again in range(bench.starts + 1):
        for name, begin in spawn.items():
            done = taken[name]
            if isinstance(done, Unmeasured):
                continue
            server = begin()
            try:
                seconds = server.wait()
                if again:
                    done.append(seconds)
            except Unmeasured as reason:
                taken[name] = reason
            finally:
                server.stop()
    return [
        measured("start", "R: raw ASGI", "s", figure(taken["R"])),
        measured("start", "F: plain FastAPI", "s", figure(taken["F"])),
        at_most("start", "start to first 200", "s", taken["ours"], 1.3, "F", taken["F"]),
    ]


def import_cost(bench: Bench) -> list[Line]:
    """What `import agenthost` adds to an interpreter's start, and whether it brings in a web framework."""
    taken = []
    for again in range(3 * bench.starts + 1):
        bare, whole = seconds_of("pass"), seconds_of("import agenthost")
        if again:
            taken.append((whole - bare) * 1000)
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import agenthost, sys; print(*[name for name in {WEB_FRAMEWORKS} if name in sys.modules])",
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    note = f"it imports {found}" if found else "no web framework imported"
    value = figure(taken)
    return [against("import", "import agenthost", "ms", value, "≤ 60 ms", value, high=60.0, note=note)]


def seconds_of(code: str) -> float:
    """Wall time of an interpreter that runs `code`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=True)
    return time.perf_counter() - began


def frameworks(bench: Bench) -> list[Line]:
    """What an adapter adds to each token of its framework, which streams an answer of its offline test model."""
    lines = []
    for folder in sorted((ROOT / "plugins").glob("*/tests/overhead.py")):
        name = folder.parts[-3].removeprefix("agenthost-")
        direct, adapted = overhead(bench, folder)
        what = f"{name}: a streamed token through the adapter"
        lines += [
            measured("frameworks", f"{name} alone, a streamed token", "µs CPU", figure(direct)),
            at_most("frameworks", what, "µs CPU", adapted, 1.10, f"{name} alone", direct),
        ]
    return lines


def overhead(bench: Bench, file: Path) -> tuple[Values, Values]:
    """CPU per token of a framework alone and through its adapter, in µs, round by round."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.overhead", str(file), "2000"]
    ended = subprocess.run(
        [*command, str(2 * bench.rounds + 1)], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        reason = Unmeasured((ended.stderr.strip().splitlines() or ["it ended without a word"])[-1])
        return reason, reason
    found = json.loads(ended.stdout.splitlines()[-1])
    return found["direct"], found["adapted"]


ROWS: dict[str, Callable[[Bench], list[Line]]] = {
    "invoke": invoke,
    "durable": durable,
    "stream": stream,
    "protocols": protocols,
    "worker": worker,
    "first-event": first_event,
    "agents": agents,
    "idle-stream": idle_stream,
    "start": start,
    "import": import_cost,
    "frameworks": frameworks,
}
