"""Hosts for tests to talk to, on a real socket: in a thread with a loop of its own, or in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import uvicorn

from agenthost.http.app import App, create_app
from agenthost.http.server import Server, listen

ROOT = Path(__file__).resolve().parents[1]
PATHS = [str(ROOT), *(str(ROOT / "plugins" / f"agenthost-{name}") for name in ("echo", "calculator"))]
sys.path += [path for path in PATHS if path not in sys.path]  # so that a checkout is enough to run the tests

START = 30.0
"""Seconds a host has to serve, and to end."""

T = TypeVar("T")

_PROGRAM = """\
import sys
from agenthost.http.app import create_app
from agenthost.http.server import Server, listen
app = create_app(sys.argv[1], dev=sys.argv[2] == "dev")
listening = listen("127.0.0.1", 0)
Server(app, app.host, on_started=lambda: print(listening.getsockname()[1], flush=True)).run(sockets=[listening])
"""


def actors(*names: str, more: str = "") -> str:
    """The `[agents.*]` tables of agents from `tests/actors.py`, called as there; `more` are lines for each."""
    return "".join(f'[agents.{name.lower()}]\nuse = "tests.actors:{name}"\n{more}\n' for name in names)


def key(name: str, *, agents: str = '["*"]', principal: str = "", more: str = "") -> str:
    """The `[[auth.keys]]` of agents.toml whose bearer token is `secret(name)`."""
    digest = hashlib.sha256(secret(name).encode()).hexdigest()
    return (
        f'[[auth.keys]]\nid = "{name}"\nprincipal = "{principal or name}"\n'
        f'secret = {{ sha256 = "{digest}" }}\nagents = {agents}\n{more}\n'
    )


def secret(name: str) -> str:
    """The bearer token of the key of that name."""
    return f"{name}-0123456789abcdef"


def bearer(name: str) -> dict[str, str]:
    """The header that carries the key of that name."""
    return {"authorization": f"Bearer {secret(name)}"}


def agents_toml(folder: Path, text: str, *, server: str = "", store: str = "memory:") -> Path:
    """Write agents.toml: `server` are lines of `[server]`, `text` is everything but `[server]` and `[store]`."""
    path = folder / "agents.toml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[server]\ndrain = "1s"\n{server}\n[store]\nurl = "{store}"\n{text}')
    return path


class Threaded:
    """A uvicorn server in a thread; `port` and `loop` are known inside `with`, and the end of `with` stops it."""

    def __init__(self, make: Callable[[Callable[[], None]], uvicorn.Server]) -> None:
        self._make = make
        self._serving = threading.Event()
        self.loop: asyncio.AbstractEventLoop

    def __enter__(self) -> Any:
        self._listening = listen("127.0.0.1", 0)
        self.port: int = self._listening.getsockname()[1]
        self._server = self._make(self._started)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listening]}, daemon=True)
        self._thread.start()
        assert self._serving.wait(START), "the server did not start"
        return self

    def _started(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._serving.set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(START)

    def tasks(self) -> int:
        """How many tasks there are on the server's loop, without the one that counts."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return self.run(count())

    def stop(self) -> None:
        """Stop, wait for the end."""
        self._server.should_exit = True
        self._thread.join(START)
        assert not self._thread.is_alive(), "the server did not stop"
        self._listening.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Hosted(Threaded):
    """The host of an agents.toml, served by our own `Server`."""

    def __init__(self, config: Any, **settings: Any) -> None:
        self.app: App = create_app(config, **settings)
        self.host: Any = self.app.host
        super().__init__(lambda started: Server(self.app, self.host, on_started=started))


class Foreign(Threaded):
    """Any ASGI app, served by a plain uvicorn."""

    def __init__(self, app: Any, **settings: Any) -> None:
        class Announcing(uvicorn.Server):
            async def startup(self, sockets: Any = None) -> None:
                await super().startup(sockets=sockets)
                started()

        started: Callable[[], None]

        def make(announce: Callable[[], None]) -> uvicorn.Server:
            nonlocal started
            started = announce
            return Announcing(uvicorn.Config(app, **{"log_config": None, "access_log": False, **settings}))

        super().__init__(make)


class Process:
    """The host of an agents.toml in a process of its own; what it logs is in `log`."""

    def __init__(self, config: Path, *, dev: bool = False, program: str = _PROGRAM) -> None:
        self.log = config.with_suffix(".log")
        self._command = [sys.executable, "-c", program, str(config), "dev" if dev else "serve"]

    def __enter__(self) -> Process:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first.strip().isdigit():
            self._end()
            raise AssertionError(self.log.read_text())
        self.port = int(first)
        self.pid = self._process.pid
        return self

    def resident(self) -> int:
        """Bytes of memory it has now."""
        return _status(self.pid, "VmRSS")

    def peak(self) -> int:
        """The most bytes of memory it has had since `forget_peak`."""
        return _status(self.pid, "VmHWM")

    def forget_peak(self) -> None:
        """Begin to look for the peak from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _end(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(START)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            assert self._process.stdout is not None
            self._process.stdout.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def _status(pid: int, name: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024
