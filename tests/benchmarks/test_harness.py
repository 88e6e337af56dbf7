"""The harness measures what it says: its client reads every reply rightly, and R and F can be measured at all."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bench import Bench
from .driver import Job, LoadClient, compare, target
from .figures import PER_EVENT, PER_REQUEST, at_most, figure, ratio, read
from .processes import ROOT, Server, Unmeasured, choose_cores, cpu_seconds, environment, free_port, resident_bytes
from .replies import Reply
from .servers import our_host
from .table import Line, Spread, against, as_markdown, as_text, measured

FRAMES = (
    b'id: 1\nevent: model_chunk\ndata: {"type":"model_chunk","content":"data: {no event}"}\n\n'
    b": a heartbeat\n\n"
    b'data: {"type":"done"}\n\n'
    b"data: [DONE]\n\n"
)


def chunked(*chunks: bytes) -> bytes:
    """A whole chunked reply."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + body
        + b"0\r\n\r\n"
    )


def fed(data: bytes, size: int) -> Reply:
    """A reply that was fed `size` bytes at a time; it is whole with the last of them, and not before."""
    reply = Reply()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [reply.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    return reply


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One run for all tests: they only ask it for servers and rounds."""
    with Bench(quick=True) as found:
        found.rounds, found.seconds = 1, 0.5
        yield found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("cut", [1, 5, 60, 10_000])
def test_events_are_counted_wherever_chunks_and_reads_cut_the_stream(size: int, cut: int) -> None:
    chunks = [FRAMES[at : at + cut] for at in range(0, len(FRAMES), cut)]
    reply = fed(chunked(*chunks), size)
    assert (reply.status, reply.events, reply.done) == (200, 2, True)


@pytest.mark.parametrize("size", [1, 9, 10_000])
def test_a_reply_with_a_length_is_whole_at_its_last_byte(size: int) -> None:
    reply = fed(b'HTTP/1.1 422 Unprocessable\r\ncontent-length: 14\r\n\r\n{"detail":"x"}', size)
    assert (reply.status, reply.events, reply.start) == (422, 0, b'{"detail":"x"}')


def test_a_reply_without_a_body_is_whole_with_its_head() -> None:
    assert fed(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 10_000).status == 204


def test_a_stream_that_lacks_its_last_frame_is_not_done() -> None:
    assert not fed(chunked(FRAMES.removesuffix(b"data: [DONE]\n\n")), 10_000).done


def test_cpu_time_of_a_process_is_that_of_all_its_threads() -> None:
    def work() -> None:
        sum(range(300_000))

    before = cpu_seconds(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cpu_seconds(os.getpid()) > before


def test_r_and_f_are_measured_in_turn(bench: Bench) -> None:
    sides = {"R": target(bench.raw(), "/invoke"), "F": target(bench.plain(), "/invoke", clients=2)}
    found = bench.compare("invoke", sides)
    raw, plain = read(found["R"], PER_REQUEST), read(found["F"], PER_REQUEST)
    assert figure(raw)().median > 0
    assert ratio(plain, raw)().median > 1
    assert set(bench.raw_figures["invoke"]) == {"R", "F"}


@pytest.mark.parametrize("path", ["/stream", "/stream/turns", "/stream/whole"])
def test_every_stream_of_r_brings_200_events_and_a_done(bench: Bench, path: str) -> None:
    server = bench.raw()
    assert isinstance(server, Server)
    found = bench.load.run(Job(server.pid, server.port, path, clients=1, seconds=1.0, stream=True, min_events=201))
    assert found.requests > 0
    assert abs(found.events - 201 * found.requests) < 201
    assert found.first_p99 > 0


def test_f_streams_too(bench: Bench) -> None:
    found = bench.compare("stream", {"F": target(bench.plain(), "/stream", stream=True, min_events=201)})
    assert figure(read(found["F"], PER_EVENT))().median > 0


def test_streams_are_held_open_and_released(bench: Bench) -> None:
    server = bench.raw()
    assert isinstance(server, Server)
    bench.load.hold(Job(server.pid, server.port, "/stream/idle", clients=3, stream=True, hold=True))
    bench.load.release()
    assert bench.load.run(Job(server.pid, server.port, "/invoke", seconds=0.5)).requests > 0


def test_a_target_that_refuses_is_left_out_with_the_reason_and_the_others_are_measured(bench: Bench) -> None:
    sides = {"refused": target(bench.raw(), "/invoke", key="wrong"), "R": target(bench.raw(), "/invoke")}
    found = compare(bench.load, sides, rounds=2, seconds=0.3)
    assert str(found["refused"]) == 'POST /invoke: 401: {"detail":"Unauthorized"}'
    assert isinstance(found["R"], list)
    assert len(found["R"]) == 2


def test_a_stream_that_is_too_short_is_a_fault(bench: Bench) -> None:
    found = compare(bench.load, {"R": target(bench.raw(), "/stream", stream=True, min_events=500)}, 1, 0.05)
    assert str(found["R"]) == "POST /stream: a stream of 201 events that ends with [DONE]"


def test_a_server_that_closes_the_connection_is_a_fault(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        job = Job(os.getpid(), listener.getsockname()[1], "/invoke", clients=1, seconds=5)
        with pytest.raises(Unmeasured, match="POST /invoke: the server closed the connection"):
            bench.load.run(job)
        thread.join()


def test_a_server_that_does_not_start_says_why_in_the_table(tmp_path: Path) -> None:
    core, _ = choose_cores()
    command = [sys.executable, "-c", "raise SystemExit('there is no such agent')"]
    server = Server("ours", command, free_port(), tmp_path / "log", environment(), core)
    with pytest.raises(Unmeasured, match=r"^ours ended with 1: there is no such agent$") as caught:
        server.wait()
    server.stop()
    lines = [
        at_most("invoke", "invoke", "µs", caught.value, 0.4, "F", [1.0]),
        at_most("invoke", "logged", "µs", caught.value, 0.5, "F", [1.0]),
    ]
    text = as_text(lines)
    assert text.count("not measured [1]") == 2
    assert text.endswith("\n\n[1] ours ended with 1: there is no such agent")


def test_a_load_process_that_dies_is_named_each_time_it_is_asked() -> None:
    load = LoadClient(choose_cores()[1])
    load.process.kill()
    for _ in range(2):
        with pytest.raises(Unmeasured, match="the load process ended with -9"):
            load.run(Job(os.getpid(), free_port(), "/invoke"))
    load.close()


def test_a_process_that_has_ended_has_no_memory_to_measure() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    with pytest.raises(Unmeasured, match=f"no memory figures of process {ended.pid}"):
        resident_bytes(ended.pid)
    assert resident_bytes(os.getpid()) > 1_000_000


def test_what_each_line_of_the_table_says() -> None:
    values = [10.0, 12.0, 11.0]
    lines: list[Line] = [
        measured("start", "R | raw", "s", figure([0.5])),
        at_most("start", "ours", "s", values, 2, "F", [10.0, 10.0, 10.0]),
        against("agents", "last", "µs", figure(values), "1.00 ± 0.05", figure([1.2]), low=0.95, high=1.05, note="n"),
    ]
    assert [line.cells([]) for line in lines] == [
        ("start", "R | raw", "0.50 s", "", "", ""),
        ("start", "ours", "11.0 (10.0–12.0) s", "≤ 2 F", "1.10 (1.00–1.20)", "yes"),
        ("agents", "last", "11.0 (10.0–12.0) µs; n", "1.00 ± 0.05", "1.20", "no"),
    ]
    assert as_markdown(lines).splitlines()[2] == r"| start | R \| raw | 0.50 s |  |  |  |"
    assert Spread.of([12345.6]).text() == "12,346"
    assert Spread.of([-0.001]).text() == "0.00"


def test_the_configuration_names_each_agent_and_a_store_beside_it(tmp_path: Path) -> None:
    text = our_host.write_config(tmp_path, our_host.many(2)).read_text()
    assert f'url = "sqlite:///{tmp_path}/agenthost.db"' in text
    assert [line for line in text.splitlines() if line.startswith("[agents.")] == ["[agents.a0000]", "[agents.a0001]"]
    assert f'use = "{our_host.AGENTS}:echo"' in text


def test_an_unknown_row_is_refused_with_the_names_there_are() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--rows", "invoke,speed"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "no row called speed; there are invoke, durable, stream," in ended.stderr
