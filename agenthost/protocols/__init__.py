"""Dialects: what a request means and how a run is told, in the words of one wire protocol; and what a dialect needs."""

from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.events import Entry
from agenthost.hookspecs import Dialect
from agenthost.protocols.bodies import StrictRoute, read_all
from agenthost.protocols.exchange import ClientWatch, Exchange, exchange_of
from agenthost.protocols.streaming_replies import Answer, Folding, fold_run, json_reply, keyed, keyed_resume, stream_run
from agenthost.protocols.wire import Wire, read_body
from agenthost.resuming import Reply, ResumeRequest
from agenthost.run import Run
from agenthost.run_log import Reader
from agenthost.store import StoredRun
from agenthost.streaming import Teller, batches, pump, ready

__all__ = [
    "AgentEntry",
    "Answer",
    "ClientWatch",
    "Dialect",
    "EndedRun",
    "Entry",
    "Exchange",
    "Folding",
    "Reader",
    "Reply",
    "ResumeRequest",
    "Run",
    "StoredRun",
    "StrictRoute",
    "Teller",
    "Wire",
    "batches",
    "exchange_of",
    "fold_run",
    "json_reply",
    "keyed",
    "keyed_resume",
    "pump",
    "read_all",
    "read_body",
    "ready",
    "stream_run",
]
