"""A host in this process: its port, its logs, what it says when it serves, and an end that nothing can hold up."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from agenthost.cli.debugging import begin_debugging
from agenthost.cli.env_files import EnvFiles
from agenthost.cli.summary import counts, start_summary
from agenthost.config import Config
from agenthost.config.loading import shown_path
from agenthost.host import SETTLE
from agenthost.http.access_log import AccessLog
from agenthost.http.app import App, WebHost, create_app
from agenthost.http.server import FORCED, Server, listen
from agenthost.renewing import Renewing
from agenthost.telemetry import own_stream, set_up_logging
from agenthost.watching import EVERY, Marks, marks_of, watch

AUTHORS_SETTLE = 1.0
"""Seconds that a start waits for agents that have a process each to start."""

EVERY_FOR_AUTHORS = 0.1
"""Seconds between two looks at an author's files."""

NAMED = 5
"""Agents that are named one by one as those whose code is looked at."""

PAST_DRAIN = 1.0
"""Seconds that everything but runs has to end: after `drain`, and once all is closed. Then the process is ended."""

REFUSED = 2
"""Exit code of a host that did not start."""

log = logging.getLogger("agenthost.host")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says about serving; None where it leaves that to agents.toml."""

    config_file: Path | None
    host: str | None
    port: int | None
    log_format: str
    access_log: bool
    watch: bool = False
    for_authors: bool = False
    """Whether agents are opened anew when their own code changes."""
    debug: bool = False


def run_host(
    config: Config,
    options: Options,
    *,
    dev: bool,
    read: Callable[[], Config],
    env: EnvFiles,
    served: str = "",
) -> int:
    """Serve until a signal says stop; returns the exit code. `read` reads the configuration again, for a reload.

    Raises `StartError` where the host refuses to start.
    """
    marks = marks_of({*config.files, *env.looked_for})
    signal.signal(signal.SIGTERM, _stop_now)
    learn = _scrubbed_logs(options, env, dev=dev)
    learn(config)
    with Hangups(heard=not dev) as hangups, closing(listen(config.server.host, config.server.port)) as listening:
        access_log = AccessLog(options.log_format, own_stream(sys.stdout)) if options.access_log else None
        app = create_app(config, dev=dev, access_log=access_log, read=read)
        host = app.host
        assert isinstance(host, WebHost)
        host.settle, host.blocks = AUTHORS_SETTLE if options.for_authors else SETTLE, options.debug
        host.operations.learning.append(learn)
        host.operations.read_from = dict.fromkeys(config.files, float("inf"))  # as they were is in the marks
        notes = {"env": str(env), "debug": begin_debugging() if options.debug else ""}

        def announce() -> None:
            hangups.ask(partial(host.operations.ask_for_reload, "SIGHUP"))
            notes["reload"] = _reloading(host, options, env, marks) if options.watch else ""
            _announce(app, _url(listening), options, dev=dev, served=served, notes=notes)

        return _served(EndingServer(app, host, on_started=announce), listening)


def _served(server: EndingServer, listening: socket.socket) -> int:
    """Serve until the end, and return the exit code; what hangs then is ended."""
    try:
        server.run(sockets=[listening])
    except (KeyboardInterrupt, SystemExit) as raised:  # how uvicorn passes a signal on, and gives up a start
        if server.started and not server.should_exit:
            log.error("the host ended though no signal told it to: %r", raised)
    code = REFUSED if not server.started else 0 if server.should_exit else FORCED
    server.ending.within(PAST_DRAIN, code)
    return code


def _scrubbed_logs(options: Options, env: EnvFiles, *, dev: bool) -> Callable[[Config], None]:
    """Sets up the logs of this process, without the secrets of any configuration that it is called with."""
    stream, secrets = own_stream(sys.stderr), set[str]()

    def learn(config: Config) -> None:
        secrets.update(config.secrets(), env.secrets())  # what drains still has older ones
        set_up_logging(options.log_format, secrets, stream, for_people=dev)

    return learn


class Hangups:
    """SIGHUP, from before the host serves until the process has ended: it asks for a reload, and ends nothing.

    Unless it is not `heard`: whoever closes the terminal of `dev` wants it to end.
    """

    def __init__(self, *, heard: bool) -> None:
        self._heard = heard
        self._came = False
        self._ask: Callable[[], object] | None = None

    def __enter__(self) -> Hangups:
        if self._heard:
            signal.signal(signal.SIGHUP, self._hear)
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._heard:  # else Python itself would let one that comes late end the process
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _hear(self, _signal: int, _frame: FrameType | None) -> None:
        self._came = True
        if self._ask is not None:
            with suppress(RuntimeError):  # the loop is closed: there is nothing left to be reloaded
                self._ask()

    def ask(self, reload: Callable[[], None]) -> None:
        """Call `reload` on this loop for each that comes, and now where one has come already."""
        self._ask = partial(asyncio.get_running_loop().call_soon_threadsafe, reload)
        if self._came:
            reload()


def _reloading(host: WebHost, options: Options, env: EnvFiles, since: Marks) -> str:
    """Reload what has changed since the marks were as in `since`, and changes; says what that is, if anything."""
    renewing = Renewing(host) if options.for_authors else None
    _watch(host, env, renewing, since)
    return _watched(host, renewing)


def _watch(host: WebHost, env: EnvFiles, renewing: Renewing | None, since: Marks) -> None:
    operations = host.operations

    def read_again_for() -> dict[Path, float]:
        mended_by = {Path(file): at for file, at in operations.mended_by.items()}
        return mended_by | dict.fromkeys(env.looked_for, float("inf")) | dict(operations.read_from)

    def files() -> dict[Path, float]:
        return (renewing.files() if renewing else {}) | read_again_for()

    def changed(files: Collection[Path]) -> None:
        then = None
        if renewing:
            renewing.changed(files)
            if not env.looked_for.isdisjoint(files):
                then = partial(renewing.surroundings_changed, "variables of a .env have changed")
        if not read_again_for().keys().isdisjoint(files):
            operations.ask_for_reload("its files have changed", then)

    host.background(watch(files, changed, since, EVERY_FOR_AUTHORS if renewing else EVERY), "watch")


def _watched(host: WebHost, renewing: Renewing | None) -> str:
    """What is reloaded when it changes, in a line."""
    names = renewing.agents() if renewing else []
    said = [shown_path(host.config.path)] if host.config.path else []
    if names:
        said.append(f"the code of {', '.join(names) if len(names) <= NAMED else f'{len(names)} agents'}")
    return f"when {' or '.join(said)} changes" if said else ""


def _stop_now(_signal: int, _frame: FrameType | None) -> None:
    """What SIGTERM does before the host serves, and once it has stopped: nothing is left to end in order."""
    sys.exit(0)


def _url(listening: socket.socket) -> str:
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _announce(app: App, url: str, options: Options, *, dev: bool, served: str, notes: Mapping[str, str]) -> None:
    if options.log_format == "json":
        log.info("serving at %s; %s", url, counts([*app.host.entries.values()]))
        return
    with suppress(OSError):  # nobody reads it
        click.echo(start_summary(app.host, url, dev=dev, served=served, notes=notes), err=True)


class EndingServer(Server):
    """A server whose process ends when it has been told to, whatever hangs: a blocked loop, a plugin's thread.

    From the signal it has `drain` and a second, from a second signal one second, and one at most once everything is
    closed.
    """

    def __init__(self, app: App, host: Any, *, on_started: Callable[[], None]) -> None:
        super().__init__(app, host, on_started=on_started)
        self._drain = host.config.server.drain
        self.ending = Ending()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, from a signal handler."""
        self.ending.within(PAST_DRAIN if self.should_exit else self._drain + PAST_DRAIN, FORCED)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in order; after that only what hangs can be left."""
        await super().shutdown(sockets)
        self.ending.within(PAST_DRAIN, 0)


class Ending:
    """A thread that ends this process at a time that is set later, once the interpreter cannot be waited for."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[float, int]] = queue.SimpleQueue()  # a monotonic time, an exit code
        threading.Thread(target=self._wait, name="agenthost-end", daemon=True).start()

    def within(self, seconds: float, code: int) -> None:
        """End the process in so many seconds unless it has ended; may be called from a signal handler.

        Called again it replaces the exit code; the end comes at the earlier of the two times.
        """
        self._asked.put((time.monotonic() + seconds, code))

    def _wait(self) -> None:
        end, code = self._asked.get()
        while True:
            try:
                later, code = self._asked.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            end = min(end, later)
        if code == FORCED:
            os.write(2, b"agenthost: stopped by force, something did not end in time\n")
        os._exit(code)
