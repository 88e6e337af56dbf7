"""What is wrong with a file: every problem at once, each text as an operator reads it."""

from __future__ import annotations

import hashlib

import pytest

from agenthost.config.keys import known_keys

KEY = "0123456789abcdef-key"
OTHER = "another-key-of-20-bytes"
GOOD_KEY = '[[auth.keys]]\nid = "web"\nprincipal = "p"\nsecret = { env = "K" }\nagents = ["*"]\n'
LITERAL = 'a secret is written out here; use { env = "X" } or { file = "…" }'
ANOTHER = "`agenthost keys new ID` makes another"
AGENT_KEYS = ", ".join(known_keys("agents"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[agents.echo]\nplacment = 'x'", "2: [agents.echo] unknown key 'placment'; did you mean 'placement'?"),
        (
            "[agents.echo]\nload-timeout = 'x'",
            "2: [agents.echo] unknown key 'load-timeout'; did you mean 'load_timeout'?",
        ),
        ("[agents.echo]\nPLACEMENT = 'x'", "2: [agents.echo] unknown key 'PLACEMENT'; did you mean 'placement'?"),
        ("[agents.echo]\nzonk = 'x'", f"2: [agents.echo] unknown key 'zonk'; known here: {AGENT_KEYS}"),
        ("[agents.echo]\nport = 1", "2: [agents.echo] unknown key 'port'; it belongs under [server]"),
        ("[server]\ntimeout = 1", "2: [server] unknown key 'timeout'; it belongs under [agents.NAME]"),
        ("[server]\nadmin = true", "2: [server] unknown key 'admin'; it belongs under [[auth.keys]]"),
        (
            "[store]\nzonk.a = 1",
            "2: [store] unknown key 'zonk'; known here: url, durability, run_retention, thread_retention",
        ),
        ("[plugins]\n\nblocked = []", "3: [plugins] unknown key 'blocked'; did you mean 'block'?"),
        ("[auth]\nkey = []", "2: [auth] unknown key 'key'; did you mean 'keys'?"),
        ("[defaults]\nplacment = 'x'", "2: [defaults] unknown key 'placment'; did you mean 'placement'?"),
        ("[defaults]\nuse = 'x'", "2: [defaults] 'use' is one agent's own; write it under [agents.NAME]"),
        ("[defaults.settings]", "1: [defaults] 'settings' is one agent's own; write it under [agents.NAME]"),
        ("port = 1", "1: unknown key 'port'; it belongs under [server]"),
        ("zonk = 1", "1: unknown key 'zonk'; every key stands in a table"),
        ("[agnets.echo]", "1: unknown table [agnets]; did you mean [agents]?"),
        ("[billing]", "1: unknown table [billing]; an agent is written [agents.billing]"),
        ('["a\\nb"]', '1: unknown table ["a\\nb"]; an agent is written [agents."a\\nb"]'),
        ("agents = 1", "1: [agents]: expected a table, got an integer"),
        ("[agents]\necho = true", "2: [agents.echo]: expected a table, got a boolean"),
        ("[[agents.echo]]", "1: [agents.echo]: expected a table, got an array"),
        ("server = []", "1: [server]: expected a table, got an array"),
        ("[auth]\nkeys = {}", "2: [auth] keys: expected tables written [[auth.keys]], got a table"),
        ("[auth]\nkeys = ['x']", "2: [[auth.keys]]: expected a table, got a string"),
        ("[agents.x]\nenvironment = 'x'", "2: [agents.x] environment: expected a table, got a string"),
        (
            "[agents.x]\nenvironment = { requirments = ['x'] }",
            "2: [agents.x] environment: unknown key 'requirments'; did you mean 'requirements'?",
        ),
        (
            "[agents.x.environment]\nport = 1",
            "2: [agents.x] environment: unknown key 'port'; known here: requirements, lock, venv",
        ),
        (
            "[agents.x]\nenvironment = {}",
            "2: [agents.x] environment: write one of requirements, lock and venv, not an empty table",
        ),
        (
            "[defaults]\nenvironment = { lock = 'a', venv = 'b' }",
            "2: [defaults] environment: write one of requirements, lock and venv, not lock and venv",
        ),
        (
            "[agents.x]\nenvironment = { requirements = [] }",
            "2: [agents.x] environment.requirements: expected at least one requirement",
        ),
        (
            "[agents.x]\nenvironment = { requirements = [\n'six',\n7] }",
            "4: [agents.x] environment.requirements: expected a string, got an integer",
        ),
        (
            "[agents.x]\nenvironment.requirements = ['--index-url https://x']",
            (
                "2: [agents.x] environment.requirements: '--index-url https://x' is no requirement; write "
                '"acme-billing==2.1", "./folder" or "-e ./folder"; '
                "options are for uv's own settings (UV_INDEX, uv.toml)"
            ),
        ),
        (
            "[agents.x]\nplacement = 'in-process'\nenvironment = { lock = 'a' }",
            "2: [agents.x] placement: an agent with an environment cannot run in-process; remove the line",
        ),
        (
            "[agents.x]\nplacement = 'in-process'\n[defaults]\nenvironment = { lock = 'a' }",
            "2: [agents.x] placement: an agent with an environment cannot run in-process; remove the line",
        ),
        ("[agents.x]\nprocess = 3", "2: [agents.x] process: expected a table, got an integer"),
        (
            "[agents.x]\nprocess = { worker = 3 }",
            "2: [agents.x] process: unknown key 'worker'; did you mean 'workers'?",
        ),
        (
            "[agents.x]\nprocess = { workers = 0 }",
            "2: [agents.x] process.workers: expected a whole number from 1 to 64, which 0 is not",
        ),
        (
            "[agents.x.process]\nworkers = 65",
            "2: [agents.x] process.workers: expected a whole number from 1 to 64, which 65 is not",
        ),
        (
            "[agents.x]\nprocess = { max_memory = '1 GB' }",
            (
                "2: [agents.x] process.max_memory: '1 GB' is not a size; "
                'write "512B", "64kB", "10MiB", "1GiB" or a number of bytes'
            ),
        ),
        ("[agents.x]\nsettings = 'x'", "2: [agents.x] settings: expected a table, got a string"),
        ("[server]\nport = '80'", "2: [server] port: expected a whole number from 0 to 65535, got a string"),
        ("[server]\ncors_origins = [\n1]", "3: [server] cors_origins: expected a string, got an integer"),
        (
            "[agents.Bad_Name]",
            (
                "1: [agents.Bad_Name] is not a name for an agent: use a-z, 0-9 and '-', at most 63 characters, "
                "not '-' first; 'bad-name' would do"
            ),
        ),
        (
            '[agents."\\u202e"]',
            (
                "1: [agents.\"\\u202e\"] is not a name for an agent: use a-z, 0-9 and '-', at most 63 characters, "
                "not '-' first"
            ),
        ),
    ],
)
def test_a_wrong_key_is_told_with_file_line_table_and_remedy(project, text, problem):
    assert project.problems(text) == [f"agents.toml:{problem}"]


