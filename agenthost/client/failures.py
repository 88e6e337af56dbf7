"""How a call fails: the host said no, the run did not complete, or nobody answered."""

from __future__ import annotations


class CallFailed(Exception):
    """The host said no, or the run did not complete, or there was no answer to understand.

    `detail` says what is wrong. From a problem body, or an `error` event, come `code`, `correlation_id` (the host's log
    has it too) and `run_id`; `status` is the reply's, None where there was none. Codes of the client's own are
    `connection_lost` (the run may still be going: `run_id` finds it, where it is known) and `events_missing`.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        correlation_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.correlation_id = correlation_id
        self.run_id = run_id


class HostUnreachable(CallFailed):
    """Nothing answers at that address: whatever was asked has not begun."""
