"""What a graph asks, as questions that a person can answer, and what `interrupt()` returns for each answer."""

import json
import operator
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from agenthost_langgraph.graph_agent import GraphAgent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt

from agenthost import AgentError, Answer, Interrupt, Result, ThreadKey, ToolStart

pytestmark = pytest.mark.framework

Run = Callable[..., list[Any]]
KEY = ThreadKey("ada", "graph", "t")
APPROVE: dict[str, Any] = {"response": "approve"}
DENY: dict[str, Any] = {"response": "deny"}
EDIT: dict[str, Any] = {"decision": {"verdict": "approved", "arguments": {"to": "Eve"}}}
REFUSE: dict[str, Any] = {"decision": {"verdict": "denied", "message": "not today"}}


class State(TypedDict, total=False):
    topic: str
    got: Any


def asking(value: Any) -> Any:
    """A graph that asks once and keeps the answer."""
    return StateGraph(State).add_node("ask", lambda state: {"got": interrupt(value)}).add_edge(START, "ask")


def asked(run: Run, value: Any, **fields: Any) -> Interrupt:
    question = run(asking(value), input={"topic": "x"}, thread=KEY, **fields)[-1]
    assert isinstance(question, Interrupt)
    return question


def got(run: Run, value: Any, *answers: dict[str, Any]) -> Any:
    """What `interrupt(value)` returns for these answers to its questions."""
    agent = GraphAgent(asking(value))
    questions = run(agent, input={"topic": "x"}, thread=KEY)
    given = [Answer(question, **answer) for question, answer in zip(questions, answers, strict=True)]
    return run(agent, input={"topic": "x"}, thread=KEY, answers=given)[-1].output["got"]


# ── any question ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "question", "options", "metadata"),
    [
        ("Shall I?", "Shall I?", None, None),
        (7, "7", None, {"value": 7}),
        (
            {"question": "Which?", "options": ["a", "b"], "why": 1},
            "Which?",
            ["a", "b"],
            {"value": {"question": "Which?", "options": ["a", "b"], "why": 1}},
        ),
        ({"query": "Who?"}, "Who?", None, {"value": {"query": "Who?"}}),
        ({"draft": "x" * 500}, '{"draft": "' + "x" * 388 + "…", None, {"value": {"draft": "x" * 500}}),
        (["a"], '["a"]', None, {"value": ["a"]}),
    ],
)
def test_a_question_is_told_as_a_person_can_read_it(
    run: Run, value: Any, question: str, options: Any, metadata: Any
) -> None:
    told = asked(run, value)
    assert (told.question, told.options, told.metadata) == (question, options, metadata)
    assert told.interrupt_id


@pytest.mark.parametrize(
    ("answer", "returned"),
    [
        ({"response": "yes"}, "yes"),
        ({"response": {"a": 1}}, {"a": 1}),
        ({"decision": {"go": True}}, {"go": True}),
        ({"response": "yes", "decision": {"go": True}}, "yes"),
        ({"response": False}, False),
    ],
)
def test_the_response_is_returned_or_else_the_decision(run: Run, answer: dict[str, Any], returned: Any) -> None:
    assert got(run, "Shall I?", answer) == returned


# ── approvals ───────────────────────────────────────────────────────────────────────────────────────────────────────

MAIL = {"name": "send_mail", "args": {"to": "Bob"}}
INBOX = {"action_request": {"action": "send_mail", "args": {"to": "Bob"}}, "description": "Really?", "config": {}}
OWN = {"tool": "send_mail", "arguments": {"to": "Bob"}, "tool_call_id": "call-9"}


@pytest.mark.parametrize(
    ("value", "question"),
    [
        (OWN, 'Run send_mail(to="Bob")?'),
        ({"action_requests": [MAIL]}, 'Run send_mail(to="Bob")?'),
        ({"action_requests": [{**MAIL, "description": "Really?"}]}, "Really?"),
        (INBOX, "Really?"),
        ([INBOX], "Really?"),
    ],
)
def test_a_tool_that_needs_approval_is_asked_about_in_the_one_way(run: Run, value: Any, question: str) -> None:
    told = asked(run, value)
    assert (told.question, told.options) == (question, ["approve", "deny"])
    assert told.metadata == {
        "kind": "tool_approval",
        "tool": "send_mail",
        "tool_call_id": told.interrupt_id,
        "arguments": {"to": "Bob"},
    }


