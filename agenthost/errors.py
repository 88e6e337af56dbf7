"""Every error the host can speak of: its code, its HTTP status, and what to do about it.

    HostError
    ├── StartError            the operator's: the host refuses to start, exit code 2
    │   ├── ConfigError       agents.toml, one line per problem
    │   └── AuthError         no way, or no safe way, to tell callers apart
    ├── LoadError             the agent author's: one agent or plugin cannot be used, the others can
    ├── RequestError          the caller's
    │   ├── BadRequest 400 · Unauthorized 401 · Forbidden 403 · NotFound 404 · MethodNotAllowed 405
    │   ├── ThreadBusy 409 · AlreadyAnswered 409 · StillUndecided 409 · NotRecorded 409 · EventsExpired 410
    │   ├── RequestTimeout 408 · BodyTooLarge 413 · TargetTooLong 414 · UnsupportedMediaType 415
    │   ├── Misdirected 421 · InvalidRequest 422 · KeyReused 422 · TooManyRuns 429 · HeadTooLarge 431
    │   └── AgentNotReady 503 · AgentOverloaded 503 · TooManyConnections 503
    └── RunError              a run that ended without completing
        ├── AgentError · BadEvent · AgentCrashed · StoreError · HostLost
        ├── AgentUnavailable · HostStopping · RunTimeout · Cancelled
        └── AgentPaused       only raised by `ctx.call`: the agent called wants an answer first

`message` is written for the person who can act; a client sees it only where `public` is true (nothing in it came from
an agent, a path or a traceback), else it sees the class's `title`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from agenthost.events import Interrupt


class HostError(Exception):
    """Something the host can name.

    `message` says what and whose, `hint` what to do; `code` is the stable word clients and log queries match on;
    `retry_after` is in seconds and becomes the `Retry-After` header; `members` are the problem body's own.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    public: ClassVar[bool] = False
    traceback: str | None = None
    files: Mapping[str, float] | None = None
    """For an author: where in their code it came from, and which files may mend it, read when; callers never see it."""

    def __init__(self, message: str = "", *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message or self.title)
        self.message = message or self.title
        self.hint, self.retry_after = hint, retry_after
        self.members: Mapping[str, Any] = {}

    @property
    def detail(self) -> str:
        """What a client may read: the message where it is `public`, else the title."""
        return self.message if self.public else self.title

    def describe(self) -> str:
        """The message, and under it the hint: how an operator reads it on a terminal."""
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class StartError(HostError):
    """The host refuses to start."""

    code = "start_refused"
    title = "The host refuses to start"


class ConfigError(StartError):
    """agents.toml cannot be used. `problems` are all, a line each with its place and remedy; `named` its files."""

    code = "bad_config"
    title = "The configuration cannot be used"

    def __init__(self, *problems: str, hint: str | None = None, named: Collection[str] = ()) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems, self.named = problems, named


class AuthError(StartError):
    """Serving would let strangers in."""

    code = "no_authentication"
    title = "Refusing to serve without authentication"


class LoadError(HostError):
    """One agent or plugin cannot be loaded; `distribution` and `version` say whose it is, where that is known."""

    code = "load_failed"
    status = 503
    title = "This agent could not be loaded"

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        distribution: str | None = None,
        version: str | None = None,
        traceback: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.distribution = distribution
        self.version = version
        self.traceback = traceback


class RequestError(HostError):
    """The request cannot be served as it stands."""

    code = "bad_request"
    status = 400
    title = "Bad request"
    public = True


class BadRequest(RequestError):
    """The bytes are not what HTTP or JSON allow."""


class Unauthorized(RequestError):
    """No credentials, or none that an authenticator knows."""

    code = "unauthorized"
    status = 401
    title = "Credentials are missing or not known"


class Forbidden(RequestError):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403
    title = "Not allowed"


class NotFound(RequestError):
    """Nothing here by that name that this caller may see."""

    code = "not_found"
    status = 404
    title = "Not found"


class MethodNotAllowed(RequestError):
    """The path exists, not with this method."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class RequestTimeout(RequestError):
    """The client was too slow in sending its request."""

    code = "request_timeout"
    status = 408
    title = "The request took too long to arrive"


class ThreadBusy(RequestError):
    """A run is going on this thread."""

    code = "thread_busy"
    status = 409
    title = "A run is going on this thread"


class AlreadyAnswered(RequestError):
    """The question a resume answers was answered by another run, superseded by a newer one, or has expired."""

    code = "already_answered"
    status = 409
    title = "This question has been answered, or is no longer open"


class StillUndecided(RequestError):
    """The answer does not decide the question, and the agent asks again; the body is also that of Locus 3.0.1."""

    code = "approval_pending"
    status = 409
    title = "This question still waits for a decision"


class NotRecorded(RequestError):
    """The run's events are for the one who asked for it: it has no thread, no key, and did not come by `/runs`."""

    code = "not_recorded"
    status = 409
    title = "This run is not recorded"


