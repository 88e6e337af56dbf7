"""Imports by text, and the importer that runs them one after another."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agenthost.blame import Blame
from agenthost.errors import LoadError
from agenthost.importing import Importer, import_object
from tests.distributions import GATE, Site

BILLING = Blame(
    "agent 'billing' (acme-billing 2.1)", "acme-billing", "2.1", "set enabled = false under [agents.billing]"
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not on sys.path: beside agents.toml. What is imported from it is forgotten."""
    beside = Site(tmp_path / "beside")
    with beside:
        sys.path.remove(str(beside.folder))
        yield beside.folder


def refusal(text: str, base_dir: Path | None = None, blame: Blame | None = None) -> LoadError:
    with pytest.raises(LoadError) as raised:
        import_object(text, base_dir, blame=blame)
    return raised.value


def write(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


def test_an_attribute_of_an_installed_module_is_found(site: Site) -> None:
    site.write({"acme_tools": "class Box:\n    agent = 'found'\n"})
    assert import_object("acme_tools:Box.agent") == "found"
    assert import_object(" acme_tools : Box.agent ") == "found"


def test_a_module_beside_agents_toml_is_found_and_may_import_its_neighbour_later(folder: Path) -> None:
    write(folder / "mine.py", "def agent():\n    import mine_neighbour\n    return mine_neighbour.WORD\n")
    write(folder / "mine_neighbour.py", "WORD = 'later'\n")
    agent = import_object("mine:agent", folder)
    assert agent() == "later"
    assert sys.path[-1] == str(folder)


def test_a_folder_beside_agents_toml_comes_first_only_while_the_import_runs(folder: Path) -> None:
    write(folder / "looks.py", "import sys\nFIRST = sys.path[0]\n")
    assert import_object("looks:FIRST", folder) == str(folder)
    assert sys.path[0] != str(folder)


def test_two_files_of_one_name_are_two_modules(folder: Path) -> None:
    write(folder / "one" / "app.py", "WHO = 'one'\n")
    write(folder / "two" / "app.py", "WHO = 'two'\n")
    assert [import_object(f"{where}/app.py:WHO", folder) for where in ("one", "two")] == ["one", "two"]


def test_one_file_is_one_module_however_it_is_written(folder: Path) -> None:
    write(folder / "app.py", "class Agent: ...\n")
    first = import_object("app.py:Agent", folder)
    assert import_object(f"{folder}/./app.py:Agent", folder) is first
    assert sys.modules[first.__module__].__file__ == str(folder / "app.py")


def test_a_file_imports_its_neighbours_by_their_plain_names(folder: Path) -> None:
    write(folder / "apps" / "app.py", "from app_neighbour import WORD\n")
    write(folder / "apps" / "app_neighbour.py", "WORD = 'near'\n")
    assert import_object("apps/app.py:WORD", folder) == "near"


def test_dataclasses_and_deferred_annotations_work_in_a_file(folder: Path) -> None:
    write(
        folder / "app.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import get_type_hints\n"
        "@dataclass\nclass Settings:\n    model: Model = None\nclass Model: ...\n"
        "HINTS = get_type_hints(Settings)\n",
    )
    assert import_object("app.py:HINTS", folder)["model"].__name__ == "Model"


@pytest.mark.parametrize(
    "text", ["", ":", "acme:", ":agent", "acme:two words", "../acme:agent", ".acme:agent", "a b:c"]
)
def test_text_of_another_form_is_refused(text: str) -> None:
    error = refusal(text)
    assert (
        error.message == f"{text!r} failed to load: {text!r} is not of the form module:attribute or file.py:attribute"
    )


@pytest.mark.parametrize("text", ["app.py", "acme.tools"])
def test_text_without_an_attribute_is_completed_in_the_hint(text: str, folder: Path) -> None:
    assert refusal(text, folder).hint == f"did you mean '{text}:agent'?"


def test_a_missing_module_is_said_to_be_missing(folder: Path) -> None:
    error = refusal("no_such_module.sub:agent", folder)
    assert error.message == "'no_such_module.sub:agent' failed to load: there is no module 'no_such_module'"
    assert error.hint == "pip install the distribution that has module 'no_such_module'"
    assert error.traceback is None


def test_a_misspelt_module_beside_agents_toml_is_named(folder: Path) -> None:
    write(folder / "my_module.py", "")
    assert refusal("my_modul:agent", folder).hint == "did you mean 'my_module'?"


def test_a_missing_module_of_a_distribution_means_a_broken_installation() -> None:
    error = refusal("acme_billing_gone:agent", blame=BILLING)
    assert error.describe() == (
        "agent 'billing' (acme-billing 2.1) failed to load: there is no module 'acme_billing_gone'\n"
        "  → pip install --force-reinstall acme-billing, or set enabled = false under [agents.billing]"
    )
    assert (error.distribution, error.version) == ("acme-billing", "2.1")


def test_a_missing_module_of_a_package_is_another_sentence(site: Site) -> None:
    site.write({"acme_pkg/__init__.py": "", "acme_pkg/agents.py": ""})
    error = refusal("acme_pkg.agent:x")
    assert error.message == "'acme_pkg.agent:x' failed to load: package 'acme_pkg' has no module 'agent'"
    assert error.hint == "did you mean 'agents'?"


def test_a_module_taken_for_a_package_is_another_sentence(site: Site) -> None:
    site.write({"acme_flat": ""})
    message = refusal("acme_flat.agent:x").message
    assert message.endswith("there is no module 'acme_flat.agent': 'acme_flat' is a module, not a package")


def test_a_module_whose_own_import_fails_is_blamed_for_that_import(site: Site) -> None:
    site.write({"acme_billing_own": "\nimport torch_that_is_not_there\n"})
    error = refusal("acme_billing_own:agent", blame=BILLING)
    assert error.describe() == (
        "agent 'billing' (acme-billing 2.1) failed to load: "
        "ModuleNotFoundError: No module named 'torch_that_is_not_there'\n"
        "  → pip install torch_that_is_not_there, or set enabled = false under [agents.billing]"
    )


def test_a_module_that_misses_a_part_of_its_own_name_is_not_called_missing(site: Site) -> None:
    site.write({"acme_self/__init__.py": "import acme_self.gone\n"})
    message = refusal("acme_self:agent").message
    assert message.endswith("ModuleNotFoundError: No module named 'acme_self.gone'")


def test_a_missing_attribute_is_said_with_the_nearest_one(site: Site) -> None:
    site.write({"acme_attrs": "def agent(ctx): ...\n"})
    error = refusal("acme_attrs:agnet")
    assert error.message == "'acme_attrs:agnet' failed to load: module 'acme_attrs' has no attribute 'agnet'"
    assert error.hint == "did you mean 'agent'?"


def test_a_missing_attribute_of_an_attribute_is_said_with_its_owner(folder: Path) -> None:
    write(folder / "app.py", "class Box: ...\n")
    message = refusal("app.py:Box.agent", folder).message
    assert message.endswith("'Box' in file 'app.py' has no attribute 'agent'")


def test_an_attribute_that_raises_is_blamed(site: Site) -> None:
    site.write({"acme_lazy": "def __getattr__(name):\n    raise RuntimeError('no licence')\n"})
    error = refusal("acme_lazy:agent")
    assert error.message == "'acme_lazy:agent' failed to load: RuntimeError: no licence"
    assert "acme_lazy.py" in str(error.traceback)


def test_a_missing_file_is_said_with_the_folder_and_the_nearest_one(folder: Path) -> None:
    write(folder / "app.py", "")
    error = refusal("ap.py:agent", folder)
    assert error.message == f"'ap.py:agent' failed to load: there is no file 'ap.py' in {folder}"
    assert error.hint == "did you mean 'app.py'?"
    assert refusal("gone/app.py:agent", folder).message.endswith(f"there is no file 'gone/app.py' in {folder}")


def test_an_installed_distribution_cannot_name_a_file() -> None:
    assert refusal("app.py:agent").message.endswith(
        "'app.py:agent' names a file, where only module:attribute is possible"
    )


def test_a_syntax_error_says_file_and_line(folder: Path) -> None:
    write(folder / "app.py", "x = 1\ndef agent(:\n")
    error = refusal("app.py:agent", folder)
    assert "failed to load: SyntaxError: " in error.message
    assert "(app.py, line 2)" in error.message
    assert error.hint == f"mend {folder}/app.py, line 2"
    assert "importlib" not in str(error.traceback)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("def f(): return f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("raise ValueError('one\\ntwo')", "ValueError: one"),
        ("raise ValueError('x' * 1000)", "ValueError: " + "x" * 300),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", "E: (its text cannot be read)"),
        ("raise ImportError('cannot')", "ImportError: cannot"),
    ],
)
def test_whatever_an_import_raises_becomes_a_load_error(source: str, reason: str, folder: Path) -> None:
    write(folder / "app.py", source)
    error = refusal("app.py:agent", folder)
    assert error.message == f"'app.py:agent' failed to load: {reason}"


