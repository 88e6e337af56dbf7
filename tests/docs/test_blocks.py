"""Every block of README and the manual is run, or compared with what the code says."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from agenthost.agents import AgentSource, AgentSpec
from agenthost.blame import Blame
from agenthost.config import Config, StoreConfig, load_config
from agenthost.errors import ConfigError
from agenthost.finding import installed
from agenthost.http.app import create_app
from agenthost.importing import import_object
from agenthost.registering import REGISTRARS, call_hooks
from tests.docs.pages import MANUAL, ROOT, Block, Page, blocks, page, pages
from tests.docs.session import INSTALLS, Session, as_told, commands

DISTRIBUTIONS = {"agenthost", *(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())}

NEEDS = {"frameworks.md": pytest.mark.framework, "protocols.md": pytest.mark.protocol}
"""Pages that need what not everybody has installed, by the mark of the tests that have it."""

each_page = pytest.mark.parametrize("one", pages(), ids=lambda one: one.name)


def each(*kinds: str) -> pytest.MarkDecorator:
    """Run a test for every block of these kinds."""
    return pytest.mark.parametrize("block", blocks(*kinds), ids=lambda block: block.shown)


def test_every_block_is_of_a_kind_that_is_checked():
    """`toml` and `python` here, `console` in sessions, `text` with the block before it."""
    assert not [block.shown for block in blocks() if block.kind not in {"toml", "python", "console", "text"}]
    known = {"wrong", "pyproject", "error"}
    words = {word for one in pages() for block in one.blocks for word in block.words}
    assert {word for word in words if "=" not in word} <= known
    assert {word.partition("=")[0] for word in words if "=" in word} <= {"file"}


@each_page
def test_no_block_is_hidden_in_an_indentation(one: Page):
    assert not re.search(r"^ {4,}\S", one.prose, re.MULTILINE)


@each_page
def test_a_page_begins_with_its_title_and_the_question_it_answers(one: Page):
    title, blank, question = one.text.split("\n", 2)
    assert re.fullmatch(r"# \S.*", title)
    assert blank == ""
    paragraph = question.partition("\n\n")[0]
    assert re.search(r"[.?]$", paragraph)
    assert one.headings(1) == [title[2:]]


@each_page
def test_links_lead_somewhere(one: Page):
    for target in re.findall(r"\]\(([^)\s]+)\)", one.prose):
        file, _, heading = target.partition("#")
        path = one.path if not file else one.path.parent / file
        assert path.exists(), target
        if heading:
            slugs = {_slug(found) for found in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}
            assert heading in slugs, target


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# ── toml ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@each("toml")
def test_a_configuration_is_one(block: Block, tmp_path: Path):
    if "pyproject" in block.words:
        _check_project(block)
        return
    problem = _problem_of(block, tmp_path)
    if "wrong" in block.words:
        expected = _following(block)
        assert expected.kind == "text"
        assert expected.words == ("error",)
        assert problem == expected.text.rstrip("\n")
    else:
        assert problem == ""


def _check_project(block: Block) -> None:
    project = tomllib.loads(block.text)
    groups = project["project"]["entry-points"]
    assert groups
    assert set(groups) <= {"agenthost.agents", "agenthost.plugins"}
    assert any(need.startswith("agenthost") for need in project["project"]["dependencies"])


def _problem_of(block: Block, folder: Path) -> str:
    """What the host says of this configuration, where every variable and file it names is there."""
    variables = dict.fromkeys(re.findall(r'env = "([A-Z_]+)"', block.text), "0123456789abcdef0123456789abcdef")
    variables = {name: f"{value}{number}" for number, (name, value) in enumerate(variables.items())}
    if "wrong" in block.words:
        variables = {}
    for name in re.findall(r'file = "([^"]+)"', block.text):
        target = folder / name.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("fedcba9876543210fedcba9876543210")
    path = folder / "agents.toml"
    path.write_text(block.text.replace('file = "/', 'file = "'))
    try:
        load_config(path, variables)
    except ConfigError as error:
        return error.describe().replace(str(path), "agents.toml")
    return ""


def _following(block: Block) -> Block:
    around = page(block.page).blocks
    return around[around.index(block) + 1]


def test_every_text_is_the_answer_to_something():
    for one in pages():
        for before, block in zip([None, *one.blocks], one.blocks, strict=False):
            if block.kind == "text":
                assert block.words == ("error",)
                assert before is not None
                assert "wrong" in before.words


# ── python ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def module(block: Block) -> Iterator[ModuleType]:
    """The block, executed as a module."""
    made = ModuleType(f"page_{re.sub(r'[^a-z0-9]', '_', block.shown.lower())}")
    sys.modules[made.__name__] = made
    exec(compile(block.text, block.shown, "exec"), made.__dict__)
    yield made
    del sys.modules[made.__name__]


def _scripts(block: Block) -> bool:
    """Whether a session runs this block as a program, or serves it."""
    name = block.named("file")
    typed = page(block.page).text
    return name is not None and (f"$ python3 {name}" in typed or f"$ agenthost dev {name}:" in typed)


@pytest.mark.parametrize(
    "block", [block for block in blocks("python") if not _scripts(block)], ids=lambda block: block.shown
)
def test_an_agent_in_a_page_answers_and_a_plugin_registers(block: Block, module: ModuleType):
    checked = [*_agents_answer(module), *_hooks_register(module), *_servers_answer(module)]
    assert checked, "there is nothing in this block that can be tried"


def _own(module: ModuleType) -> Mapping[str, Any]:
    """What the block defines for all to see."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and _is_own(value, module)}


