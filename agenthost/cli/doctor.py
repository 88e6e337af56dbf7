"""`agenthost doctor`: what a bug report needs to say, one finding a line; it changes nothing and shows no secret."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from agenthost.cli.findings import Finding, Level, counted, of_open_files, of_sqlite, of_store, of_versions
from agenthost.cli.terminal import harmless, say
from agenthost.config import Config, StoreConfig, config_path, default_config, load_config
from agenthost.config.checking import KEY_VARIABLE
from agenthost.config.loading import FILE_VARIABLE, parse, read_text, shown_path
from agenthost.config.redaction import Redactor, as_lines
from agenthost.config.secret_names import secret_values
from agenthost.distributions import Declarations, normalise, scan
from agenthost.errors import ConfigError
from agenthost.host import store_url
from agenthost.store import StoreOpenError
from agenthost.store.inspection import look

COLOURS: dict[Level, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}


@dataclass(slots=True)
class Configured:
    """What agents.toml gave: its tables as written, and the `Config` that they make, where they make one."""

    shown: str
    tree: dict[str, Any] = field(default_factory=dict)
    config: Config | None = None
    findings: list[Finding] = field(default_factory=list)


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Another agents.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(config_file: Path | None, as_json: bool) -> int:
    """Look at versions, configuration, store and limits, and print what a bug report needs.

    Works without an agents.toml, beside a running host, and with a store that is damaged. It changes nothing, imports
    no plugin and shows no secret, no prompt and no answer; `agenthost check` loads the agents. Exits 1 if there is a
    problem.
    """
    configured = _configured(config_file)
    findings = [*of_versions(), of_sqlite(), of_open_files(), *_installed(configured.config)]
    findings += [*configured.findings, *_store(configured)]
    redactor = Redactor(_secrets(configured))
    tree = redactor.tree(configured.tree)  # before all else: what it hides is then hidden everywhere
    findings = [_redacted(redactor, finding) for finding in findings]
    if as_json:
        say(json.dumps({"checks": [asdict(one) for one in findings], "configuration": tree}, indent=2))
    else:
        _print(findings, redactor.text(configured.shown), [redactor.text(line) for line in as_lines(tree)])
    return int(any(one.level == "problem" for one in findings))


def _configured(file: Path | None) -> Configured:
    """Read the configuration; the defaults where no file was named and there is none here."""
    path = config_path(file)
    found = Configured(shown_path(path))
    without = file is None and not os.environ.get(FILE_VARIABLE) and not os.path.lexists(path)
    try:
        if not without:
            found.tree = parse(read_text(path, found.shown, named=file is None), found.shown)
        found.config = default_config() if without else load_config(file)
    except ConfigError as unusable:
        found.findings += [Finding("configuration", "problem", told, unusable.hint) for told in unusable.problems]
        return found
    counts = {"agents": len(found.config.agents), "keys": len(found.config.auth.keys)}
    named = " and ".join(counted(number, what.removesuffix("s")) for what, number in counts.items())
    said = f"{found.shown} can be used: {named}"
    if without:
        found.findings.append(Finding("configuration", "note", f"no {found.shown} here; the defaults", facts=counts))
    else:
        found.findings.append(Finding("configuration", "ok", said, facts=counts))
    return found


def _installed(config: Config | None) -> Iterator[Finding]:
    """Every distribution that brings agents or plugins, by its metadata: nothing is imported."""
    declared = scan()
    blocked = {normalise(name) for name in config.plugins.block} if config else set()
    brought = _brought(declared)
    for (distribution, version), names in sorted(brought.items()):
        said = "; ".join(f"{kind}: {', '.join(of_kind)}" for kind, of_kind in names.items() if of_kind)
        barred = normalise(distribution) in blocked
        facts = {"distribution": distribution, "version": version, "blocked": barred, **names}
        more = " (blocked by [plugins] block)" if barred else ""
        yield Finding("installed", "ok", f"{distribution} {version}, {said}{more}", facts=facts)
    for problem in declared.problems:
        yield Finding("installed", "warning", problem.message, problem.hint)
    if not brought and not declared.problems:
        yield Finding(
            "installed", "note", "no distribution that brings agents or plugins", "pip install agenthost-echo"
        )


def _brought(declared: Declarations) -> dict[tuple[str, str], dict[str, list[str]]]:
    brought: dict[tuple[str, str], dict[str, list[str]]] = {}
    for kind, entries in (("agents", declared.agents), ("plugins", declared.plugins)):
        for entry in entries:
            names = brought.setdefault((entry.distribution, entry.version), {"agents": [], "plugins": []})
            names[kind].append(entry.name)
    return brought


def _store(configured: Configured) -> Iterator[Finding]:
    url = _store_url(configured)
    if url is None:
        hint = "correct the configuration first"
        yield Finding("store", "warning", "not looked at: the configuration does not say where it is", hint)
        return
    try:
        yield from of_store(look(url))
    except StoreOpenError as refused:
        yield Finding("store", "problem", refused.message, refused.hint)
    except Exception as error:  # noqa: BLE001 - whatever a damaged store leads to, the rest must still be told
        yield Finding("store", "problem", f"looking at it failed: {type(error).__name__}: {error}")


def _store_url(configured: Configured) -> str | None:
    """Where the store is, also by a file that has problems elsewhere; None where it does not say."""
    if configured.config is not None:
        return store_url(configured.config)
    section = configured.tree.get("store", {})
    if not configured.tree or not isinstance(section, dict):
        return None
    given = {"url": section["url"]} if "url" in section else {}
    with suppress(ValidationError):
        folder = Path(os.path.abspath(configured.shown)).parent
        return store_url(Config(store=StoreConfig(**given), base_dir=folder))
    return None


def _secrets(configured: Configured) -> set[str]:
    found = set(secret_values(configured.tree)) | (configured.config.secrets() if configured.config else set())
    return found | {os.environ.get(KEY_VARIABLE, "")}


def _redacted(redactor: Redactor, finding: Finding) -> Finding:
    hint = finding.hint and redactor.text(finding.hint)
    facts = {name: redactor.text(fact) if isinstance(fact, str) else fact for name, fact in finding.facts.items()}
    return Finding(finding.name, finding.level, redactor.text(finding.said), hint, facts)


def _print(findings: Sequence[Finding], file: str, configuration: Sequence[str]) -> None:
    width = max(len(one.name) for one in findings)
    for one in findings:
        level = click.style(f"{one.level:<7}", fg=COLOURS[one.level])
        click.echo(f"{level}  {one.name:<{width}}  {harmless(one.said)}")
        if one.hint:
            click.echo(f"{'':{9 + width}}  → {harmless(one.hint)}")
    if configuration:
        say(f"\n{file}, without what is secret:")
        for line in configuration:
            say(f"  {line}")
    problems, warnings = (sum(one.level == level for one in findings) for level in ("problem", "warning"))
    say(f"\n{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
