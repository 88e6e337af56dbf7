"""`agenthost doctor`: all that a bug report needs, whatever is broken, and no secret."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from pathlib import Path

import pytest

from agenthost.store import NewRun, RunEnd, Store
from agenthost.threads import Message
from tests.cli.conftest import Type
from tests.commands import ECHO, KEY, Ended, Serving
from tests.commands import agenthost as run_it
from tests.distributions import Site

SECRET = "correct-horse-battery"


def lines(ended: Ended, level: str) -> list[str]:
    """What was said at a level, with the name of what it is about: `schema: version 2`."""
    found = re.findall(rf"^{level} +(.+?)  +(.+)$", ended.out, re.MULTILINE)
    return [f"{name}: {said}" for name, said in found]


def hints(ended: Ended) -> list[str]:
    return re.findall(r"^ +→ (.+)$", ended.out, re.MULTILINE)


def fail_a_run(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")

    async def fail() -> None:
        asked = Message.of("user", "what nobody else may read")
        run = NewRun(run_id="r1", agent="echo", principal="acme", created=1.0, thread_id="t", user_message=asked)
        await store.start_run(run)
        end = RunEnd(run_id="r1", status="failed", stop_reason="error", code="agent_error", ended=0.0, result={})
        await store.end_run(end)

    asyncio.run(fail())
    store.close()


def test_it_works_in_an_empty_folder_and_leaves_it_empty(enter: Type, here: Path):
    ended = enter("doctor")
    assert (ended.code, ended.err) == (0, "")
    names = [line.split()[1] for line in ended.out.splitlines() if line and not line.startswith(" ")][:4]
    assert names == ["agenthost", "python", "platform", "libraries"]
    assert "configuration: no agents.toml here; the defaults" in lines(ended, "note")
    assert f"store: {here}/agenthost.db is not there yet; the next start makes it" in lines(ended, "note")
    assert re.search(r"\nno problems, (?:no warnings|\d+ warnings?)\n$", ended.out)
    assert list(here.iterdir()) == []


def test_a_store_in_order_is_told_and_the_run_that_failed_last_without_its_content(enter: Type, here: Path):
    fail_a_run(here / "agenthost.db")
    ended = enter("doctor")
    assert ended.code == 0
    assert "integrity: no damage" in lines(ended, "ok")
    assert any(line.startswith("contents: 1 thread, 1 run, no events, ") for line in lines(ended, "ok"))
    assert "last failure: echo, agent_error, 1970-01-01T00:00:00Z, run r1" in lines(ended, "note")
    assert "nobody else" not in ended.out


def test_every_distribution_that_brings_something_is_told_and_none_is_imported(enter: Type, here: Path, site: Site):
    site.install(
        "acme-shout",
        "2.1",
        agents={"shout": "acme_shout:agent"},
        plugins={"hooks": "acme_shout"},
        modules={"acme_shout": "raise SystemExit"},
    )
    site.install("acme-torn", "1.0", entry_points=b"[agenthost.agents]\n\xff")
    (here / "agents.toml").write_text('[plugins]\nblock = ["acme_shout"]\n')
    ended = enter("doctor")
    assert ended.code == 0
    said = "installed: acme-shout 2.1, agents: shout; plugins: hooks (blocked by [plugins] block)"
    assert said in lines(ended, "ok")
    (torn,) = (line for line in lines(ended, "warning") if line.startswith("installed: "))
    assert torn.startswith("installed: distribution 'acme-torn' (acme-torn 1.0) has an unusable entry_points.txt")


def test_the_configuration_is_shown_without_its_secrets(enter: Type, here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AGENTHOST_API_KEY", KEY)
    monkeypatch.setenv("BILLING_KEY", SECRET)
    (here / "app.py").write_text(ECHO)
    (here / "agents.toml").write_text(
        f'[agents.billing]\nuse = "app.py:agent"\ndescription = "key {SECRET}, {KEY}"\n'
        'settings = { api_key = { env = "BILLING_KEY" }, model = "gpt", dsn = "db://me:hunter2@db/x" }\n'
    )
    ended = enter("doctor")
    assert ended.code == 0
    assert "configuration: agents.toml can be used: 1 agent and 1 key" in lines(ended, "ok")
    _, shown = ended.out.split("\nagents.toml, without what is secret:\n")
    assert shown.splitlines()[:5] == [
        '  agents.billing.use = "app.py:agent"',
        '  agents.billing.description = "key ***, ***"',
        '  agents.billing.settings.api_key.env = "BILLING_KEY"',
        '  agents.billing.settings.model = "gpt"',
        '  agents.billing.settings.dsn = "db://***@db/x"',
    ]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_secret_written_where_it_must_not_be_is_shown_nowhere(enter: Type, here: Path, options: list[str]):
    (here / "agents.toml").write_text(
        f'[store]\nurl = "postgresql://me:{SECRET}@db/x"\n[agents.a]\nplacement = "{SECRET}"\nqueue = "{SECRET}"\n'
        f'settings.password = "{SECRET}"\n[[auth.keys]]\nid = "web"\nsecret = "{SECRET}"\n'
    )
    ended = enter("doctor", *options)
    assert ended.code == 1
    assert SECRET not in ended.out + ended.err


def test_every_problem_of_the_configuration_is_a_line_and_the_store_is_looked_at_all_the_same(enter: Type, here: Path):
    fail_a_run(here / "mine.db")
    (here / "agents.toml").write_text('[store]\nurl = "sqlite:///mine.db"\n[server]\nport = "high"\n[agents.A]\n')
    ended = enter("doctor")
    assert ended.code == 1
    problems = lines(ended, "problem")
    assert [problem[:30] for problem in problems] == [
        "configuration: agents.toml:4: ",
        "configuration: agents.toml:5: ",
    ]
    assert "integrity: no damage" in lines(ended, "ok")
    assert "\n2 problems, " in ended.out


@pytest.mark.parametrize("text", ["[store\n", '[store]\nurl = { env = "X" }\n', "store = 1\n", "\ufeff"])
def test_where_the_configuration_does_not_say_where_the_store_is_none_is_looked_at(enter: Type, here: Path, text: str):
    (here / "agents.toml").write_text(text)
    ended = enter("doctor")
    assert ended.code == 1
    assert "store: not looked at: the configuration does not say where it is" in lines(ended, "warning")
    assert "correct the configuration first" in hints(ended)


def test_a_named_file_that_is_not_there_is_a_problem(enter: Type, here: Path):
    ended = enter("doctor", "--config", "other.toml")
    assert ended.code == 1
    assert f"configuration: other.toml: no such file (looked in {here})" in lines(ended, "problem")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty; the next start fills it in"),
        (b"no database", "it is not a SQLite database, or its first page is damaged"),
        (b"SQLite format 3\0" + b"\xff" * 8192, "it is not a SQLite database, or its first page is damaged"),
    ],
)
def test_a_store_that_is_something_else_is_a_line_and_never_a_traceback(
    enter: Type, here: Path, content: bytes, said: str
):
    (here / "agenthost.db").write_bytes(content)
    ended = enter("doctor")
    assert (ended.code, ended.err) == (1 if content else 0, "")
    assert said in ended.out
    assert (here / "agenthost.db").read_bytes() == content


def test_a_damaged_store_is_a_problem_that_says_what_to_do(enter: Type, here: Path):
    fail_a_run(here / "agenthost.db")
    database = sqlite3.connect(here / "agenthost.db")
    (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs_run_id'").fetchone()
    (page,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with (here / "agenthost.db").open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\xff" * page)
    ended = enter("doctor")
    assert ended.code == 1
    (problem,) = lines(ended, "problem")
    assert problem.startswith("integrity: the file is damaged (integrity_check): ")
    assert "stop the host, keep a copy of the file, and restore a backup" in hints(ended)


def test_for_programs_it_is_one_json_object(enter: Type, here: Path):
    fail_a_run(here / "agenthost.db")
    (here / "agents.toml").write_text("[server]\nport = 1\n")
    ended = enter("doctor", "--json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert told["configuration"] == {"server": {"port": 1}}
    checks = {one["name"]: one for one in told["checks"]}
    assert set(checks["schema"]) == {"name", "level", "said", "hint", "facts"}
    assert checks["contents"]["facts"]["runs"] == 1
    assert checks["last failure"]["facts"] == {"run_id": "r1", "agent": "echo", "code": "agent_error", "ended": 0.0}
    assert checks["disk"]["facts"]["total"] > 0


def test_beside_a_running_host_it_names_its_process_and_the_host_goes_on(tmp_path: Path):
    (tmp_path / "app.py").write_text(ECHO)
    (tmp_path / "agents.toml").write_text('[agents.echo]\nuse = "app.py:agent"\n')
    with Serving("dev", cwd=tmp_path) as host:
        said = run_it("call", "echo", "hello", "--thread", "t", "--url", host.url, cwd=tmp_path)
        assert (said.code, said.out) == (0, "hello \n")
        ended = run_it("doctor", cwd=tmp_path)
        assert (ended.code, ended.err) == (0, "")
        assert f"lock: process {host.process.pid} has the store open" in lines(ended, "ok")
        assert any(line.startswith("contents: 1 thread, 1 run, ") for line in lines(ended, "ok"))
        assert run_it("call", "echo", "again", "--thread", "t", "--url", host.url, cwd=tmp_path).code == 0
        assert host.stop() == 0
