"""What the host remembers: threads, runs and their events; one thread writes, many askers share a commit."""

from agenthost.store.records import (
    FIRST_EPOCH,
    MAX_EPOCH,
    Claim,
    Expired,
    KeyTaken,
    NewInterrupt,
    NewRun,
    Page,
    RunEnd,
    RunSummary,
    StoredInterrupt,
    StoredRun,
    StoredThread,
    StoreOpenError,
    ThreadBefore,
    ThreadSummary,
)
from agenthost.store.store import Store, stored_agents

__all__ = [
    "FIRST_EPOCH",
    "MAX_EPOCH",
    "Claim",
    "Expired",
    "KeyTaken",
    "NewInterrupt",
    "NewRun",
    "Page",
    "RunEnd",
    "RunSummary",
    "Store",
    "StoreOpenError",
    "StoredInterrupt",
    "StoredRun",
    "StoredThread",
    "ThreadBefore",
    "ThreadSummary",
    "stored_agents",
]
