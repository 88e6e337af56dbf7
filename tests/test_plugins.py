"""Loading plugins: the good ones serve, whatever the bad one does, and the bad one is named."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agenthost import hookimpl
from agenthost.distributions import AGENT_NAME_RULE
from agenthost.importing import Importer
from agenthost.plugins import Plugin, Plugins
from tests.distributions import GATE, Site

CONFIG = SimpleNamespace(name="the configuration")

GOOD = """
from agenthost import hookimpl

@hookimpl
def register_agents(register, config):
    register("good", lambda ctx: "hello")
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


def load(
    *,
    block: Sequence[str] = (),
    patience: float = 1.0,
    timeout: float = 30.0,
    builtins: Sequence[object] = (),
    **options: Any,
) -> Plugins:
    plugins = Plugins(block)
    plugins.load(CONFIG, importer=Importer(patience), builtins=builtins, timeout=timeout, **options)
    return plugins


def install_good_ones(site: Site) -> None:
    """Two that are well, one that is loaded before the bad one, one after."""
    site.install("acme-a", plugins={"a": "acme_a"}, modules={"acme_a": GOOD.replace("good", "first")})
    site.install("acme-z", plugins={"z": "acme_z"}, modules={"acme_z": GOOD.replace("good", "last")})


def install_bad(site: Site, source: str | None, value: str = "acme_bad") -> None:
    site.install("acme-bad", "0.9", plugins={"bad": value}, modules={} if source is None else {"acme_bad": source})


HOOK = "from agenthost import hookimpl\n@hookimpl\ndef "

