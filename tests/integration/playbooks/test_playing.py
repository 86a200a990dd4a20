"""The exported playbooks, run by the real ansible-core on this machine's own Docker.

What an interrupted run leaves is made by hand, with the names that it leaves them by. Several such
states are several hosts of one run: Ansible's start is most of what a run takes.
"""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from haechi.domains.playbooks.export import files_of
from haechi.domains.playbooks.inventory import inventory_of
from haechi.domains.playbooks.model import Host, HostGroup, PackageToPlay, RegistryToPlay
from haechi.testing.waiting import eventually

BASE = "haechi/python:3.11-slim"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
WORKS = "trap 'exit 0' TERM; echo it is running; while :; do sleep 0.2; done"
CRASHES = "echo the model file is damaged; exit 3"
STUMBLED = "[ -e /once ] || { touch /once; exit 1; }; " + WORKS
NO_IMAGE = "localhost:1/there-is-none:1"
OF_THIS_MACHINE = {
    "Docker trusts the site registry",
    "The site's CA is there",
    "The registry's name leads to the server",
}
"""Left out: they change files of the machine that runs the tests."""
SERVER = {"HAECHI_URL": "http://192.0.2.1:8420", "HAECHI_TOKEN": "a-token-that-nothing-prints"}


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

    def failure(self, host: str = "dev-a") -> dict[str, Any]:
        """The last failed task's result on a host."""
        found = re.findall(rf"^fatal: \[{host}\]: FAILED! => (.*)$", self.text, re.MULTILINE)
        assert found, self.text
        result: dict[str, Any] = json.loads(found[-1])
        return result


@dataclass
class Site:
    folder: Path
    package: PackageToPlay

    @property
    def name(self) -> str:
        return f"haechi-{self.package.name}"

    def at(self, host: str) -> "Site":
        """What a host has of the package, where several of them are this one machine."""
        return replace(self, package=replace(self.package, name=f"{self.package.name}-{host}"))

    def there(self, suffix: str, script: str = WORKS, *more: str, runs: bool = False) -> str:
        """A container as deploy.yml makes it."""
        name = f"{self.name}{suffix}"
        create = ["create", "--name", name, "--restart", "unless-stopped", *more, BASE]
        made = docker(*create, "sh", "-c", script)
        if runs:
            docker("start", name)
        return made

    def there_but_refused(self, suffix: str) -> str:
        """One that Docker does not start: its network is gone."""
        network = docker("network", "create", "--internal", f"{self.name}-gone")
        made = self.there(suffix, WORKS, "--network", network)
        docker("network", "rm", network)
        return made

    def all(self) -> dict[str, tuple[str, bool]]:
        """Suffix → (id, runs)."""
        form = "{{.Names}} {{.ID}} {{.Status}}"
        filters = ["--filter", f"name=^{self.name}"]
        lines = docker("ps", "--all", "--no-trunc", *filters, "--format", form).splitlines()
        rows = [line.split(" ", 2) for line in lines]
        return {n.removeprefix(self.name): (i, status.startswith("Up")) for n, i, status in rows}

    def play(
        self,
        book: str,
        *more: str,
        tasks: list[dict[str, Any]] | None = None,
        only: set[str] | None = None,
        hosts: dict[str, dict[str, Any]] | None = None,
        server: dict[str, str] = SERVER,
    ) -> Played:
        """`tasks`: instead of the book's; `only`: these of it. `hosts`: name → variables, which
        say what package.yml says otherwise; each has the package of `at` that name."""
        names = list(hosts or {"dev-a": {}})
        group = HostGroup("doors", names)
        registry = RegistryToPlay("registry.invalid:1", "192.0.2.1", "")
        inventory = inventory_of([_host(name) for name in names], [group])
        for name, variables in (hosts or {}).items():
            own = {"haechi_package": self.at(name).package.name, **variables}
            inventory["_meta"]["hostvars"][name] |= own
        files = files_of(self.package, registry, group, inventory)
        for path, content in files.items():
            (self.folder / path).parent.mkdir(exist_ok=True)
            (self.folder / path).write_bytes(content)
        said = yaml.safe_load(files["package.yml"])
        for variable in {
            each for name in hosts or {} for each in inventory["_meta"]["hostvars"][name]
        }:
            said.pop(variable, None)
        (self.folder / "package.yml").write_text(yaml.safe_dump(said))
        (play,) = yaml.safe_load(files[book])
        kept = [one for one in play["tasks"] if one["name"] not in OF_THIS_MACHINE]
        if book == "deploy.yml":
            assert len(play["tasks"]) - len(kept) == len(OF_THIS_MACHINE)
        if only is not None:
            kept = [one for one in kept if one["name"] in only]
            assert len(kept) == len(only)
        play["tasks"] = kept if tasks is None else tasks
        (self.folder / book).write_text(yaml.safe_dump([play], sort_keys=False))
        variables = {
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "haechi_proof_s": 1,
        }
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            **server,
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
        assert server.get("HAECHI_TOKEN", "a-token") not in ran.stdout
        return Played(ran.returncode, ran.stdout)

    def sweep(self) -> None:
        for suffix in self.all():
            docker("rm", "--force", f"{self.name}{suffix}")
        for network in docker("network", "ls", "-q", "--filter", f"name={self.name}").split():
            docker("network", "rm", network)


