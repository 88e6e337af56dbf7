"""The command line: which command is which module, and how each ends; a module is imported when its command runs.

Exit codes: 0 done · 1 something is wrong with what was asked about, or the host said no · 2 misused, or the host
refuses to start · 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import click

from agenthost.cli.terminal import complain
from agenthost.errors import HostError, StartError

COMMANDS = {
    "dev": ("serving:dev", "Serve on this machine, without a key."),
    "serve": ("serving:serve", "Serve for real; never without authentication."),
    "add": ("add:add", "Write an agent into agents.toml."),
    "list": ("listing:list_agents", "Show the agents that are installed, and which are served."),
    "env": ("environments:env", "Make, show and remove agents' own environments."),
    "check": ("check:check", "Find everything that is wrong before it is served."),
    "call": ("call:call", "Run an agent of a running host, and print what it says."),
    "chat": ("chat:chat", "Talk with an agent of a running host."),
    "runs": ("runs:runs", "Show the runs of an agent, or one of them."),
    "cancel": ("cancel:cancel", "End a run."),
    "plugins": ("listing:plugins", "Show what every installed distribution brings."),
    "keys": ("keys:keys", "Make keys for callers."),
    "doctor": ("doctor:doctor", "Say what a bug report needs, and what is wrong."),
    "help": ("topics:help_command", "Read the manual."),
}
"""Every command in the order of the first minute: where it is, and what it does."""


class Commands(click.Group):
    """A group that knows its commands by name and imports the module of the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(_imported(f"agenthost.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; raises `UsageError` with the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, 1)
            ctx.fail(f"there is no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_home, what) in COMMANDS.items()])


def _imported(name: str) -> ModuleType:
    """The module of that name; what it brings in stays, so looking for garbage meanwhile is a sixth of a start lost."""
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.enable()


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"agenthost {_imported('agenthost.plugins').own_version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Show the version.")  # fmt: skip
def agenthost() -> None:
    """Serve pip-installed AI agents of any framework, many at once, from one process and one file.

    \b
    agenthost add NAME     name an installed agent in agents.toml
    agenthost dev          serve it here, without a key
    agenthost help         the manual
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that `arguments` (else the process's) spell, and exit."""
    code = run(arguments)
    try:
        if not sys.stdout.closed:  # by an agent that ran in this process
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has seen enough; the interpreter's own flush at the end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; says what went wrong on stderr, without a traceback where it knows."""
    try:
        code: Any = agenthost.main(arguments, prog_name="agenthost", standalone_mode=False)
    except click.ClickException as misuse:
        misuse.show()
        return misuse.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except HostError as problem:
        complain(problem.describe())
        return 2 if isinstance(problem, StartError) else 1
    return code if isinstance(code, int) else 0
