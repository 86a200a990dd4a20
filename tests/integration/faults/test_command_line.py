"""The command line against a real server: exit codes, tables, `--json`, words instead of traces.

Every command that there is gets called; a new one is found here by itself.
"""

import json
import os

import click
import pytest
from click.testing import CliRunner

from haechi.cli.main import main
from haechi.testing import packages
from haechi.testing.processes import PASSWORD, command, free_ports

from .conftest import check_texts

NOTHING = "nothing-there"
LOCAL = {"serve", "doctor", "openapi", "login", "logout", "agent", "media", "bundle"}
"""These do not ask a server, or not by the API."""
NO_REFERENCE = {
    ("package", "build"),  # of a folder, by the local Docker
    ("package", "check"),
    ("package", "init"),
    ("package", "pack"),
    ("package", "push"),
    ("package", "upload"),
    ("inventory", "import"),
    ("result", "post"),
    ("settings", "set"),
    ("settings", "unset"),
    ("baseimage", "map"),
    ("device", "create"),
    ("group", "create"),
    ("user", "create"),
    ("token", "create"),
    ("camera", "create"),
    ("camera", "still"),
    ("link", "create"),
    ("maintenance", "set"),
}
"""What their arguments name need not be there before; each is called elsewhere."""


def every_command():
    root = click.Context(main)
    for noun in main.list_commands(root):
        found = main.get_command(root, noun)
        if isinstance(found, click.Group):
            for verb in found.list_commands(root):
                yield (noun, verb), found.get_command(root, verb)
        else:
            yield (noun,), found


COMMANDS = dict(every_command())


def arguments(of):
    return [p for p in COMMANDS[of].params if isinstance(p, click.Argument) and p.required]


LISTS = [
    words
    for words in COMMANDS
    if words[0] not in LOCAL
    and not arguments(words)
    and words[-1] in {"list", "show", "export", "suggest"}
]
REFERENCES = [
    words
    for words in COMMANDS
    if words[0] not in LOCAL and arguments(words) and words not in NO_REFERENCE
]


@pytest.fixture(scope="module")
def home(server, tmp_path_factory):
    """Signed in as the administrator."""
    folder = tmp_path_factory.mktemp("home")
    done = command(
        *(f"--url={server.url}", "login", "admin", "--password-stdin"),
        home=folder,
        stdin=PASSWORD,
    )
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return folder


@pytest.fixture
def cli(home, monkeypatch, tmp_path):
    """In this process: (exit code, standard output, standard error)."""
    for name in [name for name in os.environ if name.startswith("HAECHI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.chdir(tmp_path)

    def run(*words, stdin=""):
        ended = CliRunner().invoke(main, [str(word) for word in words], input=stdin)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        assert "Traceback" not in ended.output
        return ended.exit_code, ended.stdout, ended.stderr

    return run


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(cli, words):
    code, out, _ = cli(*words, "--help")
    assert code == 0
    assert out.startswith("Usage:")
    for parameter in COMMANDS[words].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.opts[0] in out


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_lists_are_tables_for_people_and_json_for_programs(cli, words):
    code, table, error = cli(*words)
    assert code == 0, error
    assert not table.startswith(("[", "{")) or words == ("inventory", "export")
    code, out, error = cli("--json", *words)
    assert code == 0, error
    json.loads(out)


@pytest.mark.parametrize("words", REFERENCES, ids=" ".join)
def test_what_is_not_there_is_exit_code_3(cli, words):
    given = ["1" if p.name == "version" else NOTHING for p in arguments(words)]
    if words == ("metric", "compare"):
        given = [NOTHING, "2026-01-01T00:00:00Z"]
    stdin = f"{PASSWORD}-2\n"
    more = {
        ("user", "delete"): ["--yes"],
        ("user", "edit"): ["--role=viewer"],
        ("user", "reset-password"): ["--password-stdin"],
        ("device", "edit"): ["--description=x"],
        ("camera", "edit"): ["--description=x"],
        ("group", "edit"): ["--description=x"],
        ("package", "edit"): ["--author=x"],
        ("cluster", "plan"): ["--control-plane", NOTHING],
        ("cluster", "form"): ["--control-plane", NOTHING],
        ("cluster", "readdress"): ["--control-planes"],
    }.get(words, [])
    code, _, error = cli(*words, *given, *more, stdin=stdin)
    assert code == 3, (code, error)
    assert "✗" in error
    code, out, error = cli("--json", *words, *given, *more, stdin=stdin)
    assert (code, out) == (3, "")
    found = json.loads(error)
    assert found["status"] == 404
    check_texts(found)


def test_conflicts_are_exit_code_4(cli, tmp_path):
    assert cli("device", "create", "twice")[0] == 0
    code, _, error = cli("device", "create", "twice")
    assert code == 4
    assert "[inventory.duplicate_name]" in error
    for number, expected in ((1, 0), (2, 4)):
        file = tmp_path / f"{number}.zip"
        file.write_bytes(packages.sleeping("cli", version=str(number)))
        code, _, error = cli("package", "push", file, "--version=1")
        assert code == expected, error
    code, _, error = cli("--json", "package", "push", file, "--version=1")
    assert json.loads(error)["code"] == "packages.version_exists"


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["device", "nonsense"],
        ["device", "create"],
        ["device", "create", "x", "--nonsense"],
        ["device", "create", "x", "--port=many"],
        ["device", "create", "x" * 1000],
        ["device", "create", "x", "--gps=north"],
        ["camera", "create", "x", "ftp://127.0.0.1/"],
        ["inventory", "import", "/nowhere.json"],
        ["package", "push", "/nowhere", "--version=1"],
        ["build", "list", "--state=odd"],
        ["result", "list", "--from=yesterday"],
        ["settings", "set", "builds.timeout_s", "soon"],
    ],
)
def test_wrong_usage_is_exit_code_2(cli, words):
    code, out, error = cli(*words)
    assert code == 2, (code, error)
    assert not out
    assert error


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"cctvs": {}}', b'"text"', b"NaN"]
)
def test_files_that_are_no_inventory(cli, tmp_path, content):
    file = tmp_path / "inventory.json"
    file.write_bytes(content)
    code, _, error = cli("inventory", "import", file)
    assert code == 2, (code, error)
    assert "✗" in error or "Error" in error


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"class": "a"}'])
def test_files_that_are_no_results(cli, tmp_path, content):
    file = tmp_path / "results.json"
    file.write_bytes(content)
    code, _, error = cli("result", "post", file)
    assert code == 2, (code, error)


