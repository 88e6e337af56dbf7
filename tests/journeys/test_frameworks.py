"""One conversation with an agent of each framework: the same events, threads, pauses and ends for all.

The agents are the plugins' `reference_agent.py`, on the frameworks' offline test models; those that are installed here
are served together by one host. Where all are, they are served once more, each in an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthost import Client
from agenthost.client import CallFailed
from agenthost.environments.uv import find_uv
from agenthost.testing import HostProcess, serving
from tests.house.tree import PLUGINS

pytestmark = pytest.mark.framework

MODULES = {"langgraph": "langgraph", "locus": "locus", "openai-agents": "agents", "pydantic-ai": "pydantic_ai"}
HERE = [
    name for name, module in MODULES.items() if find_spec(module) and find_spec(f"agenthost_{name.replace('-', '_')}")
]

PATIENCE = 20.0

PLACES = ["in the host", "in environments of their own"] if len(HERE) == len(MODULES) and find_uv() else ["in the host"]

each_framework = pytest.mark.parametrize("agent", HERE)


def agents_toml(folder: Path, place: str = "in the host") -> Path:
    """The agents of all frameworks that are here, one file."""
    path = folder / "agents.toml"
    tables = []
    for name in HERE:
        plugin = PLUGINS / f"agenthost-{name}"
        tables.append(f'[agents.{name}]\nuse = "{plugin / "tests" / "reference_agent.py"}:agent"\n')
        if place == "in environments of their own":
            tables.append(f'environment = {{ requirements = ["-e {plugin}"] }}\n')
            tables.append(f'env = {{ REFERENCE_LOG = "{folder / "did.log"}" }}\n')
    path.write_text("".join(tables))
    return path


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    """Where the agents run."""
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, place: str) -> Path:
    return tmp_path_factory.mktemp("frameworks")


@pytest.fixture(scope="module")
def did(folder: Path) -> Path:
    """The file in which the reference agents write what their tools did."""
    return folder / "did.log"


@pytest.fixture(scope="module")
def host(folder: Path, did: Path, place: str) -> Iterator[HostProcess]:
    toml = agents_toml(folder, place)
    if place != "in the host":
        subprocess.run([sys.executable, "-m", "agenthost", "env", "build"], cwd=folder, check=True, timeout=300)
    with serving(toml, env={"REFERENCE_LOG": str(did)}) as served:
        yield served


@pytest.fixture
def client(host: HostProcess) -> Iterator[Client]:
    with Client(host.url) as made:
        yield made


@pytest.fixture
def thread(request: pytest.FixtureRequest) -> str:
    """A thread of this test's own."""
    return f"{request.node.name}"


def kinds(events: list[Any]) -> list[str]:
    """The types of events, with those that are said many times once."""
    found: list[str] = []
    for event in events:
        if not found or found[-1] != event["type"]:
            found.append(event["type"])
    return found


def of(kind: str, events: list[Any]) -> list[dict[str, Any]]:
    return [dict(event) for event in events if event["type"] == kind]


def said(events: list[Any]) -> str:
    return "".join(event["content"] for event in of("model_chunk", events))


def ask_to_mail(client: Client, agent: str, thread: str, to: str) -> list[Any]:
    events = list(client.stream(agent, f"mail {to} about lunch", thread_id=thread))
    assert kinds(events)[-1] == "interrupt"
    return events


