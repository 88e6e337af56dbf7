"""The question before an expensive power, over HTTP: asked, answered, and asked where another agent calls."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthost import create_app

with warnings.catch_warnings():  # newer Starlette would rather have another HTTP client
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

CALLER = """
async def agent(ctx):
    try:
        answer = await ctx.call("calculator", ctx.prompt)
    except Exception as asked:
        yield type(asked).__name__ + ": " + asked.interrupt.question
    else:
        yield answer.message
"""

QUESTION = "2**1000 takes a power of about 302 digits. Compute it?"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A host that serves the calculator, and an agent that calls it."""
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "agents.toml").write_text('[agents.calculator]\n[agents.caller]\nuse = "caller.py:agent"\n')
    with TestClient(create_app(tmp_path / "agents.toml", dev=True), base_url="http://127.0.0.1") as client:
        yield client


def invoked(client: TestClient, agent: str, prompt: str, **more: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(f"/agents/{agent}/invoke", json={"prompt": prompt, **more}).json()
    return answer


def resumed(client: TestClient, thread_id: str, response: Any) -> list[dict[str, Any]]:
    """The events of the run that goes on."""
    answer = client.post("/agents/calculator/resume", json={"thread_id": thread_id, "response": response})
    assert answer.status_code == 200, answer.text
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(one) for one in data]


def test_a_question_is_no_success_and_a_yes_goes_on_behind_what_was_computed(client: TestClient) -> None:
    invoked(client, "calculator", "1/3", thread_id="t")
    paused = invoked(client, "calculator", "ans*3; 2**1000; ans%10", thread_id="t")
    events = resumed(client, "t", "yes")

    assert (paused["status"], paused["success"], paused["stop_reason"]) == ("paused", False, "interrupt")
    assert (paused["interrupt"]["question"], paused["interrupt"]["options"]) == (QUESTION, ["yes", "no"])
    assert "state" not in paused["interrupt"]
    assert [one["arguments"]["expression"] for one in events if one["type"] == "tool_start"] == ["2**1000", "ans%10"]
    assert events[-1]["type"] == "done"
    assert [step["value"] for step in events[-1]["output"]["steps"]] == [1, str(2**1000), 6]
    assert invoked(client, "calculator", "ans", thread_id="t")["message"] == "6"


def test_a_no_completes_and_says_that_nothing_was_computed(client: TestClient) -> None:
    paused = invoked(client, "calculator", "6*7; 2**1000; 1+1")
    events = resumed(client, paused["thread_id"], "no")

    assert paused["thread_id"] == paused["run_id"]
    assert events[-1]["message"] == "6*7 = 42\n2**1000: not computed: the answer was no"
    assert events[-1]["output"]["error"] == "not computed: the answer was no"
    assert invoked(client, "calculator", "ans", thread_id=paused["thread_id"])["message"] == "42"


def test_an_answer_that_is_none_of_the_options_leaves_the_question_open(client: TestClient) -> None:
    invoked(client, "calculator", "2**1000", thread_id="t")
    refused = client.post("/agents/calculator/resume", json={"thread_id": "t", "response": "perhaps"})

    assert refused.status_code == 422
    assert resumed(client, "t", "yes")[-1]["message"] == str(2**1000)


def test_two_expensive_powers_are_two_pauses_one_after_the_other(client: TestClient) -> None:
    invoked(client, "calculator", "2**1000; 3**700", thread_id="t")
    second = resumed(client, "t", "yes")

    assert second[-1]["type"] == "interrupt"
    assert second[-1]["question"] == "3**700 takes a power of about 334 digits. Compute it?"
    assert resumed(client, "t", "yes")[-1]["message"] == f"2**1000 = {2**1000}\n3**700 = {3**700}"


def test_it_asks_an_agent_that_called_it_too_and_can_be_answered(client: TestClient) -> None:
    assert invoked(client, "caller", "2**1000")["message"] == f"AgentPaused: {QUESTION}"

    (run,) = client.get("/agents/calculator/runs", params={"status": "paused"}).json()["runs"]
    assert resumed(client, run["thread_id"], "yes")[-1]["message"] == str(2**1000)
