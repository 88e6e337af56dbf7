"""`agenthost call`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
def ask(host: Hosted, enter: Type, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type `agenthost call …` where URL and key are in the environment."""
    monkeypatch.setenv("AGENTHOST_URL", f"http://127.0.0.1:{host.port}")
    monkeypatch.setenv("AGENTHOST_API_KEY", secret("me"))

    def call(*arguments: str) -> Ended:
        return enter("call", *arguments)

    return call


@pytest.mark.parametrize("how", [(), ("--stream",)])
def test_it_prints_what_the_agent_says_and_nothing_else(ask: Type, how: tuple[str, ...]):
    assert ask("say", "hello world", *how) == Ended(0, "hello world\n", "")


@pytest.mark.parametrize("how", [(), ("--stream",)])
def test_a_message_that_was_never_streamed_is_printed_too(ask: Type, how: tuple[str, ...]):
    assert ask("final", "x", *how) == Ended(0, "the message\n", "")


@pytest.mark.parametrize("how", [(), ("--stream",)])
def test_structured_input_goes_in_and_structured_output_comes_out(ask: Type, how: tuple[str, ...]):
    assert ask("structured", "--input", '{"item": "tea"}', *how) == Ended(0, 'ordered\n{"item": "tea"}\n', "")


def test_a_thread_goes_on(ask: Type):
    ask("mirror", "first", "--thread", "t1")
    assert '["user", "first"]' in ask("mirror", "second", "--thread", "t1").out


@pytest.mark.parametrize("how", [(), ("--stream",)])
def test_a_run_that_pauses_prints_the_question_and_how_to_answer_it_and_ends_with_1(ask: Type, how: tuple[str, ...]):
    ended = ask("asks", "Really?", "--thread", "t 2", *how)
    assert (ended.code, ended.out) == (1, "Before I go on: \n")
    assert ended.err == "paused, it asks: Really? (yes, no)\n  → answer it: agenthost chat asks --thread 't 2'\n"


def test_a_run_without_a_thread_is_answered_by_its_own_id(ask: Type):
    ended = ask("asks", "Really?|Sure?")
    first, second, answer = ended.err.splitlines()
    assert (first, second) == ("paused, it asks: Really? (yes, no)", "paused, it asks: Sure? (yes, no)")
    assert re.fullmatch(r"  → answer it: agenthost chat asks --thread [0-9a-f]{32}", answer)


@pytest.mark.parametrize("how", [(), ("--stream",)])
def test_a_run_that_gives_up_says_why_and_ends_with_1(ask: Type, how: tuple[str, ...]):
    assert ask("gives-up", "max_iterations", *how) == Ended(1, "as far as I got\n", "stopped: max_iterations\n")


@pytest.mark.parametrize(("how", "out"), [((), ""), (("--stream",), "so far so good\n")])
def test_a_run_that_fails_says_what_finds_it_in_the_log(ask: Type, how: tuple[str, ...], out: str):
    ended = ask("fail", "later", *how)
    assert (ended.code, ended.out) == (1, out)
    assert " (code agent_error, correlation id " in ended.err
    assert ", run " in ended.err


def test_a_refusal_is_printed_with_code_and_correlation_id(ask: Type):
    ended = ask("nope", "x")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("no agent by that name (code not_found, correlation id ")


def test_without_a_key_it_says_where_to_give_one(host: Hosted, enter: Type):
    ended = enter("call", "say", "x", "--url", f"http://127.0.0.1:{host.port}")
    assert ended.code == 1
    assert ended.err.startswith("Missing bearer token (code unauthorized, ")
    assert ended.err.endswith("\n  → give a key: --key or AGENTHOST_API_KEY\n")


def test_a_key_that_is_not_known_there_is_said_to_be_so(ask: Type):
    ended = ask("say", "x", "--key", "another-key-0123456789")
    assert ended.err.endswith("\n  → that host does not know this key\n")


def test_where_nothing_answers_it_says_how_to_start_a_host(enter: Type):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ended = enter("call", "say", "x", "--url", url)
    assert ended == Ended(
        1,
        "",
        f"nothing answers at {url}\n  → start a host: agenthost dev, or say where one is: --url or AGENTHOST_URL\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("say",), "Error: give a PROMPT, or --input JSON\n"),
        (("say", "--input", "{'a': 1}"), "Error: Invalid value for --input: not JSON: "),
        (("say", "--input", "[NaN]"), "Error: Invalid value for --input: not JSON: NaN is no JSON number\n"),
        (("say", "x", "--key", "schlüssel"), "Error: Invalid value for --key: an API key is made of visible ASCII "),
        (("say", "\udcff"), "Error: what is to be sent is not UTF-8\n"),
    ],
)
def test_misuse_is_told_before_anything_is_sent(ask: Type, arguments: tuple[str, ...], said: str):
    ended = ask(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_what_an_agent_says_cannot_move_the_cursor(ask: Type):
    assert ask("say", "\x1b[2Jgone\ttab\nline").out == "\\x1b[2Jgone\ttab\nline\n"


def test_tokens_are_printed_as_they_come_and_ctrl_c_cancels_the_run(host: Hosted, here: Path):
    env = environment(more={"AGENTHOST_URL": f"http://127.0.0.1:{host.port}", "AGENTHOST_API_KEY": secret("me")})
    command = [sys.executable, "-m", "agenthost", "call", "hold", "printed", "--stream"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"holding"
        assert process.poll() is None
        process.send_signal(2)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    actors.wait_for(actors.CANCELLED, "printed")


def test_ctrl_c_cancels_the_run_also_where_nothing_is_printed_yet(host: Hosted, here: Path):
    env = environment(more={"AGENTHOST_URL": f"http://127.0.0.1:{host.port}", "AGENTHOST_API_KEY": secret("me")})
    command = [sys.executable, "-m", "agenthost", "call", "hold", "waited for"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        actors.wait_for(actors.HOLDING, "waited for")
        process.send_signal(2)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    actors.wait_for(actors.CANCELLED, "waited for")
