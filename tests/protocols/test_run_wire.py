"""What stands for a body under its key: the same for the same request, another for any other."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.agents import RunRequest
from agenthost.errors import InvalidRequest
from agenthost.protocols.run_wire import ResumeBody, idempotency_key, resume_digest, run_digest
from agenthost.resuming import Reply
from agenthost.threads import Part


def test_the_order_of_keys_is_no_difference_and_everything_else_is() -> None:
    requests = [
        RunRequest("p"),
        RunRequest("q"),
        RunRequest("p", "t"),
        RunRequest("p", input={"a": 1, "b": 2}),
        RunRequest("p", input={"a": 1, "b": 3}),
        RunRequest("p", metadata={"a": 1}),
        RunRequest("p", content=[Part(text="p")]),
        RunRequest("p", content=[Part(text="p"), Part(json=None)]),
    ]
    assert len({run_digest(request) for request in requests}) == len(requests)
    assert run_digest(RunRequest("p", input={"b": 2, "a": 1})) == run_digest(requests[3])


def test_a_resume_stands_for_its_answers() -> None:
    bodies: list[dict[str, Any]] = [
        {},
        {"response": "yes"},
        {"response": "yes", "interrupt_id": "q"},
        {"decision": {"type": "approve"}},
        {"response": "yes", "perform_dangling": False},
        {"response": "yes", "metadata": {"a": 1}},
    ]
    digests = {resume_digest(ResumeBody(thread_id="t", **body).request()) for body in bodies}
    assert len(digests) == len(bodies)
    several = ResumeBody.model_validate({"thread_id": "t", "answers": [{"interrupt_id": "q", "response": "yes"}]})
    assert several.request().replies == [Reply("q", "yes")]


@pytest.mark.parametrize("raw", [b"k", b" k ", b"6f1c9b1e-4f0e-4a55-9d6c-0a3a1c1f0b57", b"x" * 200])
def test_a_key_is_visible_ascii(raw: bytes) -> None:
    assert idempotency_key(raw) == raw.decode().strip()


@pytest.mark.parametrize("raw", [b"", b"  ", b"x" * 201, b"\x00", b"a\tb", b"a b", b"two, keys", b"\x7f", "é".encode()])
def test_anything_else_is_none(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Idempotency-Key: from 1 to 200 visible ASCII characters"):
        idempotency_key(raw)
