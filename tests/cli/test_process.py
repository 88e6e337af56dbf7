"""A host as a process: its logs, its end by signals, and that nothing holds it up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from agenthost.cli.process import PAST_DRAIN
from agenthost.http.server import listen
from tests.commands import ECHO, ENDLESS, KEY, Serving, environment
from tests.wire import Wire, request

TOML = (
    '[server]\ndrain = "{drain}"\n[store]\nurl = "memory:"\n'
    '[agents.app]\nuse = "app.py:agent"\nplacement = "in-process"\n'
)


def _host(folder: Path, source: str = ECHO, *, drain: str = "10s") -> Path:
    (folder / "agents.toml").write_text(TOML.format(drain=drain))
    (folder / "app.py").write_text(source)
    return folder


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_without_a_word(tmp_path: Path, by: signal.Signals):
    with Serving("dev", cwd=_host(tmp_path)) as served:
        said = served.err
        assert served.stop(by) == 0
        assert served.err == said


def test_each_request_is_a_line_on_stdout(tmp_path: Path):
    with Serving("dev", cwd=_host(tmp_path)) as served:
        reply = httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"})
        served.until(lambda: served.out)
        at, request_id, principal, agent, run, method, path, status, duration = served.out.split()
        assert (principal, agent, method, path, status) == ("dev", "app", "POST", "/agents/app/invoke", "200")
        assert (request_id, run) == (reply.headers["x-request-id"], reply.headers["x-run-id"])
        assert at.endswith("Z")
        assert duration.endswith("ms")


def test_lines_for_requests_can_be_switched_off(tmp_path: Path):
    with Serving("dev", "--no-access-log", cwd=_host(tmp_path)) as served:
        httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"})
        assert served.stop() == 0
        assert served.out == ""


def test_json_logs_are_json_on_both_streams(tmp_path: Path):
    _host(tmp_path)
    with (tmp_path / "agents.toml").open("a") as file:
        file.write('[agents.broken]\nuse = "not_there.py:agent"\n')
    with Serving("serve", "--log-format", "json", cwd=tmp_path, env={"AGENTHOST_API_KEY": KEY}) as served:
        httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}, headers={"authorization": f"Bearer {KEY}"})
        assert served.stop() == 0
        records = [json.loads(line) for line in served.err.splitlines()]
        lines = [json.loads(line) for line in served.out.splitlines()]
    assert [record["level"] for record in records] == ["error", "info"]
    assert records[0]["agent"] == "broken"
    assert records[1]["message"] == f"serving at {served.url}; 2 agents: 1 ready, 1 failed"
    assert [(line["principal"], line["key"], line["agent"], line["status"]) for line in lines] == [
        ("default", "default", "app", 200)
    ]


def test_secrets_do_not_reach_the_log(tmp_path: Path):
    source = "import logging\n" + ECHO.replace(
        "    for", f"    logging.getLogger('app').warning('the key is {KEY}')\n    for"
    )
    with Serving("serve", cwd=_host(tmp_path, source), env={"AGENTHOST_API_KEY": KEY}) as served:
        httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}, headers={"authorization": f"Bearer {KEY}"})
        served.until(lambda: "the key is ***" in served.err)
        assert served.stop() == 0
    assert KEY not in served.err + served.out


def test_an_agent_that_is_slow_to_load_is_shown_as_loading_and_logged_when_it_serves(tmp_path: Path):
    _host(tmp_path, "from pathlib import Path\nwhile not Path('go').exists(): pass\n" + ECHO)
    with Serving("dev", cwd=tmp_path, loaded=False) as served:
        assert f"  app  loading   {served.url}/agents/app\n" in served.err
        assert httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}).status_code == 503
        (tmp_path / "go").touch()
        served.until(lambda: " info    agenthost.registry: agent 'app' is ready agent=app\n" in served.err)
        assert httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}).status_code == 200


def test_stdout_that_nobody_reads_harms_nothing(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    try:
        with Serving("dev", cwd=_host(tmp_path), stdout=write) as served:
            said = served.err
            for _again in range(3):
                assert httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}).status_code == 200
            assert served.stop() == 0
            assert served.err == said
    finally:
        os.close(write)


def test_runs_that_end_within_the_drain_complete(tmp_path: Path):
    source = (
        "import asyncio\nasync def agent(ctx):\n    yield 'begun '\n    await asyncio.sleep(0.5)\n    yield 'ended'\n"
    )
    with Serving("dev", cwd=_host(tmp_path, source)) as served, Wire(served.port) as wire:
        wire.send(request("POST", "/agents/app/stream", body={"prompt": "go"}))
        assert wire.head().status == 200
        body = next(chunks := wire.chunks())
        served.process.send_signal(signal.SIGTERM)
        body += b"".join(chunks)
        assert served.process.wait(30) == 0
    assert b'"message":"begun ended"' in body
    assert body.endswith(b"data: [DONE]\n\n")


def test_an_endless_stream_gets_its_terminal_event_before_the_end(tmp_path: Path):
    with Serving("dev", cwd=_host(tmp_path, ENDLESS, drain="0s")) as served, Wire(served.port) as wire:
        wire.send(request("POST", "/agents/app/stream", body={"prompt": "go"}))
        run_id = wire.head()["x-run-id"]
        chunks = wire.chunks()
        body = next(chunks)
        served.process.send_signal(signal.SIGTERM)
        body += b"".join(chunks)
        assert served.process.wait(30) == 0
    *_events, terminal, done = body.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    event = json.loads(terminal.rpartition("data: ")[2])
    assert (event["type"], event["code"], event["run_id"]) == ("error", "host_stopping", run_id)


@pytest.mark.fault
def test_a_blocked_loop_does_not_keep_it_from_ending(tmp_path: Path):
    source = (
        "import time\nasync def agent(ctx):\n    print('blocking', flush=True)\n    time.sleep(600)\n    yield 'x'\n"
    )
    with Serving("dev", cwd=_host(tmp_path, source, drain="200ms")) as served, Wire(served.port) as wire:
        wire.send(request("POST", "/agents/app/invoke", body={"prompt": "go"}))
        served.until(lambda: "blocking\n" in served.out)
        assert served.stop() == 1
        assert served.err.endswith("\nagenthost: stopped by force, something did not end in time\n")


@pytest.mark.fault
def test_a_thread_that_never_ends_does_not_keep_it_from_ending(tmp_path: Path):
    source = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n" + ECHO
    with Serving("dev", cwd=_host(tmp_path, source)) as served:
        assert served.stop() == 0


@pytest.mark.fault
def test_work_in_the_loops_own_threads_does_not_keep_it_from_ending(tmp_path: Path):
    source = (
        "import asyncio, threading\n"
        "async def agent(ctx):\n"
        "    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)\n"
        "    yield 'left something behind'\n"
    )
    with Serving("dev", cwd=_host(tmp_path, source)) as served:
        assert httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}).status_code == 200
        assert served.stop() == 0


STALLS = """
import contextlib

