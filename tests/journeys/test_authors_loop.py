"""The author's loop: `agenthost dev` while somebody edits what it serves, and talks to it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import PATIENCE, Serving

TALKS = """
import asyncio
import os
from shared import WORD

async def agent(ctx):
    print("asked", ctx.prompt)
    said = [message.text for message in ctx.messages]
    yield "FIRST"
    while ctx.prompt == "talk" and not os.path.exists("enough"):
        yield "."
        await asyncio.sleep(0.01)
    yield f" {WORD} {len(said)} {os.environ.get('CITY')}"
"""

TOML = """
[store]
url = "memory:"

[agents.talks]
use = "talks.py:agent"

[agents.other]
use = "other.py:agent"
timeout = "1m"

[agents.alone]
use = "alone.py:agent"
"""

ALONE = "async def agent(ctx):\n    yield 'alone'\n"


def save(path: Path, text: str) -> None:
    """Save as many editors do: beside it, then renamed over it."""
    beside = path.with_name(f".{path.name}.swp")
    beside.write_text(text)
    os.replace(beside, path)


def answer(served: Serving, agent: str, prompt: str = "hi") -> str:
    body = {"prompt": prompt, "thread_id": "t"}
    reply: dict[str, Any] = httpx.post(f"{served.url}/agents/{agent}/invoke", json=body, timeout=PATIENCE).json()
    return str(reply.get("message", reply))


def state(served: Serving, agent: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{served.url}/agents/{agent}/health", timeout=PATIENCE).json()
    return found


def until(there: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


class Conversation(threading.Thread):
    """A stream that is read until its agent has had enough; `text` is what it said so far."""

    def __init__(self, served: Serving) -> None:
        super().__init__(daemon=True)
        self.url, self.text = f"{served.url}/agents/talks/stream", ""
        self.start()

    def run(self) -> None:
        with httpx.stream("POST", self.url, json={"prompt": "talk"}, timeout=PATIENCE) as reply:
            for piece in reply.iter_text():
                self.text += piece


@pytest.mark.fault
def test_an_author_edits_breaks_mends_and_shares_code_while_a_conversation_goes_on(tmp_path: Path) -> None:
    (tmp_path / "agents.toml").write_text(TOML)
    (tmp_path / "shared.py").write_text("WORD = 'shared'\n")
    (tmp_path / "talks.py").write_text(TALKS)
    (tmp_path / "other.py").write_text("import shared\n" + ALONE)
    (tmp_path / "alone.py").write_text(ALONE)
    with Serving("dev", cwd=tmp_path) as served:
        served.until(lambda: "  reload   when agents.toml or the code of alone, other, talks changes\n" in served.err)
        assert answer(served, "talks") == "FIRST shared 1 None"
        served.until(lambda: "agenthost.agent.talks: asked hi" in served.err)
        pids = {name: state(served, name)["pids"] for name in ("talks", "other", "alone")}
        conversation = Conversation(served)
        until(lambda: "FIRST" in conversation.text)

        save(tmp_path / "talks.py", TALKS.replace("FIRST", "SECOND"))
        served.until(lambda: "talks.py has changed: agent 'talks' is reloaded" in served.err)
        assert answer(served, "talks") == "SECOND shared 3 None", "the thread has stayed"
        assert {name: state(served, name)["pids"] for name in ("other", "alone")} == {
            name: pids[name] for name in ("other", "alone")
        }
        [draining] = httpx.get(f"{served.url}/health").json()["draining"]
        assert (draining["agent"], draining["runs"]) == ("talks", 1)

        save(tmp_path / "talks.py", TALKS.replace("async def", "async fed"))
        served.until(lambda: "\n    SyntaxError: " in served.err)
        assert f'\n      File "{tmp_path}/talks.py", line 6\n' in served.err
        told = state(served, "talks")
        assert (told["status"], told["not_reloaded"].count("SyntaxError")) == ("ok", 1)
        assert answer(served, "talks") == "SECOND shared 5 None"
        save(tmp_path / "talks.py", TALKS.replace("FIRST", "THIRD"))
        until(lambda: "not_reloaded" not in state(served, "talks"))
        assert answer(served, "talks") == "THIRD shared 7 None"

        save(tmp_path / "shared.py", "WORD = 'both'\n")
        for name in ("talks", "other"):
            served.until(lambda name=name: f"shared.py has changed: agent '{name}' is reloaded" in served.err)
        assert answer(served, "talks") == "THIRD both 9 None"
        assert state(served, "other")["pids"] != pids["other"]
        assert state(served, "alone")["pids"] == pids["alone"], "it does not import that"

        (tmp_path / ".env").write_text("CITY=Bern\n")
        served.until(lambda: "variables of a .env have changed: agent 'talks' is reloaded" in served.err)
        assert answer(served, "talks") == "THIRD both 11 Bern"

        (tmp_path / "enough").touch()
        conversation.join(PATIENCE)
        assert " shared 1 None" in conversation.text, "it has ended on the code that it began on"
        assert conversation.text.endswith("data: [DONE]\n\n")
        assert served.stop() == 0
    assert "Traceback" not in served.err


def test_agents_toml_may_name_an_agent_before_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    toml = '[store]\nurl = "memory:"\n[agents.alone]\nuse = "alone.py:agent"\n'
    (tmp_path / "agents.toml").write_text(toml)
    with Serving("dev", cwd=tmp_path) as served:
        (tmp_path / "agents.toml").write_text(toml + '[agents.new]\nuse = "new.py:agent"\n')
        served.until(lambda: "agent 'new' (new.py:agent) failed to load: there is no file 'new.py'" in served.err)
        (tmp_path / "new.py").write_text(ALONE)
        served.until(lambda: "reloaded (its files have changed): added new" in served.err)
        assert answer(served, "new") == "alone"


def test_without_reloading_agents_run_in_the_host_and_nothing_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("import os\nasync def agent(ctx):\n    yield f'{os.getpid()}'\n")
    with Serving("dev", "--no-reload", "alone.py:agent", cwd=tmp_path) as served:
        assert answer(served, "alone") == str(served.process.pid)
        assert served.stop() == 0
    assert "  reload   " not in served.err
