"""Finding, reading and parsing agents.toml."""

from __future__ import annotations

import os
import time
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenthost.config import Config, config_path, default_config, load_config, load_environments
from agenthost.config.keys import SECTIONS, ProcessConfig, known_keys
from agenthost.config.loading import parse
from agenthost.errors import ConfigError

KEY = "0123456789abcdef-key"


def refused(call, *arguments, **named) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **named)
    return caught.value


# -- where the file is ---------------------------------------------------------------------------------------


def test_the_file_is_the_one_given_else_the_one_in_the_environment_else_agents_toml_here(project):
    project.write('[agents.given]\n[agents.both]\ntitle = "g"', "given.toml")
    project.write("[agents.named]", "named.toml")
    project.write("[agents.here]")
    environ = {"AGENTHOST_CONFIG": "named.toml"}
    assert set(load_config(project.folder / "given.toml", environ).agents) == {"given", "both"}
    assert set(load_config(environ=environ).agents) == {"named"}
    assert set(load_config(environ={"AGENTHOST_CONFIG": ""}).agents) == {"here"}
    assert str(config_path(None, environ)) == "named.toml"


def test_a_missing_file_says_where_it_was_looked_for_and_what_to_do(project):
    hint = "`agenthost add NAME` writes one; `agenthost dev FILE.py:OBJECT` needs none"
    error = refused(load_config, environ={})
    assert error.describe() == f"agents.toml: no such file (looked in {project.folder})\n  → {hint}"
    error = refused(load_config, environ={"AGENTHOST_CONFIG": "/nowhere/agents.toml"})
    assert error.describe() == f"/nowhere/agents.toml: no such file (named by AGENTHOST_CONFIG)\n  → {hint}"
    error = refused(load_config, project.folder / "conf" / "my.toml", {})
    assert error.problems == (f"conf/my.toml: no such file (looked in {project.folder}/conf)",)


def test_a_file_that_cannot_be_read_says_why(project):
    (project.folder / "agents.toml").mkdir()
    error = refused(load_config, environ={})
    assert error.describe() == "agents.toml: cannot be read: Is a directory\n  → make it a file this user may read"


def test_a_path_that_no_file_can_have_is_refused(project):
    error = refused(load_config, environ={"AGENTHOST_CONFIG": "a\0b"})
    assert error.describe() == "'a\\x00b': cannot be read: not a path\n  → name a file"


def test_the_file_is_called_as_it_was_given_but_relative_below_the_current_directory(project):
    file = project.write("[serve]", "my.toml")
    problem = "1: unknown table [serve]; did you mean [server]?"
    assert refused(load_config, file, {}).problems == (f"my.toml:{problem}",)
    os.chdir(project.folder.parent)
    assert refused(load_config, file, {}).problems == (f"{project.folder.name}/my.toml:{problem}",)
    (project.folder / "elsewhere").mkdir()
    os.chdir(project.folder / "elsewhere")
    assert refused(load_config, file, {}).problems == (f"{file}:{problem}",)
    assert refused(load_config, os.path.join("..", "my.toml"), {}).problems == (f"../my.toml:{problem}",)


def test_relative_paths_start_from_the_folder_of_the_file(project):
    (project.folder / "conf").mkdir()
    project.write("[agents.echo]", "conf/my.toml")
    config = load_config(project.folder / "conf/my.toml", {})
    assert (config.base_dir, config.path) == (project.folder / "conf", project.folder / "conf/my.toml")
    os.chdir(project.folder / "conf")
    assert load_config(environ={"AGENTHOST_CONFIG": "my.toml"}).base_dir == project.folder / "conf"


# -- what is not TOML ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server]\nport 8000", "agents.toml:2: not TOML: Expected '=' after a key in a key/value pair, at column 6"),
        ("a = 1\n\nb = gpt", "agents.toml:3: not TOML: Invalid value, at column 5"),
        ("[a]\nb = ", "agents.toml:2: not TOML: Invalid value, at the end of the file"),
        ("[agents.x]\n[agents.x]\n", "agents.toml:2: not TOML: Cannot declare ('agents', 'x') twice, at column 10"),
        ("[agents.x]\nuse = 'a'\nuse = 'b'\n", "agents.toml:3: not TOML: Cannot overwrite a value, at column 10"),
        ("\ufeff[server]", "agents.toml:1: starts with a byte order mark; save it as UTF-8 without one"),
    ],
)
def test_a_syntax_error_is_told_with_its_line(project, text, problem):
    assert project.problems(text) == [problem]


