"""Turns the parsed agents.toml into a `Config`, noting every problem on the way instead of stopping at the first."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from agenthost.config.forms import Forms
from agenthost.config.keys import (
    ONE_AGENTS_OWN,
    SECTIONS,
    AgentConfig,
    AuthConfig,
    Config,
    KeyConfig,
    PluginsConfig,
    Section,
    ServerConfig,
    StoreConfig,
    known_keys,
)
from agenthost.config.lines import Keys
from agenthost.config.problems import Problems, key_text, nearest, place, quoted_key
from agenthost.config.secret_names import literal_secrets
from agenthost.config.values import agent_name_problem, key_secret, type_name

KEY_VARIABLE = "AGENTHOST_API_KEY"
_ANOTHER = "`agenthost keys new ID` makes another"

AnySection = TypeVar("AnySection", bound=Section)


class Checker:
    """One look at one file: every table becomes its model, or a problem."""

    def __init__(self, file: Path, environ: Mapping[str, str], problems: Problems) -> None:
        self.file = file
        self.environ = environ
        self.problems = problems
        self.forms = Forms(file.parent, environ, problems)

    def config(self, tree: dict[str, Any]) -> Config:
        """Return the configuration; it counts only where no problem was noted."""
        self._unknown_tables(tree)
        defaults, inherited = self._defaults(self._table(tree, "defaults"))
        return Config(
            server=self._section(ServerConfig, tree, "server"),
            store=self._section(StoreConfig, tree, "store"),
            auth=self._auth(self._table(tree, "auth")),
            plugins=self._section(PluginsConfig, tree, "plugins"),
            defaults=defaults,
            agents=self._agents(self._table(tree, "agents"), inherited),
            path=self.file,
            base_dir=self.file.parent,
            files=frozenset({self.file, *self.forms.files}),
        )

    def _unknown_tables(self, tree: dict[str, Any]) -> None:
        for name, value in tree.items():
            if name in SECTIONS:
                continue
            self._literals({name: value}, ())
            if isinstance(value, dict | list):
                meant = nearest(name, SECTIONS)
                remedy = f"did you mean [{meant}]?" if meant else f"an agent is written [agents.{key_text(name)}]"
                self.problems.add((name,), f"unknown table [{key_text(name)}]; {remedy}")
            else:
                home = _home(name)
                remedy = f"it belongs under {home}" if home else "every key stands in a table"
                self.problems.add((name,), f"unknown key {quoted_key(name)}; {remedy}")

    def _table(self, tree: dict[str, Any], name: str) -> dict[str, Any]:
        """The table called `name`; one that is absent, or is no table, is empty."""
        value = tree.get(name, {})
        return value if self._is_table(value, (name,)) else {}

    def _is_table(self, value: object, keys: Keys) -> bool:
        if isinstance(value, dict):
            return True
        self.problems.add(keys, f"{place(keys)}: expected a table, got {type_name(value)}")
        return False

    def _section(self, kind: type[AnySection], tree: dict[str, Any], name: str) -> AnySection:
        raw = self._table(tree, name)
        return self._model(kind, self._usable(raw, (name,)), (name,), given=raw)[0] or kind()

    def _defaults(self, raw: dict[str, Any]) -> tuple[AgentConfig, dict[str, Any]]:
        """Return [defaults] as an agent that sets nothing would have it, and what of it the agents inherit."""
        for name in ONE_AGENTS_OWN:
            if name in raw:
                self.problems.add(
                    ("defaults", name),
                    f"[defaults] {quoted_key(name)} is one agent's own; write it under [agents.NAME]",
                )
        shared = {name: value for name, value in raw.items() if name not in ONE_AGENTS_OWN}
        ready = self._usable(shared, ("defaults",))
        model, bad = self._model(AgentConfig, ready, ("defaults",), given=raw)
        return model or AgentConfig(), {name: value for name, value in ready.items() if name not in bad}

    def _agents(self, raw: dict[str, Any], inherited: dict[str, Any]) -> dict[str, AgentConfig]:
        agents = {}
        for name, table in raw.items():
            keys = ("agents", name)
            if not self._is_table(table, keys):
                continue
            if problem := agent_name_problem(name):
                self.problems.add(keys, f"[agents.{key_text(name)}] {problem}")
            own = self._usable(table, keys)
            ready = {**inherited, **own}
            if "environment" in ready and own.get("placement") == "in-process":
                told = f"{place(keys)} placement: an agent with an environment cannot run in-process; remove the line"
                self.problems.add((*keys, "placement"), told)
            if model := self._model(AgentConfig, ready, keys, given=table)[0]:
                agents[name] = model
        return agents

    def _auth(self, raw: dict[str, Any]) -> AuthConfig:
        own = {name: value for name, value in raw.items() if name != "keys"}
        auth, _ = self._model(AuthConfig, self._usable(own, ("auth",)), ("auth",), given=own)
        items = raw.get("keys", [])
        if not isinstance(items, list):
            self.problems.add(
                ("auth", "keys"), f"[auth] keys: expected tables written [[auth.keys]], got {type_name(items)}"
            )
            items = []
        if items and auth and "api-keys" not in auth.use:
            self.problems.add(
                ("auth", "use"), "[auth] use: leaves out 'api-keys', so [[auth.keys]] would never be asked"
            )
        found = [(key, position) for position, item in enumerate(items) if (key := self._key(item, position))]
        extra = key_from_environment(self.environ, self.problems)
        self._unique(found, extra)
        return (auth or AuthConfig()).model_copy(update={"keys": (*(key for key, _ in found), *extra)})

    def _key(self, raw: object, position: int) -> KeyConfig | None:
        keys: Keys = ("auth", "keys", position)
        if not isinstance(raw, dict):
            self._is_table(raw, keys)
            return None
        ready = self._usable(raw, keys)
        if ready.pop("sha256", None) is not None:
            self.problems.add(
                (*keys, "sha256"), '[[auth.keys]] sha256: stands inside secret: secret = { sha256 = "…" }'
            )
        if "secret" not in raw and "sha256" not in raw:
            self._missing("secret", '{ env = "WEB_KEY" }', keys)
        secret = ready.get("secret")
        if isinstance(secret, dict) and secret.keys() == {"sha256"}:
            del ready["secret"]
            ready["sha256"] = secret["sha256"]
        return self._model(KeyConfig, ready, keys, given=raw)[0]

    def _unique(self, keys: list[tuple[KeyConfig, int]], extra: tuple[KeyConfig, ...]) -> None:
        """Note ids and secrets that two keys share: which of them a caller is would be chance."""
        ids: dict[str, int] = {}
        digests: dict[str, tuple[str, int]] = {}
        for key, position in keys:
            if key.id in ids:
                told = f"[[auth.keys]] id: {key.id!r} is another key's id already"
                self.problems.add(("auth", "keys", position, "id"), told)
            ids.setdefault(key.id, position)
            digest = _digest(key)
            if digest in digests:
                told = f"[[auth.keys]] secret: keys {digests[digest][0]!r} and {key.id!r} have the same; {_ANOTHER}"
                self.problems.add(("auth", "keys", position, "secret"), told)
            digests.setdefault(digest, (key.id, position))
        for key in extra:
            if key.id in ids:
                told = f"[[auth.keys]] id: {key.id!r} is what the key of {KEY_VARIABLE} is called; choose another"
                self.problems.add(("auth", "keys", ids[key.id], "id"), told)
            if found := digests.get(_digest(key)):
                told = f"[[auth.keys]] secret: key {found[0]!r} has the one of {KEY_VARIABLE}; {_ANOTHER}"
                self.problems.add(("auth", "keys", found[1], "secret"), told)

    def _usable(self, raw: dict[str, Any], keys: Keys) -> dict[str, Any]:
        """Return `raw`, value forms resolved, without literal secrets, and forms that do not resolve."""
        left_out = {where[len(keys)] for where in self._literals(raw, keys)}
        usable = {name: value for name, value in raw.items() if name not in left_out}
        return self.forms.table(usable, keys, tables=("settings", "env"))

    def _literals(self, raw: dict[str, Any], keys: Keys) -> list[Keys]:
        """Return where secrets are written out in the table `raw`, each noted."""
        digest = keys[:2] == ("auth", "keys")
        forms = '{ env = "X" }, { file = "…" } or { sha256 = "…" }' if digest else '{ env = "X" } or { file = "…" }'
        found = list(literal_secrets(raw, keys))
        for where in found:
            here = place(where) if len(where) > 1 else quoted_key(str(where[0]))
            self.problems.add(where, f"{here}: a secret is written out here; use {forms}")
        return found

    def _model(
        self, kind: type[AnySection], ready: dict[str, Any], keys: Keys, *, given: Container[str]
    ) -> tuple[AnySection | None, set[str]]:
        """Return the model of `ready`, or None and the keys whose problems were noted.

        `given` are the keys that the file has, so that one whose problem is known already is not called missing.
        """
        try:
            return kind.model_validate(ready), set()
        except ValidationError as error:
            # One without a place says that a key has no secret, which was noted where the file lacks it.
            details = [found for found in error.errors(include_url=False, include_input=False) if found["loc"]]
        bad = {str(detail["loc"][0]) for detail in details}
        for detail in details:
            name, *inner = detail["loc"]
            where: Keys = (*keys, *(("secret", name) if name == "sha256" else (name,)), *inner)
            if detail["type"] == "extra_forbidden":
                wrong = str(where[-1])
                meant = _meant(wrong, keys, str(name) if inner else None)
                table = place(where[:-1]) + (":" if inner else "")
                self.problems.add(where, f"{table} unknown key {quoted_key(wrong)}; {meant}")
            elif detail["type"] != "missing":
                told = detail.get("ctx", {}).get("error", detail["msg"])
                self.problems.add(where, f"{place(where)}: {told}")
            elif name not in given:
                examples = kind.model_fields[str(name)].examples or [""]
                self._missing(str(name), str(examples[0]), keys)
        return None, bad

    def _missing(self, name: str, example: str, keys: Keys) -> None:
        self.problems.add(keys, f"{place(keys)} has no {quoted_key(name)}; add it, such as {name} = {example}")


def key_from_environment(environ: Mapping[str, str], problems: Problems) -> tuple[KeyConfig, ...]:
    """Return the key of `AGENTHOST_API_KEY`, for principal `default`, every agent, and admin; none if it is not set."""
    value = environ.get(KEY_VARIABLE)
    if value is None:
        return ()
    try:
        secret = key_secret(value)
    except ValueError as error:
        problems.add_outside(f"{KEY_VARIABLE}: {error}")
        return ()
    return (KeyConfig(id="default", principal="default", secret=secret, agents=("*",), admin=True),)


def _digest(key: KeyConfig) -> str:
    if key.sha256 is not None:
        return key.sha256
    return hashlib.sha256(key.secret.get_secret_value().encode() if key.secret else b"").hexdigest()


def _home(name: str) -> str | None:
    """The table that takes a key of this name, as it is written."""
    written = {"auth.keys": "[[auth.keys]]", "agents": "[agents.NAME]"}
    tables = ("server", "store", "auth", "auth.keys", "plugins", "agents")
    return next((written.get(table, f"[{table}]") for table in tables if name in known_keys(table)), None)


def _meant(name: str, keys: Keys, inner: str | None) -> str:
    """What to do about an unknown key in the table at `keys`, or in the one that is its key `inner`."""
    known = known_keys(inner or ("auth.keys" if keys[:2] == ("auth", "keys") else str(keys[0])))
    if not inner and (home := _home(name)):
        return f"it belongs under {home}"
    if meant := nearest(name, known):
        return f"did you mean '{meant}'?"
    return f"known here: {', '.join(known)}"