class EventsExpired(RequestError):
    """The run is known, or was; the events asked for are no longer kept."""

    code = "events_expired"
    status = 410
    title = "The events of this run are no longer kept"


class BodyTooLarge(RequestError):
    """The body is over `[server] max_body`."""

    code = "body_too_large"
    status = 413
    title = "The body is too large"


class TargetTooLong(RequestError):
    """The path and query are longer than this server reads."""

    code = "target_too_long"
    status = 414
    title = "The address is too long"


class UnsupportedMediaType(RequestError):
    """The body is not declared as JSON."""

    code = "unsupported_media_type"
    status = 415
    title = "The body must be application/json"


class Misdirected(RequestError):
    """The Host header names a host this server is not."""

    code = "wrong_host"
    status = 421
    title = "This server does not answer to that Host"


class InvalidRequest(RequestError):
    """The body is JSON, but not what this route takes."""

    code = "invalid_request"
    status = 422
    title = "The request is not valid"


class KeyReused(RequestError):
    """This `Idempotency-Key` came with another body before."""

    code = "idempotency_key_reused"
    status = 422
    title = "This Idempotency-Key belongs to another request"


class HeadTooLarge(RequestError):
    """The request's headers are more, or longer, than this server reads."""

    code = "head_too_large"
    status = 431
    title = "The headers are too large"


class TooManyRuns(RequestError):
    """This principal has as many runs going as it may."""

    code = "too_many_runs"
    status = 429
    title = "Too many runs at once"


class AgentNotReady(RequestError):
    """The agent is known and does not serve now."""

    code = "agent_not_ready"
    status = 503
    title = "This agent is not ready"


class TooManyConnections(RequestError):
    """The server has all the connections it can hold."""

    code = "too_many_connections"
    status = 503
    title = "Too many connections at once"


class AgentOverloaded(RequestError):
    """The agent's slots and its queue are full."""

    code = "agent_overloaded"
    status = 503
    title = "This agent has all the work it can take"


class RunError(HostError):
    """A run ended without completing. Never carries the agent's own exception text to a client.

    `run_id` and `correlation_id` (what the log has too) are set by the run engine.
    """

    code = "agent_error"
    status = 500
    title = "The run failed"
    run_id: str | None = None
    correlation_id: str | None = None

    def again(self) -> Self:
        """A copy to raise. Raised itself, the error a run keeps would hold the frames that hold the run."""
        fresh = type(self).__new__(type(self), *self.args)
        fresh.__dict__.update(self.__dict__)
        return fresh


class AgentError(RunError):
    """The agent raised."""

    title = "The agent failed"


class BadEvent(RunError):
    """The agent yielded what cannot be sent: not an event, not JSON, or over 1 MiB."""

    code = "bad_event"
    title = "The agent sent an event that cannot be encoded"


class AgentCrashed(RunError):
    """The agent's process died."""

    code = "agent_crashed"
    title = "The agent's process ended"


class StoreError(RunError):
    """The store did not take what the run had to write."""

    code = "store"
    title = "The run could not be recorded"


class HostLost(RunError):
    """The host that ran it ended without a word; found out at the next start."""

    code = "host_lost"
    title = "The host was lost while this run was going"


class AgentUnavailable(RunError):
    """The agent cannot take this run now."""

    code = "agent_unavailable"
    status = 503
    title = "The agent is not available"


class HostStopping(RunError):
    """The host stops, and the run did not end in time."""

    code = "host_stopping"
    status = 503
    title = "The host is stopping"


class RunTimeout(RunError):
    """The run took longer than the agent's `timeout`."""

    code = "timeout"
    status = 504
    title = "The run took too long"


class Cancelled(RunError):
    """The run was cancelled: by request, by a newer run on its thread, or because its reader left."""

    code = "cancelled"
    status = 409
    title = "The run was cancelled"


class AgentPaused(RunError):
    """An agent called by another one asks a question; `interrupt` is what it yielded."""

    code = "paused"
    status = 409
    title = "The agent called is waiting for an answer"

    def __init__(self, interrupt: Interrupt) -> None:
        super().__init__()
        self.interrupt = interrupt


def catalogue() -> Iterator[type[HostError]]:
    """Yield every error class once, parents first, in the order they are written here."""
    seen: list[type[HostError]] = [HostError]
    for kind in seen:
        yield kind
        seen.extend(kind.__subclasses__())


def by_code(code: str) -> type[RunError]:
    """Return the class of a run's error code as a worker or the store spelled it; unknown words are `AgentError`."""
    runs = (kind for kind in catalogue() if issubclass(kind, RunError) and kind is not RunError)
    return next((kind for kind in runs if kind.code == code), AgentError)