def _is_own(value: Any, module: ModuleType) -> bool:
    home = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    return getattr(home, "__module__", "") == module.__name__


def _agents_answer(module: ModuleType) -> list[str]:
    found = {name: value for name, value in _own(module).items() if _is_agent(name, value)}
    for name, value in found.items():
        asyncio.run(_answers(name.lower().replace("_", "-"), value))
    return list(found)


def _is_agent(name: str, value: Any) -> bool:
    if name in REGISTRARS or dataclasses.is_dataclass(value):
        return False
    if callable(getattr(value, "run", None)):
        return True
    if not inspect.isroutine(value):
        return False
    parameters = list(inspect.signature(value).parameters)
    return parameters == ["ctx"] or name == "agent"


async def _answers(name: str, value: Any) -> None:
    """Serve it beside what is installed, and ask it."""
    loads = {one.name: partial(import_object, one.value) for one in installed()} | {name: lambda: value}
    specs = [AgentSpec(name=one, source=AgentSource(use=one, load=load)) for one, load in loads.items()]
    app: Any = create_app(Config(store=StoreConfig(url="memory:")), dev=True, specs=specs)
    await app.host.start(settle=20.0)
    try:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            card = (await client.get(f"/agents/{name}/")).json()
            assert card["state"] == "ready", (await client.get("/health")).text
            body: dict[str, Any] = {"prompt": "hello", "thread_id": "one"}
            if "input_schema" in card:
                body["input"] = card["input_schema"]["examples"][0]
            reply = await client.post(f"/agents/{name}/invoke", json=body)
            assert reply.status_code == 200, reply.text
            assert reply.json()["message"] or reply.json()["status"] == "paused"
    finally:
        await app.host.stop(0.0)


def _hooks_register(module: ModuleType) -> list[str]:
    outcome = call_hooks(module, module.__name__, Blame(module.__name__), Config(), REGISTRARS)
    if not outcome.hooks:
        return []
    assert not outcome.failures, outcome.failures
    assert all(outcome.offers[hook] for hook in outcome.hooks)
    return [*outcome.hooks]


def _servers_answer(module: ModuleType) -> list[str]:
    app = getattr(module, "app", None)
    if app is None:
        return []
    asyncio.run(_serves(app))
    return ["app"]


async def _serves(app: Any) -> None:
    """Ask it, between the start and the end of its lifespan."""
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told.put_nowait({"type": "lifespan.startup"})
    lifespan = asyncio.create_task(app({"type": "lifespan"}, told.get, said.put))
    assert (await said.get())["type"] == "lifespan.startup.complete"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        reply = await client.post("/invoke", json={"prompt": "hello"})
        assert reply.status_code == 200, reply.text
    told.put_nowait({"type": "lifespan.shutdown"})
    await lifespan


def _marked(one: Page) -> Any:
    return pytest.param(one, id=one.name, marks=NEEDS.get(one.name, ()))


# ── console ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("one", [_marked(one) for one in pages()])
def test_what_a_page_types_prints_what_it_says(one: Page, tmp_path: Path):
    with Session(tmp_path) as session:
        _typed(one, session)


def test_where_there_is_no_curl_its_stand_in_prints_the_same(tmp_path: Path):
    with Session(tmp_path, stand_in=True) as session:
        _typed(page("http.md"), session)


def _typed(one: Page, session: Session) -> None:
    for block in one.blocks:
        name = block.named("file")
        if name is not None:
            session.write(name, block.text)
        for command in commands(block) if block.kind == "console" else ():
            printed = session.run(command)
            if not as_told(command, printed):
                pytest.fail(f"{block.shown}: $ {command.text}\nprinted\n{printed}\nnot\n{command.expected}")


def test_what_is_installed_exists():
    """`pip install` names the distributions of this repository, and uv; `-e` a folder of the reader's own."""
    for block in blocks("console"):
        for command in commands(block):
            for part in command.text.split(" && "):
                if INSTALLS.match(part) and " install " in part:
                    names = [word for word in part.partition(" install ")[2].split() if not word.startswith(("-", "."))]
                    assert set(names) <= DISTRIBUTIONS | {"uv"}, f"{block.shown}: {part}"


def test_the_manual_is_shipped_with_the_package():
    assert MANUAL.parent.name == "agenthost"
    assert json.dumps(sorted(path.name for path in MANUAL.iterdir() if path.suffix != ".md")) == "[]"
