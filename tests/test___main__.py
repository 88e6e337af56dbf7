"""`python -m agenthost`."""

from __future__ import annotations

from pathlib import Path

from tests.commands import agenthost


def test_it_is_the_command_line(tmp_path: Path):
    ended = agenthost("keys", "--help", cwd=tmp_path)
    assert ended.code == 0
    assert ended.out.startswith("Usage: agenthost keys [OPTIONS] COMMAND [ARGS]...")
