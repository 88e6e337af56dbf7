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
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from agenthost.cli.env_files import EnvFiles
from agenthost.cli.summary import counts, start_summary
from agenthost.config import Config
from agenthost.http.access_log import AccessLog
from agenthost.http.app import App, WebHost, create_app
from agenthost.http.server import FORCED, Server, listen
from agenthost.telemetry import own_stream, set_up_logging
from agenthost.watching import Marks, marks_of, watch

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


def run_host(
    config: Config,
    options: Options,
    *,
    dev: bool,
    read: Callable[[], Config],
    served: str = "",
    env: EnvFiles | None = None,
) -> int:
    """Serve until a signal says stop; returns the exit code. `read` reads the configuration again, for a reload.

    Raises `StartError` where the host refuses to start.
    """
    marks = marks_of(_files(config))
    signal.signal(signal.SIGTERM, _stop_now)
    if not dev:  # whoever closes the terminal of `dev` wants it to end
        signal.signal(signal.SIGHUP, _not_yet)
    secrets = config.secrets() | (env.secrets() if env else frozenset())
    log_to = partial(set_up_logging, options.log_format, stream=own_stream(sys.stderr))
    log_to(secrets)
    with closing(listen(config.server.host, config.server.port)) as listening:
        access_log = AccessLog(options.log_format, own_stream(sys.stdout)) if options.access_log else None
        app = create_app(config, dev=dev, access_log=access_log, read=read)
        host = app.host
        assert isinstance(host, WebHost)
        host.operations.told.append(lambda new: log_to(secrets | new.secrets()))

        def announce() -> None:
            _reload_when_asked(host, by_signal=not dev, since=marks if options.watch else None)
            _announce(app, _url(listening), options, dev=dev, served=served, env=str(env or ""))

        server = EndingServer(app, app.host, on_started=announce)
        try:
            server.run(sockets=[listening])
        except (KeyboardInterrupt, SystemExit) as raised:  # how uvicorn passes a signal on, and gives up a start
            if server.started and not server.should_exit:
                log.error("the host ended though no signal told it to: %r", raised)
        code = _exit_code(server)
        server.ending.within(PAST_DRAIN, code)
    return code


def _exit_code(server: Server) -> int:
    if not server.started:
        return REFUSED
    return 0 if server.should_exit else FORCED


def _not_yet(_signal: int, _frame: FrameType | None) -> None:
    """What SIGHUP does before the host serves: what it would read again is just being read."""


def _reload_when_asked(host: WebHost, *, by_signal: bool, since: Marks | None) -> None:
    """Reload on SIGHUP, and whenever a file that was read differs from its mark in `since`, where there are any."""
    ask = host.operations.ask_for_reload
    if by_signal:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, ask, "SIGHUP")
    if since is not None:
        watching = watch(lambda: _files(host.config), partial(ask, "its files have changed"), since)
        host.background(watching, "watch")


def _files(config: Config) -> list[Path]:
    """What a configuration was read from."""
    return [*([config.path] if config.path else ()), *config.files]


def _stop_now(_signal: int, _frame: FrameType | None) -> None:
    """What SIGTERM does before the host serves, and once it has stopped: nothing is left to end in order."""
    sys.exit(0)


def _url(listening: socket.socket) -> str:
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _announce(app: App, url: str, options: Options, *, dev: bool, served: str, env: str) -> None:
    if options.log_format == "json":
        log.info("serving at %s; %s", url, counts([*app.host.entries.values()]))
        return
    with suppress(OSError):  # nobody reads it
        click.echo(start_summary(app.host, url, dev=dev, served=served, env=env), err=True)


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
