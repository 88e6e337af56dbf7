"""Which block each module belongs to, and that imports go one way between blocks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable

from tests.house.tree import PACKAGE, ROOT, edges, modules

BLOCKS = {
    "contracts: words everybody shares; standard library and pluggy only, no I/O": """
        approvals errors event_encoding events agents entries threads auth hookspecs
    """,
    "loading: finding, loading and running agents, also in a worker process; standard library and pluggy only": """
        adapters blame contained_tasks daemon_threads distributions finding forked_children frameworks importing
        lifespans own_code
        placement placement.allowance placement.carrying placement.frames placement.in_process placement.worker
        placement.worker_log placement.worker_run
        plugins registering settings
    """,
    "kernel: start-up and the run; no HTTP": """
        config config.checking config.editing config.forms config.keys config.lines config.loading config.problems
        config.redaction config.reference config.secret_names config.values
        environments environments.contents environments.folder environments.making environments.uv
        store store.expiry store.hot store.inspection store.jobs store.lock store.messages store.migrations
        store.readers store.reads store.recorder store.records store.schema store.sqlite store.statements store.store
        store.upkeep store.writer
        placement.authors placement.crew placement.output placement.process placement.spawning placement.worker_link
        admission api_keys builtin_hooks calls checkups discovery draining emitting encoding ended_run endings finishing
        health host
        keyed_runs left_runs operating outcome planning recording registry reloading renewing resuming retention run
        run_log runs schemas starting streaming sweep telemetry watchdog watching
    """,
    "street: what a request passes, and the dialects that answer it": """
        protocols protocols.bodies protocols.exchange protocols.native protocols.run_wire protocols.runs
        protocols.streaming_replies protocols.threads protocols.wire
        protocols.openai protocols.openai.chat protocols.openai.chat_wire protocols.openai.dialogue
        protocols.openai.input_wire protocols.openai.items protocols.openai.pauses protocols.openai.refusals
        protocols.openai.resource protocols.openai.responses protocols.openai.routes protocols.openai.starting
        protocols.openai.telling protocols.openai.usage
        http http.access_log http.agent_app http.app http.connections
        http.cors http.host_routes http.problems http.routing http.security
        http.server
    """,
    "people: the command line, a client, one agent by itself": """
        agent_server __main__
        testing testing.contract_agents testing.hosts testing.placement_contract testing.stage
        client client.asking client.async_client client.connection client.exchanges client.failures client.following
        client.frames client.patience client.replies client.steps client.sync_client
        cli cli.add cli.call cli.calling cli.cancel cli.chat cli.check cli.debugging cli.doctor cli.env_files
        cli.environments
        cli.findings cli.installed cli.keys cli.langgraph_json cli.listing cli.plan cli.process cli.questions cli.runs
        cli.serving cli.summary cli.terminal cli.topics
    """,
}
"""A module may import from its own block and from those above it. The package itself is in none: it imports by name."""

CONTRACTS, LOADING, KERNEL, STREET, PEOPLE = (set(names.split()) for names in BLOCKS.values())
ORDER = ("contracts", "loading", "kernel", "street", "people")
BLOCK_OF = {
    name: block
    for block, names in zip(ORDER, (CONTRACTS, LOADING, KERNEL, STREET, PEOPLE), strict=True)
    for name in names
}

WEB = {"fastapi", "starlette", "uvicorn", "httpx"}


def test_every_module_is_in_one_block_and_no_block_names_another():
    placed = [name for names in BLOCKS.values() for name in names.split()]
    assert len(placed) == len(set(placed)), "a module stands in two blocks"
    assert set(placed) == set(modules()) - {PACKAGE}


def test_imports_go_one_way_between_blocks():
    wrong = [
        f"{importer} ({BLOCK_OF[importer]}) imports {imported} ({BLOCK_OF.get(imported, 'the package itself')})"
        for importer, targets in edges().items()
        for imported in targets
        if importer in BLOCK_OF and _rank(imported) > _rank(importer)
    ]
    assert not wrong


def _rank(name: str) -> int:
    return ORDER.index(BLOCK_OF[name]) if name in BLOCK_OF else len(ORDER)


def test_dialects_never_import_http():
    assert not [
        f"{importer} imports {imported}"
        for importer, targets in edges().items()
        for imported in targets
        if importer.startswith("protocols") and imported.partition(".")[0] == "http"
    ]


def test_no_modules_import_each_other_in_a_circle():
    assert not _circles(edges())


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every circle found by a walk that never enters a module twice, as the modules on it."""
    found: list[list[str]] = []
    finished: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in finished:
            for target in sorted(graph.get(name, ())):
                walk(target, [*path, name])
            finished.add(name)

    for name in graph:
        walk(name, [])
    return found


def _imports_of(names: Iterable[str], unless: Callable[[str], bool]) -> list[str]:
    return [
        f"{name}:{imported.line} imports {imported.target}"
        for name in sorted(names)
        for imported in modules()[name].imports
        if not unless(imported.top)
    ]


def test_what_a_worker_needs_imports_the_standard_library_and_pluggy():
    allowed = sys.stdlib_module_names | {"pluggy", PACKAGE}
    assert not _imports_of(CONTRACTS | LOADING, unless=allowed.__contains__)


def test_the_kernel_imports_no_web_framework():
    assert not _imports_of(CONTRACTS | LOADING | KERNEL, unless=lambda top: top not in WEB)


def test_contracts_do_no_io():
    doing = {"asyncio", "io", "os", "pathlib", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading"}
    assert not _imports_of(CONTRACTS, unless=lambda top: top not in doing)


_LOADED = "import sys, {modules}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"


def _loaded_by(*names: str) -> set[str]:
    """The top-level packages that are loaded once these modules of ours are."""
    program = _LOADED.format(modules=", ".join(f"{PACKAGE}.{name}" for name in names))
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {_paths()!r}; {program}"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def _paths() -> list[str]:
    return [str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)]


def test_loading_what_a_worker_needs_loads_nothing_but_pluggy():
    """What is imported on the way counts too; without `site`, so that nothing else has put itself there."""
    loaded = _loaded_by(*CONTRACTS, *LOADING)
    assert loaded - sys.stdlib_module_names - {"__main__", "__mp_main__"} == {PACKAGE, "pluggy"}


def test_loading_the_kernel_loads_no_web_framework():
    assert not WEB & _loaded_by(*KERNEL)
