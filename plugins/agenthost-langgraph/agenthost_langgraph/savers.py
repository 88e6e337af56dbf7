"""Where a graph's checkpoints go: into memory for one run of a graph that has no checkpointer, or into its own one."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple, copy_checkpoint

from agenthost import AgentError
from agenthost_langgraph.kept_types import not_found, types_in

MAX_KEPT = (1 << 20) - (64 << 10)
"""Characters that what a paused graph holds may take in an `Interrupt.state`: 1 MiB, with room for the rest of it."""

Saver = BaseCheckpointSaver[Any]


@dataclass(slots=True)
class _Run:
    """A run's checkpoints, by namespace and id, and what tasks wrote after each, by task and place."""

    taken: dict[str, dict[str, tuple[Any, Any, str | None]]] = field(default_factory=dict)
    written: dict[tuple[str, str], dict[tuple[str, int], tuple[str, str, Any]]] = field(default_factory=dict)


class RunSaver(Saver):
    """Holds the checkpoints of runs that are going, as the objects they are; each run forgets its own at its end.

    Nothing is serialised but what a run that pauses hands over, so a graph may hold in its state what no serialiser
    takes, as it may without a checkpointer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, _Run] = {}

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the newest of its run and namespace."""
        run_id, namespace, wanted = _place(config)
        run = self._runs.get(run_id) or _Run()
        taken = run.taken.get(namespace, {})
        checkpoint_id = wanted or max(taken, default="")
        if checkpoint_id not in taken:
            return None
        checkpoint, metadata, parent = taken[checkpoint_id]
        written = run.written.get((namespace, checkpoint_id), {})
        in_order = sorted(written, key=lambda key: (written[key][0], *key))  # as LangGraph applies them
        return CheckpointTuple(
            _config(run_id, namespace, checkpoint_id),
            copy_checkpoint(checkpoint),  # LangGraph goes on in what it gets
            metadata,
            _config(run_id, namespace, parent) if parent else None,
            [(key[0], *written[key][1:]) for key in in_order],
        )

    def put(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        """Keep a checkpoint whole; `new_versions` says which of its channels are new, which does not matter here."""
        run_id, namespace, parent = _place(config)
        taken = self._runs.setdefault(run_id, _Run()).taken.setdefault(namespace, {})
        taken[checkpoint["id"]] = (checkpoint, metadata, parent)
        return _config(run_id, namespace, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task wrote; what is said twice stays as it was first, but its error, question or answer."""
        run_id, namespace, checkpoint_id = _place(config)
        written = self._runs.setdefault(run_id, _Run()).written.setdefault((namespace, checkpoint_id or ""), {})
        for place, (channel, value) in enumerate(writes):
            key = (task_id, WRITES_IDX_MAP.get(channel, place))
            if key[1] < 0 or key not in written:
                written[key] = (task_path, channel, value)

    def delete_thread(self, thread_id: str) -> None:
        """Forget a run's checkpoints."""
        self._runs.pop(thread_id, None)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the word of the class it extends
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The checkpoints of a run and namespace, the newest first; `filter` is not looked at."""
        run_id, namespace, _all = _place(config or {})
        taken = self._runs.get(run_id, _Run()).taken.get(namespace, {})
        end = _place(before)[2] if before else None
        for checkpoint_id in sorted((one for one in taken if end is None or one < end), reverse=True)[:limit]:
            found = self.get_tuple(_config(run_id, namespace, checkpoint_id))
            if found is not None:
                yield found

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return self.get_tuple(config)

    async def aput(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        """As `put`."""
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        self.put_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        self.delete_thread(thread_id)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the word of the class it extends
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        for found in self.list(config, filter=filter, before=before, limit=limit):
            yield found

    async def packed(self, thread_id: str) -> str:
        """A run's checkpoints as text, in LangGraph's own serialisation, compressed.

        Raises `AgentError` for what it cannot serialise, and for more than `MAX_KEPT` characters.
        """
        run = self._runs.get(thread_id) or _Run()
        taken = [[place, key, *one] for place, found in run.taken.items() for key, one in found.items()]
        written = [[*place, *key, *one] for place, found in run.written.items() for key, one in found.items()]
        whole = {"taken": taken, "written": written, "types": types_in([taken, written])}
        try:
            kind, data = await asyncio.to_thread(self.serde.dumps_typed, whole)
        except (TypeError, ValueError) as refused:
            raise AgentError(
                f"the graph cannot be paused: its state holds what cannot be kept: {refused}",
                hint="keep serialisable values in its state, or compile it with a checkpointer that takes them",
            ) from refused
        text = base64.b85encode(zlib.compress(data)).decode()
        if len(text) > MAX_KEPT:
            raise AgentError(
                f"the graph cannot be paused: what it holds takes {len(text) >> 10} KiB, more than {MAX_KEPT >> 10}",
                hint="compile it with a checkpointer of its own",
            )
        return f"{kind}:{text}"

    async def unpack(self, thread_id: str, packed: str) -> None:
        """Take up a run where `packed` left it; raises `AgentError` where types of what it held are not found."""
        kind, _, text = packed.partition(":")
        data = zlib.decompress(base64.b85decode(text))
        whole = await asyncio.to_thread(self.serde.loads_typed, (kind, data))
        if lost := not_found(whole.get("types", ())):
            raise AgentError(
                f"the graph cannot go on: types of what it held when it paused are not found: {', '.join(lost)}",
                hint="define them at the top of a module, and leave that where it was until all pauses are answered",
            )
        run = self._runs[thread_id] = _Run()
        for namespace, checkpoint_id, checkpoint, metadata, parent in whole["taken"]:
            run.taken.setdefault(namespace, {})[checkpoint_id] = (checkpoint, metadata, parent)
        for namespace, checkpoint_id, task_id, place, *written in whole["written"]:
            path, channel, value = written
            run.written.setdefault((namespace, checkpoint_id), {})[task_id, place] = (path, channel, value)


def _place(config: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """Run, namespace and checkpoint that a config speaks of."""
    where = config.get("configurable", {})
    return str(where.get("thread_id")), where.get("checkpoint_ns", ""), where.get("checkpoint_id")


def _config(run_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": run_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}


class InThreads(Saver):
    """A checkpointer without async methods, called on threads, so that the graph can run on the host's loop."""

    def __init__(self, saver: Saver) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver

    @property
    def config_specs(self) -> Any:
        """The saver's own."""
        return self._saver.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        """The saver's own."""
        return self._saver.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The saver's own."""
        return self._saver.get_tuple(config)

    def list(self, config: RunnableConfig | None, **wanted: Any) -> Iterator[CheckpointTuple]:
        """The saver's own."""
        return self._saver.list(config, **wanted)

    def put(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        """The saver's own."""
        return self._saver.put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """The saver's own."""
        self._saver.put_writes(config, writes, task_id, task_path)

    def delete_thread(self, thread_id: str) -> None:
        """The saver's own."""
        self._saver.delete_thread(thread_id)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`, on a thread."""
        return await asyncio.to_thread(self._saver.get_tuple, config)

    async def alist(self, config: RunnableConfig | None, **wanted: Any) -> AsyncIterator[CheckpointTuple]:
        """As `list`, on a thread."""
        for found in await asyncio.to_thread(lambda: [*self._saver.list(config, **wanted)]):
            yield found

    async def aput(self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> RunnableConfig:
        """As `put`, on a thread."""
        return await asyncio.to_thread(self._saver.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`, on a thread."""
        await asyncio.to_thread(self._saver.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`, on a thread."""
        await asyncio.to_thread(self._saver.delete_thread, thread_id)


async def awaitable(saver: Saver, config: RunnableConfig) -> Saver:
    """The saver itself, or on threads where it has no async methods; `config` is of a thread to look for."""
    try:
        await saver.aget_tuple(config)
    except NotImplementedError:
        return InThreads(saver)
    return saver
