"""What agents.toml may say: every key with its type, its default and what it is for."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agenthost.agents import BusyPolicy
from agenthost.config.secret_names import secret_values
from agenthost.config.values import (
    BindHost,
    Count,
    CountOrZero,
    Duration,
    Flag,
    Hosts,
    KeyId,
    KeySecret,
    Kind,
    Name,
    Names,
    Networks,
    Origins,
    Patterns,
    Port,
    Principal,
    PublicUrl,
    Requirements,
    Sha256,
    Size,
    SomeTime,
    StoreUrl,
    Table,
    Text,
    Variables,
    Workers,
    choice,
    inner_table,
)

Serve = Annotated[
    Literal["configured", "all"], BeforeValidator(choice("configured", "all")), Kind('"configured" or "all"')
]
Durability = Annotated[Literal["full", "normal"], BeforeValidator(choice("full", "normal")), Kind('"full" or "normal"')]
OnBusyThread = Annotated[
    BusyPolicy,
    BeforeValidator(choice("reject", "queue", "cancel-running")),
    Kind('"reject", "queue" or "cancel-running"'),
]

Load = Annotated[Literal["eager", "lazy"], BeforeValidator(choice("eager", "lazy")), Kind('"eager" or "lazy"')]

ONE_AGENTS_OWN = ("use", "title", "description", "settings")
"""Keys of [agents.*] that [defaults] does not take: they say what one agent is."""


class Section(BaseModel):
    """A table of agents.toml: frozen, no unknown keys. Built in code, it takes the same values as in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServerConfig(Section):
    """`[server]`: where the host listens and what it lets in."""

    host: BindHost = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(default=8000, description="The port to listen on; 0 takes a free one.")
    serve: Serve = Field(
        default="configured", description="Serve the agents named in this file, or all that are installed."
    )
    public_url: PublicUrl = Field(
        default="",
        description="The address callers use, for links and as an allowed Host; empty: taken from each request.",
    )
    trusted_proxies: Networks = Field(
        default=(), description="Addresses and networks of the proxies whose `X-Forwarded-*` headers are believed."
    )
    drain: Duration = Field(default="30s", validate_default=True, description="How long a stop waits for running runs.")
    max_body: Size = Field(default="10MiB", validate_default=True, description="The largest request body; beyond: 413.")
    cors_origins: Origins = Field(
        default=(), description="Web origins whose pages may call this host with credentials; `*` is refused."
    )
    allowed_hosts: Hosts = Field(
        default=(), description="Host values answered besides the bound address and `public_url`; others get 421."
    )


class StoreConfig(Section):
    """`[store]`: where threads and runs are kept."""

    url: StoreUrl = Field(
        default="sqlite:///agenthost.db",
        description="A SQLite file, or `memory:` to forget everything when the host stops.",
    )
    durability: Durability = Field(
        default="full", description="`full` survives a power cut; `normal` is faster and survives a crash of the host."
    )
    run_retention: Duration = Field(
        default="30d",
        validate_default=True,
        description="How long an ended run and its events are kept; 0: for ever. What it said stays in its thread.",
    )
    thread_retention: Duration = Field(
        default="0d",
        validate_default=True,
        description="How long a thread is kept, with its runs, after it was last used; 0 for ever.",
    )


class KeyConfig(Section):
    """`[[auth.keys]]`: one key, and what its bearer may do. Exactly one of `secret` and `sha256` is set."""

    id: KeyId = Field(description="A name for this key, unique, for logs.", examples=['"web"'])
    principal: Principal = Field(
        description="The person or service this key stands for; several keys may share one, and threads belong to it.",
        examples=['"acme-web"'],
    )
    secret: KeySecret | None = Field(
        default=None,
        description='The key, of 16 bytes or more: `{ env = "X" }`, `{ file = "…" }`, or `{ sha256 = "…" }` as '
        "`agenthost keys new ID` prints it; never a literal.",
        examples=['{ env = "WEB_KEY" }'],
    )
    sha256: Sha256 | None = Field(default=None, repr=False, description="The key's digest, where only that is known.")
    agents: Patterns = Field(
        description="Names and patterns (`risk-*`) of the agents it may use; `*` means all.", examples=['["*"]']
    )
    admin: Flag = Field(
        default=False,
        description="May operate the host: details of health, plugins, metrics, reload, the runs of others.",
    )
    concurrency: Count | None = Field(
        default=None,
        description="How many runs this principal may have going at once; beyond: 429. Absent: no limit of its own.",
    )

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if (self.secret is None) == (self.sha256 is None):
            raise ValueError("a key has either secret or sha256")
        return self


class AuthConfig(Section):
    """`[auth]`: how callers prove who they are."""

    use: Names = Field(
        default=("api-keys",), description="Authenticators, asked in this order; one that is not named here never runs."
    )
    allow_unauthenticated: Flag = Field(
        default=False, description="Serve without any authenticator: only behind something that authenticates."
    )
    keys: tuple[KeyConfig, ...] = ()


class PluginsConfig(Section):
    """`[plugins]`: which installed plugins count."""

    block: Names = Field(default=(), description="Distributions that are not loaded.")


