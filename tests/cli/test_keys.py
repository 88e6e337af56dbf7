"""`agenthost keys new`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx

from agenthost.config import load_config
from tests.cli.conftest import Type
from tests.serving import Hosted


def test_a_new_key_is_shown_once_with_the_block_that_lets_it_in(enter: Type, here: Path):
    ended = enter("keys", "new", "web")
    assert (ended.code, ended.err) == (0, "")
    key = re.findall(r"ah_[\w-]{43}\b", ended.out)
    assert len(key) == 1
    said, _, block = ended.out.partition("for agents.toml:\n\n")
    assert said == (
        f"the key, shown this once:\n\n  {key[0]}\n\nits sha256: {hashlib.sha256(key[0].encode()).hexdigest()}\n\n"
    )
    (here / "agents.toml").write_text(f'[store]\nurl = "memory:"\n{block}')
    [configured] = load_config(Path("agents.toml")).auth.keys
    assert (configured.id, configured.principal, configured.agents, configured.admin) == ("web", "web", ("*",), False)
    with Hosted("agents.toml") as served:
        url = f"http://127.0.0.1:{served.port}/agents"
        assert httpx.get(url, headers={"authorization": f"Bearer {key[0]}"}).status_code == 200
        assert httpx.get(url, headers={"authorization": f"Bearer {key[0]}x"}).status_code == 401


def test_every_key_is_another(enter: Type):
    assert enter("keys", "new", "web").out != enter("keys", "new", "web").out


def test_an_id_that_no_key_could_have_is_misuse(enter: Type):
    ended = enter("keys", "new", "not an\nid")
    assert (ended.code, ended.out) == (2, "")
    assert "Invalid value for ID: " in ended.err