def test_a_file_that_is_not_utf8_is_told_with_the_line_of_the_first_wrong_byte(project):
    (project.folder / "agents.toml").write_bytes(b"[server]\nhost = '\xe9'\n")
    assert refused(load_config, environ={}).problems == ("agents.toml:2: not UTF-8; save it as UTF-8",)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000 + "]" * 5000, ".".join("a" * 5000) + " = 1", "[" + "a." * 60 + "a]"]
)
def test_a_tree_that_is_too_deep_is_refused(project, text):
    assert project.problems(text) == ["agents.toml: nested more than 40 levels deep"]


def test_a_number_of_5000_digits_is_refused(project):
    problems = project.problems("[server]\nport = " + "1" * 5000)
    assert len(problems) == 1
    assert problems[0].startswith("agents.toml: not TOML: Exceeds the limit")
    assert len(problems[0]) < 200


# -- the whole -----------------------------------------------------------------------------------------------

COMPLETE = """
[server]
host = "127.0.0.1"
port = 8000
serve = "configured"               # or "all" that is installed
public_url = ""                    # cards, links, root path, allowed Host; empty: from the request
trusted_proxies = []               # whose X-Forwarded-* is believed
drain = "30s"                      # how long a stop waits for running runs
max_body = "10MiB"
cors_origins = []
allowed_hosts = []

[store]
url = "sqlite:///agenthost.db"     # or "memory:"
durability = "full"                # or "normal"

[auth]
use = ["api-keys"]                 # authenticators, in order; one not named here never runs
allow_unauthenticated = false      # serve without any: only behind something that authenticates
[[auth.keys]]
id = "web"
principal = "acme-web"             # several keys may share one principal
secret = { env = "ACME_WEB_KEY" }  # or { file = "…" }, or { sha256 = "…" } from `agenthost keys new`; never a literal
agents = ["echo", "risk-*"]        # required; ["*"] for all
admin = false
concurrency = 64                   # this principal's running runs; beyond: 429

[plugins]
block = []                         # distributions not to load

[defaults]                         # any key of [agents.*]
timeout = "10m"
load_timeout = "30s"
concurrency = 256                  # runs at once; beyond: queued
queue = 1024                       # queued; beyond: 503 + Retry-After
on_busy_thread = "reject"          # reject (409) | queue | cancel-running
placement = "in-process"

[agents.echo]                      # the entry point of that name

[agents.billing]
use = "acme-billing:billing"       # entry point, dist:entry-point, module:attribute or file.py:attribute
title = "Billing"
description = "Answers billing questions"
owner = "finance@acme.example"     # in /health, logs and metrics
enabled = true
required = true                    # /health/ready is red without it (default true)
protocols = ["native", "openai"]   # default: all that are installed
settings = { model = "gpt-5", api_key = { env = "BILLING_OPENAI_KEY" } }     # validated by the plugin's own Settings
placement = "process"
env = { OPENAI_API_KEY = { env = "BILLING_OPENAI_KEY" }, REGION = "eu", env = "test" }    # a worker's own variables
process = { workers = 2, max_memory = "1GiB" }
"""
ENVIRON = {"ACME_WEB_KEY": KEY, "BILLING_OPENAI_KEY": "sk-billing"}


def test_the_complete_example_loads(project):
    config = project.load(COMPLETE, ENVIRON)
    assert (config.server.host, config.server.port, config.server.serve) == ("127.0.0.1", 8000, "configured")
    assert (config.server.drain, config.server.max_body) == (30.0, 10 * 2**20)
    assert config.store == Config().store
    (web,) = config.auth.keys
    assert (web.id, web.principal, web.agents, web.admin, web.concurrency) == (
        "web",
        "acme-web",
        ("echo", "risk-*"),
        False,
        64,
    )
    assert web.secret.get_secret_value() == KEY
    assert list(config.agents) == ["echo", "billing"]
    assert config.agents["echo"] == config.defaults == Config().defaults
    billing = config.agents["billing"]
    assert billing.settings == {"model": "gpt-5", "api_key": "sk-billing"}
    assert type(billing.settings["api_key"]) is str
    assert (billing.use, billing.protocols) == ("acme-billing:billing", ("native", "openai"))
    assert (billing.placement, billing.timeout) == ("process", 600.0)
    assert billing.env == {"OPENAI_API_KEY": "sk-billing", "REGION": "eu", "env": "test"}
    assert {type(value) for value in billing.env.values()} == {str}
    assert billing.process == ProcessConfig(workers=2, max_memory=2**30)