def _host(device_id: str) -> Host:
    return Host(
        device_id=device_id,
        name="door",
        host_name=None,
        address="127.0.0.1",
        port=None,
        user=None,
        role="edge",
        platform=None,
    )


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    name = f"played-{secrets.token_hex(4)}"
    package = PackageToPlay(name, "1", BASE, {}, None, None, False, "none", False)
    made = Site(tmp_path, package)
    yield made
    made.sweep()


@pytest.fixture(scope="module")
def image() -> Iterator[dict[str, str]]:
    run = secrets.token_hex(4)
    made = {}
    for what, script in (("works", WORKS), ("crashes", CRASHES)):
        made[what] = f"haechi-test/{what}:{run}"
        lines = f"FROM {BASE}\nCMD {json.dumps(['sh', '-c', script])}\n"
        docker("build", "--quiet", "--tag", made[what], "-", stdin=lines)
    yield made
    docker("rmi", "--force", *made.values())


def test_a_backup_that_crashes_replaces_nothing(site):
    busy, empty = site.at("busy"), site.at("empty")
    works = busy.there("", runs=True)
    backups = [one.there("-previous", CRASHES) for one in (busy, empty)]
    played = site.play("rollback.yml", hosts={"busy": {}, "empty": {}})
    for host in ("busy", "empty"):
        assert "the model file is damaged" in played.failure(host)["msg"]
    assert busy.all() == {"": (works, True), "-previous": (backups[0], False)}
    assert docker("inspect", "--format", "{{.RestartCount}}", busy.name) == "0"
    assert empty.all() == {"-previous": (backups[1], False)}


async def test_a_rollback_exchanges_the_two(site):
    """Also where an interrupted one left the backup running, and Docker refuses what worked."""
    usual, cut = site.at("usual"), site.at("cut")
    one = usual.there("", runs=True)
    # What it went through in the days when it ran is not held against it.
    two = usual.there("-previous", STUMBLED, runs=True)
    refused = cut.there_but_refused("")
    runs = cut.there("-previous", runs=True)
    previous = f"{usual.name}-previous"
    asked = ["inspect", "--format", "{{.RestartCount}} {{.State.Running}}", previous]
    await eventually(lambda: docker(*asked) == "1 true")
    docker("stop", previous)
    played = site.play("rollback.yml", hosts={"usual": {}, "cut": {}})
    assert played.code == 0, played.text
    assert usual.all() == {"": (two, True), "-previous": (one, False)}
    assert cut.all() == {"": (runs, True), "-previous": (refused, False)}


def test_what_an_interrupted_rollback_left_is_mended(site):
    """Between the stop and the first name; between the first and the second; before the third;
    and where Docker refuses what worked, the backup runs on."""
    stopped, aside, last, refused = (site.at(f"s{number}") for number in range(4))
    one = [stopped.there(""), aside.there("-aside"), last.there("-aside")]
    one.append(refused.there_but_refused("-aside"))
    two = [each.there("-previous", runs=True) for each in (stopped, aside)]
    two += [last.there("", runs=True), refused.there("-previous", runs=True)]
    mend = [{"name": "Mend", "ansible.builtin.include_tasks": "tasks/mend.yml"}]
    played = site.play("rollback.yml", tasks=mend, hosts={f"s{number}": {} for number in range(4)})
    assert played.code == 0, played.text
    assert stopped.all() == {"": (one[0], True), "-previous": (two[0], False)}
    assert aside.all() == {"": (one[1], True), "-previous": (two[1], False)}
    assert last.all() == {"": (two[2], True), "-previous": (one[2], False)}
    assert refused.all() == {"": (one[3], False), "-previous": (two[3], True)}


def test_what_an_interrupted_rollback_left_is_lost_to_no_other_playbook(site, image):
    works = site.there("-aside")
    backup = site.there("-previous", runs=True)
    site.package = replace(site.package, image=image["crashes"])
    played = site.play("deploy.yml", "-e", "haechi_network=open")
    assert played.code != 0, played.text
    assert "the model file is damaged" in played.failure()["msg"]
    assert site.all() == {"": (works, True), "-previous": (backup, False)}

    docker("stop", site.name)
    docker("rename", site.name, f"{site.name}-aside")
    new = site.there("-new", runs=True)  # of a deploy.yml that was interrupted
    played = site.play("remove.yml")
    assert played.code == 0, played.text
    assert site.all() == {"-previous": (works, False)}
    assert new not in docker("ps", "--all", "--quiet", "--no-trunc").split()


