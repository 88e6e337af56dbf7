"""A worker process as a host sees it, frame by frame: what it loads, what it is, that it never outlives its host."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext
from agenthost.auth import Principal
from agenthost.encoding import encode_json
from agenthost.placement.carrying import told_context
from agenthost.placement.frames import CALL, END, ERROR, EVENT, FILES, HEAD, HELLO, LOG
from agenthost.placement.spawning import FOLDERS, LOADER
from tests.distributions import Site
from tests.house.tree import PLUGINS

AGENTS = """
import logging
import os
import signal
import sys

async def where(ctx):
    import agenthost, pluggy
    loaded = sorted(name.partition(".")[0] for name in sys.modules)
    yield repr([agenthost.__file__, pluggy.__file__, sorted(os.environ), loaded])

async def says(ctx):
    print("on stdout")
    logging.getLogger("elsewhere").warning("in the log")
    yield ctx.prompt

async def eats(ctx):
    kept = []
    size = 8 << 20
    while True:
        try:
            kept.append(bytearray(size))
        except MemoryError:
            if size == 1:
                raise
            size //= 2

async def spins(ctx):
    yield "spinning"
    while True:
        pass

class Bad:
    input_schema = {1: 2}
    async def run(self, ctx):
        return ""

async def imports_later(ctx):
    import later
    yield later.WORD

async def stops(ctx):
    breakpoint()
    yield "gone on"

async def signals(ctx):
    for told in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), told)
    yield "still here"
"""


class Spoken:
    """A worker, its socket in this test's hand; `output` is its stdout and stderr."""

    def __init__(self, folder: Path, use: str, **opening: Any) -> None:
        (folder / "ag.py").write_text(AGENTS)
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(30)
        command = [sys.executable, "-c", LOADER, str(theirs.fileno()), str(os.getpid()), *FOLDERS]
        self.process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "OWN": "1"},
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        theirs.close()
        told = {"op": "load", "name": "agent", "use": use, "base_dir": str(folder), "block": [], "settings": {},
                "load_timeout": 20, "concurrency": 4, "max_memory": None, "path": [], "levels": {"": 30}}  # fmt: skip
        self.send(CALL, 0, encode_json({**told, **opening}))

    def send(self, kind: int, number: int, body: bytes = b"") -> None:
        self.socket.sendall(HEAD.pack(len(body), kind, number) + body)

    def run(self, number: int, prompt: str = "") -> None:
        ctx = RunContext(prompt=prompt, run_id="r", agent="agent", principal=Principal("ann"))
        self.send(CALL, number, encode_json(told_context(ctx)))

    def next(self) -> tuple[int, int, bytes]:
        """The next frame, but for those that tell which files were read: `files` is the latest."""
        while True:
            size, kind, number = HEAD.unpack(self._read(HEAD.size))
            body = self._read(size)
            if kind != FILES:
                return kind, number, body
            files = map(Path, json.loads(body))
            self.files = [file for file in files if not file.is_relative_to(PLUGINS)]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, f"the worker has gone: {self.output()}"
            data += part
        return data

    def output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read().decode()


@contextmanager
def speaking(folder: Path, use: str, **opening: Any) -> Iterator[Spoken]:
    worker = Spoken(folder, use, **opening)
    try:
        yield worker
    finally:
        worker.socket.close()
        worker.process.kill()
        worker.process.wait()
        assert worker.process.stdout is not None
        worker.process.stdout.close()


def test_a_worker_has_the_hosts_agenthost_and_pluggy_and_no_other_package_of_it(tmp_path: Path) -> None:
    with speaking(tmp_path, "ag.py:where") as worker:
        kind, number, hello = worker.next()
        assert (kind, number) == (HELLO, 0)
        assert json.loads(hello)["python"] == sys.version.split()[0]
        worker.run(1)
        kind, number, body = worker.next()
        assert (kind, number) == (EVENT, 1)
        type_, _, data = body.partition(b"\0")
        assert type_ == b"model_chunk"
        ours, pluggys, variables, loaded = eval(json.loads(data)["content"])
        assert ours.startswith(FOLDERS[0])
        assert pluggys.startswith(FOLDERS[1])
        assert set(variables) - {"LC_CTYPE"} == {"PATH", "OWN"}  # which Python sets itself where there is no LANG
        foreign = set(loaded) - sys.stdlib_module_names - {"__main__", "agenthost", "pluggy", "ag"}
        known = ("_", "agenthost_", "sitecustomize")  # agents' files, and plugins, which may have adapters for it
        assert not [name for name in foreign if not name.startswith(known)]


def test_a_run_is_events_and_an_end_and_its_log_comes_beside_it(tmp_path: Path) -> None:
    with speaking(tmp_path, "ag.py:says") as worker:
        worker.next()
        worker.run(1, "hi")
        frames = [worker.next() for _ in range(3)]
        kinds = [kind for kind, *_ in frames]
        assert sorted(kinds) == sorted([LOG, EVENT, END])
        assert kinds.index(EVENT) < kinds.index(END)
        [told] = [json.loads(body) for kind, _number, body in frames if kind == LOG]
        assert (told["message"], told["run_id"]) == ("elsewhere: in the log", "r")
        worker.socket.close()
        assert worker.process.wait(30) == 0
        assert worker.output() == "on stdout\n"


def test_an_agent_that_cannot_be_found_or_is_no_json_is_refused_in_the_hosts_words(tmp_path: Path) -> None:
    not_json = "says of itself what is not JSON: input_schema holds a dict with a key that is not a str"
    for use, words in (
        ("ag.py:sayz", "agent 'agent' (ag.py:sayz) failed to load: file 'ag.py' has no attribute 'sayz'"),
        ("ag.py:Bad", f"agent 'agent' (ag.py:Bad) {not_json}"),
    ):
        with speaking(tmp_path, use) as worker:
            kind, number, body = worker.next()
            told = json.loads(body)
            assert (kind, number, told["code"], told["message"]) == (ERROR, 0, "load_failed", words)