def test_an_empty_file_is_every_default(project):
    config = project.load("")
    path = project.folder / "agents.toml"
    assert config == Config(path=path, files=frozenset({path}), base_dir=project.folder)


def test_loading_twice_gives_equal_configurations_and_a_change_an_unequal_one(project):
    config = project.load(COMPLETE, ENVIRON)
    assert project.load(COMPLETE, ENVIRON) == config
    assert project.load(COMPLETE.replace("gpt-5", "gpt-6"), ENVIRON) != config
    rotated = project.load(COMPLETE, {**ENVIRON, "ACME_WEB_KEY": KEY + "2"})
    assert rotated != config
    assert rotated.agents == config.agents


def test_no_secret_is_in_the_text_of_a_configuration(project):
    config = project.load(COMPLETE, ENVIRON)
    for text in (repr(config), str(config), repr(config.auth.keys[0]), repr(config.agents["billing"])):
        assert KEY not in text
        assert "sk-billing" not in text


def test_secrets_are_the_keys_the_settings_and_the_variables_that_are_named_like_a_secret(project):
    text = COMPLETE + (
        '[agents.more.env]\nACME_TOKEN = { env = "TOKEN" }\nPLACE = { env = "MODEL" }\n'
        '[agents.more.settings]\nmodel = { env = "MODEL" }\ntokens = { alice = { file = "t" }, bob = "" }\n'
        'backup_keys = "no secret"\napi_keys = [{ env = "ACME_WEB_KEY" }, { env = "B" }]\nmax_tokens = "12"\n'
    )
    project.write("from-file\n", "t")
    config = project.load(text, {**ENVIRON, "MODEL": "m", "B": "second-key", "TOKEN": "of-worker"})
    assert config.secrets() == {KEY, "sk-billing", "from-file", "second-key", "of-worker"}


def test_a_configuration_cannot_be_changed(project):
    config = project.load(COMPLETE, ENVIRON)
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1


def test_without_a_file_there_are_the_defaults_and_the_key_of_the_environment(project):
    config = default_config({})
    assert config == Config(base_dir=project.folder)
    assert (config.path, config.agents, config.secrets()) == (None, {}, frozenset())
    (key,) = default_config({"AGENTHOST_API_KEY": KEY}).auth.keys
    assert (key.id, key.principal, key.agents, key.admin) == ("default", "default", ("*",), True)
    assert key.secret.get_secret_value() == KEY


def test_a_bad_key_in_the_environment_is_refused_without_a_file_too(project):
    error = refused(default_config, {"AGENTHOST_API_KEY": ""})
    assert error.problems == ("AGENTHOST_API_KEY: the key is empty; `agenthost keys new ID` makes a good one",)


def test_a_file_of_1000_agents_loads_within_a_second(project):
    agent = (
        '[agents.a{0}]\nuse = "m:a{0}"\ntitle = "Agent {0}"\ntimeout = "5m"\n'
        "settings = {{ n = {0}, key = {{ x = [1] }} }}\n"
    )
    project.write('[defaults]\nqueue = 7\nowner = "me"\n' + "".join(agent.format(number) for number in range(1000)))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        config = load_config(environ={})
        times.append(time.perf_counter() - start)
    assert min(times) <= 1.0
    assert len(config.agents) == 1000
    assert config.agents["a999"].queue == 7


def test_1000_wrong_agents_are_told_within_two_seconds(project):
    project.write("".join(f"[agents.a{number}]\nplacment = 'x'\ntimeout = 'y'\n" for number in range(1000)))
    start = time.perf_counter()
    assert len(refused(load_config, environ={}).problems) == 2000
    assert time.perf_counter() - start <= 2.0


# -- whatever is in the file ---------------------------------------------------------------------------------

