"""The exported playbooks, run by the real ansible-core on this machine's own Docker.

What an interrupted run leaves is made by hand, with the names that it leaves them by.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from haechi.domains.playbooks.export import files_of
from haechi.domains.playbooks.inventory import inventory_of
from haechi.domains.playbooks.model import Host, HostGroup, PackageToPlay, RegistryToPlay
from haechi.testing.waiting import eventually

BASE = "haechi/python:3.11-slim"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
WORKS = "trap 'exit 0' TERM; echo {what} is running; while :; do sleep 0.2; done"
CRASHES = "echo the model file is damaged; exit 3"
STUMBLED = "[ -e /once ] || {{ touch /once; exit 1; }}; " + WORKS
OF_THIS_MACHINE = {
    "Docker trusts the site registry",
    "The site's CA is there",
    "The registry's name leads to the server",
}
"""Left out: they change files of the machine that runs the tests."""


def _has_base() -> bool:
    if os.geteuid() != 0 or not Path("/var/run/docker.sock").exists():
        return False
    asked = subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False)
    return asked.returncode == 0


pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not _has_base(), reason=f"needs Docker with {BASE}, and root"),
]


def docker(*argv: str, stdin: str = "") -> str:
    ran = subprocess.run(
        ["docker", *argv], input=stdin, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@dataclass
class Played:
    code: int
    text: str


@dataclass
class Site:
    folder: Path
    package: PackageToPlay
    images: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"haechi-{self.package.name}"

    def image(self, script: str) -> str:
        tag = f"haechi-test/{self.package.name}:{len(self.images)}"
        lines = f"FROM {BASE}\nCMD {json.dumps(['sh', '-c', script])}\n"
        docker("build", "--quiet", "--tag", tag, "-", stdin=lines)
        self.images.append(tag)
        return tag

    def there(self, suffix: str, what: str, script: str = WORKS, *, runs: bool = False) -> str:
        """A container as deploy.yml makes it."""
        name = f"{self.name}{suffix}"
        run = ["run", "--detach", "--name", name, "--restart", "unless-stopped", BASE]
        made = docker(*run, "sh", "-c", script.format(what=what))
        if not runs:
            docker("stop", name)
        return made

    def all(self) -> dict[str, tuple[str, bool]]:
        """Suffix → (id, runs)."""
        form = "{{.Names}} {{.ID}} {{.Status}}"
        filters = ["--filter", f"name=^{self.name}"]
        lines = docker("ps", "--all", "--no-trunc", *filters, "--format", form).splitlines()
        rows = [line.split(" ", 2) for line in lines]
        return {n.removeprefix(self.name): (i, status.startswith("Up")) for n, i, status in rows}

    def play(self, book: str, *more: str) -> Played:
        host = Host(
            device_id="dev-a",
            name="door",
            host_name=None,
            address="127.0.0.1",
            port=None,
            user=None,
            role="edge",
            platform=None,
        )
        group = HostGroup("doors", ["dev-a"])
        registry = RegistryToPlay("registry.invalid:1", "192.0.2.1", "")
        files = files_of(self.package, registry, group, inventory_of([host], [group]))
        for path, content in files.items():
            (self.folder / path).parent.mkdir(exist_ok=True)
            (self.folder / path).write_bytes(content)
        (play,) = yaml.safe_load(files[book])
        if book == "deploy.yml":
            tasks = [one for one in play["tasks"] if one["name"] not in OF_THIS_MACHINE]
            assert len(play["tasks"]) - len(tasks) == len(OF_THIS_MACHINE)
            play["tasks"] = tasks
        (self.folder / book).write_text(yaml.safe_dump([play], sort_keys=False))
        variables = {
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "haechi_proof_s": 3,
        }
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
        }
        ran = subprocess.run(
            [
                *(sys.executable, str(ANSIBLE), "-i", "inventory.yml", "-c", "local", book),
                *("-e", json.dumps(variables), *more),
            ],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        return Played(ran.returncode, ran.stdout)

    def sweep(self) -> None:
        for suffix in self.all():
            docker("rm", "--force", f"{self.name}{suffix}")
        for network in docker("network", "ls", "-q", "--filter", f"name={self.name}").split():
            docker("network", "rm", network)
        for image in self.images:
            docker("rmi", "--force", image)


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    name = f"played-{secrets.token_hex(4)}"
    package = PackageToPlay(name, "1", BASE, {}, None, None, False, "none", False)
    made = Site(tmp_path, package)
    yield made
    made.sweep()


def test_a_backup_that_crashes_replaces_nothing(site):
    works = site.there("", "one", runs=True)
    backup = site.there("-previous", "two", CRASHES)
    played = site.play("rollback.yml")
    assert played.code != 0, played.text
    assert "the model file is damaged" in played.text
    assert site.all() == {"": (works, True), "-previous": (backup, False)}
    assert docker("inspect", "--format", "{{.RestartCount}}", site.name) == "0"

    docker("rm", "--force", site.name)
    assert site.play("rollback.yml").code != 0
    assert site.all() == {"-previous": (backup, False)}


async def test_a_rollback_exchanges_the_two(site):
    one = site.there("", "one", runs=True)
    # What it went through in the days when it ran is not held against it.
    two = site.there("-previous", "two", STUMBLED, runs=True)
    asked = ["inspect", "--format", "{{.RestartCount}} {{.State.Running}}", f"{site.name}-previous"]
    await eventually(lambda: docker(*asked) == "1 true")
    docker("stop", f"{site.name}-previous")
    played = site.play("rollback.yml")
    assert played.code == 0, played.text
    assert site.all() == {"": (two, True), "-previous": (one, False)}


def test_what_an_interrupted_rollback_left_is_mended_by_the_next_one(site):
    """Between the stop and the first name; between the first and the second; before the third."""
    for first, second in (("", "-previous"), ("-aside", "-previous"), ("-aside", "")):
        one = site.there(first, "one")
        two = site.there(second, "two", runs=True)
        played = site.play("rollback.yml")
        assert played.code == 0, played.text
        assert site.all() == {"": (two, True), "-previous": (one, False)}
        for suffix in ("", "-previous"):
            docker("rm", "--force", f"{site.name}{suffix}")


def test_what_an_interrupted_rollback_left_is_lost_to_no_other_playbook(site):
    works = site.there("-aside", "one")
    backup = site.there("-previous", "two", runs=True)
    site.package = replace(site.package, image=site.image(CRASHES))
    played = site.play("deploy.yml", "-e", "haechi_network=open")
    assert played.code != 0, played.text
    assert "the model file is damaged" in played.text
    assert site.all() == {"": (works, True), "-previous": (backup, False)}

    docker("stop", site.name)
    docker("rename", site.name, f"{site.name}-aside")
    new = site.there("-new", "three", runs=True)  # of a deploy.yml that was interrupted
    played = site.play("remove.yml")
    assert played.code == 0, played.text
    assert site.all() == {"-previous": (works, False)}
    assert new not in docker("ps", "--all", "--quiet", "--no-trunc").split()


def test_a_network_and_a_camera_are_asked_for_before_anything_is_touched(site):
    site.package = replace(site.package, camera="one")
    played = site.play("deploy.yml")
    assert played.code != 0
    assert "-e haechi_network=open" in played.text
    played = site.play("deploy.yml", "-e", "haechi_network=open")
    assert played.code != 0
    assert "haechi_camera_url" in played.text
    camera = "haechi_camera_url=rtsp://192.0.2.9/stream"
    played = site.play("deploy.yml", "-e", "haechi_network=internal", "-e", camera)
    assert played.code != 0
    assert "reaches no camera" in played.text
    assert site.all() == {}


def test_the_package_gets_its_camera(site):
    image = site.image(WORKS.format(what="one"))
    site.package = replace(site.package, image=image, camera="one")
    more = ("-e", "haechi_network=open", "-e", "haechi_camera_url=rtsp://192.0.2.9/stream")
    played = site.play("deploy.yml", *more)
    assert played.code == 0, played.text
    assert "no fence" in played.text
    (inspected,) = json.loads(docker("inspect", site.name))
    assert "HAECHI_CAMERA_URL=rtsp://192.0.2.9/stream" in inspected["Config"]["Env"]
    again = site.play("deploy.yml", *more)
    assert "changed=0" in again.text, again.text
    assert docker("inspect", "--format", "{{.Id}}", site.name) == inspected["Id"]


def test_an_internal_network_comes_and_goes_with_the_package(site):
    site.package = replace(site.package, image=site.image(WORKS.format(what="one")))
    played = site.play("deploy.yml", "-e", "haechi_network=internal")
    assert played.code == 0, played.text
    (inspected,) = json.loads(docker("inspect", site.name))
    assert list(inspected["NetworkSettings"]["Networks"]) == [site.name]
    assert inspected["HostConfig"]["Dns"] == ["127.0.0.1"]
    (network,) = json.loads(docker("network", "inspect", site.name))
    assert network["Internal"] is True

    played = site.play("remove.yml", "-e", "haechi_keep_backup=false")
    assert played.code == 0, played.text
    assert site.all() == {}
    assert docker("network", "ls", "--quiet", "--filter", f"name={site.name}") == ""


def test_a_gpu_is_asked_of_docker(site):
    """Where there is none, the package is not started without it, and what worked runs on."""
    works = site.there("", "one", runs=True)
    image = site.image(WORKS.format(what="two"))
    site.package = replace(site.package, image=image, gpu=True)
    played = site.play("deploy.yml", "-e", "haechi_network=open")
    if played.code == 0:  # a machine with a GPU
        (inspected,) = json.loads(docker("inspect", site.name))
        assert inspected["HostConfig"]["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
        return
    assert "gpu" in played.text.lower()
    assert site.all() == {"": (works, True)}
