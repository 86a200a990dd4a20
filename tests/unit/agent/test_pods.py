"""Recognising AI pods of a node by a made-up /proc, and serving them."""

import hashlib
import os
from pathlib import Path

import pytest

from haechi.agent import boot, cgroups
from haechi.agent.deployments import Deployments
from haechi.agent.home import Home
from haechi.agent.pods import Pods, global_addresses, local_addresses
from haechi.protocol.desired import ContainerSpec

POD = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podab_cd.slice"
FIB = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.244.1.0
        /24 link UNICAST
     |-- 10.244.1.5
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
Local:
     |-- 10.244.1.5
        /32 host LOCAL
"""
IF_INET6 = (
    "fe800000000000000000000000000001 02 40 20 80 eth0\n"
    "fd000000000000000000000000000005 02 40 00 80 eth0\n"
)


class Machine:
    """A /proc with processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self/ns").mkdir(parents=True)
        (root / "self/ns/net").write_text("the host's")

    def process(
        self,
        pid: int,
        *,
        token: str = "",
        cgroup: str = f"0::{POD}/cri-containerd-c1.scope",
        parent: int = 1,
        began_s: float | None = None,
    ) -> Path:
        folder = self.root / str(pid)
        (folder / "ns").mkdir(parents=True, exist_ok=True)
        (folder / "net").mkdir(exist_ok=True)
        (folder / "ns/net").write_text(f"of {pid}")
        (folder / "net/fib_trie").write_text(FIB)
        (folder / "net/if_inet6").write_text(IF_INET6)
        (folder / "cgroup").write_text(f"{cgroup}\n")
        (folder / "status").write_text(f"Name:\tpython\nPPid:\t{parent}\nNSpid:\t{pid}\t7\n")
        now_s = boot.monotonic_ms() / 1000
        ticks = round((now_s if began_s is None else began_s) * os.sysconf("SC_CLK_TCK"))
        (folder / "stat").write_text(f"{pid} (py thon) S " + "0 " * 18 + f"{ticks} 0 0")
        environment = f"HOME=/\0HAECHI_TOKEN={token}\0" if token else "HOME=/\0"
        (folder / "environ").write_bytes(environment.encode())
        return folder

    def end(self, pid: int) -> None:
        folder = self.root / str(pid)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


def spec(name: str, token: str) -> ContainerSpec:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return ContainerSpec(f"dep-{name}", "pkg-1", "ver-1", name, "image", token_digest=digest)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "proc")


@pytest.fixture
def deployments(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    made = Deployments(home)
    made.serve([spec("a", "token-a"), spec("b", "token-b")])
    return made


@pytest.fixture
def pods(machine, deployments):
    changes = []
    made = Pods(deployments, proc=machine.root, on_change=lambda: changes.append(1))
    made.changes = changes
    return made


async def test_an_orphan_of_the_ai_is_not_taken_for_it(machine, deployments, pods):
    machine.process(10, token="token-a", began_s=100)
    machine.process(2, cgroup=f"0::{POD}/cri-containerd-pause.scope")
    machine.process(11, token="token-a", parent=2, began_s=200)
    await pods.look()
    assert deployments.get("dep-a").pid == 10
    machine.process(20, token="token-a", cgroup=f"0::{POD}/cri-containerd-c9.scope", began_s=300)
    await pods.look()
    assert (deployments.get("dep-a").pid, deployments.get("dep-a").container_id) == (20, "c9")


async def test_an_ai_is_known_by_the_token_of_its_first_process(machine, deployments, pods):
    machine.process(10, token="token-a")
    machine.process(11, token="token-a", parent=10)
    machine.process(12, token="token-b", cgroup="0::/system.slice/ssh.service")
    await pods.look()
    one, other = deployments.get("dep-a"), deployments.get("dep-b")
    assert (one.pid, one.state, one.container_id) == (10, "running", "c1")
    assert one.addresses == ("10.244.1.5", "fd00::5")
    assert (other.pid, other.state) == (0, "absent")
    assert deployments.by_address("10.244.1.5") is one
    assert deployments.by_token("token-a") is one
    assert pods.addresses == ["10.244.1.5", "fd00::5"]
    assert len(pods.changes) == 1
    await pods.look()
    assert len(pods.changes) == 1

    machine.end(10)
    await pods.look()
    assert (one.pid, one.state, one.addresses) == (0, "absent", ())
    assert deployments.by_address("10.244.1.5") is None


async def test_nobody_passes_for_another_without_its_token(machine, deployments, pods):
    machine.process(10, token="a guess")
    await pods.look()
    assert deployments.by_address("10.244.1.5") is None


async def test_the_runtimes_process_becomes_the_ais(machine, deployments, pods):
    """Until it is executed, a container's first process is the runtime's, with its environment."""
    machine.process(10)
    await pods.look()
    machine.process(10, token="token-a")
    await pods.look()
    assert deployments.get("dep-a").pid == 10


async def test_an_old_number_of_a_new_process_is_seen(machine, deployments, pods):
    machine.process(10, token="token-a", began_s=1000)
    await pods.look()
    began = deployments.get("dep-a").started_ms
    machine.process(10, token="token-b", began_s=2000)
    await pods.look()
    assert deployments.get("dep-a").pid == 0
    assert deployments.get("dep-b").pid == 10
    assert deployments.get("dep-b").started_ms > began


async def test_one_found_before_its_desired_state_is_served_once_that_comes(
    machine, deployments, pods
):
    machine.process(10, token="token-c")
    await pods.look()
    deployments.serve([spec("a", "token-a"), spec("c", "token-c")])
    await pods.look()
    assert deployments.get("dep-c").pid == 10
    assert deployments.get("dep-b") is None


async def test_what_is_served_is_never_written_down(deployments, tmp_path, machine, pods):
    machine.process(10, token="token-a")
    await pods.look()
    deployments.said_ready(deployments.get("dep-a"))
    assert deployments.get("dep-a").ready_ms is not None
    assert list((tmp_path / "home/containers").iterdir()) == []
    again = Deployments(Home(tmp_path / "home"))
    again.load()
    assert list(again) == []


async def test_a_pod_in_the_hosts_own_network_has_no_address_of_its_own(machine, deployments, pods):
    folder = machine.process(10, token="token-a")
    (folder / "ns/net").unlink()
    os.link(machine.root / "self/ns/net", folder / "ns/net")
    await pods.look()
    assert deployments.get("dep-a").pid == 10
    assert deployments.get("dep-a").addresses == ()


def test_addresses():
    assert local_addresses(FIB) == ["10.244.1.5"]
    assert local_addresses("") == []
    assert global_addresses(IF_INET6) == ["fd00::5"]


def test_a_cgroup_shown_as_a_neighbour_is_found(tmp_path):
    """In a pod with a cgroup namespace of its own, others' are shown relative to its own."""
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    there = root / POD.strip("/") / "cri-containerd-c1.scope"
    there.mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory")
    (there / "cpu.stat").write_text("usage_usec 5\n")
    (proc / "10").mkdir(parents=True)
    (proc / "10/cgroup").write_text("0::/../../kubepods-x.slice/cri-containerd-c1.scope\n")
    found = cgroups.of_process(10, root=root, proc=proc)
    assert found is not None
    assert found.cpu_ns() == 5000
    (proc / "10/cgroup").write_text("0::/../../cri-containerd-gone.scope\n")
    assert cgroups.of_process(10, root=root, proc=proc) is None
