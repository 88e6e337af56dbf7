"""What a reader would type, typed: the `console` blocks of a page in order, in one folder, against real servers.

A block holds commands (`$ …`, continued after a backslash) and what each prints; a line `...` stands for any lines.
`agenthost dev` and `agenthost serve` go on in the background, on a free port that stands for 8000, until the next one
starts; `curl` is the machine's own, or else `curl.py`. What installs things is checked elsewhere and not run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType

from agenthost.finding import installed
from tests.docs.pages import ROOT, Block

PATIENCE = 30.0
"""Seconds for a command to end, and for a server to have said what the page says."""

FOLDER = "/srv/agents"
"""What a page calls the folder it works in."""

PORT = "8000"

STARTED = "\n  callers  "
"""How the last line begins of what a server says when it has started."""

INSTALLS = re.compile(r"(?:python3 -m venv|\.venv/bin/pip|pip|uv pip) ")
_SETS_UP = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install -q uv && \.venv/bin/uv run ")
_SERVER = re.compile(r"(?P<settings>(?:[A-Z_]+=\S+ )*)agenthost (?P<command>(?:dev|serve)\b.*)")

_LOADING = re.compile(r"^(  (\S+) +)loading ", re.MULTILINE)

_MASKS = (
    (re.compile(r'("(?:duration_ms|since|created|updated|ended|expires_at|at)": ?)[0-9.e+-]+'), r"\1<number>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<64 hex digits>"),
    (re.compile(r"\bint_[0-9a-f]{16}\b"), "int_<16 hex digits>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<32 hex digits>"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "<16 hex digits>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[0-9:.]+Z"), "<time>"),
    (re.compile(r"(?m)^date: .*$"), "date: <time>"),
    (re.compile(r"(?m)^content-length: [0-9]+$"), "content-length: <number>"),
    (re.compile(r"\b[0-9.]+ ?ms\b"), "<duration>"),
    (re.compile(r"\b[0-9.]+ s\b"), "<duration>"),
    (re.compile(r"\bah_[A-Za-z0-9_-]{20,}"), "<key>"),
    (re.compile(r"(?<![0-9.])[0-9]+\.[0-9]+\.[0-9]+(?![0-9.])"), "<version>"),
    (re.compile(r"[ \t\r]+$", re.MULTILINE), ""),
)


@dataclass(frozen=True)
class Command:
    """A command as the page has it, and what the page says it prints."""

    text: str
    expected: str


def commands(block: Block) -> Iterator[Command]:
    """The commands of a `console` block with what each prints."""
    text, printed = "", list[str]()
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            if text:
                yield Command(text, "\n".join(printed))
            text, printed = line[2:], []
            while text.endswith("\\"):
                text += "\n" + next(lines)
        else:
            assert text, f"{block.shown}: begins with what no command printed"
            printed.append(line)
    yield Command(text, "\n".join(printed))


def masked(text: str) -> str:
    """Text in which what differs from run to run (ids, times, durations, keys) does not."""
    for pattern, stands_for in _MASKS:
        text = pattern.sub(stands_for, text)
    return text.strip("\n")


def as_told(command: Command, printed: str) -> bool:
    """Whether a command printed what the page says; a server may go on to say more."""
    serves = _SERVER.fullmatch(_SETS_UP.sub("", command.text)) is not None
    return pattern_of(command.expected, begins=serves).match(masked(printed)) is not None


def pattern_of(expected: str, *, begins: bool = False) -> re.Pattern[str]:
    """What output must match to be what the page says, or begin with it."""
    parts = (".*?" if line == "..." else re.escape(line) for line in masked(expected).split("\n"))
    return re.compile("\n?".join(["\n".join(parts), "" if not begins else r"(?:\n.*)?"]) + r"\Z", re.DOTALL)


class Served:
    """A server in the background, and what it has said so far."""

    def __init__(self, command: str, folder: Path, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._said.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def said(self, until: re.Pattern[str], folder: Path, port: int) -> str:
        """What it has said once it has started and that matches `until`, or once it has ended, or patience has."""

        def there() -> bool:
            said = "".join(self._said)
            return self._ended or (STARTED in said and until.match(masked(shown(said, folder, port))) is not None)

        with self._news:
            self._news.wait_for(there, PATIENCE)
            return shown("".join(self._said), folder, port)

    def stop(self) -> None:
        """Ask it to stop, as Ctrl-C would; wait for the end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._reading.join(PATIENCE)
            assert self._process.stdout is not None
            self._process.stdout.close()


