"""The words in which a failure is laid at somebody's door."""

from __future__ import annotations

import socket
import sys
import threading
from importlib import import_module
from types import SimpleNamespace

import pytest

from agenthost.blame import (
    MAX_FRAMES,
    MAX_LOOKED_AT,
    Blame,
    count,
    cut_traceback,
    did_you_mean,
    labels,
    plugin_frames,
    remedy,
    running_frames,
    summary,
)
from agenthost.client import Client
from agenthost.contained_tasks import work_on_thread


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_reason_in_words_is_joined_to_subject_and_remedies() -> None:
    blame = Blame("agent 'x' (acme 1.0)", "acme", "1.0", "set enabled = false")
    error = blame.error("it is late", "wait", failed="cannot be served")
    assert error.describe() == "agent 'x' (acme 1.0) cannot be served: it is late\n  → wait, or set enabled = false"
    assert (error.distribution, error.version, error.traceback) == ("acme", "1.0", None)


def test_without_a_remedy_there_is_no_hint() -> None:
    assert Blame("agent 'x'").error("it is late").hint is None


def test_an_exception_gives_reason_remedy_and_traceback() -> None:
    error = Blame("agent 'x'").error(raised(ModuleNotFoundError("No module named 'torch'", name="torch")))
    assert error.describe() == (
        "agent 'x' failed to load: ModuleNotFoundError: No module named 'torch'\n  → pip install torch"
    )
    assert "test_blame.py" in str(error.traceback)


def test_a_remedy_already_known_is_kept() -> None:
    assert Blame("agent 'x'").error(raised(SystemExit()), "ask its author").hint == "ask its author"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one line"), "ValueError: one line"),
        (ValueError(" \n first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
        (ValueError("x" * 400), "ValueError: " + "x" * 300),
    ],
)
def test_an_exception_in_one_line(error: BaseException, text: str) -> None:
    assert summary(error) == text


def test_exceptions_without_a_known_remedy_have_none() -> None:
    assert remedy(ValueError()) == ""


def test_frames_of_the_machinery_are_not_the_plugins() -> None:
    with pytest.raises(ModuleNotFoundError) as raised_by_us:
        import_module("agenthost.no_such_module")
    frames = plugin_frames(raised_by_us.value)
    assert [frame.name for frame in frames] == ["test_frames_of_the_machinery_are_not_the_plugins"]


def test_grouped_and_chained_exceptions_are_cut_too() -> None:
    inner = raised(ValueError("inner"))
    text = cut_traceback(raised(ExceptionGroup("several", [inner])))
    assert "ValueError: inner" in text


def test_of_recursion_without_end_the_last_frames_are_kept() -> None:
    def recurse(depth: int) -> None:
        if depth == 0:
            raise ValueError("deep")
        recurse(depth - 1)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * MAX_LOOKED_AT)
    try:
        recurse(5 * MAX_LOOKED_AT)
    except ValueError as raised:
        trace = cut_traceback(raised)
    finally:
        sys.setrecursionlimit(limit)
    assert trace.endswith("ValueError: deep\n")
    assert len(trace.splitlines()) < 4 * MAX_FRAMES


def test_the_nearest_word_is_asked_for_and_only_a_near_one() -> None:
    assert did_you_mean("agnet", ["agent", "other"]) == "did you mean 'agent'?"
    assert did_you_mean("zzz", ["agent"]) == ""


def test_claims_are_counted_and_listed() -> None:
    claims = [SimpleNamespace(label=f"acme {number}") for number in range(5)]
    assert labels(claims[:2]) == "acme 0, acme 1"
    assert [count(claims[:number]) for number in (2, 3, 4, 5)] == ["two", "three", "four", "5"]


def test_the_frames_of_a_thread_begin_where_a_plugins_code_does() -> None:
    frames = []
    work_on_thread(lambda: frames.extend(running_frames(sys._getframe())))
    assert [frame.name for frame in frames] == ["<lambda>"]
    assert frames[0].filename == __file__


def test_one_that_waits_for_our_own_client_is_still_to_be_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def waits() -> None:
            with Client(f"http://127.0.0.1:{silent.getsockname()[1]}", reconnect=0) as client:
                try:
                    client.agents()
                except Exception as failed:
                    failures.append(failed)

        failures: list[Exception] = []
        thread = threading.Thread(target=work_on_thread, args=(waits,))
        thread.start()
        connection, _address = silent.accept()
        assert connection.recv(65536)
        ident = thread.ident
        assert ident is not None
        frames = running_frames(sys._current_frames()[ident])
        connection.close()
    thread.join()
    assert frames[0].name == "waits"
    assert failures