def test_every_problem_is_told_at_once_in_the_order_of_the_file(project):
    text = """
[agents.a]
placment = "x"
timeout = "10 parsecs"
[server]
port = 70000
[defaults]
queue = -1
[agents.b]
use = ""
settings = { password = "hunter2", x = { env = "GONE" } }
"""
    assert project.problems(text, {"AGENTHOST_API_KEY": "short"}) == [
        "AGENTHOST_API_KEY: the key is shorter than 16 bytes; `agenthost keys new ID` makes a good one",
        "agents.toml:3: [agents.a] unknown key 'placment'; did you mean 'placement'?",
        (
            "agents.toml:4: [agents.a] timeout: '10 parsecs' is not a duration; "
            'write "500ms", "30s", "10m", "1h30m", "7d" or a number of seconds'
        ),
        "agents.toml:6: [server] port: expected a whole number from 0 to 65535, which 70000 is not",
        "agents.toml:8: [defaults] queue: expected a whole number, 0 or more, which -1 is not",
        "agents.toml:10: [agents.b] use: expected a name, got an empty string",
        f"agents.toml:11: [agents.b] settings.password: {LITERAL}",
    ]


# -- defaults ------------------------------------------------------------------------------------------------


def test_an_agent_has_what_defaults_say_unless_it_says_otherwise(project):
    config = project.load(
        "[defaults]\ntimeout = '5m'\nowner = { env = 'OWNER' }\nprotocols = ['native']\n"
        "[agents.a]\nowner = 'b'\nprotocols = []\n[agents.c]\nsettings = { x = 1 }\n",
        {"OWNER": "me"},
    )
    a, c = config.agents["a"], config.agents["c"]
    assert (a.timeout, a.owner, a.protocols) == (300.0, "b", ())
    assert (c.timeout, c.owner, c.protocols, c.settings) == (300.0, "me", ("native",), {"x": 1})
    assert (config.defaults.timeout, config.defaults.owner, config.defaults.settings) == (300.0, "me", {})