class agent:
    @contextlib.asynccontextmanager
    async def lifespan(self):
        yield
        print("left the lifespan", flush=True)

    async def run(self, ctx):
        while True:
            yield "x" * 10_000
"""


@pytest.mark.fault
def test_a_client_that_reads_nothing_does_not_make_a_stop_a_forced_one(tmp_path: Path):
    with Serving("dev", cwd=_host(tmp_path, STALLS, drain="200ms")) as served, Wire(served.port) as wire:
        wire.send(request("POST", "/agents/app/stream", body={"prompt": "go"}))
        assert wire.head().status == 200
        next(wire.chunks())
        assert served.stop() == 0
        assert "left the lifespan\n" in served.out
        assert "by force" not in served.err


@pytest.mark.fault
def test_a_blocked_thread_does_not_put_the_end_off_beyond_a_second_after_the_drain(tmp_path: Path):
    source = "import time\ndef agent(ctx):\n    print('blocking', flush=True)\n    time.sleep(600)\n"
    with Serving("dev", cwd=_host(tmp_path, source, drain="1s")) as served, Wire(served.port) as wire:
        wire.send(request("POST", "/agents/app/invoke", body={"prompt": "go"}))
        served.until(lambda: "blocking\n" in served.out)
        before = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - before < 1 + PAST_DRAIN + 0.5


def test_a_later_end_does_not_put_off_an_earlier_one(tmp_path: Path):
    program = (
        "import threading\n"
        "from agenthost.cli.process import Ending\n"
        "ending = Ending()\n"
        "ending.within(0.2, 5)\n"
        "ending.within(600, 6)\n"
        "threading.Event().wait(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(), check=False).returncode == 6


def test_an_end_that_no_signal_asked_for_is_no_success(tmp_path: Path):
    source = (
        "from agenthost.http.server import Server\n"
        "async def ends(*_):\n"
        "    raise SystemExit(0)\n"
        "async def agent(ctx):\n"
        "    Server.on_tick = ends\n"
        "    yield 'x'\n"
    )
    with Serving("dev", cwd=_host(tmp_path, source)) as served:
        assert httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}).status_code == 200
        assert served.process.wait(30) == 1
        served.until(lambda: "the host ended though no signal told it to: SystemExit(0)" in served.err)


def _descriptors(pid: int) -> list[str]:
    """What the process holds open; one that it closes meanwhile is left out."""
    held: list[str] = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            held.append(os.readlink(link))
    return held


@pytest.mark.fault
def test_a_forked_child_of_a_killed_host_holds_neither_its_store_nor_its_port(tmp_path: Path):
    source = (
        "import multiprocessing, time\n"
        "def sleeps():\n"
        "    time.sleep(600)\n"
        "async def agent(ctx):\n"
        "    child = multiprocessing.get_context('fork').Process(target=sleeps)\n"
        "    child.start()\n"
        "    yield str(child.pid)\n"
    )
    _host(tmp_path, source)
    (tmp_path / "agents.toml").write_text('[store]\nurl = "sqlite:///x.db"\n[agents.app]\nuse = "app.py:agent"\n')
    with Serving("dev", cwd=tmp_path) as served:
        child = int(httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "hi"}).json()["message"])
        try:
            served.until(lambda: not any(one.endswith("x.db.lock") for one in _descriptors(child)))
            served.process.kill()
            served.process.wait()
            with closing(listen("127.0.0.1", served.port)) as again:
                again.listen()
            with Serving("dev", cwd=tmp_path) as restarted:
                assert restarted.stop() == 0
        finally:
            os.kill(child, signal.SIGKILL)


AS_ROOT = {"authorization": f"Bearer {KEY}"}


def _states(served: Serving) -> dict[str, str]:
    agents = httpx.get(f"{served.url}/health", headers=AS_ROOT).json()["agents"]
    return {name: agent["state"] for name, agent in agents.items()}


def test_sighup_has_agents_toml_read_again_and_a_broken_one_changes_nothing(tmp_path: Path):
    with Serving("serve", cwd=_host(tmp_path), env={"AGENTHOST_API_KEY": KEY}) as served:
        toml = (tmp_path / "agents.toml").read_text()
        (tmp_path / "agents.toml").write_text(toml + '[agents.two]\nuse = "app.py:agent"\nload = "lazy"\n')
        served.process.send_signal(signal.SIGHUP)
        served.until(lambda: "reloaded (SIGHUP): added two" in served.err)
        assert _states(served) == {"app": "ready", "two": "discovered"}
        (tmp_path / "agents.toml").write_text(toml + "[agents.two]\nuze = 1\n")
        served.process.send_signal(signal.SIGHUP)
        served.until(lambda: "not reloaded (SIGHUP), nothing has changed: agents.toml:" in served.err)
        assert _states(served) == {"app": "ready", "two": "discovered"}
        assert served.stop() == 0


def test_dev_ends_with_its_terminal(tmp_path: Path):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` ignores it, and a child inherits that
    try:
        with Serving("dev", cwd=_host(tmp_path)) as served:
            assert served.stop(signal.SIGHUP) == -signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("command", [("dev",), ("serve", "--watch")])
def test_what_is_watched_is_reloaded_when_it_changes(tmp_path: Path, command: tuple[str, ...]):
    with Serving(*command, cwd=_host(tmp_path), env={"AGENTHOST_API_KEY": KEY}) as served:
        toml = (tmp_path / "agents.toml").read_text()
        (tmp_path / "new.toml").write_text(toml + '[agents.two]\nuse = "app.py:agent"\n')
        (tmp_path / "new.toml").rename(tmp_path / "agents.toml")
        served.until(lambda: "reloaded (its files have changed): added two" in served.err)
        assert served.stop() == 0


def test_a_key_in_a_file_is_watched_too_and_is_scrubbed_from_what_is_logged_later(tmp_path: Path):
    first, second = "first-0123456789abcdef", "second-0123456789abcdef"
    _host(tmp_path, "async def agent(ctx):\n    ctx.log.warning('given %s', ctx.prompt)\n    yield 'x'\n")
    key = '[[auth.keys]]\nid = "web"\nprincipal = "web"\nsecret = { file = "key" }\nagents = ["*"]\n'
    (tmp_path / "agents.toml").write_text((tmp_path / "agents.toml").read_text() + key)
    (tmp_path / "key").write_text(first)
    with Serving("serve", "--watch", cwd=tmp_path) as served:

        def status(secret: str) -> int:
            headers = {"authorization": f"Bearer {secret}"}
            return httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": secret}, headers=headers).status_code

        assert (status(first), status(second)) == (200, 401)
        (tmp_path / "key").write_text(second)
        served.until(lambda: "keys changed: web" in served.err)
        assert (status(first), status(second)) == (401, 200)
        assert served.stop() == 0
        assert served.err.count("given ***") == 2
        assert first not in served.err
        assert second not in served.err


def test_dev_of_one_object_reloads_what_agents_toml_says_besides(tmp_path: Path):
    _host(tmp_path)
    with Serving("dev", "app.py:agent", cwd=tmp_path) as served:
        toml = (tmp_path / "agents.toml").read_text()
        (tmp_path / "agents.toml").write_text(toml.replace("[store]", 'max_body = "1KiB"\n[store]'))
        served.until(lambda: "reloaded (its files have changed): changed [server] max_body" in served.err)
        assert httpx.post(f"{served.url}/agents/app/invoke", json={"prompt": "x" * 2000}).status_code == 413


def _hang_up(served: Serving, until: threading.Event) -> None:
    """Send one SIGHUP after the other, until told or the process is gone."""
    while not until.wait(0.001) and served.process.poll() is None:
        served.process.send_signal(signal.SIGHUP)


def test_sighup_is_heard_before_the_host_serves_and_ends_nothing_however_late_it_comes(tmp_path: Path):
    _host(tmp_path, "from pathlib import Path\nPath('importing').touch()\nwhile not Path('go').exists(): pass\n" + ECHO)
    served = Serving("serve", cwd=tmp_path, env={"AGENTHOST_API_KEY": KEY})
    over = threading.Event()

    def change_and_hang_up() -> None:
        while not (tmp_path / "importing").exists() and not over.wait(0.01):
            pass
        with (tmp_path / "agents.toml").open("a") as file:
            file.write('[agents.two]\nuse = "app.py:agent"\nload = "lazy"\n')
        served.process.send_signal(signal.SIGHUP)
        (tmp_path / "go").touch()

    early = threading.Thread(target=change_and_hang_up)
    early.start()
    with served:
        served.until(lambda: "reloaded (SIGHUP): added two" in served.err)
        early.join()
        late = threading.Thread(target=_hang_up, args=(served, over))
        late.start()
        try:
            assert served.stop() == 0
        finally:
            over.set()
            late.join()


def test_a_new_secret_is_scrubbed_from_what_is_said_of_the_configuration_that_it_came_with(tmp_path: Path):
    source = "class agent:\n    def __init__(self, settings):\n        raise OSError(settings)\n"
    (tmp_path / "token").write_text("very-secret-0123456789")
    with Serving("serve", cwd=_host(tmp_path), env={"AGENTHOST_API_KEY": KEY}) as served:
        (tmp_path / "two.py").write_text(source)
        with (tmp_path / "agents.toml").open("a") as file:
            file.write('[agents.two]\nuse = "two.py:agent"\nsettings = { token = { file = "token" } }\n')
        served.process.send_signal(signal.SIGHUP)
        served.until(lambda: "not reloaded (SIGHUP), nothing has changed: agent 'two'" in served.err)
        assert served.stop() == 0
        assert "failed to load: OSError: {'token': '***'}" in served.err


def test_a_file_that_was_missing_and_a_folder_that_takes_the_place_of_another_are_seen_to_come(tmp_path: Path):
    folder, other = tmp_path / "here", tmp_path / "other"
    for each in (folder, other):
        each.mkdir()
        _host(each)
    with Serving("serve", "--watch", cwd=folder, env={"AGENTHOST_API_KEY": KEY}) as served:
        with (folder / "agents.toml").open("a") as file:
            file.write('[agents.two]\nuse = "app.py:agent"\ntitle = { file = "title" }\n')
        served.until(lambda: "title: file 'title' cannot be read: No such file" in served.err)
        (folder / "title").write_text("Two")
        served.until(lambda: "reloaded (its files have changed): added two" in served.err)
        with (other / "agents.toml").open("a") as file:
            file.write('[agents.three]\nuse = "app.py:agent"\n')
        folder.rename(tmp_path / "former")
        other.rename(folder)
        served.until(lambda: "reloaded (its files have changed): added three; removed two" in served.err)
        assert served.stop() == 0