def test_an_installed_agent_is_found_by_its_name_with_whose_it_is_and_by_an_adapter_of_a_plugin(tmp_path: Path) -> None:
    adapter = """
        from agenthost import hookimpl
        @hookimpl
        def register_adapters(register):
            register("acme", adapt, modules=["acme_framework"])
        def adapt(found):
            async def run(ctx):
                return found.word
            return run
    """
    with Site(tmp_path / "site") as site:
        site.install("acme-agents", "2.1", agents={"agent": "acme_agents:made"}, plugins={"acme": "acme_plugin"},
                     modules={"acme_agents": "from acme_framework import Made\nmade = Made()", "acme_plugin": adapter,
                              "acme_framework": "class Made:\n    word = 'adapted'"})  # fmt: skip
    with speaking(tmp_path, "agent", path=[str(tmp_path / "site")]) as worker:
        kind, _number, hello = worker.next()
        assert kind == HELLO, hello
        assert (json.loads(hello)["distribution"], json.loads(hello)["version"]) == ("acme-agents", "2.1")
        worker.run(1)
        assert worker.next()[2] == b'result\0{"type":"result","message":"adapted","reason":"complete"}'
        worker.socket.close()
        worker.process.wait(30)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts little elsewhere")
def test_a_worker_that_takes_too_much_memory_is_told_so_by_its_own_python(tmp_path: Path) -> None:
    with speaking(tmp_path, "ag.py:eats", max_memory=300 << 20) as worker:
        worker.next()
        worker.run(1)
        kind, _number, body = worker.next()
        told = json.loads(body)
        assert (kind, told["code"]) == (ERROR, "agent_error")
        worker.run(2)
        assert worker.next()[:2] == (ERROR, 2), "what the first has eaten is there again"


def test_what_is_meant_for_the_host_does_not_end_a_worker(tmp_path: Path) -> None:
    with speaking(tmp_path, "ag.py:signals") as worker:
        worker.next()
        worker.run(1)
        assert b"still here" in worker.next()[2]


_HOST = """
import json, socket, subprocess, sys, threading, time
ours, theirs = socket.socketpair()
command = [sys.executable, "-c", sys.argv[1], str(theirs.fileno()), str(__import__("os").getpid()), *sys.argv[2:4]]
worker = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
ours.sendall(bytes.fromhex(sys.argv[4]))
ours.recv(9)
ours.sendall(bytes.fromhex(sys.argv[5]))
while b"spinning" not in ours.recv(1 << 16): pass
print(worker.pid, flush=True)
time.sleep(600)
"""


def test_a_worker_does_not_outlive_a_host_that_is_killed_though_it_spins(tmp_path: Path) -> None:
    (tmp_path / "ag.py").write_text(AGENTS)
    told = {"op": "load", "name": "agent", "use": "ag.py:spins", "base_dir": str(tmp_path), "block": [], "settings": {},
            "load_timeout": 20, "concurrency": 4, "max_memory": None, "path": [], "levels": {}}  # fmt: skip
    load = encode_json(told)
    run = encode_json(told_context(RunContext(prompt="", run_id="r", agent="agent", principal=Principal("ann"))))
    frames = [(HEAD.pack(len(body), CALL, number) + body).hex() for number, body in enumerate((load, run))]
    host = subprocess.Popen([sys.executable, "-c", _HOST, LOADER, *FOLDERS, *frames], stdout=subprocess.PIPE)
    assert host.stdout is not None
    with host.stdout:
        worker = int(host.stdout.readline())
        os.kill(worker, 0)
        host.send_signal(signal.SIGKILL)
        host.wait()
        deadline = time.monotonic() + 10
        while _alive(worker):
            assert time.monotonic() < deadline, "the worker has outlived its host"
            time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_whose_host_has_gone_already_ends_at_once(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", LOADER, str(theirs.fileno()), "1", *FOLDERS]
        done = subprocess.run(command, pass_fds=(theirs.fileno(),), timeout=30, check=False)
    assert done.returncode == 1


def test_the_authors_own_files_are_told_with_the_agent_and_again_when_a_run_has_imported_more(tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text("WORD = 'now'\n")
    with speaking(tmp_path, "ag.py:imports_later") as worker:
        assert worker.next()[0] == HELLO
        assert worker.files == [tmp_path / "ag.py"]
        worker.run(1)
        assert [worker.next()[0] for _ in range(2)] == [EVENT, END]
        worker.send(CALL, 2, b'{"op": "health"}')
        worker.next()
        assert worker.files == [tmp_path / "ag.py", tmp_path / "later.py"]


def test_with_an_agent_that_does_not_load_the_files_are_told_that_were_looked_for(tmp_path: Path) -> None:
    (tmp_path / "ag2.py").write_text("import half\n")
    (tmp_path / "half.py").write_text("import nowhere\n")
    with speaking(tmp_path, "ag2.py:agent") as worker:
        assert worker.next()[0] == ERROR
        assert {tmp_path / "half.py", tmp_path / "nowhere.py", tmp_path / "nowhere" / "__init__.py"} <= {*worker.files}


def test_a_breakpoint_in_a_worker_says_where_there_is_a_terminal(tmp_path: Path) -> None:
    with speaking(tmp_path, "ag.py:stops") as worker:
        worker.next()
        worker.run(1)
        told = json.loads(worker.next()[2])
    assert (
        "RuntimeError: breakpoint(): there is no terminal in a worker process; `agenthost dev --debug`"
        in told["message"]
    )