def test_a_problem_in_defaults_is_told_once_however_many_agents_inherit_it(project):
    assert project.problems("[agents.a]\n[agents.b]\n[defaults]\ntimeout = 0\nowner = { env = 'GONE' }") == [
        "agents.toml:4: [defaults] timeout: expected a duration of more than 0",
        "agents.toml:5: [defaults] owner: environment variable GONE is not set; set it, or give { env, default }",
    ]


# -- how long things are kept --------------------------------------------------------------------------------


def test_runs_are_kept_for_a_month_threads_for_ever_and_questions_for_a_week(project):
    config = project.load("[agents.a]")
    day = 86_400.0
    assert (config.store.run_retention, config.store.thread_retention) == (30 * day, 0.0)
    assert config.agents["a"].interrupt_ttl == 7 * day


def test_how_long_things_are_kept_is_a_setting_and_nothing_is_asked_for_no_time_at_all(project):
    config = project.load(
        "[store]\nrun_retention = 0\nthread_retention = '90d'\n[defaults]\ninterrupt_ttl = '1h'\n"
        "[agents.a]\n[agents.b]\ninterrupt_ttl = '2m'"
    )
    assert (config.store.run_retention, config.store.thread_retention) == (0.0, 90 * 86_400.0)
    assert [agent.interrupt_ttl for agent in config.agents.values()] == [3600.0, 120.0]
    assert project.problems("[store]\nrun_retention = '-1d'\n[agents.a]\ninterrupt_ttl = 0") == [
        (
            "agents.toml:2: [store] run_retention: '-1d' is not a duration; "
            'write "500ms", "30s", "10m", "1h30m", "7d" or a number of seconds'
        ),
        "agents.toml:4: [agents.a] interrupt_ttl: expected a duration of more than 0",
    ]


# -- keys ----------------------------------------------------------------------------------------------------


def test_a_key_needs_id_principal_secret_and_agents(project):
    assert project.problems("[auth]\n[[auth.keys]]\nadmin = true") == [
        "agents.toml:2: [[auth.keys]] has no 'secret'; add it, such as secret = { env = \"WEB_KEY\" }",
        "agents.toml:2: [[auth.keys]] has no 'id'; add it, such as id = \"web\"",
        "agents.toml:2: [[auth.keys]] has no 'principal'; add it, such as principal = \"acme-web\"",
        "agents.toml:2: [[auth.keys]] has no 'agents'; add it, such as agents = [\"*\"]",
    ]


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("'literal'", 'secret: a secret is written out here; use { env = "X" }, { file = "…" } or { sha256 = "…" }'),
        (
            "{ env = 'K', default = 'literal' }",
            'secret.default: a secret is written out here; use { env = "X" }, { file = "…" } or { sha256 = "…" }',
        ),
        ("{ env = 'GONE' }", "secret: environment variable GONE is not set; set it, or give { env, default }"),
        ("{ file = 'gone' }", "secret: file 'gone' cannot be read: No such file or directory"),
        ("{ env = 'EMPTY' }", "secret: the key is empty; `agenthost keys new ID` makes a good one"),
        ("''", "secret: the key is empty; `agenthost keys new ID` makes a good one"),
        ("{ env = 'SHORT' }", "secret: the key is shorter than 16 bytes; `agenthost keys new ID` makes a good one"),
        ("{ file = 'short' }", "secret: the key is shorter than 16 bytes; `agenthost keys new ID` makes a good one"),
        (
            "{ env = 'SPACED' }",
            "secret: the key has characters that no header can carry; `agenthost keys new ID` makes a good one",
        ),
        ("{ sha256 = 'abc' }", "secret.sha256: expected 64 hex digits, as `agenthost keys new ID` prints them"),
        ("{ sha256 = 1 }", "secret.sha256: expected a string, got an integer"),
        (
            "{ sha = 'x' }",
            (
                'secret: expected a string, got a table; write { env = "X" }, { file = "…" } or { sha256 = "…" } '
                "from `agenthost keys new`"
            ),
        ),
    ],
)
def test_a_bad_secret_is_told_and_never_shown(project, secret, problem):
    project.write("short\n", "short")
    environ = {"EMPTY": "", "SHORT": "fifteen-bytes-x", "SPACED": "sixteen bytes or more", "K": KEY}
    text = GOOD_KEY.replace('{ env = "K" }', secret)
    assert project.problems(text, environ) == [f"agents.toml:4: [[auth.keys]] {problem}"]


def test_a_digest_stands_inside_secret(project):
    text = GOOD_KEY.replace('secret = { env = "K" }', f'sha256 = "{"a" * 64}"')
    assert project.problems(text) == [
        'agents.toml:4: [[auth.keys]] sha256: stands inside secret: secret = { sha256 = "…" }'
    ]
    config = project.load(GOOD_KEY.replace('{ env = "K" }', f'{{ sha256 = "{"A" * 64}" }}'))
    assert (config.auth.keys[0].secret, config.auth.keys[0].sha256) == (None, "a" * 64)


