"""What the host remembers: threads, runs and their events; one thread writes, many askers share a commit."""

from agenthost.store.records import (
    FIRST_EPOCH,
    KeyTaken,
    NewInterrupt,
    NewRun,
    Page,
    RunEnd,
    RunSummary,
    StoredRun,
    StoredThread,
    StoreOpenError,
    ThreadBefore,
    ThreadSummary,
)
from agenthost.store.store import Store, stored_agents

__all__ = [
    "FIRST_EPOCH",
    "KeyTaken",
    "NewInterrupt",
    "NewRun",
    "Page",
    "RunEnd",
    "RunSummary",
    "Store",
    "StoreOpenError",
    "StoredRun",
    "StoredThread",
    "ThreadBefore",
    "ThreadSummary",
    "stored_agents",
]