@pytest.mark.parametrize(
    ("value", "answer", "returned"),
    [
        (OWN, APPROVE, {"approved": True, "arguments": None, "message": None}),
        (OWN, EDIT, {"approved": True, "arguments": {"to": "Eve"}, "message": None}),
        (OWN, REFUSE, {"approved": False, "arguments": None, "message": "not today"}),
        ({"action_requests": [MAIL]}, APPROVE, {"decisions": [{"type": "approve"}]}),
        ({"action_requests": [MAIL]}, DENY, {"decisions": [{"type": "reject"}]}),
        ({"action_requests": [MAIL]}, REFUSE, {"decisions": [{"type": "reject", "message": "not today"}]}),
        (
            {"action_requests": [MAIL]},
            EDIT,
            {"decisions": [{"type": "edit", "edited_action": {"name": "send_mail", "args": {"to": "Eve"}}}]},
        ),
        (INBOX, APPROVE, {"type": "accept", "args": None}),
        ([INBOX], APPROVE, [{"type": "accept", "args": None}]),
        ([INBOX], DENY, [{"type": "ignore", "args": None}]),
        ([INBOX], REFUSE, [{"type": "response", "args": "not today"}]),
        ([INBOX], EDIT, [{"type": "edit", "args": {"action": "send_mail", "args": {"to": "Eve"}}}]),
    ],
)
def test_the_verdict_is_returned_as_the_graph_spells_it(run: Run, value: Any, answer: Any, returned: Any) -> None:
    assert got(run, value, answer) == returned


def test_several_calls_in_one_interrupt_are_a_question_each(run: Run) -> None:
    value = {"action_requests": [MAIL, {"name": "drop", "args": {}}]}
    assert got(run, value, APPROVE, DENY) == {"decisions": [{"type": "approve"}, {"type": "reject"}]}


# ── several at once ─────────────────────────────────────────────────────────────────────────────────────────────────


class Votes(TypedDict, total=False):
    names: list[str]
    name: str
    votes: Annotated[dict[str, str], operator.or_]


def voting(begun: list[str]) -> Any:
    """A graph that asks several people at once; `begun` notes each time that one of them is turned to."""

    def vote(state: Votes) -> dict[str, Any]:
        begun.append(state["name"])
        return {"votes": {state["name"]: interrupt(f"{state['name']}?")}}

    builder = StateGraph(Votes).add_node("vote", vote)
    builder.add_conditional_edges(START, lambda state: [Send("vote", {"name": one}) for one in state["names"]])
    return builder


def test_questions_at_once_are_answered_together(run: Run) -> None:
    agent, voters = GraphAgent(voting([])), {"names": ["Ann", "Bob"]}
    questions = run(agent, input=voters, thread=KEY)
    assert sorted(question.question for question in questions) == ["Ann?", "Bob?"]
    assert len({question.interrupt_id for question in questions}) == 2

    answers = [Answer(question, f"for {question.question[0]}") for question in questions]
    assert run(agent, input=voters, thread=KEY, answers=answers)[-1].output["votes"] == {"Ann": "for A", "Bob": "for B"}


def test_questions_at_once_are_answered_one_by_one_and_the_graph_goes_on_with_the_last(run: Run) -> None:
    begun: list[str] = []
    agent, voters, state = GraphAgent(voting(begun)), {"names": ["Ann", "Bob", "Cid"]}, dict[str, Any]()
    questions = run(agent, input=voters, thread=KEY, state=state)
    assert len(begun) == 3

    def answered(question: Any) -> list[Any]:
        answers = [Answer(question, f"for {question.question[0]}")]
        return run(agent, input=voters, thread=KEY, answers=answers, state=state, run_id="later")

    assert answered(questions[1]) == [Result("Waiting for 2 more answers.", reason="waiting")]
    assert answered(questions[0]) == [Result("Waiting for 1 more answer.", reason="waiting")]
    assert len(begun) == 3
    votes = answered(questions[2])[-1].output["votes"]
    assert votes == {"Ann": "for A", "Bob": "for B", "Cid": "for C"}
    assert len(begun) == 6
    assert state == {"langgraph_said": {"later": None}}


