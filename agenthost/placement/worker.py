"""A worker process: finds one agent, loads it, and runs it for the host at the other end of a socket.

It uses the host's own copy of this package, so the two cannot differ; see `spawning.LOADER`.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from agenthost.agents import AgentRef, RunContext, RunRequest, RunResult
from agenthost.blame import summary
from agenthost.contained_tasks import contain_tasks
from agenthost.errors import AgentError, HostError, InvalidRequest, LoadError
from agenthost.event_encoding import encode_event_plainly
from agenthost.events import encode_json
from agenthost.finding import find_source
from agenthost.forked_children import close_in_children
from agenthost.importing import Importer
from agenthost.own_code import Sought, own_files
from agenthost.placement.carrying import (
    context_of,
    error_of,
    result_of,
    spec_of,
    told_call,
    told_error,
    told_info,
    told_thread,
)
from agenthost.placement.frames import (
    AMOUNT,
    CALL,
    CANCEL,
    CREDIT,
    END,
    ERROR,
    FILES,
    HEAD,
    HELLO,
    LOG,
    Wire,
)
from agenthost.placement.in_process import InProcess, blame_for
from agenthost.placement.worker_log import WorkerLog, run_id
from agenthost.placement.worker_run import WorkerRun
from agenthost.placement.worker_run import told as told_failure
from agenthost.plugins import Plugin, Plugins
from agenthost.threads import ThreadKey

PR_SET_PDEATHSIG = 1
HOOKS = ("register_adapters", "register_agents")
SPENT = 70
"""Exit code of a worker that cannot go on."""

_decoded = json.JSONDecoder().raw_decode  # what `json.loads` does besides costs as much again

MAX_CALL = 10 << 20
"""Bytes of one `ctx.call`, which the host reads at one go: as many as a request may have where nothing else is set."""

LOOK = 1.0
"""Seconds between two looks at whether the host is still there, where the kernel does not tell."""


def main(descriptor: int, parent: int) -> None:
    """Serve the host whose process is `parent`, over the socket `descriptor`, until it closes that."""
    die_with(parent)
    for told in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # to all of a service: the host says what follows
        signal.signal(told, lambda _signal, _frame: None)
    if "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = _refuse_to_stop
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    close_in_children(connection)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a worker's stdout is a pipe
    opening = json.loads(_first(connection))
    if opening["max_memory"] is not None:
        limit = opening["max_memory"]
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    sys.path[:] = dict.fromkeys([*opening["path"], *sys.path])
    runner = asyncio.Runner()
    try:
        runner.run(Worker(opening).serve(connection))
    except BaseException:  # noqa: BLE001 - an agent has ended the loop; its runs are not to be told that they are cancelled
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(SPENT)
    runner.close()


def _refuse_to_stop(*_arguments: object, **_named: object) -> None:
    raise RuntimeError(
        "breakpoint(): there is no terminal in a worker process; `agenthost dev --debug` runs an agent in the host's, "
        'at yours, unless it has placement = "process"'
    )


def die_with(parent: int) -> None:
    """End when process `parent` does, whatever this one is doing then; at once if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), name="agenthost-parent", daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


def _first(connection: socket.socket) -> bytes:
    """The body of the first frame, which says what to load."""
    size, _kind, _number = HEAD.unpack(_exactly(connection, HEAD.size))
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    read = bytearray()
    while len(read) < size:
        part = connection.recv(size - len(read))
        if not part:
            sys.exit("the host has gone")
        read += part
    return bytes(read)


