"""Log records of a worker, on their way to the host's log: under the agent's name, with the run they belong to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from agenthost.blame import encodable
from agenthost.placement.allowance import Allowance, abridged, cut

run_id: ContextVar[str | None] = ContextVar("agenthost_run_id", default=None)
"""The run whose agent is at work in this context."""

_FORMAT = logging.Formatter()


class WorkerLog(logging.Handler):
    """Hands records to `send`, as JSON values, from any thread; capped (see `Allowance`)."""

    def __init__(self, agent: str, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._name = f"agenthost.agent.{agent}"
        self._send = send
        self._allowance = Allowance()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; one that cannot be rendered is said to be so."""
        if not self._allowance.take():
            return
        left_out = self._allowance.left_out()
        if left_out:
            self._send({"level": logging.WARNING, "message": left_out})
        try:
            told = self._told(record)
        except Exception as raised:  # noqa: BLE001 - arguments that do not fit, a __str__ that raises
            spoilt = f"a record of {record.name} that {type(raised).__name__} spoils"
            told = {"level": record.levelno, "message": spoilt}
        self._send(told)

    def _told(self, record: logging.LogRecord) -> dict[str, Any]:
        text = encodable(record.getMessage())
        trace = _FORMAT.formatException(record.exc_info) if record.exc_info else record.exc_text
        return {
            "level": record.levelno,
            "message": cut(text if record.name == self._name else f"{record.name}: {text}"),
            "run_id": getattr(record, "run_id", None) or run_id.get(),
            "traceback": encodable(abridged(trace)) if trace else None,
        }


def log_here(agent: str, told: dict[str, Any]) -> None:
    """Put what a worker sent into this process's log."""
    logger = logging.getLogger(f"agenthost.agent.{agent}")
    level = told["level"]
    if not logger.isEnabledFor(level):
        return
    extra = {"agent": agent, "run_id": told.get("run_id")}
    record = logger.makeRecord(logger.name, level, "", 0, told["message"], (), None, extra=extra)
    record.exc_text = told.get("traceback")
    logger.handle(record)