def test_an_import_that_ends_the_process_gets_a_hint(folder: Path) -> None:
    write(folder / "app.py", "import sys; sys.exit()")
    assert refusal("app.py:agent", folder).hint == "let it not end the process"


def test_a_relative_import_in_a_file_gets_a_hint(folder: Path) -> None:
    write(folder / "app.py", "from . import other")
    hint = "import its neighbours by their plain names, or name it as package.module:attribute"
    assert refusal("app.py:agent", folder).hint == hint


def test_an_import_that_does_not_fit_gets_a_hint(folder: Path) -> None:
    write(folder / "app.py", "from json import no_such_name")
    assert refusal("app.py:agent", folder).hint == "see with `pip check` whether the installed versions fit together"


def test_a_missing_part_of_a_foreign_package_gets_a_hint(folder: Path) -> None:
    write(folder / "app.py", "import json.no_such_part")
    assert refusal("app.py:agent", folder).hint == "install what has module 'json.no_such_part'"


def test_a_traceback_has_the_agents_own_frames_alone(folder: Path) -> None:
    write(
        folder / "app.py",
        "def inner():\n    try:\n        1 / 0\n    except ZeroDivisionError as error:\n"
        "        raise ValueError('bad') from error\ninner()\n",
    )
    text = str(refusal("app.py:agent", folder).traceback)
    frames = [line.split(",")[0].strip() for line in text.splitlines() if line.strip().startswith("File ")]
    assert set(frames) == {f'File "{folder}/app.py"'}
    assert "ZeroDivisionError" in text
    assert "ValueError: bad" in text


