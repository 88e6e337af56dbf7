"""`agenthost runs`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from agenthost.client import CallFailed, Client
from tests.cli.asking import asking_host
from tests.cli.conftest import Type
from tests.commands import Ended
from tests.serving import Hosted, secret


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with asking_host(tmp_path_factory.mktemp("host")) as served:
        yield served


@pytest.fixture
def client(host: Hosted) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{host.port}", secret("me")) as connected:
        yield connected


@pytest.fixture
def runs(host: Hosted, enter: Type, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type `agenthost runs …`."""
    monkeypatch.setenv("AGENTHOST_URL", f"http://127.0.0.1:{host.port}")
    monkeypatch.setenv("AGENTHOST_API_KEY", secret("me"))
    return lambda *arguments: enter("runs", *arguments)


def test_runs_are_listed_newest_first_with_why_they_ended(runs: Type, client: Client):
    with pytest.raises(CallFailed) as failed:
        client.invoke("fail", "x", thread_id="a")
    with pytest.raises(CallFailed) as second:
        client.invoke("fail", "x")
    ended = runs("fail")
    assert (ended.code, ended.err) == (0, "")
    heading, first, last = (re.split(r"  +", line.strip()) for line in ended.out.splitlines()[:3])
    assert heading == ["run", "status", "created", "thread", "why"]
    assert first[:2] == [second.value.run_id, "failed"]
    assert first[-1] == "agent_error"
    assert last[:2] == [failed.value.run_id, "failed"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", last[2])
    assert last[3:] == ["a", "agent_error"]


def test_runs_are_chosen_by_thread_and_status_and_number(runs: Type, client: Client):
    ids = [client.invoke("say", "x", thread_id=thread).run_id for thread in ("a", "b", "a")]

    def listed(*options: str) -> list[str]:
        return [json.loads(line)["run_id"] for line in runs("say", "--json", *options).out.splitlines()]

    assert listed() == ids[::-1]
    assert listed("--thread", "a") == [ids[2], ids[0]]
    assert listed("--limit", "2") == [ids[2], ids[1]]
    assert listed("--status", "completed", "--thread", "b") == [ids[1]]
    assert runs("say", "--status", "paused") == Ended(0, "", "no runs\n")


def test_one_run_is_shown_whole_with_what_it_asks_and_how_to_answer(runs: Type, client: Client):
    paused = client.invoke("asks", "Really?", thread_id="t")
    ended = runs("asks", paused.run_id)
    assert ended.code == 0
    lines = ended.out.splitlines()
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in lines[: lines.index("")])
    assert (shown["run_id"], shown["status"], shown["thread_id"]) == (paused.run_id, "paused", "t")
    assert shown["message"] == "Before I go on: "
    assert lines[-1] == f"asks (open, {paused.interrupts[0].interrupt_id}): Really? (yes, no)"
    assert ended.err == "  → answer it: agenthost chat asks --thread t\n"


def test_one_run_as_json_is_what_the_host_sends(runs: Type, client: Client):
    with pytest.raises(CallFailed) as failed:
        client.invoke("fail", "x")
    ended = runs("fail", failed.value.run_id or "", "--json")
    run = json.loads(ended.out)
    assert (run["run_id"], run["status"]) == (failed.value.run_id, "failed")
    assert run["error"]["code"] == "agent_error"
    assert None not in run.values()
    shown = runs("fail", failed.value.run_id or "").out
    assert re.search(r"^error +agent_error: ", shown, re.MULTILINE)


def test_a_run_that_is_not_there_is_a_failure(runs: Type):
    ended = runs("say", "nope")
    assert (ended.code, ended.out) == (1, "")
    assert "(code " in ended.err


def test_a_status_that_is_none_is_misuse(runs: Type):
    ended = runs("say", "--status", "done")
    assert ended.code == 2
    assert "'done' is not one of 'queued', 'running', 'completed', 'paused', 'failed', 'cancelled'" in ended.err
