"""`agenthost chat`, typed through a pipe and at a real terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from agenthost.client import Client
from tests import actors
from tests.cli.asking import asking_host
from tests.cli.conftest import Type
from tests.commands import PATIENCE, Ended, environment
from tests.serving import Hosted, secret


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with asking_host(tmp_path_factory.mktemp("host")) as served:
        yield served


@pytest.fixture
def url(host: Hosted) -> str:
    return f"http://127.0.0.1:{host.port}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, secret("me")) as connected:
        yield connected


Talk = Callable[..., Ended]


@pytest.fixture
def talk(url: str, enter: Type, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """`talk("echo", "hello", "again")` pipes these lines into `agenthost chat echo`."""
    monkeypatch.setenv("AGENTHOST_URL", url)
    monkeypatch.setenv("AGENTHOST_API_KEY", secret("me"))

    def chat(name: str, *lines: str, thread: str | None = None) -> Ended:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return enter("chat", name, *(("--thread", thread) if thread else ()))

    return chat


def test_lines_are_answered_one_by_one_on_one_thread(talk: Talk):
    ended = talk("mirror", "first", "", "second")
    assert ended.code == 0
    assert ended.out.count("mirrored\n") == 2
    assert '[["user", "first"], ["assistant", "mirrored"], ["user", "second"]]' in ended.out
    assert re.fullmatch(
        r"a new thread; to go on with it later: agenthost chat mirror --thread [0-9a-f]{32}\n", ended.err
    )


def test_a_thread_that_is_named_goes_on(talk: Talk):
    talk("mirror", "first", thread="t1")
    ended = talk("mirror", "second", thread="t1")
    assert '["user", "first"]' in ended.out
    assert ended.err == ""


def test_tool_calls_are_told_beside_the_answer(talk: Talk):
    ended = talk("tool", "x", thread="t2")
    assert ended == Ended(0, "it is there\n", '· look_up {"of": "x"}\n· look_up → found\n')


def test_a_question_is_asked_and_answered_by_number_or_word(talk: Talk):
    asked = "Really?\n  1  yes\n  2  no\n"
    for typed, answer in (("1", "yes"), ("no", "no")):
        ended = talk("asks", "Really?", typed, thread=f"q{typed}")
        assert ended == Ended(0, f'Before I go on: \nanswered: "{answer}"\n', asked)


def test_several_questions_are_asked_and_then_answered_together(talk: Talk):
    ended = talk("asks", "First?|Second?", "yes", "no", thread="several")
    assert ended.out == 'Before I go on: \nanswered: "yes", "no"\n'
    assert ended.err == "First?\n  1  yes\n  2  no\nSecond?\n  1  yes\n  2  no\n"


def test_fields_are_asked_one_by_one_and_again_if_the_host_refuses_them(talk: Talk):
    ended = talk("order", "x", "tea", "two", "0", "tea", "2", thread="fields")
    assert (ended.code, ended.out) == (0, '{"item": "tea", "count": 2}\n')
    first, wrong, refused, again = ended.err.splitlines()
    assert (first, wrong, again) == ("What shall it be?", "count: a whole number, please", "What shall it be?")
    assert "(code invalid_request, " in refused


def test_a_question_that_nobody_answers_stays_open_and_is_asked_when_the_thread_goes_on(talk: Talk):
    ended = talk("asks", "Really?", thread="later")
    assert ended.code == 0
    assert ended.err.endswith("\na question stays open\n  → answer it: agenthost chat asks --thread later\n")
    ended = talk("asks", "yes", thread="later")
    assert ended == Ended(0, 'answered: "yes"\n', "Really?\n  1  yes\n  2  no\n")
    assert talk("asks", thread="later") == Ended(0, "", "")


def test_a_run_without_a_thread_is_answered_by_its_id(talk: Talk, client: Client):
    paused = client.invoke("asks", "Really?")
    assert talk("asks", "no", thread=paused.run_id).out == 'answered: "no"\n'


def test_a_run_that_fails_or_gives_up_does_not_end_the_session(talk: Talk):
    ended = talk("fail", "later", "now", thread="f")
    assert (ended.code, ended.out) == (0, "so far so good\n")
    assert ended.err.count("(code agent_error, correlation id ") == 2
    assert talk("gives-up", "max_iterations", thread="g") == Ended(0, "as far as I got\n", "stopped: max_iterations\n")


def test_a_session_that_cannot_begin_says_why(talk: Talk, monkeypatch: pytest.MonkeyPatch):
    assert talk("nope").err.startswith("no agent by that name (code not_found, ")
    monkeypatch.setenv("AGENTHOST_API_KEY", "another-key-0123456789")
    ended = talk("say", "x")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.endswith("\n  → that host does not know this key\n")


class Terminal:
    """`agenthost chat …` on a terminal of its own."""

    def __init__(self, *arguments: str, url: str) -> None:
        self._command = [sys.executable, "-m", "agenthost", "chat", *arguments]
        self._env = environment(
            more={"AGENTHOST_URL": url, "AGENTHOST_API_KEY": secret("me"), "TERM": "dumb", "INPUTRC": "/dev/null"}
        )
        self.shown = ""

    def __enter__(self) -> Terminal:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            self._command, env=self._env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        os.close(self._ours)

    def until(self, text: str) -> None:
        """Wait until this has been shown since the last wait."""
        ends = time.monotonic() + PATIENCE
        while text not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, ends - time.monotonic()))
            assert ready, f"{text!r} is not in {self.shown!r}"
            self.shown += self._read()
        self.shown = self.shown.partition(text)[2]

    def _read(self) -> str:
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            data = b""  # how Linux says that the other side has closed
        assert data, f"it has ended: {self.shown!r}"
        return data.decode()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does to the terminal's foreground."""
        self._process.send_signal(signal.SIGINT)

    def interrupted(self, said: str = "") -> int:
        """Press Ctrl-C at a prompt until it ends, having `said` so; returns the exit code.

        A signal between the prompt and the wait for keys is one that readline misses.
        """
        ends = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < ends:
            self.interrupt()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        if said:
            self.until(said)
        return self.end()

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        return self._process.wait(PATIENCE)


def test_at_a_terminal_it_prompts_and_ctrl_d_ends_it(url: str):
    with Terminal("mirror", url=url) as terminal:
        terminal.until("--thread ")
        terminal.until("> ")
        terminal.type("hello\n")
        terminal.until("mirrored")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.end() == 0


def test_ctrl_c_cancels_the_run_and_at_the_prompt_ends_the_session(url: str):
    with Terminal("hold", url=url) as terminal:
        terminal.until("> ")
        terminal.type("at a terminal\n")
        terminal.until("holding")
        terminal.interrupt()
        terminal.until("cancelled")
        actors.wait_for(actors.CANCELLED, "at a terminal")
        terminal.until("> ")
        terminal.type("once more\n")
        terminal.until("holding")
        terminal.interrupt()
        terminal.until("cancelled")
        terminal.until("> ")
        assert terminal.interrupted() == 0
    actors.wait_for(actors.CANCELLED, "once more")


def test_at_a_terminal_questions_are_asked_at_the_prompt(url: str):
    with Terminal("order", "--thread", "at a terminal", url=url) as terminal:
        terminal.until("> ")
        terminal.type("x\n")
        terminal.until("What shall it be?")
        terminal.until("item> ")
        terminal.type("tea\n")
        terminal.until("count> ")
        terminal.type("2\n")
        terminal.until('{"item": "tea", "count": 2}')
        terminal.until("> ")
        terminal.type("x\n")
        terminal.until("item> ")
        assert terminal.interrupted("a question stays open") == 0