class Worker:
    """What a worker does on its loop."""

    def __init__(self, opening: Mapping[str, Any]) -> None:
        self._opening = opening
        self._name: str = opening["name"]
        self._ref: AgentRef
        self._runs: dict[int, WorkerRun] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._asked: dict[int, asyncio.Future[RunResult]] = {}
        self._numbers = itertools.count()
        self._over = asyncio.Event()
        self._sought = Sought()
        self._modules = 0

    async def serve(self, connection: socket.socket) -> None:
        """Load the agent, say hello, and answer until the host closes the connection."""
        self._loop = asyncio.get_running_loop()
        contain_tasks(self._loop)
        self._wire = Wire(self._received, self._over.set)
        await self._loop.connect_accepted_socket(lambda: self._wire, connection)
        self._take_logs()
        sys.meta_path.insert(0, self._sought)
        try:
            self._ref = await self._load()
            blame = blame_for(self._spec)
            told = told_info(self._ref.info, lambda why: blame.error(why, failed="says of itself what is not JSON"))
        except LoadError as refused:
            self._tell_files(self._sought.missing())
            self._wire.send(ERROR, 0, encode_json(told_error(refused)))
        else:
            self._tell_files()
            source = self._spec.source
            hello = {"info": told, "distribution": source.distribution, "version": source.version}
            self._wire.send(HELLO, 0, encode_json({**hello, "python": sys.version.partition(" ")[0]}))
        await self._over.wait()

    def _tell_files(self, besides: Iterable[str] = ()) -> None:
        """Tell the author's own files that were read so far, and those `besides`."""
        self._modules = len(sys.modules)
        self._wire.send(FILES, 0, encode_json(sorted(own_files().union(besides))))

    def _take_logs(self) -> None:
        root = logging.getLogger()
        root.handlers[:] = [WorkerLog(self._name, self._log)]
        for name, level in self._opening["levels"].items():
            logging.getLogger(name).setLevel(level)

    def _log(self, told: dict[str, Any]) -> None:
        body = encode_json(told)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wire.send, LOG, 0, body)

    async def _load(self) -> AgentRef:
        """Load plugins, find the agent and load it, on threads: whatever is imported may take its time."""
        importer = Importer()
        plugins = Plugins(self._opening["block"])
        await asyncio.to_thread(plugins.load, None, importer=importer, hooks=HOOKS)
        told, base_dir = self._opening, Path(self._opening["base_dir"])

        def adapters() -> list[Any]:
            return [registered.value for registered in plugins.adapters.values()]

        while True:
            pending = plugins.pending

            def arrived(before: list[Plugin] = pending) -> bool:
                return plugins.pending != before

            try:
                source = find_source(told["name"], told["use"], plugins, base_dir)
                self._spec = spec_of(told, source)
                return await InProcess(importer, adapters, encode_event_plainly).open(self._spec)
            except LoadError:
                if not pending:
                    raise
            # it may have been for want of what a plugin brings that takes long to import
            await asyncio.to_thread(plugins.wait_until, arrived)

    def _received(self, kind: int, number: int, body: bytes) -> None:
        if kind == CALL:
            self._begin(number, _decoded(body.decode())[0])
        elif kind == CREDIT:
            if number in self._runs:
                self._runs[number].allow(AMOUNT.unpack(body)[0])
        elif kind == CANCEL:
            if number in self._runs:
                self._runs[number].cancel(over=bool(body))
            elif number in self._answering:
                self._answering[number].cancel()
        elif kind in {END, ERROR}:
            asked = self._asked.get(number)
            if asked is not None and not asked.done():
                told = json.loads(body)
                if kind == END:
                    asked.set_result(result_of(told))
                else:
                    asked.set_exception(error_of(told))

    def _begin(self, number: int, told: Mapping[str, Any]) -> None:
        if told["op"] == "run":
            run = self._runs[number] = WorkerRun(number, self._wire)
            ctx = context_of(told, self._name, lambda name, request: self._call(number, name, request))
            run.start(self._run(run, ctx))
        else:
            self._answering[number] = task = self._loop.create_task(self._answer(number, told))
            task.add_done_callback(lambda _task: self._answering.pop(number, None))

    async def _run(self, run: WorkerRun, ctx: RunContext) -> None:
        run_id.set(ctx.run_id)
        try:
            kind, body = await run.result(self._ref, ctx)
            del self._runs[run.number]
            if len(sys.modules) != self._modules:  # an import inside a function
                self._tell_files()
            self._wire.send(kind, run.number, body)
        except BaseException:  # noqa: BLE001 - one that cannot say how a run ended is of no use; its end says it
            os._exit(SPENT)

    async def _answer(self, number: int, told: Mapping[str, Any]) -> None:
        """Tell what a question to the agent (health, threads, close) gave or raised."""
        try:
            kind, body = END, encode_json(await _ASKED[told["op"]](self._ref, told))
        except BaseException as raised:  # noqa: BLE001 - an agent may raise anything, and the host waits for a word
            kind, body = ERROR, told_failure(raised if isinstance(raised, HostError) else AgentError(summary(raised)))
        self._wire.send(kind, number, body)

    async def _call(self, run: int, name: str, request: RunRequest) -> RunResult:
        """`ctx.call`: ask the host to run another agent as a child of this run."""
        body = encode_json(told_call(run, name, request))
        if len(body) > MAX_CALL:
            raise InvalidRequest(f"ctx.call: more than {MAX_CALL >> 20} MiB in one call")
        number = next(self._numbers)
        asked = self._asked[number] = self._loop.create_future()
        self._wire.send(CALL, number, body)
        try:
            result: RunResult = await asked
        except asyncio.CancelledError:
            self._wire.send(CANCEL, number)
            raise
        finally:
            del self._asked[number]
        return result


async def _health(ref: AgentRef, _told: Mapping[str, Any]) -> Any:
    health: object = await ref.health()
    ok, detail = getattr(health, "ok", None), getattr(health, "detail", None)
    if not isinstance(ok, bool):
        raise TypeError(f"its health is of type {type(health).__name__}, not Health")
    return [ok, str(detail)]


async def _get_thread(ref: AgentRef, told: Mapping[str, Any]) -> Any:
    thread = await ref.get_thread(ThreadKey(*told["thread"]))
    return None if thread is None else told_thread(thread)


async def _delete_thread(ref: AgentRef, told: Mapping[str, Any]) -> Any:
    return await ref.delete_thread(ThreadKey(*told["thread"]))


async def _close(ref: AgentRef, told: Mapping[str, Any]) -> Any:
    return await ref.close(told["grace"])


_ASKED: Mapping[str, Callable[[AgentRef, Mapping[str, Any]], Awaitable[Any]]] = {
    "health": _health,
    "get_thread": _get_thread,
    "delete_thread": _delete_thread,
    "close": _close,
}
"""What the host asks besides runs."""