known = sorted({*SECTIONS, *(key for table in (*SECTIONS, "auth.keys") for key in known_keys(table)), "env", "load"})
names = st.one_of(
    st.sampled_from(known),
    st.sampled_from(["placment", "Bad Name", "", "api_key", "tokens", "a\nb", "\u202e", "sha256", "file", "default"]),
    st.text(max_size=8),
)
scalars = st.one_of(
    st.sampled_from(["10m", "10MiB", "*", "127.0.0.1", "https://x.example", "memory:", "reject", "X", "../nope", "\0"]),
    st.text(max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=8,
)
tables = st.dictionaries(names, values, max_size=5)
documents = st.fixed_dictionaries(
    {},
    optional={
        "server": tables,
        "store": tables,
        "auth": st.one_of(tables, st.fixed_dictionaries({"keys": st.lists(tables, max_size=3)})),
        "plugins": tables,
        "defaults": tables,
        "agents": st.dictionaries(names, tables, max_size=3),
        "zonk": values,
    },
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if "." in repr(value) or "e" in repr(value) else f"{value}.0"
    return quoted(value) if isinstance(value, str) else str(value)


def quoted(text: str) -> str:
    escaped = (
        character if character.isalnum() and character.isascii() else f"\\U{ord(character):08X}" for character in text
    )
    return '"' + "".join(escaped) + '"'


def problems_of_the_file(environ: dict[str, str]) -> tuple[str, ...]:
    try:
        load_config(environ=environ)
    except ConfigError as error:
        return error.problems
    return ()


@given(documents)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_whatever_the_file_says_only_a_configuration_error_comes_of_it(project, tree):
    text = "\n".join(f"{quoted(key)} = {toml(value)}" for key, value in tree.items())
    assert tomllib.loads(text) == tree
    project.write(text)
    for problem in problems_of_the_file({"X": "from-outside"}):
        assert len(problem.splitlines()) == 1
        assert problem.isprintable()
        assert problem.startswith("agents.toml:")
        assert "from-outside" not in problem


@given(st.text(alphabet="agents.=[]{}\"'# \n\x00\u00e91", max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_the_bytes_are_only_a_configuration_error_comes_of_them(project, text):
    project.write(text)
    assert all(len(problem.splitlines()) == 1 for problem in problems_of_the_file({}))


def test_the_tree_that_is_parsed_is_what_the_standard_parser_gives():
    assert parse("[a]\nb = 1", "x") == {"a": {"b": 1}}


# ── environments alone ────────────────────────────────────────────────────────────────────────────────────────────────

IMAGE = """
[auth]
use = ["api-keys"]
[[auth.keys]]
id = "web"
principal = "acme-web"
secret = { env = "ACME_WEB_KEY" }
agents = ["*"]
[defaults]
timeout = { env = "TIMEOUT" }
environment = { lock = "all.lock" }
[agents.billing]
use = "acme-billing:billing"
settings = { api_key = { env = "BILLING_OPENAI_KEY" } }
environment = { requirements = [{ env = "WHEEL", default = "acme-billing==2.1" }, "-e ./more"] }
[agents.risk]
enabled = false
"""


def test_environments_are_read_without_any_secret_that_others_need(project):
    project.write(IMAGE)
    config = load_environments(environ={"AGENTHOST_API_KEY": "short"})
    billing, risk = config.agents["billing"], config.agents["risk"]
    assert billing.environment.requirements == ("acme-billing==2.1", "-e ./more")
    assert (billing.use, billing.settings) == ("acme-billing:billing", {})
    assert (risk.environment.lock, risk.enabled) == ("all.lock", False)
    assert config.auth.keys == ()
    assert config.base_dir == project.folder


def test_what_is_wrong_with_environments_is_told_all_the_same(project):
    project.write(IMAGE + "[agents.x]\nenvironment = { zonk = 1 }\n[agents.y]\nenabled = 3\n")
    with pytest.raises(ConfigError) as caught:
        load_environments(environ={})
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "[agents.x] environment: unknown key 'zonk'; known here: requirements, lock, venv",
        "[agents.y] enabled: expected true or false, got an integer",
    ]
    project.write("agents = 1\ndefaults = 2\nserver = 3")
    with pytest.raises(ConfigError, match="expected a table, got an integer"):
        load_environments(environ={})


def test_the_environment_of_defaults_is_had_by_agents_without_one_of_their_own(project):
    config = project.load(
        '[defaults.environment]\nvenv = "envs/all"\n[agents.a]\n[agents.b.environment]\nlock = "b.lock"'
    )
    assert config.agents["a"].environment.venv == "envs/all"
    own = config.agents["b"].environment
    assert (own.requirements, own.lock, own.venv) == (None, "b.lock", None)
