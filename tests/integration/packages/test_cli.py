"""The CLI as a person uses it, against a real server process."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from haechi.adapters.docker_api import DockerApi
from haechi.cli.main import main
from haechi.testing import packages as zips

from .conftest import Server

pytestmark = pytest.mark.integration


class Cli:
    """The command in this process, the server in its own."""

    def __init__(self, server: Server) -> None:
        self._server = ["--url", server.url, "--language", "en"]

    def run(self, *arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, [*self._server, *arguments], input=stdin)

    def json(self, *arguments: str, stdin: str = "") -> Any:
        done = self.run("--json", *arguments, stdin=stdin)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def cli(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Cli(server)


def test_from_a_folder_to_a_version_and_back(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "my_ai"
    cli.json("package", "init", "my_ai")
    assert (folder / "haechi_sdk.py").exists()
    assert cli.run("package", "init", "my_ai").exit_code == 2
    checked = cli.json("package", "check", "my_ai", "--version", "1")
    assert checked["name"] == "my-ai"
    pushed = cli.json("package", "push", "my_ai", "--version", "1")
    assert (pushed["package_name"], pushed["version"]) == ("my-ai", "1")
    assert cli.json("package", "push", "my_ai", "--version", "1")["id"] == pushed["id"]
    (folder / "main.py").write_text("print('other')\n")
    refused = cli.run("package", "push", "my_ai", "--version", "1")
    assert refused.exit_code == 4
    assert "other content" in refused.stderr
    replaced = cli.json("package", "push", "my_ai", "--version", "1", "--replace")
    assert replaced["revision"] == 2
    assert "my-ai" in cli.run("package", "list").stdout
    assert len(cli.json("package", "versions", "my-ai", "--of", "1")["items"]) == 2
    cli.json("package", "edit", "my-ai", "--title-ko", "내 인공지능")
    assert cli.json("package", "show", "my-ai")["title_ko"] == "내 인공지능"
    cli.json("package", "download", "my-ai", "1", "-o", "back.zip")
    packed = cli.json("package", "pack", "my_ai", "-o", "again.zip")
    assert packed["files"] == 5
    back, again = (folder.parent / name for name in ("back.zip", "again.zip"))
    assert back.read_bytes() == again.read_bytes()
    cli.run("package", "delete", "my-ai", "1")
    assert cli.run("package", "show", "my-ai", "1").exit_code == 3
    cli.run("package", "delete", "my-ai")
    assert cli.json("package", "list") == []


def test_a_bad_zip_is_refused_alike_here_and_there(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "work" / "bad.zip"
    path.write_bytes(zips.with_everything_wrong())
    here = cli.run("package", "check", "bad.zip")
    there = cli.run("package", "upload", "bad.zip", "--version", "1")
    assert (here.exit_code, there.exit_code) == (2, 2)
    for word in ("../outside.py", "/etc/absolute", "shadow", "Dockerfile"):
        assert word in here.stderr
        assert word in there.stderr


def test_inventory_by_hand_and_by_file(cli: Cli, tmp_path: Path) -> None:
    cli.json("site", "edit", "--name", "판교", "--gps", "37.4,127.1")
    device = cli.json(
        "device", "create", "정문", "--host-name", "w1", "--label", "floor=1", "--ssh-password-stdin",
        stdin="geheim\n",
    )  # fmt: skip
    assert device["has_ssh_password"]
    camera = cli.json(
        "camera", "create", "카메라", "rtsp://192.0.2.1/x", "--device", "정문", "--login", "root",
        "--password-stdin", "--preset", "문=1", "--gps", "37.4,127.1", stdin="geheim\n",
    )  # fmt: skip
    assert (camera["device_id"], camera["has_password"]) == (device["id"], True)
    cli.json("camera", "create", "옆", "rtsp://192.0.2.2/x", "--gps", "37.4001,127.1")
    assert cli.run("device", "create", "정문").exit_code == 4
    assert cli.run("device", "show", "nobody").exit_code == 3
    assert cli.run("device", "delete", "정문").exit_code == 4
    (made,) = cli.json("link", "suggest", "--max-m", "50", "--apply")
    assert made["origin"] == "gps"
    assert len(cli.json("link", "list", "--camera", "카메라")) == 1
    cli.json("group", "create", "1층", "정문")
    edited = cli.json("device", "edit", "정문", "--role", "analysis", "--host-name", "")
    assert (edited["role"], edited["host_name"]) == ("analysis", None)
    cli.json("inventory", "export", "-o", "site.json")
    text = (tmp_path / "work" / "site.json").read_text()
    assert "geheim" not in text
    outcome = cli.json("inventory", "import", "site.json")
    assert (outcome["created"], outcome["updated"]) == ([], [])
    historic = [{"name": "m1", "ip": "192.0.2.9", "port": "5231", "host_pwd": "geheim"}]
    (tmp_path / "work" / "old.json").write_text(json.dumps(historic))
    assert cli.json("inventory", "import", "old.json", "--dry-run")["created"][0]["id"] is None
    assert cli.run("device", "show", "m1").exit_code == 3
    cli.json("inventory", "import", "old.json")
    assert cli.json("device", "show", "m1")["port"] == 5231
    (tmp_path / "work" / "bad.json").write_text('[{"name": "x", "ip": "192.0.2.9", "prot": 1}]')
    refused = cli.run("inventory", "import", "bad.json")
    assert refused.exit_code == 2
    assert "prot" in refused.stderr
    cli.run("device", "delete", "정문", "--force")
    assert cli.json("camera", "show", "카메라")["device_id"] is None


@pytest.mark.docker
@pytest.mark.skipif(not Path("/var/run/docker.sock").exists(), reason="no Docker here")
def test_a_local_build(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "tiny"
    folder.mkdir()
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY main /\nCMD ["/main"]\n')
    (folder / "main").write_text("not run\n")
    tag = f"haechi-test/{tmp_path.name[-20:].replace('_', '-')}:local"
    try:
        built = cli.json("package", "build", "tiny", "--tag", tag)
        assert built["id"].startswith("sha256:")
    finally:
        asyncio.run(DockerApi("/var/run/docker.sock").remove_image(tag))