def test_a_traceback_of_endless_recursion_is_short(folder: Path) -> None:
    write(folder / "app.py", "def f(): g()\ndef g(): f()\nf()\n")
    assert str(refusal("app.py:agent", folder).traceback).count("File ") <= 40


def test_a_failed_import_leaves_nothing_behind_and_can_be_tried_again(folder: Path) -> None:
    write(folder / "app.py", "raise OSError('first')\n")
    error = refusal("app.py:agent", folder)
    assert error.__context__ is None
    write(folder / "app.py", "agent = 'now it is well'\n")
    assert import_object("app.py:agent", folder) == "now it is well"


def test_a_module_that_replaces_sys_path_does_no_harm(folder: Path) -> None:
    before = list(sys.path)
    write(folder / "app.py", "import sys\nsys.path = list(sys.path[1:])\nagent = 1\n")
    assert import_object("app.py:agent", folder) == 1
    assert set(before) <= set(sys.path)


def settled(importer: Importer, *futures: Future[Any]) -> None:
    thread = threading.Thread(target=importer.settle, args=(futures,))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def import_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("import ", "agenthost-imports"))]


def wait_until(condition: Any, seconds: float = 5.0) -> None:
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        pause.wait(0.005)
    assert condition()


def test_imports_run_in_order_and_never_two_at_once() -> None:
    importer, order, going, most = Importer(), [], 0, 0

    def load(number: int) -> int:
        nonlocal going, most
        going += 1
        most = max(most, going)
        order.append(number)
        going -= 1
        return number

    futures = [importer.submit(f"agent {number}", lambda number=number: load(number)) for number in range(50)]
    assert [future.result(10) for future in futures] == list(range(50))
    assert order == list(range(50))
    assert most == 1


def test_threads_end_when_nothing_is_left_to_import() -> None:
    importer = Importer()
    importer.submit("agent one", lambda: 1).result(10)
    wait_until(lambda: not import_threads())
    assert importer.submit("agent two", lambda: 2).result(10) == 2
    wait_until(lambda: not import_threads())