def until(holds: Callable[[], Any]) -> None:
    """Wait until it holds, looking again and again."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def somebody(agent: str, name: str) -> str:
    """Whom only this agent mails."""
    return f"{agent.replace('-', '')}{name}"


def mails(did: Path, to: str) -> int:
    return did.read_text().split("\n").count(f"mail {to}") if did.exists() else 0


@each_framework
def test_a_text_comes_in_pieces_and_three_turns_are_remembered(client: Client, agent: str, thread: str) -> None:
    first = list(client.stream(agent, "my name is Ann", thread_id=thread))
    second = list(client.stream(agent, "add 2 and 3", thread_id=thread))
    third = client.invoke(agent, "who am I", thread_id=thread)

    assert len(of("model_chunk", first)) >= 3
    assert (said(first), first[-1]["type"], first[-1]["message"]) == ("Hello Ann.", "done", "Hello Ann.")
    (started,), (complete,) = of("tool_start", second), of("tool_complete", second)
    assert (started["tool"], started["arguments"]) == ("add", {"a": 2, "b": 3})
    assert (complete["tool"], complete["tool_call_id"]) == ("add", started["tool_call_id"])
    assert str(complete["result"]) == "5"
    assert second[-1]["message"] == "2 + 3 = 5."
    assert (third.message, third.success) == ("You are Ann.", True)
    assert client.invoke(agent, "who am I", thread_id=f"{thread} of another").message == "I do not know."


@each_framework
def test_usage_is_counted(client: Client, agent: str) -> None:
    usage = client.invoke(agent, "add 2 and 3").usage

    assert usage is not None
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0


@each_framework
def test_a_thread_is_read_and_deleted(client: Client, agent: str, thread: str) -> None:
    client.invoke(agent, "my name is Ann", thread_id=thread)
    client.invoke(agent, "add 2 and 3", thread_id=thread)
    messages = [
        message for message in client.thread(agent, thread).messages if message["role"] in {"user", "assistant"}
    ]

    assert [message["content"] for message in messages if message["role"] == "user"] == [
        "my name is Ann",
        "add 2 and 3",
    ]
    assert messages[-1]["content"] == "2 + 3 = 5."
    assert client.delete_thread(agent, thread)
    assert client.invoke(agent, "who am I", thread_id=thread).message == "I do not know."


@each_framework
def test_a_tool_that_needs_approval_waits_for_it_and_runs_once(
    client: Client, agent: str, thread: str, did: Path
) -> None:
    client.invoke(agent, "my name is Ann", thread_id=thread)
    to = somebody(agent, "yes")
    asked = ask_to_mail(client, agent, thread, to)[-1]
    assert asked["options"] == ["approve", "deny"]
    assert asked["metadata"]["tool"] == "send_mail"
    assert asked["metadata"]["arguments"] == {"to": to, "text": "lunch"}
    assert "state" not in asked
    assert mails(did, to) == 0

    events = list(client.resume(agent, thread, response="approve"))
    assert events[-1]["message"] == f"Mail to {to} sent."
    assert [event["tool"] for event in of("tool_complete", events)] == ["send_mail"]
    assert mails(did, to) == 1
    with pytest.raises(CallFailed) as refused:
        list(client.resume(agent, thread, response="approve"))
    assert refused.value.status == 409
    assert client.invoke(agent, "who am I", thread_id=thread).message == "You are Ann."
    assert mails(did, to) == 1


@each_framework
@pytest.mark.parametrize("answer", [{"response": "deny"}, {"decision": {"verdict": "denied", "message": "not today"}}])
def test_a_tool_that_is_denied_does_not_run(
    client: Client, agent: str, thread: str, did: Path, answer: dict[str, Any]
) -> None:
    to = somebody(agent, "no")
    ask_to_mail(client, agent, thread, to)
    events = list(client.resume(agent, thread, **answer))
    assert events[-1]["message"] == f"Mail to {to} not sent."
    assert mails(did, to) == 0


@each_framework
def test_a_thread_that_waits_goes_on_with_another_question(client: Client, agent: str, thread: str, did: Path) -> None:
    """Whoever does not answer can still talk; what was asked is then no longer open."""
    client.invoke(agent, "my name is Ann", thread_id=thread)
    ask_to_mail(client, agent, thread, somebody(agent, "left"))
    assert client.invoke(agent, "who am I", thread_id=thread).message == "You are Ann."
    with pytest.raises(CallFailed) as refused:
        list(client.resume(agent, thread, response="approve"))
    assert refused.value.status == 409
    assert mails(did, somebody(agent, "left")) == 0


@each_framework
def test_a_cancelled_run_stops_the_model(client: Client, agent: str, did: Path) -> None:
    before = did.read_text().split("\n").count("cancelled") if did.exists() else 0
    events = client.stream(agent, "slow")
    run_id = next(event for event in events if event["type"] == "model_chunk").run_id
    client.cancel(agent, run_id)
    with pytest.raises(CallFailed) as ended:
        list(events)
    assert ended.value.code == "cancelled"
    until(lambda: did.exists() and did.read_text().split("\n").count("cancelled") == before + 1)


@each_framework
def test_a_reader_that_leaves_stops_the_model(client: Client, host: HostProcess, agent: str, did: Path) -> None:
    before = did.read_text().split("\n").count("cancelled") if did.exists() else 0
    url = f"{host.url}/agents/{agent}/stream"
    with httpx.stream("POST", url, json={"prompt": "slow"}, trust_env=False) as stream:
        assert any("tick" in line for line in stream.iter_lines())
    until(lambda: did.exists() and did.read_text().split("\n").count("cancelled") == before + 1)


@each_framework
def test_a_model_that_fails_fails_the_run_and_tells_callers_nothing_of_it(
    client: Client, host: HostProcess, agent: str, thread: str
) -> None:
    client.invoke(agent, "my name is Ann", thread_id=thread)
    with pytest.raises(CallFailed) as failed:
        client.invoke(agent, "fail", thread_id=thread)
    assert (failed.value.status, failed.value.code) == (500, "agent_error")
    assert "10.0.0.1" not in str(failed.value)
    assert failed.value.correlation_id
    assert failed.value.correlation_id in host.log()
    assert "out of order at 10.0.0.1" in host.log()
    assert client.invoke(agent, "who am I", thread_id=thread).message == "You are Ann.", "the thread goes on"


@each_framework
def test_a_question_outlives_a_kill_of_the_host(tmp_path: Path, agent: str) -> None:
    did, toml = tmp_path / "did.log", agents_toml(tmp_path)
    with serving(toml, env={"REFERENCE_LOG": str(did)}) as host, Client(host.url) as client:
        client.invoke(agent, "my name is Ann", thread_id="t")
        ask_to_mail(client, agent, "t", "Bob")
        host.kill()
    with serving(toml, env={"REFERENCE_LOG": str(did)}) as host, Client(host.url) as client:
        (waits,) = client.runs(agent, status="paused")
        assert waits.thread_id == "t"
        assert list(client.resume(agent, "t", response="approve"))[-1]["message"] == "Mail to Bob sent."
        assert client.invoke(agent, "who am I", thread_id="t").message == "You are Ann."
    assert mails(did, "Bob") == 1


def test_all_of_them_answer_at_once_from_one_host(client: Client) -> None:
    together = threading.Barrier(4 * len(HERE))

    def conversation(agent: str, number: int) -> str:
        together.wait(20)
        thread = f"at once {number}"
        client.invoke(agent, f"my name is {somebody(agent, str(number))}", thread_id=thread)
        client.invoke(agent, "add 2 and 3", thread_id=thread)
        return client.invoke(agent, "who am I", thread_id=thread).message

    asked = [(agent, number) for agent in HERE for number in range(4)]
    with ThreadPoolExecutor(len(asked)) as pool:
        told = list(pool.map(lambda one: conversation(*one), asked))
    assert told == [f"You are {somebody(agent, str(number))}." for agent, number in asked]