def shown(text: str, folder: Path, port: int) -> str:
    """Output as a page has it; what a busy machine was late to load is shown as it was then."""
    text = _LOADING.sub(
        lambda found: f"{found[1]}ready   " if f"agent '{found[2]}' is ready" in text else found[0], text
    )
    return text.replace(str(folder), FOLDER).replace(f":{port}", f":{PORT}").replace(f"port {port}", f"port {PORT}")


class Session:
    """A folder in which the commands of one page are run."""

    def __init__(self, folder: Path, *, stand_in: bool = False) -> None:
        """`stand_in` uses `curl.py` even where there is a curl."""
        there = {one.name: one for one in installed()}
        assert {"echo", "calculator"} <= there.keys(), "they are not installed; README's test command does that"
        self._site = folder / "site-packages"
        for name in ("echo", "calculator"):
            _install(there[name].distribution, self._site)
        self.folder = folder / "agents"
        self.folder.mkdir()
        self._tools = folder / "bin"
        self._tools.mkdir()
        _tool(self._tools / "agenthost", f"#!{sys.executable}\nfrom agenthost.cli import main\n\nmain()\n")
        if stand_in or shutil.which("curl") is None:
            _tool(self._tools / "curl", f"#!{sys.executable}\n" + (ROOT / "tests" / "docs" / "curl.py").read_text())
        self._server: Served | None = None
        self.port = _free_port()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every command: this Python's agenthost first, none of its settings, no colours."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTHOST_", "LOCUS_"))}
        path = os.pathsep.join([str(self._tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        settled = {"PATH": path, "PYTHONPATH": str(self._site), "NO_COLOR": "1", "COLUMNS": "120", "LC_ALL": "C.UTF-8"}
        running = {"AGENTHOST_URL": f"http://127.0.0.1:{self.port}"} if self._server is not None else {}
        return {**kept, **settled, **running}

    def write(self, name: str, text: str) -> None:
        """Put a file into the folder; the port it names is the running server's."""
        (self.folder / name).write_text(text.replace(f":{PORT}", f":{self.port}"))

    def run(self, command: Command) -> str:
        """Run one command and return what it printed, in the page's words; a server's is what it said at first."""
        text = command.text
        if _SETS_UP.match(text):
            text = _SETS_UP.sub("", text)
            shutil.copy(ROOT / "agents.toml", self.folder / "agents.toml")
        if INSTALLS.match(text) or text == "pytest":
            return command.expected
        text = re.sub(rf"((?:127\.0\.0\.1|localhost):){PORT}\b", rf"\g<1>{self.port}", text)
        served = _SERVER.fullmatch(text)
        if served:
            return self._serve(served, pattern_of(command.expected, begins=True))
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return shown(done.stdout, self.folder, self.port)

    def _serve(self, served: re.Match[str], until: re.Pattern[str]) -> str:
        self._stop()
        self.port = _free_port()
        command = f"agenthost {served['command']} --port {self.port}"
        settings = dict(setting.split("=", 1) for setting in served["settings"].split())
        self._server = Served(command, self.folder, {**self.environ, **settings})
        return self._server.said(until, self.folder, self.port)


def _install(distribution: str, site: Path) -> None:
    """Have a plugin of this repository installed as its users have it, not as the source that somebody works on."""
    module = distribution.replace("-", "_")
    shutil.copytree(ROOT / "plugins" / distribution / module, site / module)
    folder = f"{module}-{metadata.version(distribution)}.dist-info"
    told = Path(str(metadata.distribution(distribution).locate_file(folder)))
    shutil.copytree(told, site / told.name)


def _tool(path: Path, program: str) -> None:
    path.write_text(program)
    path.chmod(0o755)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
