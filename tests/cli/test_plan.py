"""`agenthost check --plan`: what a reload of a running host would change, as that host itself says."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Type
from tests.serving import Hosted, actors, agents_toml, key, secret

ROOT = key("root", more="admin = true")


def test_every_change_is_a_line_and_what_only_a_restart_changes_is_noted(enter: Type, tmp_path: Path):
    with Hosted(agents_toml(tmp_path / "host", ROOT + key("old") + actors("say", "pieces"))) as host:
        asked = ("check", "--plan", "--url", f"http://127.0.0.1:{host.port}", "--key", secret("root"))
        assert enter(*asked) == type(enter(*asked))(0, "a reload would change nothing\n", "")
        agents_toml(
            tmp_path / "host",
            ROOT + key("new") + actors("say", more="timeout = 7\nowner = 'ops'") + actors("mirror"),
            server='port = 7\nmax_body = "1KiB"\n',
        )
        ended = enter(*asked)
        assert ended.code == 0
        assert ended.out.splitlines() == [
            "+ agent mirror",
            "- agent pieces",
            "~ agent say: owner, timeout",
            "+ key new",
            "- key old",
            "~ [server] max_body",
        ]
        assert ended.err == "note: only a restart changes [server] port\n"
        assert set(host.host.entries) == {"say", "pieces"}


def test_a_file_that_cannot_be_used_is_a_problem(enter: Type, tmp_path: Path):
    with Hosted(agents_toml(tmp_path / "host", ROOT + actors("say"))) as host:
        agents_toml(tmp_path / "host", ROOT + "[agents.say]\nplacment = 1\n")
        ended = enter("check", "--plan", "--url", f"http://127.0.0.1:{host.port}", "--key", secret("root"))
        assert ended.code == 1
        assert "unknown key 'placment'; did you mean 'placement'?" in ended.err


def test_it_takes_an_operator_and_no_other_file(enter: Type, tmp_path: Path):
    with Hosted(agents_toml(tmp_path / "host", ROOT + key("web") + actors("say"))) as host:
        ended = enter("check", "--plan", "--url", f"http://127.0.0.1:{host.port}", "--key", secret("web"))
        assert ended.code == 1
        assert "'web' may not operate this host" in ended.err
    misused = enter("check", "--plan", "--config", "other.toml")
    assert misused.code == 2
    assert "--plan is about the file that the host was started with; leave --config out" in misused.err