FAULTS: dict[str, tuple[str | None, str, str, str]] = {
    "an import error": (
        "import torch_not_there",
        "acme_bad",
        "failed to load: ModuleNotFoundError: No module named 'torch_not_there'",
        "pip install torch_not_there, or ",
    ),
    "a syntax error": (
        "def (:",
        "acme_bad",
        "failed to load: SyntaxError: invalid syntax (acme_bad.py, line 1)",
        "mend {site}/acme_bad.py, line 1, or ",
    ),
    "a missing module": (
        None,
        "acme_bad",
        "failed to load: there is no module 'acme_bad'",
        "pip install --force-reinstall acme-bad, or ",
    ),
    "a missing attribute": (
        "hooks = None",
        "acme_bad:hook",
        "failed to load: module 'acme_bad' has no attribute 'hook'",
        "did you mean 'hooks'?, or ",
    ),
    "an object that is no module": (
        "class Hooks: ...\nhooks = Hooks()",
        "acme_bad:hooks",
        "failed to load: 'acme_bad:hooks' is of type Hooks, where a module is wanted",
        'write bad = "acme_bad" in its entry points, or ',
    ),
    "an entry point that is not one": (
        None,
        "acme bad!",
        "failed to load: there is no module 'acme bad!'",
        "pip install --force-reinstall acme-bad, or ",
    ),
    "no hooks at all": (
        "def register_agents(register): ...",
        "acme_bad",
        "failed to load: it implements no hook",
        "mark its functions with @hookimpl (from agenthost import hookimpl), or ",
    ),
    "a wrong hook argument": (
        HOOK + "register_agents(registr): ...",
        "acme_bad",
        "failed to load: its register_agents takes 'registr', which the hook does not give",
        "did you mean 'register'?, or ",
    ),
    "a strange hook argument": (
        HOOK + "register_agents(register, session): ...",
        "acme_bad",
        "failed to load: its register_agents takes 'session', which the hook does not give",
        "a hook may take register and config, or ",
    ),
    "an unknown hook": (
        HOOK + "register_agent(register): ...",
        "acme_bad",
        "failed to load: it implements 'register_agent', which is no hook",
        "did you mean 'register_agents'?, or ",
    ),
    "a hook that raises": (
        HOOK + "register_agents(register):\n    raise RuntimeError('no licence')",
        "acme_bad",
        "failed in register_agents: RuntimeError: no licence",
        "",
    ),
    "a hook that ends the process": (
        HOOK + "register_agents(register):\n    raise SystemExit(1)",
        "acme_bad",
        "failed in register_agents: SystemExit: 1",
        "let it not end the process, or ",
    ),
    "an async hook": (
        HOOK.replace("def ", "async def ") + "register_agents(register): ...",
        "acme_bad",
        "failed in register_agents: a hook is a plain function, neither async nor a generator",
        "",
    ),
    "a hook that is a generator": (
        HOOK + "register_agents(register):\n    yield",
        "acme_bad",
        "failed in register_agents: a hook is a plain function, neither async nor a generator",
        "",
    ),
    "an object of a wrong type": (
        HOOK + "register_protocols(register):\n    register('acme')",
        "acme_bad",
        "failed in register_protocols: TypeError: a protocol is a Dialect, not str",
        "",
    ),
    "a bad agent name": (
        HOOK + "register_agents(register):\n    register('Bad Name', object())",
        "acme_bad",
        f"failed in register_agents: ValueError: 'Bad Name': {AGENT_NAME_RULE}",
        "",
    ),
    "sys.exit when imported": (
        "import sys; sys.exit(3)",
        "acme_bad",
        "failed to load: SystemExit: 3",
        "let it not end the process, or ",
    ),
    "a keyboard interrupt when imported": (
        "raise KeyboardInterrupt",
        "acme_bad",
        "failed to load: KeyboardInterrupt",
        "let it not end the process, or ",
    ),
    "endless recursion when imported": (
        "def f(): f()\nf()",
        "acme_bad",
        "failed to load: RecursionError: maximum recursion depth exceeded",
        "",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plugin_at_fault_is_named_and_the_others_serve(fault: str, site: Site) -> None:
    source, value, reason, hint = FAULTS[fault]
    install_good_ones(site)
    install_bad(site, source, value)
    plugins = load()
    assert list(plugins.agents) == ["first", "last"]
    (problem,) = plugins.problems
    assert problem.error.message == f"plugin 'bad' (acme-bad 0.9) {reason}"
    assert problem.error.hint == hint.format(site=site.folder) + '[plugins] block = ["acme-bad"]'
    assert (problem.entry_point, problem.distribution, problem.version) == ("bad", "acme-bad", "0.9")
    assert (problem.error.distribution, problem.error.version) == ("acme-bad", "0.9")


def test_a_traceback_shows_the_plugins_own_lines_alone(site: Site) -> None:
    install_bad(site, HOOK + "register_agents(register):\n    register('Bad Name', object())")
    (problem,) = load().problems
    files = {line.split('"')[1] for line in str(problem.error.traceback).splitlines() if "File " in line}
    assert files == {f"{site.folder}/acme_bad.py"}
    assert "register('Bad Name', object())" in str(problem.error.traceback)


def test_a_plugin_that_hangs_when_imported_does_not_hold_up_the_start(site: Site) -> None:
    install_good_ones(site)
    site.write({"gate": GATE})
    install_bad(site, "import gate\ngate.opened.wait(20)\n" + GOOD)
    began = time.monotonic()
    plugins = load()
    assert time.monotonic() - began < 2
    assert list(plugins.agents) == ["first", "last"]
    assert [plugin.name for plugin in plugins.pending] == ["bad"]
    assert plugins.problems == []
    import_module("gate").opened.set()


def test_a_plugin_that_hangs_in_its_hook_does_not_hold_up_the_start(site: Site) -> None:
    install_good_ones(site)
    site.write({"gate": GATE})
    install_bad(site, "import gate\n" + HOOK + "register_agents(register):\n    gate.opened.wait(20)")
    plugins = load(patience=0.1)
    assert list(plugins.agents) == ["first", "last"]
    assert [plugin.name for plugin in plugins.pending] == ["bad"]
    import_module("gate").opened.set()


def test_a_late_plugin_is_added_when_it_comes(site: Site) -> None:
    site.write({"gate": GATE})
    site.install(
        "acme-late", plugins={"late": "acme_late"}, modules={"acme_late": "import gate\ngate.opened.wait(20)\n" + GOOD}
    )
    came, arrived = [], threading.Event()

    def on_late(plugin: Plugin) -> None:
        came.append(plugin)
        arrived.set()

    plugins = load(patience=0.05, on_late=on_late)
    before = plugins.agents
    import_module("gate").opened.set()
    assert arrived.wait(10)
    assert [(plugin.name, plugin.state) for plugin in came] == [("late", "loaded")]
    assert [registered.label for registered in plugins.agents["good"]] == ["acme-late 1.0"]
    assert plugins.pending == []
    assert before == {}


def test_a_plugin_over_its_time_limit_becomes_a_problem(site: Site) -> None:
    site.write({"gate": GATE})
    install_bad(site, "import gate\ngate.opened.wait(20)\n" + GOOD)
    came, arrived = [], threading.Event()

    def on_late(plugin: Plugin) -> None:
        came.append(plugin.state)
        arrived.set()

    plugins = load(patience=0.05, timeout=0.2, on_late=on_late)
    assert arrived.wait(10)
    assert came == ["failed"]
    (problem,) = plugins.problems
    assert problem.error.message == "plugin 'bad' (acme-bad 0.9) failed to load: import took over 0.2s"
    assert problem.error.hint == '[plugins] block = ["acme-bad"]'
    import_module("gate").opened.set()
    assert plugins.agents == {}


def test_a_late_plugin_cannot_take_a_name_that_is_in_use(site: Site) -> None:
    hook = HOOK + "register_placements(register):\n    register('cluster', Cluster())\n"
    cluster = "class Cluster:\n    async def open(self, spec): ...\n" + hook
    site.write({"gate": GATE})
    site.install("acme-a", plugins={"a": "acme_a"}, modules={"acme_a": "import gate\ngate.opened.wait(20)\n" + cluster})
    site.install("acme-b", plugins={"b": "acme_b"}, modules={"acme_b": cluster})
    arrived = threading.Event()
    plugins = load(patience=0.05, on_late=lambda plugin: arrived.set())
    import_module("gate").opened.set()
    assert arrived.wait(10)
    assert plugins.placements["cluster"].distribution == "acme-b"
    (problem,) = plugins.problems
    assert problem.error.message == (
        "plugin 'a' (acme-a 1.0) cannot register placement 'cluster': acme-b 1.0 has that name already"
    )


def test_a_blocked_distribution_is_not_imported(site: Site) -> None:
    install_good_ones(site)
    install_bad(site, "raise SystemExit")
    plugins = load(block=["Acme_Bad"])
    assert list(plugins.agents) == ["first", "last"]
    assert plugins.problems == []
    assert [plugin.name for plugin in plugins.suspects("register_agents")] == ["bad"]
    (described,) = [one for one in plugins.describe() if one["distribution"] == "acme-bad"]
    assert described["blocked"]
    assert described["plugins"] == [{"name": "bad", "module": "acme_bad", "state": "blocked", "hooks": []}]


def test_a_hook_that_fails_half_way_registers_nothing_and_the_plugins_other_hooks_count(site: Site) -> None:
    install_bad(
        site,
        GOOD.replace('register("good", lambda ctx: "hello")', 'register("half", object())\n    1 / 0')
        + "\n@hookimpl\ndef register_adapters(register):\n    register('acme', print, modules=['acme'])\n",
    )
    plugins = load()
    assert plugins.agents == {}
    assert list(plugins.adapters) == ["acme"]
    assert [problem.hook for problem in plugins.problems] == ["register_agents"]
    assert [plugin.name for plugin in plugins.suspects("register_agents")] == ["bad"]
    assert plugins.suspects("register_adapters") == []


def test_a_plugin_with_an_unknown_hook_brings_nothing(site: Site) -> None:
    install_bad(site, GOOD + "\n@hookimpl\ndef register_filters(register): ...\n")
    plugins = load()
    assert plugins.agents == {}
    (problem,) = plugins.problems
    assert problem.hook is None or problem.hook.startswith("register_")
    assert "it implements 'register_filters', which is no hook" in problem.error.message


def test_whatever_else_pluggy_objects_to_is_said_in_its_words(site: Site) -> None:
    install_bad(site, HOOK.replace("hookimpl\ndef", "hookimpl(wrapper=True)\ndef") + "register_agents(register): ...")
    (problem,) = load().problems
    assert problem.error.message.startswith("plugin 'bad' (acme-bad 0.9) failed to load: ")
    assert "not a generator function" in problem.error.message
    assert problem.hook == "register_agents"


def test_an_unknown_hook_may_be_marked_as_optional(site: Site) -> None:
    install_bad(site, GOOD + "\n@hookimpl(optionalhook=True)\ndef register_filters(register): ...\n")
    plugins = load()
    assert list(plugins.agents) == ["good"]
    assert plugins.problems == []


def test_registering_ends_when_the_hook_returns(site: Site) -> None:
    install_bad(
        site,
        HOOK + "register_agents(register):\n    global later\n    later = register\n    register('now', object())\n",
    )
    plugins = load()
    with pytest.raises(RuntimeError, match="register works only until its hook returns"):
        import_module("acme_bad").later("later", object())
    assert list(plugins.agents) == ["now"]


def test_a_name_registered_twice_by_one_plugin_is_an_error(site: Site) -> None:
    install_bad(site, HOOK + "register_agents(register):\n    register('x', 1)\n    register('x', 2)")
    (problem,) = load().problems
    assert problem.error.message.endswith("failed in register_agents: ValueError: an agent 'x' is registered twice")


class BuiltIn:
    """Registers the way plugins do."""

    @hookimpl
    def register_placements(self, register: Any, config: Any) -> None:
        assert config is CONFIG
        register("in-process", SimpleNamespace(open=lambda spec: None))


def test_a_built_in_goes_through_the_same_door() -> None:
    plugins = load(builtins=[BuiltIn()])
    registered = plugins.placements["in-process"]
    assert (registered.plugin, registered.distribution) == ("BuiltIn", "agenthost")
    assert registered.label == f"agenthost {registered.version}"
    assert plugins.problems == []


def test_a_built_in_name_cannot_be_taken(site: Site) -> None:
    hook = HOOK + "register_placements(register):\n    register('in-process', Mine())\n"
    install_bad(site, "class Mine:\n    async def open(self, spec): ...\n" + hook)
    plugins = load(builtins=[BuiltIn()])
    holder = plugins.placements["in-process"]
    assert holder.distribution == "agenthost"
    (problem,) = plugins.problems
    assert problem.error.describe() == (
        f"plugin 'bad' (acme-bad 0.9) cannot register placement 'in-process': {holder.label} has that name already\n"
        '  → give it another name, or [plugins] block = ["acme-bad"]'
    )


def test_without_installed_plugins_only_the_built_ins_count(site: Site) -> None:
    install_good_ones(site)
    plugins = load(builtins=[BuiltIn()], installed=False)
    assert plugins.agents == {}
    assert list(plugins.placements) == ["in-process"]


def test_only_the_hooks_asked_for_are_called(site: Site) -> None:
    install_bad(
        site,
        HOOK
        + "register_agents(register):\n    raise SystemExit\n"
        + "@hookimpl\ndef register_adapters(register):\n    register('acme', print, modules=['acme'])\n",
    )
    plugins = load(hooks=["register_adapters"])
    assert list(plugins.adapters) == ["acme"]
    assert plugins.problems == []


def test_two_plugins_of_one_name_are_both_loaded(site: Site) -> None:
    site.install("acme-a", plugins={"same": "acme_a"}, modules={"acme_a": GOOD.replace("good", "one")})
    site.install("acme-b", plugins={"same": "acme_b"}, modules={"acme_b": GOOD.replace("good", "two")})
    assert list(load().agents) == ["one", "two"]


def test_plugins_are_loaded_in_the_order_of_their_names(site: Site) -> None:
    source = "import order_log\norder_log.seen.append(__name__)\n" + GOOD
    site.write({"order_log": "seen = []\n"})
    for distribution, name in (("zeta", "a"), ("alpha", "c"), ("beta", "b")):
        module = f"order_{name}"
        site.install(distribution, plugins={name: module}, modules={module: source.replace("good", name)})
    load()
    assert import_module("order_log").seen == ["order_a", "order_b", "order_c"]


def test_broken_metadata_is_reported_and_stops_nothing(site: Site) -> None:
    install_good_ones(site)
    site.install("acme-bad", "0.9", entry_points="[agenthost.plugins]\nno equals sign\n")
    plugins = load()
    assert list(plugins.agents) == ["first", "last"]
    (problem,) = plugins.problems
    assert problem.error.message.startswith("distribution 'acme-bad' (acme-bad 0.9) has an unusable entry_points.txt: ")
    assert (problem.entry_point, problem.distribution, problem.version) == ("", "acme-bad", "0.9")


def test_ten_hosts_in_one_process_have_plugins_of_their_own(site: Site) -> None:
    install_good_ones(site)
    first, *others = [load() for _ in range(10)]
    assert all(plugins.agents.keys() == first.agents.keys() for plugins in others)
    assert all(plugins.agents is not first.agents for plugins in others)


def test_what_each_distribution_brought_can_be_shown(site: Site) -> None:
    site.install(
        "acme-good",
        "2.1",
        plugins={"acme": "acme_good"},
        agents={"echo": "acme_good:echo"},
        modules={"acme_good": GOOD},
    )
    install_bad(site, "raise ValueError('no')")
    described = {one["distribution"]: one for one in load(builtins=[BuiltIn()]).describe()}
    assert json.loads(json.dumps(described)) == described
    assert described["acme-good"] == {
        "distribution": "acme-good",
        "version": "2.1",
        "blocked": False,
        "agents": {"echo": "acme_good:echo"},
        "plugins": [{"name": "acme", "module": "acme_good", "state": "loaded", "hooks": ["register_agents"]}],
        "registered": {"agents": ["good"]},
        "problems": [],
    }
    assert described["agenthost"]["registered"] == {"placements": ["in-process"]}
    assert described["acme-bad"]["plugins"] == [{"name": "bad", "module": "acme_bad", "state": "failed", "hooks": []}]
    assert described["acme-bad"]["problems"] == [
        {
            "entry_point": "bad",
            "hook": None,
            "error": "plugin 'bad' (acme-bad 0.9) failed to load: ValueError: no",
            "hint": '[plugins] block = ["acme-bad"]',
        }
    ]


def test_loading_leaves_no_threads(site: Site) -> None:
    install_good_ones(site)
    load()
    end = time.monotonic() + 5
    while [t for t in threading.enumerate() if t.name.startswith(("import ", "agenthost-imports"))]:
        assert time.monotonic() < end
        threading.Event().wait(0.005)