@pytest.mark.parametrize("saver", [None, InMemorySaver()])
def test_who_has_answered_is_not_asked_again_when_another_is(run: Run, saver: Any) -> None:
    def vote(state: Votes) -> dict[str, Any]:
        name = state["name"]
        said = [interrupt(f"{name} {turn}?") for turn in range(2 if name == "Bob" else 1)]
        return {"votes": {name: "".join(said)}}

    builder = StateGraph(Votes).add_node("vote", vote)
    builder.add_conditional_edges(START, lambda state: [Send("vote", {"name": one}) for one in state["names"]])
    agent, voters = GraphAgent(builder.compile(checkpointer=saver)), {"names": ["Ann", "Bob"]}
    first = run(agent, input=voters, thread=KEY)
    said = run(agent, input=voters, thread=KEY, answers=[Answer(one, "y") for one in first])
    (second,) = (event for event in said if isinstance(event, Interrupt))
    assert second.question == "Bob 1?"
    votes = run(agent, input=voters, thread=KEY, answers=[Answer(second, "n")])[-1].output["votes"]
    assert votes == {"Ann": "y", "Bob": "yn"}


def test_answers_to_a_question_that_a_newer_run_took_the_place_of_do_not_count(run: Run) -> None:
    agent, voters, state = GraphAgent(voting([])), {"names": ["Ann", "Bob"]}, dict[str, Any]()
    before = run(agent, input=voters, thread=KEY, state=state)
    run(agent, input=voters, thread=KEY, state=state, answers=[Answer(before[0], "x")], run_id="r2")
    after = run(agent, input=voters, thread=KEY, state=state, run_id="r3")
    waits = run(agent, input=voters, thread=KEY, state=state, answers=[Answer(after[1], "y")], run_id="r4")
    assert waits == [Result("Waiting for 1 more answer.", reason="waiting")]


# ── where a graph may ask ───────────────────────────────────────────────────────────────────────────────────────────


def went_through(run: Run, graph: Any, *responses: Any, **fields: Any) -> list[Any]:
    """Answer question after question; everything that was said."""
    agent = GraphAgent(graph)
    said = run(agent, thread=KEY, **fields)
    for response in responses:
        assert isinstance(said[-1], Interrupt)
        said = [*said, *run(agent, thread=KEY, answers=[Answer(said[-1], response)], **fields)]
    return said


def test_one_question_after_another_in_one_node(run: Run) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"got": [interrupt("first?"), interrupt("second?")]}

    said = went_through(run, StateGraph(State).add_node("ask", ask).add_edge(START, "ask"), 1, 2, input={"topic": "x"})
    assert said[-1].output["got"] == [1, 2]


def test_a_question_in_a_nested_graph(run: Run) -> None:
    graph = StateGraph(State).add_node("inner", asking("Shall I?").compile()).add_edge(START, "inner")
    said = went_through(run, graph, "yes", input={"topic": "x"})
    assert said[0].question == "Shall I?"
    assert said[-1].output == {"topic": "x", "got": "yes"}


def test_a_question_in_an_entrypoint_does_not_do_its_tasks_again(run: Run) -> None:
    done: list[str] = []

    @task
    async def write(topic: str) -> str:
        done.append(topic)
        return f"about {topic}"

    @entrypoint()
    async def workflow(topic: str) -> dict[str, Any]:
        return {"text": await write(topic), "review": interrupt("Good?")}

    said = went_through(run, workflow, "yes", prompt="cats")
    assert said[-1].output == {"text": "about cats", "review": "yes"}
    assert done == ["cats"]


def test_nodes_named_in_the_settings_are_asked_about_before_they_begin(run: Run) -> None:
    graph = StateGraph(State).add_node("mail", lambda state: {"got": "sent"}).add_edge(START, "mail")
    said = went_through(run, graph, "continue", input={"topic": "x"}, settings={"interrupt_before": ["mail"]})
    assert (said[0].question, said[0].options) == ("Continue with mail?", ["continue"])
    assert said[0].metadata == {"kind": "breakpoint", "next": ["mail"]}
    assert said[-1].output["got"] == "sent"


def test_the_approval_of_a_call_has_the_id_of_the_call(reference: Any, run: Run) -> None:
    *_, started, question = run(reference.agent, "mail Bob about lunch", thread=KEY)
    assert started == ToolStart("send_mail", question.interrupt_id, {"to": "Bob", "text": "lunch"})


# ── what a pause keeps ──────────────────────────────────────────────────────────────────────────────────────────────


class Secret:
    """What no serialiser takes."""

    def __reduce__(self) -> Any:
        raise TypeError("not for keeping")


