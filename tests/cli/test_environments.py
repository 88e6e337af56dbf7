"""`agenthost env`."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenthost.environments import Kept, kept
from tests.cli.conftest import Type
from tests.packages import HOSTS_OWN, shows, wheel


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No index is asked for anything."""
    monkeypatch.setenv("UV_OFFLINE", "1")


def write(here: Path, *agents: tuple[str, str], more: str = "") -> None:
    tables = "".join(f"[agents.{name}]\n{lines}\n" for name, lines in agents)
    (here / "agents.toml").write_text(f"{more}\n{tables}")


def asks(here: Path, name: str, version: str = "1.0") -> str:
    """The line of an agent whose environment has that distribution."""
    built = wheel(here, name, version, agents={name: f"{name}:agent"}, requires=HOSTS_OWN)
    return f'environment = {{ requirements = ["./{built.name}"] }}'


def made(here: Path) -> list[Kept]:
    return [one for one in kept(here / ".agenthost" / "environments") if one.made()]


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]


def test_all_environments_are_made_ahead_without_the_secrets_of_agents_toml(enter: Type, here: Path):
    secret = 'settings = { api_key = { env = "NOT_SET_HERE" } }'
    write(here, ("one", f"{secret}\n{asks(here, 'one')}"), ("two", asks(here, "two")), ("plain", ""))
    ended = enter("env", "build")
    assert ended.code == 0
    pythons = dict(line.split(": ") for line in ended.out.splitlines())
    assert [shows(Path(pythons[name])) for name in ("one", "two")] == ["one=one:agent one-1.0", "two=two:agent two-1.0"]
    assert [step.partition(": environment ")[0] for step in ended.err.splitlines()[:1]] == ["one"]
    again = enter("env", "build")
    assert (again.code, again.out, again.err) == (0, ended.out, "")


def test_every_environment_that_cannot_be_made_is_told_and_the_others_are_made(enter: Type, here: Path):
    write(
        here,
        ("bad", 'environment = { requirements = ["acme-none==1"] }'),
        ("good", asks(here, "good")),
        ("gone", 'environment = { lock = "gone.lock" }'),
        ("off", 'enabled = false\nenvironment = { venv = "off" }'),
        ("worse", 'environment = { venv = "nothing" }'),
    )
    ended = enter("env", "build")
    assert ended.code == 1
    assert [line.partition(": ")[0] for line in ended.out.splitlines()] == ["good"]
    problems = [line for line in ended.err.splitlines() if line.startswith("agent '")]
    assert [problem.split("'")[1] for problem in problems] == ["bad", "gone", "worse"]


def test_only_those_that_are_named_are_made_disabled_ones_too(enter: Type, here: Path):
    write(here, ("one", asks(here, "one")), ("two", "enabled = false\n" + asks(here, "two")))
    assert enter("env", "build", "two").out.startswith("two: ")
    assert [one.name.partition("-")[0] for one in made(here)] == ["two"]


def test_a_name_without_an_environment_is_misuse_and_the_nearest_is_told(enter: Type, here: Path):
    write(here, ("billing", asks(here, "billing")), ("plain", ""))
    ended = enter("env", "build", "biling")
    assert ended.code == 2
    assert "no agent 'biling' has an environment of its own; did you mean 'billing'?" in ended.err
    assert made(here) == []


def test_a_mistake_in_the_file_is_told_as_ever(enter: Type, here: Path):
    write(here, ("one", "environment = { requirments = [] }"))
    for command in ("build", "list", "prune"):
        ended = enter("env", command)
        assert (ended.code, ended.err) == (
            2,
            "agents.toml:3: [agents.one] environment: unknown key 'requirments'; did you mean 'requirements'?\n",
        )


def test_without_environments_that_is_said(enter: Type, here: Path):
    write(here, ("plain", ""))
    for command in ("build", "list"):
        assert enter("env", command).out == "no agent has an environment of its own\n"
    assert enter("env", "prune").out == "nothing to remove\n"


def test_the_list_has_every_environment_its_agents_and_its_state(enter: Type, here: Path):
    shared = asks(here, "shared")
    (here / "venv").mkdir()
    write(
        here,
        ("one", shared),
        ("two", shared),
        ("later", asks(here, "later")),
        ("venv", 'environment = { venv = "venv" }'),
        ("gone", 'environment = { venv = "gone" }'),
        ("lock", 'environment = { lock = "gone.lock" }'),
    )
    assert enter("env", "build", "one").code == 0
    heading, *found = rows(enter("env", "list").out)
    assert heading == ["environment", "agents", "state", "asked for"]
    states = {row[1]: (row[0].rpartition("-")[0], row[2], row[3]) for row in found}
    assert states.pop("one, two")[1].startswith("made 20")
    assert states == {
        "later": ("later-1", "not made yet", "./later-1.0-py3-none-any.whl"),
        "venv": ("", "made elsewhere", 'venv = "venv"'),
        "gone": ("", "not there", 'venv = "gone"'),
        "lock": ("", "the lock file cannot be read", 'lock = "gone.lock"'),
    }


def test_what_no_agent_has_any_more_is_listed_and_removed_unless_a_host_uses_it(enter: Type, here: Path):
    for version in ("1.0", "1.1", "1.2"):
        write(here, ("one", asks(here, "one", version)))
        assert enter("env", "build").code == 0
    used, other, current = sorted(made(here), key=lambda one: one.made().asked)
    half = Kept(used.path.with_name("half-0123456789ab"))
    half.hold(alone=True).release()
    hold = used.hold(alone=False)
    listed = enter("env", "list")
    states = {row[0]: row[2] for row in rows(listed.out)[1:]}
    assert states[current.name].startswith("made 20")
    assert states[other.name].startswith("not used, made 20")
    assert states[used.name] == "not in agents.toml, in use by a running host"
    assert states[half.name] == "not used, made by half"
    assert listed.err == "`agenthost env prune` removes what is not used\n"

    ended = enter("env", "prune")
    assert ended.code == 0
    assert set(ended.out.splitlines()) == {
        f"{used.name}: in use by a running host, kept",
        f"{other.name}: removed",
        f"{half.name}: removed",
    }
    assert made(here) == sorted([used, current], key=lambda one: one.name)
    hold.release()
    assert enter("env", "prune").out == f"{used.name}: removed\n"


def test_what_cannot_be_removed_is_told(enter: Type, here: Path):
    write(here, ("one", asks(here, "one")))
    assert enter("env", "build").code == 0
    write(here)
    (one,) = made(here)
    (one.path / "lock").unlink()
    (one.path / "lock").mkdir()
    ended = enter("env", "prune")
    assert ended.code == 1
    assert ended.err.startswith(f"{one.name} cannot be removed: ")