class EnvironmentConfig(Section):
    """`environment` of an agent: packages of its own. Exactly one of the keys is set."""

    requirements: Requirements | None = Field(
        default=None, description="What to install, as in a requirements file, with all that it needs."
    )
    lock: Name | None = Field(
        default=None, description="A requirements file or a pylock.toml, of which exactly that is installed."
    )
    venv: Name | None = Field(default=None, description="The folder of a virtual environment that is there already.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"write one of requirements, lock and venv, not {' and '.join(given) or 'an empty table'}")
        return self


class ProcessConfig(Section):
    """`process` of an agent: how its worker processes are. Sizes are in bytes."""

    workers: Workers = Field(default=1, description="How many share its runs.")
    max_memory: Size | None = Field(default=None, description="The data that each may have. Absent: no limit.")


class AgentConfig(Section):
    """`[agents.NAME]`: one agent, merged over `[defaults]`. Times are in seconds."""

    use: Name | None = Field(
        default=None,
        description="Where it comes from: an entry point, `dist:entry-point`, `module:attribute` or "
        "`file.py:attribute` below this file's folder. Absent: the entry point called like the agent.",
    )
    title: Text = Field(default="", description="Its name for people. Empty: what the agent itself says.")
    description: Text = Field(default="", description="What it does, in a sentence. Empty: what the agent itself says.")
    owner: Text = Field(default="", description="Who answers for it; shown in `/health`, logs and metrics.")
    enabled: Flag = Field(default=True, description="Whether it is loaded and served at all.")
    required: Flag = Field(default=True, description="Whether `/health/ready` waits for it.")
    protocols: Names | None = Field(default=None, description="The dialects it speaks. Absent: all that are installed.")
    load: Load = Field(
        default="eager",
        description="When it is loaded: at the start, or on the first request, which waits for it.",
    )
    settings: Table = Field(
        default={},
        repr=False,
        description="Its own settings, checked by the agent's `Settings`; a key is never taken from elsewhere.",
    )
    placement: Name = Field(
        default="in-process",
        description="Where it runs: `in-process`, `process` (processes of its own), or what a plugin registered.",
    )
    environment: Annotated[EnvironmentConfig, BeforeValidator(inner_table), Kind("table")] | None = Field(
        default=None,
        description='Packages of its own: `{ requirements = ["acme-billing==2.1"] }`, made with uv, '
        '`{ lock = "FILE" }`, exactly those, or `{ venv = "FOLDER" }`. It then runs in a process.',
    )
    env: Variables = Field(
        default={},
        repr=False,
        description="Environment variables of its worker processes, besides the few that all get.",
    )
    process: Annotated[ProcessConfig, BeforeValidator(inner_table), Kind("table")] = Field(
        default=ProcessConfig(),
        description="Its worker processes: `workers` is how many share its runs (1), `max_memory` the data that each "
        "may have (no limit).",
    )
    timeout: SomeTime = Field(default="10m", validate_default=True, description="How long a run may take.")
    load_timeout: SomeTime = Field(default="30s", validate_default=True, description="How long loading it may take.")
    concurrency: Count = Field(default=256, description="Runs at once; beyond: queued.")
    queue: CountOrZero = Field(
        default=1024,
        description="Runs that wait for a slot; beyond: 503 with `Retry-After`, but for callers with less than their "
        "share of the places.",
    )
    on_busy_thread: OnBusyThread = Field(
        default="reject", description="What a second run on a thread does: get 409, wait its turn, or cancel the first."
    )
    interrupt_ttl: SomeTime = Field(
        default="7d", validate_default=True, description="How long a question that paused a run may be answered."
    )


class Config(Section):
    """agents.toml, read whole; relative paths in it start from `base_dir`. `path` is absolute, None without a file."""

    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()
    auth: AuthConfig = AuthConfig()
    plugins: PluginsConfig = PluginsConfig()
    defaults: AgentConfig = AgentConfig()
    agents: dict[str, AgentConfig] = {}
    path: Path | None = None
    files: frozenset[Path] = frozenset()
    """What was read to make this: `path`, and the files of `{ file = "…" }`."""
    base_dir: Path = Field(default_factory=Path.cwd)

    def secrets(self) -> frozenset[str]:
        """Return every secret that value forms brought in: the callers' keys, settings and variables named like one."""
        keys = (key.secret.get_secret_value() for key in self.auth.keys if key.secret)
        tables = (table for agent in self.agents.values() for table in (agent.settings, agent.env))
        return frozenset(chain(keys, *map(secret_values, tables)))


SECTIONS: dict[str, type[Section]] = {
    "server": ServerConfig,
    "store": StoreConfig,
    "auth": AuthConfig,
    "plugins": PluginsConfig,
    "defaults": AgentConfig,
    "agents": AgentConfig,
}
"""The tables of the file, by name; under `agents` each agent has one."""


INNER: dict[str, type[Section]] = {"environment": EnvironmentConfig, "process": ProcessConfig}
"""Keys of [agents.*] whose value is a table with keys of its own."""


def known_keys(table: str) -> tuple[str, ...]:
    """The keys that a table of agents.toml takes: `table` is one of `SECTIONS` or `INNER`, or `auth.keys`."""
    if table == "auth.keys":
        return tuple(key for key in KeyConfig.model_fields if key != "sha256")
    own = ONE_AGENTS_OWN if table == "defaults" else ()
    return tuple(key for key in {**SECTIONS, **INNER}[table].model_fields if key not in own)
