"""`haechi bundle` as a person uses it, with settings of its own and no server."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from haechi.cli.main import main

from .conftest import PLATFORM


@pytest.fixture
def shelf(bundle, tmp_path):
    folder = tmp_path / "shelf"
    shutil.copytree(bundle.folder, folder / bundle.name)
    return folder


@pytest.fixture
def cli(shelf, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("HAECHI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HAECHI_BUNDLE__FOLDER", str(shelf))
    monkeypatch.setenv("HAECHI_BUNDLE__CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        ended = CliRunner().invoke(main, [str(word) for word in words])
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return ended.exit_code, ended.stdout, ended.stderr

    return run


def test_looking_at_bundles(cli, bundle, shelf):
    code, out, _ = cli("bundle", "list")
    assert code == 0
    assert bundle.name in out
    assert "complete" in out
    code, out, _ = cli("bundle", "show", bundle.name)
    assert code == 0
    assert "registry.k8s.io/etcd" in out
    code, out, _ = cli("--json", "bundle", "show")
    shown = json.loads(out)
    assert shown["platform"] == PLATFORM
    assert shown["worker_bytes"] < shown["control_plane_bytes"] <= shown["size_bytes"]
    assert {file["path"] for file in shown["files"]} == {part.path for part in bundle.parts}
    (shelf / bundle.name / "bin/kubelet").unlink()
    assert json.loads(cli("--json", "bundle", "list")[1])[0]["state"] == "part_missing"


def test_a_bundle_of_the_same_recipe_is_taken_without_any_tool(cli, bundle, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    code, out, error = cli("--json", "bundle", "create", "--platform", PLATFORM)
    assert code == 0, error
    assert json.loads(out)["digest"] == bundle.digest


def test_without_tools_all_of_them_are_named(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, error = cli("bundle", "create", "--output", tmp_path / "new")
    assert code == 5, error
    assert "'go'" in error
    assert "'mmdebstrap'" in error
    assert not (tmp_path / "new").exists()


def test_verifying(cli, bundle, shelf):
    code, out, error = cli("bundle", "verify")
    assert code == 0, error
    assert "No problems" in out
    path = shelf / bundle.name / "images/worker.tar"
    path.write_bytes(path.read_bytes()[:-1000])
    (shelf / bundle.name / "bin/ctr").unlink()
    code, _, error = cli("bundle", "verify", bundle.name)
    assert code == 2
    for word in ("images/worker.tar", "bin/ctr", "[bundle.damaged]", "→"):
        assert word in error
    code, _, error = cli(
        "--json", "--language=ko", "bundle", "verify", "--quick", shelf / bundle.name
    )
    problem = json.loads(error)
    assert problem["data"]["count"] == 2
    assert "문제가 2개" in problem["detail"]


def test_carrying(cli, bundle, tmp_path):
    code, out, error = cli("--json", "bundle", "pack")
    assert code == 0, error
    assert json.loads(out)["file"] == f"{bundle.name}.tar"
    code, out, error = cli(
        "--json", "bundle", "unpack", f"{bundle.name}.tar", "-o", tmp_path / "site"
    )
    assert code == 0, error
    assert json.loads(out)["digest"] == bundle.digest
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    code, _, error = cli("bundle", "unpack", "broken.tar")
    assert code == 2
    assert "[bundle.bad_carrier]" in error


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["verify", "nothing-there"], 3),
        (["show", "/nothing/there"], 3),
        (["pack", "nothing-there"], 3),
        (["unpack", "nothing-there.tar"], 2),
        (["create", "--kubernetes", "0.1"], 2),
        (["create", "--platform", "linux/z80"], 2),
    ],
)
def test_what_is_not_there(cli, words, code):
    found, out, error = cli("bundle", *words)
    assert (found, out) == (code, "")
    assert error
