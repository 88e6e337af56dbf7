"""From an empty folder to an answer, and from there to a host that wants a key."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.commands import ECHO, Serving, agenthost


def test_from_an_empty_folder_to_a_host_that_only_those_with_a_key_may_call(tmp_path: Path):
    (tmp_path / "assistant.py").write_text(ECHO)
    with Serving("dev", "assistant.py:agent", cwd=tmp_path) as served:
        said = agenthost("call", "assistant", "hello there", "--stream", "--url", served.url, cwd=tmp_path)
        assert (said.code, said.out) == (0, "hello there \n")

    added = agenthost("add", "assistant", "--use", "assistant.py:agent", cwd=tmp_path)
    assert added.code == 0
    assert agenthost("serve", cwd=tmp_path).code == 2

    made = agenthost("keys", "new", "web", cwd=tmp_path)
    key = re.findall(r"ah_[\w-]+", made.out)[0]
    with (tmp_path / "agents.toml").open("a") as file:
        file.write("\n" + made.out.partition("for agents.toml:\n\n")[2])
    assert agenthost("check", cwd=tmp_path).out == "agents.toml: ok; 1 of 1 agents load\n"

    with Serving("serve", cwd=tmp_path) as served:
        assert "  callers  1 key for 1 principal\n" in served.err
        invoke = f"{served.url}/agents/assistant/invoke"
        assert httpx.post(invoke, json={"prompt": "hi"}).status_code == 401
        assert httpx.post(invoke, json={"prompt": "hi"}, headers={"authorization": "Bearer x"}).status_code == 401
        with_key = {"AGENTHOST_URL": served.url, "AGENTHOST_API_KEY": key}
        told = agenthost("call", "assistant", "remember me", "--thread", "t1", cwd=tmp_path, env=with_key)
        assert (told.code, told.out) == (0, "remember me \n")
        served.until(lambda: " web assistant " in served.out)
        assert key not in served.out + served.err

    with Serving("serve", cwd=tmp_path) as served:
        thread = httpx.get(f"{served.url}/agents/assistant/threads/t1", headers={"authorization": f"Bearer {key}"})
        assert [message["content"] for message in thread.json()["messages"]] == ["remember me", "remember me "]