def test_what_cannot_be_read_or_written_is_said_without_a_trace(cli, tmp_path):
    file = tmp_path / "no" / "such" / "folder.json"
    for words in (["inventory", "export", "--output"], ["camera", "still", "x", "--output"]):
        code, _, error = cli(*words, file)
        assert code in {2, 3, 5}, (code, error)
        assert "✗" in error or "Error" in error


def test_settings_that_may_not_be_changed_or_are_none(cli):
    assert cli("settings", "set", "no.such", "1")[0] == 3
    assert cli("settings", "set", "server.listen", "127.0.0.1:1")[0] == 6
    assert cli("settings", "set", "builds.timeout_s", "1800")[0] == 0
    assert cli("settings", "unset", "builds.timeout_s")[0] == 0


def test_no_server_there_is_exit_code_5(cli):
    nowhere = f"--url=http://127.0.0.1:{free_ports(1)[0]}"
    code, _, error = cli(nowhere, "device", "list")
    assert code == 5
    assert "haechi serve" in error
    code, out, error = cli("--json", "--language=ko", nowhere, "device", "list")
    assert (code, out) == (5, "")
    assert "연결할 수 없습니다" in json.loads(error)["detail"]


@pytest.mark.parametrize(
    "url", ["nonsense", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999"]
)
def test_an_address_that_is_none(cli, url):
    code, _, error = cli(f"--url={url}", "device", "list")
    assert code in {2, 5}, (code, error)
    assert error


def test_who_may_not_is_exit_code_6(cli, client):
    code, _, error = cli("--token=hct_nonsense", "device", "list")
    assert code == 6, error
    made = client.post("/tokens", json={"name": "looks", "role": "viewer"}).json()["secret"]
    assert cli(f"--token={made}", "device", "list")[0] == 0
    code, _, error = cli(f"--token={made}", "device", "create", "forbidden")
    assert code == 6
    assert made not in error


def test_words_in_korean(cli):
    code, _, error = cli("--language=ko", "device", "show", NOTHING)
    assert code == 3
    assert "찾을 수 없습니다" in error


def test_a_bug_is_exit_code_70_and_its_trace_is_in_a_file(cli, monkeypatch, tmp_path):
    from haechi.cli.client import Api

    def broken(*_args, **_given):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Api, "get", broken)
    monkeypatch.setattr(Api, "get_all", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, error = cli("device", "list")
    assert (code, out) == (70, "")
    assert "ZeroDivisionError" in error
    (kept,) = tmp_path.glob("haechi-fault-*.txt")
    assert str(kept) in error
    assert "a bug" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    code, _, error = cli("--json", "device", "list")
    assert (code, json.loads(error)["code"]) == (70, "cli.fault")


def test_doctor_says_what_is_wrong_and_how_to_mend_it(cli, tmp_path):
    file = tmp_path / "haechi.toml"
    file.write_text(
        '[builds]\ndocker_socket = "/nowhere/docker.sock"\n[registry]\nbinary = "/nowhere/registry"\n'
    )
    code, out, _ = cli("doctor", f"--config={file}")
    assert code == 5
    assert "✗ docker: /nowhere/docker.sock" in out
    assert "→" in out
    code, out, _ = cli("--json", "--language=ko", "doctor", f"--config={file}")
    assert code == 5
    findings = {finding["name"]: finding for finding in json.loads(out)}
    for name in ("docker", "registry"):
        assert findings[name]["verdict"] == "problem"
        assert findings[name]["remedy"]
    file.write_text("[builds\n")
    assert cli("doctor", f"--config={file}")[0] == 2


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["run", "--data-dir=nowhere"], 3),
        (
            [
                "enrol",
                "--server=127.0.0.1:9",
                "--token=x",
                f"--ca-fingerprint={'0' * 64}",
                "--data-dir=here",
            ],
            5,
        ),
        (["enrol", "--server=x", "--token=x", "--ca-fingerprint=y", "--data-dir=here"], 5),
    ],
)
def test_an_agent_that_cannot_start_or_enrol_says_why(tmp_path, words, exit_code):
    done = command("agent", *words, home=tmp_path)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