def test_a_slow_import_gives_up_its_turn_and_still_comes() -> None:
    importer, gate = Importer(patience=0.05), threading.Event()
    slow = importer.submit("agent slow", lambda: gate.wait(20))
    quick = importer.submit("agent quick", lambda: "quick")
    assert quick.result(10) == "quick"
    assert not slow.done()
    assert "import agent slow" in import_threads()
    gate.set()
    assert slow.result(10) is True


def test_settle_waits_for_the_quick_and_not_for_the_slow() -> None:
    importer, gate = Importer(patience=0.05), threading.Event()
    slow = importer.submit("agent slow", lambda: gate.wait(20))
    quick = [importer.submit(f"agent {number}", lambda: None) for number in range(10)]
    settled(importer, slow, *quick)
    assert [slow.done(), *{future.done() for future in quick}] == [False, True]
    gate.set()
    assert slow.result(10) is True


def test_settle_returns_at_once_where_there_is_nothing_to_wait_for() -> None:
    settled(Importer())


def test_an_import_over_its_time_limit_is_given_up_and_its_result_dropped() -> None:
    importer, gate, ended = Importer(patience=0.02), threading.Event(), threading.Event()

    def load() -> None:
        gate.wait(20)
        ended.set()

    future = importer.submit(BILLING, load, timeout=0.1)
    error = future.exception(10)
    assert isinstance(error, LoadError)
    assert error.message == "agent 'billing' (acme-billing 2.1) failed to load: import took over 0.1s"
    assert error.hint == "set enabled = false under [agents.billing]"
    assert importer.submit("agent next", lambda: "next").result(10) == "next"
    gate.set()
    assert ended.wait(10)
    wait_until(lambda: not import_threads())
    assert future.exception() is error


def test_a_time_limit_counts_from_the_imports_own_start() -> None:
    importer, gate = Importer(patience=30), threading.Event()
    first = importer.submit("agent first", lambda: gate.wait(20))
    second = importer.submit("agent second", lambda: "in time", timeout=5)
    assert not second.running()
    gate.set()
    assert first.result(10) is True
    assert second.result(10) == "in time"


@pytest.mark.parametrize("raised", [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep")])
def test_the_importer_turns_anything_raised_into_a_load_error(raised: BaseException) -> None:
    def load() -> None:
        raise raised

    error = Importer().submit("agent x", load).exception(10)
    assert isinstance(error, LoadError)
    assert error.message.startswith(f"agent x failed to load: {type(raised).__name__}")


def test_a_load_error_comes_through_the_importer_as_it_is() -> None:
    own = LoadError("in its own words")

    def load() -> None:
        raise own

    assert Importer().submit("agent x", load).exception(10) is own


def test_a_cancelled_import_never_starts() -> None:
    importer, gate, ran = Importer(), threading.Event(), []
    first = importer.submit("agent first", lambda: gate.wait(20))
    wait_until(first.running)
    second = importer.submit("agent second", lambda: ran.append(1))
    assert second.cancel()
    third = importer.submit("agent third", lambda: "third")
    gate.set()
    assert third.result(10) == "third"
    assert ran == []


def test_packages_that_import_each_other_load_because_imports_take_turns(site: Site) -> None:
    site.write(
        {
            "ring_a/__init__.py": "import time; time.sleep(0.01)\nimport ring_b\nNAME = 'a'\n",
            "ring_b/__init__.py": "import ring_a\nNAME = 'b'\n",
        }
    )
    importer = Importer()
    futures = [
        importer.submit(f"agent {name}", lambda name=name: import_module(name).NAME) for name in ("ring_a", "ring_b")
    ]
    assert [future.result(10) for future in futures] == ["a", "b"]


def test_one_file_wanted_twice_at_once_is_run_once(folder: Path, site: Site) -> None:
    site.write({"file_gate": GATE})
    write(folder / "app.py", "import file_gate\nfile_gate.opened.wait(20)\nagent = object()\n")
    importer = Importer(patience=0.02)
    futures = [importer.submit(f"agent {n}", lambda: import_object("app.py:agent", folder)) for n in range(2)]
    settled(importer, *futures)
    assert not any(future.done() for future in futures)
    import_module("file_gate").opened.set()
    first, second = (future.result(10) for future in futures)
    assert first is second
