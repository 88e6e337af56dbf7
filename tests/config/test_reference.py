"""The reference in Markdown."""

from __future__ import annotations

import re

from agenthost.config import reference
from agenthost.config.keys import SECTIONS, known_keys


def test_every_key_of_every_table_has_a_row_and_no_other_has():
    sections = dict(re.findall(r"### `\[+([a-zA-Z.]+)\]+`\n\n(.*?)(?=\n### |\Z)", reference(), re.DOTALL))
    assert list(sections) == ["server", "store", "auth", "auth.keys", "plugins", "defaults", "agents.NAME"]
    for table in (*SECTIONS, "auth.keys"):
        text = sections["agents.NAME" if table == "agents" else table]
        rows = re.findall(r"`([a-z_0-9]+)`" if table == "defaults" else r"^\| `([a-z_0-9]+)` \|", text, re.MULTILINE)
        assert tuple(rows) == tuple(key for key in known_keys(table) if (table, key) != ("auth", "keys"))


def test_a_row_tells_type_default_and_purpose():
    text = reference()
    assert '| `drain` | duration | `"30s"` | How long a stop waits for running runs. |\n' in text
    assert '| `max_body` | size | `"10MiB"` | The largest request body; beyond: 413. |\n' in text
    assert "| `port` | integer | `8000` | The port to listen on; 0 takes a free one. |\n" in text
    assert "| `principal` | string | required | " in text
    assert "| `secret` | value form | required | " in text
    assert "| `use` | string |  | Where it comes from" in text
    assert '| `use` | array of strings | `["api-keys"]` | ' in text


def test_every_row_has_four_cells():
    rows = [line for line in reference().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
