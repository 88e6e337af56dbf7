"""Worker processes: started with an environment of their own, ended with their group, and their end told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pluggy

LOADER = """\
import sys
if sys.version_info < (3, 11): sys.exit("agenthost needs Python 3.11 or later, and this is " + sys.version)
sys.path[:] = [entry for entry in sys.path if entry]
from importlib.util import spec_from_file_location
class HostsOwn:
    def find_spec(name, path=None, target=None):
        if name in folders:
            start, below = folders[name] + "/__init__.py", [folders[name]]
            return spec_from_file_location(name, start, submodule_search_locations=below)
folders = {"agenthost": sys.argv[3], "pluggy": sys.argv[4]}
sys.meta_path.insert(0, HostsOwn)
from agenthost.placement.worker import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""
"""What a worker begins with: the host's own copies of this package and of pluggy are the ones that it imports, and of
the host's other packages it sees none, nor what is in the folder that the host was started in. Arguments: socket, the
host's pid, the two folders."""

FOLDERS = (str(Path(__file__).parents[1]), str(Path(pluggy.__file__ or "").parent))

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", *_PROXIES, *map(str.lower, _PROXIES), *_CERTIFICATES)
"""The variables of the host that every worker gets."""


def environment(own: Mapping[str, str], hosts: Mapping[str, str]) -> dict[str, str]:
    """A worker's variables: the few of the host's that all get, and over them its own."""
    return {name: value for name, value in hosts.items() if name in INHERITED} | dict(own)


READ = 64 << 10
"""Bytes of a worker's output that are read at once."""

LAST_LINES = 0.1
"""Seconds for what a process that has ended had written: what it has started may go on writing."""


class WorkerProcess:
    """A process, and the thread that started it and waits for its end.

    The thread lives as long as the process: the kernel takes the end of the thread that started a process for the end
    of its parent. `on_end(words)` is called once, on the loop, when the process has ended (`was ended by SIGKILL`);
    `hear(bytes)` in a thread of its own with what the process writes to stdout and stderr, and with b"" at the end.
    """

    def __init__(self, name: str, on_end: Callable[[str], None], hear: Callable[[bytes], None]) -> None:
        self.name = name
        self.pid = 0
        self._on_end = on_end
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._unwanted = False
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, python: Path, env: Mapping[str, str]) -> socket.socket:
        """Start it and return the host's end of its socket; raises `OSError` or `RuntimeError` where that cannot be."""
        begun: asyncio.Future[socket.socket] = self._loop.create_future()
        attend = threading.Thread(
            target=self._attend, args=(str(python), dict(env), begun), name=f"worker {self.name}", daemon=True
        )
        try:
            attend.start()
            return await begun
        except BaseException:
            self.kill()
            raise

    def _attend(self, python: str, env: dict[str, str], begun: asyncio.Future[socket.socket]) -> None:
        try:
            with ExitStack() as unless_begun:
                ours, theirs = socket.socketpair()
                unless_begun.enter_context(ours)
                with theirs:
                    process, listening = self._begin(python, env, theirs.fileno())
                unless_begun.pop_all()
        except BaseException as failed:  # noqa: BLE001 - told to whoever started it
            self._tell(_refuse, begun, failed)
            return
        with self._lock:
            self._process, self.pid = process, process.pid
            unwanted = self._unwanted
        if unwanted:
            self.kill()
        self._tell(_accept, begun, ours)
        words = ended(self._outlast(process))
        listening.join(LAST_LINES)
        self._tell(self._on_end, words)

    def _begin(self, python: str, env: dict[str, str], theirs: int) -> tuple[subprocess.Popen[bytes], threading.Thread]:
        """Start the process, and the thread that listens to what it writes."""
        reading, writing = os.pipe()
        listening = threading.Thread(target=self._listen, args=(reading,), name=f"output of {self.name}", daemon=True)
        try:
            listening.start()
        except RuntimeError:
            os.close(reading)
            os.close(writing)
            raise
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own interpreter
                [python, "-X", "faulthandler", "-c", LOADER, str(theirs), str(os.getpid()), *FOLDERS],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=(theirs,),
                start_new_session=True,  # a Ctrl-C at the host's terminal is the host's to hear
            )
        finally:
            os.close(writing)
        return process, listening

    def _outlast(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end, end what it has left behind, and return its exit code."""
        if hasattr(os, "waitid"):  # until the code is taken, nobody else gets the pid
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            self.kill()
        else:
            process.wait()
        with self._lock:
            self._process = None
            return process.wait()

    def _listen(self, reading: int) -> None:
        with open(reading, "rb", buffering=0) as pipe:
            while data := pipe.read(READ):
                self._hear(data)
        self._hear(b"")

    def _tell(self, tell: Callable[..., None], *what: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            self._loop.call_soon_threadsafe(tell, *what)

    def kill(self) -> None:
        """End it and what it has started; one that has ended, or has not begun, is ended as well."""
        with self._lock:
            self._unwanted = True
            if self._process is not None:
                with suppress(ProcessLookupError, PermissionError):  # macOS refuses for one that is a zombie
                    os.killpg(self.pid, signal.SIGKILL)


def _accept(begun: asyncio.Future[socket.socket], ours: socket.socket) -> None:
    if begun.done():
        ours.close()
    else:
        begun.set_result(ours)


def _refuse(begun: asyncio.Future[socket.socket], failed: BaseException) -> None:
    if not begun.done():
        begun.set_exception(failed)


def ended(code: int) -> str:
    """How a process ended, in words, by the exit code that `subprocess` gives."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