def test_a_secret_may_stand_in_a_file_and_loses_the_newline_at_its_end(project):
    project.write(KEY + "\r\n", "key")
    config = project.load(GOOD_KEY.replace('{ env = "K" }', '{ file = "key" }'))
    assert config.auth.keys[0].secret.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('id = "a b"', "2: [[auth.keys]] id: 'a b' is not a key id; use letters, digits, '.', '_' and '-', at most 63"),
        ('principal = ""', "3: [[auth.keys]] principal: '' is not a principal; use 1 to 200 printable characters"),
        ('agents = ["Risk*"]', "5: [[auth.keys]] agents: 'Risk*' is not an agent's name or a pattern like 'risk-*'"),
        ('agents = "*"', "5: [[auth.keys]] agents: expected an array, got a string"),
    ],
)
def test_the_rest_of_a_key_is_checked(project, line, problem):
    lines = [line if old.startswith(line.split()[0]) else old for old in GOOD_KEY.splitlines()]
    assert project.problems("\n".join(lines), {"K": KEY}) == [f"agents.toml:{problem}"]


def test_several_keys_may_share_a_principal(project):
    second = GOOD_KEY.replace("web", "web2").replace('"K"', '"K2"')
    config = project.load(GOOD_KEY + second, {"K": KEY, "K2": OTHER, "AGENTHOST_API_KEY": "the-keys-of-environment"})
    assert [(key.id, key.principal) for key in config.auth.keys] == [
        ("web", "p"),
        ("web2", "p"),
        ("default", "default"),
    ]


def test_two_keys_of_one_id_and_two_of_one_secret_are_refused(project):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    third = GOOD_KEY.replace("web", "ci").replace('{ env = "K" }', f'{{ sha256 = "{digest}" }}')
    second = GOOD_KEY.replace('"K"', '"K2"')
    assert project.problems(GOOD_KEY + second + third, {"K": KEY, "K2": OTHER}) == [
        "agents.toml:7: [[auth.keys]] id: 'web' is another key's id already",
        f"agents.toml:14: [[auth.keys]] secret: keys 'web' and 'ci' have the same; {ANOTHER}",
    ]


def test_a_key_that_collides_with_the_one_of_the_environment_is_refused(project):
    text = GOOD_KEY.replace("web", "default")
    assert project.problems(text, {"K": KEY, "AGENTHOST_API_KEY": KEY}) == [
        "agents.toml:2: [[auth.keys]] id: 'default' is what the key of AGENTHOST_API_KEY is called; choose another",
        (
            "agents.toml:4: [[auth.keys]] secret: key 'default' has the one of AGENTHOST_API_KEY; "
            "`agenthost keys new ID` makes another"
        ),
    ]


def test_keys_that_no_authenticator_would_ask_for_are_refused(project):
    assert project.problems("[auth]\nuse = ['staff']\n" + GOOD_KEY, {"K": KEY}) == [
        "agents.toml:2: [auth] use: leaves out 'api-keys', so [[auth.keys]] would never be asked"
    ]
    assert project.load("[auth]\nuse = ['staff', 'api-keys']\n" + GOOD_KEY, {"K": KEY}).auth.use == (
        "staff",
        "api-keys",
    )
    assert project.load("[auth]\nuse = ['staff']", {"AGENTHOST_API_KEY": KEY}).auth.use == ("staff",)


@pytest.mark.parametrize("table", ["[agents.x.settings]", "[agents.x.env]", "[server]", "[agents.x]", "[zonk]"])
def test_a_literal_secret_stops_the_start_wherever_it_stands(project, table):
    problems = project.problems(f"{table}\nOPENAI_API_KEY = 'sk-very-secret'")
    assert any(
        problem.startswith("agents.toml:2: ")
        and problem.endswith('OPENAI_API_KEY: a secret is written out here; use { env = "X" } or { file = "…" }')
        for problem in problems
    )
    assert "sk-very-secret" not in "".join(problems)


def test_a_literal_secret_outside_every_table_is_told(project):
    assert project.problems("api_key = 'sk-very-secret'") == [
        'agents.toml:1: \'api_key\': a secret is written out here; use { env = "X" } or { file = "…" }',
        "agents.toml:1: unknown key 'api_key'; every key stands in a table",
    ]


def test_an_agent_may_be_called_like_a_secret(project):
    assert set(project.load("[agents.tokens]\nuse = 'x'\n[agents.secret]\ntitle = 'y'\n").agents) == {
        "tokens",
        "secret",
    }
