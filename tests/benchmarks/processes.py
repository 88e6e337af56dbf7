"""Server processes: started on a core, waited for, measured (CPU, memory) and stopped; Linux only."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIVE = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class Unmeasured(Exception):
    """Why something could not be measured, in one line."""


def choose_cores() -> tuple[int, int]:
    """The core for the servers and the core for the load; the same one where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


def environment(**values: str) -> dict[str, str]:
    """What the measured processes get: this environment, but for what would make every start compile its modules."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **values}


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def allow_descriptors(number: int) -> None:
    """Let this process and those it starts open `number` files and sockets, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < number:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (number if hard == resource.RLIM_INFINITY else min(hard, number), hard)
        )


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, from the kernel's clock of that process (its resolution is 1 ns).

    The number of such a clock is made as Linux's `clock_getcpuclockid` makes it.
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process. Raises `Unmeasured` once it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as error:
        raise Unmeasured(f"no memory figures of process {pid}: {error.strerror}") from error
    return int(rollup.partition("\nRss:")[2].split()[0]) * 1024


def settled_bytes(pid: int, within: float = 5.0) -> int:
    """Resident memory once five looks in a row agree to 64 kB, or after `within` seconds."""
    looks = [resident_bytes(pid)]
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and (len(looks) < 5 or max(looks[-5:]) - min(looks[-5:]) > 65536):
        time.sleep(0.1)
        looks.append(resident_bytes(pid))
    return looks[-1]


def answers(port: int, request: bytes = LIVE) -> bool:
    """Whether a GET of a path is answered with 200 now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request)
            return connection.recv(4096).split(b"\r\n", 1)[0].split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


class Server:
    """One server process on the servers' core; its output goes to `log`."""

    def __init__(self, name: str, command: list[str], port: int, log: Path, env: dict[str, str], core: int) -> None:
        """Start it; `wait` says when it answers."""
        self.name, self.port, self.log = name, port, log
        self.started = time.perf_counter()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self.process.pid
        os.sched_setaffinity(self.pid, {core})

    def wait(self, path: str = "/health/live", within: float = 30.0) -> float:
        """Wait for a 200; returns seconds since the process was started. Raises `Unmeasured` with its last words."""
        request = LIVE.replace(b"/health/live", path.encode())
        while not answers(self.port, request):
            taken = time.perf_counter() - self.started
            if self.process.poll() is not None:
                raise Unmeasured(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")
            if taken > within:
                raise Unmeasured(f"{self.name}: no 200 on {path} within {within:g} s: {self.last_words()}")
            time.sleep(0.001)
        return time.perf_counter() - self.started

    def last_words(self) -> str:
        """The last line that it wrote."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip().replace(sys.executable, "python")[:160] if lines else "it wrote nothing"

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after ten seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
