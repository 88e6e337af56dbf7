"""The agents of the placement contract are found by their file, as a worker finds them."""

from __future__ import annotations

from pathlib import Path

from agenthost.importing import import_object
from agenthost.testing import contract_agents


def test_they_are_found_by_the_path_of_their_file() -> None:
    file = Path(contract_agents.__file__)
    found = import_object(f"{file}:everything", Path("/"))
    assert found.__doc__ == contract_agents.everything.__doc__
    assert found is not contract_agents.everything


def test_notes_are_lines_with_the_time(tmp_path: Path) -> None:
    notes = contract_agents.Notes(str(tmp_path / "notes"))
    notes.note("one")
    notes.note("two words")
    lines = (tmp_path / "notes").read_text().splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["one", "two words"]
    assert float(lines[0].rpartition(" ")[2]) <= float(lines[1].rpartition(" ")[2])