def holding(value: Any, *, ask: bool) -> Any:
    def take(state: State) -> dict[str, Any]:
        return {"got": value}

    def finish(state: State) -> dict[str, Any]:
        return {"got": interrupt("Shall I?") if ask else "finished"}

    builder = StateGraph(State).add_node("take", take).add_node("finish", finish)
    return builder.add_edge(START, "take").add_edge("take", "finish")


def test_a_state_that_cannot_be_kept_does_no_harm_where_nothing_pauses(run: Run) -> None:
    assert run(holding(Secret(), ask=False), input={"topic": "x"})[-1].output["got"] == "finished"


def test_a_state_that_cannot_be_kept_cannot_be_paused(run: Run) -> None:
    with pytest.raises(AgentError, match="the graph cannot be paused: its state holds what cannot be kept") as refused:
        run(holding(Secret(), ask=True), input={"topic": "x"}, thread=KEY)
    assert refused.value.hint is not None


def test_a_state_that_is_too_large_to_be_kept_says_so(run: Run) -> None:
    with pytest.raises(AgentError, match=r"what it holds takes \d+ KiB, more than 960") as refused:
        run(holding(os.urandom(1 << 20).hex(), ask=True), input={"topic": "x"}, thread=KEY)
    assert refused.value.hint == "compile it with a checkpointer of its own"


def test_nothing_of_a_run_is_held_when_it_has_ended_or_paused(run: Run) -> None:
    agent = GraphAgent(asking("Shall I?"))
    question = run(agent, input={"topic": "x"}, thread=KEY)[-1]
    assert agent._runs._saver._runs == {}
    run(agent, input={"topic": "x"}, thread=KEY, answers=[Answer(question, "yes")])
    assert agent._runs._saver._runs == {}


def test_what_pauses_goes_on_in_another_process_s_copy_of_the_graph(run: Run) -> None:
    question = run(asking("Shall I?"), input={"topic": "x"}, thread=KEY)[-1]
    kept = replace(question, state=json.loads(json.dumps(question.state)))
    said = run(asking("Shall I?"), input={"topic": "x"}, thread=KEY, answers=[Answer(kept, "yes")])
    assert said[-1].output == {"topic": "x", "got": "yes"}


def test_a_checkpointer_that_lost_the_pause_is_an_error_that_says_so(run: Run) -> None:
    question = run(asking("Shall I?").compile(checkpointer=InMemorySaver()), input={"topic": "x"}, thread=KEY)[-1]
    with pytest.raises(AgentError, match="does not ask this any more") as lost:
        run(
            asking("Shall I?").compile(checkpointer=InMemorySaver()),
            input={"topic": "x"},
            thread=KEY,
            answers=[Answer(question, "yes")],
        )
    assert lost.value.hint == "give it a checkpointer that outlives the process and is made once, or none"


TYPED = """
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel


class Order(BaseModel):
    n: int


@dataclass
class Line:
    order: Order


class Size(Enum):
    SMALL = "s"


class State(TypedDict, total=False):
    held: Any
    got: str


def take(state):
    return {"held": [Line(Order(n=5)), {"size": Size.SMALL}]}


def ask(state):
    line, of = state["held"]
    return {"got": f"{interrupt('Shall I?')}: {line.order.n} {of['size'].name}", "held": None}


graph = StateGraph(State).add_sequence([take, ask]).add_edge(START, "take")
"""


def test_types_of_a_pause_that_are_not_found_any_more_are_named_and_the_question_stays(
    serve: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def serve_anew(code: str) -> Any:
        """As another process does, in which nothing of the file has been imported."""
        for name in [
            name for name, one in sys.modules.items() if getattr(one, "__file__", "") == str(tmp_path / "app.py")
        ]:
            del sys.modules[name]
        return serve(code, "graph")

    host = serve_anew(TYPED)
    assert host.invoke("graph", input={}, thread_id="t")["status"] == "paused"
    host = serve_anew(TYPED.replace("Order", "Purchase").replace("Size", "Measure"))
    assert host.resume("graph", "t", response="yes")[-1]["code"] == "agent_error"
    lost = re.search(r"types of what it held when it paused are not found: (.+)", caplog.text)
    assert lost is not None
    assert [name.rpartition(".")[2] for name in lost[1].split(", ")] == ["Order", "Size"]
    host = serve_anew(TYPED)
    assert host.resume("graph", "t", response="yes")[-1]["output"]["got"] == "yes: 5 SMALL"