def test_a_deploy_that_fails_starts_nothing_that_was_removed(site):
    """But it brings back what a deploy.yml that was cut between its two names had set aside."""
    removed, cut = site.at("removed"), site.at("cut")
    kept = removed.there("-previous")
    old = cut.there("-previous")
    cut.there("-new", runs=True)
    site.package = replace(site.package, image=NO_IMAGE)
    tasks = [{"name": "Replace", "ansible.builtin.include_tasks": "tasks/replace.yml"}]
    more = ("-e", "haechi_network=open")
    played = site.play("deploy.yml", *more, tasks=tasks, hosts={"removed": {}, "cut": {}})
    assert played.code != 0, played.text
    assert removed.all() == {"-previous": (kept, False)}
    assert "nothing ran before" in played.failure("removed")["msg"]
    assert cut.all() == {"": (old, True)}
    assert "runs on" in played.failure("cut")["msg"]


def test_what_a_playbook_cannot_know_is_asked_for_before_anything_is_touched(site):
    camera = {"haechi_camera_url": "rtsp://192.0.2.9/stream"}
    hosts = {
        "network": {},
        "camera": {"haechi_network": "open"},
        "reach": {"haechi_network": "internal", **camera},
        "server": {"haechi_network": "open", **camera},
    }
    asserts = {"The network is chosen", "The camera is given", "The camera can be reached"}
    asserts.add("The server is given")
    site.package = replace(site.package, camera="one")
    played = site.play("deploy.yml", only=asserts, hosts=hosts, server={})
    assert "-e haechi_network=open" in played.failure("network")["msg"]
    assert "haechi_camera_url" in played.failure("camera")["msg"]
    assert "reaches no camera" in played.failure("reach")["msg"]
    assert "HAECHI_TOKEN" in played.failure("server")["msg"]


def test_the_package_gets_its_camera_and_the_server(site, image):
    site.package = replace(site.package, image=image["works"], camera="one")
    more = ("-e", "haechi_network=open", "-e", "haechi_camera_url=rtsp://192.0.2.9/stream")
    played = site.play("deploy.yml", "-vvv", *more)
    assert played.code == 0, played.text
    assert "no fence" in played.text
    (inspected,) = json.loads(docker("inspect", site.name))
    environment = inspected["Config"]["Env"]
    assert "HAECHI_CAMERA_URL=rtsp://192.0.2.9/stream" in environment
    assert f"HAECHI_TOKEN={SERVER['HAECHI_TOKEN']}" in environment
    again = site.play("deploy.yml", *more)
    assert "changed=0" in again.text, again.text
    assert docker("inspect", "--format", "{{.Id}}", site.name) == inspected["Id"]

    other = SERVER | {"HAECHI_TOKEN": "another-token-that-nothing-prints"}
    exchange = {"See what runs", "Put the new one in the old one's place"}
    played = site.play("deploy.yml", *more, only=exchange, server=other)
    assert played.code == 0, played.text
    (inspected,) = json.loads(docker("inspect", site.name))
    assert f"HAECHI_TOKEN={other['HAECHI_TOKEN']}" in inspected["Config"]["Env"]


def test_an_internal_network_comes_and_goes_with_the_package(site, image):
    site.package = replace(site.package, image=image["works"])
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


def test_a_gpu_is_asked_of_docker(site, image):
    """Where there is none, the package is not started without it, and what worked runs on."""
    works = site.there("", runs=True)
    site.package = replace(site.package, image=image["works"], gpu=True)
    tasks = [{"name": "Replace", "ansible.builtin.include_tasks": "tasks/replace.yml"}]
    played = site.play("deploy.yml", "-e", "haechi_network=open", tasks=tasks)
    if played.code == 0:  # a machine with a GPU
        (inspected,) = json.loads(docker("inspect", site.name))
        assert inspected["HostConfig"]["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
        return
    assert "Task: Start the new one." in played.failure()["msg"]
    (refusal,) = re.findall(r'"stderr": ("(?:[^"\\]|\\.)*gpu.*?")', played.text)
    assert "with capabilities: [[gpu]]" in refusal.replace("\\", "") or "nvidia" in refusal
    assert site.all() == {"": (works, True)}


def test_a_step_that_hangs_ends_and_what_is_to_be_rescued_is(site):
    hangs = {"name": "It hangs", "ansible.builtin.command": "sleep 30"}  # outlives the run
    rescued = {"name": "Rescue", "ansible.builtin.debug": {"msg": "rescued"}}
    tasks = [{"name": "A step", "block": [hangs], "rescue": [rescued]}]
    played = site.play("rollback.yml", "-e", "haechi_task_s=3", tasks=tasks)
    assert played.code == 0, played.text
    assert "Timed out after 3" in played.failure()["msg"]
    assert "rescued=1" in played.text
