"""The commands with which a host is prepared and cleaned, as typed. `HAECHI_GOLDEN=write` renews
them. A shell without a host answers as a bare Debian does.
"""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from haechi.domains.clusters.bundle.model import Bundle, HostSystem, Image, Part
from haechi.domains.clusters.host import clean, distribution, ledger, prepare, runtime
from haechi.domains.clusters.host.errors import (
    HostConnectionLost,
    HostDiskFull,
    PackagesUnavailable,
    RepositoriesUnreachable,
)
from haechi.domains.clusters.host.placing import STATE_SCRIPT
from haechi.domains.clusters.host.ports import HostName, Ran
from haechi.testing.hosts import Call, FakeShell

FOLDER = Path(__file__).parent / "host"
PARTS = {
    "bin/containerd": ("program", "worker"),
    "bin/kubelet": ("program", "worker"),
    "bin/kubectl": ("program", "control-plane"),
    "cni/bridge": ("plugin", "worker"),
    "images/worker.tar": ("images", "worker"),
    "images/control-plane.tar": ("images", "control-plane"),
    "host/Packages": ("index", "worker"),
    "host/runc_1.1_amd64.deb": ("package", "worker"),
    "host/libseccomp2_2.5+b1_amd64.deb": ("package", "worker"),
    "host/haproxy_2.6_amd64.deb": ("package", "worker"),
    "host/bash_5.2_amd64.deb": ("package", "worker"),
}


def bundle(folder: Path) -> Bundle:
    parts = []
    for path, (kind, role) in PARTS.items():
        content = f"{path}\n".encode()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        parts.append(Part(path, kind, role, len(content), digest))
    return Bundle(
        folder=folder,
        kubernetes="1.36.3",
        platform="linux/amd64",
        recipe="r",
        versions={"containerd": "2.2.3"},
        host=HostSystem("debian", "12", "bookworm", ("runc", "haproxy")),
        parts=tuple(parts),
        images=(
            Image("registry.k8s.io/pause:3.10", "worker", "images/worker.tar", "sha256:p"),
            Image(
                "registry.k8s.io/etcd:3.6", "control-plane", "images/control-plane.tar", "sha256:e"
            ),
        ),
        digest="d",
    )


def bare() -> FakeShell:
    """Nothing is there but bash; what is written is seen by the next look."""
    shell = FakeShell(HostName("dev-a", "nuc-1", "192.0.2.11"), lenient=True)

    def state(call: Call) -> Ran | None:
        lines = ["package\tbash\tii 5.2", "no_folder\t/opt/cni/bin\t-", "no_folder\t/opt/cni\t-"]
        lines += ["service\tcontainerd\tinactive", "enabled\tssh\tenabled"]
        for path, file in shell.files.items():
            digest = hashlib.sha256(file.content).hexdigest()
            lines.append(f"file\t{path}\t{digest} {file.mode:o}")
        return Ran(0, "\n".join(lines)) if call.stdin == STATE_SCRIPT else None

    shell.on("sh -s --", do=state)
    shell.on("sysctl -e", "net.ipv4.ip_forward = 0\nkernel.panic = 0\n")
    shell.on(
        lambda line: "--print-uris" in line,
        "'file:/x/libseccomp2_2.5%2bb1_amd64.deb' libseccomp2 1 SHA256:0\n"
        "'file:/x/runc_1.1_amd64.deb' runc 1 SHA256:0\n"
        "'file:/x/haproxy_2.6_amd64.deb' haproxy 1 SHA256:0\n",
    )
    return shell


def compare(name: str, shell: FakeShell, log: list[str]) -> None:
    made = {
        "log": log,
        "commands": [
            {
                "command": "\n".join(call.command.splitlines()[:1]),
                "root": call.root,
                "stdin": call.stdin if len(call.stdin) < 2000 else "…",
            }
            for call in shell.calls
        ],
        "files": {
            path: {"mode": f"{file.mode:o}", "text": file.content.decode()}
            for path, file in sorted(shell.files.items())
        },
    }
    path = FOLDER / f"{name}.json"
    if os.environ.get("HAECHI_GOLDEN") == "write":
        path.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    assert made == json.loads(path.read_text())


async def test_prepare_and_clean(tmp_path):
    shell, log, ratios = bare(), [], []
    wanted = prepare.Preparation(
        bundle(tmp_path), "control_plane", {"io.containerd.cri.v1.runtime": {"x": [1, "two"]}}
    )
    await prepare.prepare(shell, wanted, log=log.append, progress=ratios.append)
    compare("prepare", shell, log)
    assert ratios == sorted(ratios) and ratios[-1] == 1.0

    shell.calls.clear()
    log.clear()
    # The package files lie on the shelf no more, as after `rm`; nothing is written again.
    await prepare.prepare(shell, wanted, log=log.append, progress=ratios.append)
    assert any(line.startswith("0 files written") for line in log)

    shell.calls.clear()
    log.clear()
    shell.on("dpkg-query -W -f", "libseccomp2 installed\nrunc installed\n")
    await clean.clean(shell, log=log.append)
    shell.files.clear()
    compare("clean", shell, log)


async def test_a_host_without_a_ledger_is_cleaned_of_kubernetes_only(tmp_path):
    shell, log = bare(), []
    await clean.clean(shell, log=log.append)
    assert len(shell.calls) == 1 and shell.calls[0].stdin == ""


async def test_notes_come_before_deeds(tmp_path):
    """At each command that changes something, the ledger on the host knows of it."""
    shell = bare()
    wanted = prepare.Preparation(bundle(tmp_path), "worker")
    seen = {}

    def spy(word: str):
        def look(call: Call) -> None:
            text = shell.files[ledger.PATH].content.decode()
            seen.setdefault(word, text)

        return look

    for word in ("sysctl -q -w", "systemctl mask", "systemctl enable"):
        shell.on(word, do=spy(word))
    install = lambda line: "apt-get" in line and line.endswith("install runc haproxy")  # noqa: E731
    shell.on(lambda line: install(line) and "--print" not in line, do=spy("apt"))
    await prepare.prepare(shell, wanted, log=lambda _: None, progress=lambda _: None)
    assert '"libseccomp2"' in seen["apt"]
    assert "haproxy.service" in seen["systemctl mask"]
    assert '"net.ipv4.ip_forward": "0"' in seen["sysctl -q -w"]
    assert "kubelet.service" in seen["systemctl enable"]


def installs(line: str) -> bool:
    return line.endswith("install runc haproxy") and "--print" not in line


async def test_an_installation_that_was_broken_off_is_brought_to_its_end(tmp_path):
    """The power went while dpkg unpacked: apt says what it wants, and is asked again."""
    shell, log = bare(), []
    words = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct it."
    shell.on(installs, stderr=words, status=100, times=1)
    wanted = prepare.Preparation(bundle(tmp_path), "worker")
    await prepare.prepare(shell, wanted, log=log.append, progress=lambda _: None)
    commands = [one for one in shell.commands() if installs(one) or "dpkg --force" in one]
    assert [one.endswith("--configure -a") for one in commands] == [False, True, False]
    assert log[-1].startswith("prepared")


async def test_a_file_that_does_not_arrive_breaks_off_no_installation(tmp_path):
    """What is beside it comes to its end first; then the error is told."""
    shell, failed = bare(), asyncio.Event()
    shell.on(installs, hold=failed)
    send = shell.send

    async def full(local: Path, remote: str, **more: Any) -> bool:
        if not remote.startswith("/opt/"):
            return await send(local, remote, **more)
        failed.set()
        raise HostDiskFull(host="nuc-1", path=remote)

    shell.send = full
    wanted = prepare.Preparation(bundle(tmp_path), "worker")
    with pytest.raises(HostDiskFull):
        await prepare.prepare(shell, wanted, log=lambda _: None, progress=lambda _: None)
    assert any(line.startswith("sysctl -q -w") for line in shell.commands())


async def test_all_that_the_hosts_sources_lack_is_said_at_once():
    """As Debian 12 answers: an older containerd, the tools, nothing of Kubernetes."""
    shell = bare()
    shell.on("apt-cache policy containerd", "containerd:\n  Candidate: 1.6.20~ds1-1+deb12u3\n")
    tools = "".join(f"{name} | 1.0-1 | http://mirror\n" for name in distribution.TOOLS)
    shell.on("apt-cache madison", tools)
    with pytest.raises(PackagesUnavailable) as caught:
        await distribution.prepare(
            shell, "worker", "1.36.3", {}, log=lambda _: None, progress=lambda _: None
        )
    named = (
        "containerd (>= 2), kubernetes-cni, kubelet=1.36.3-*, kubeadm=1.36.3-*, kubectl=1.36.3-*"
    )
    assert caught.value.data["packages"] == named
    assert not any(" install " in one for one in shell.commands())


NO_NETWORK = (
    "W: Failed to fetch http://deb.example/debian/dists/bookworm/InRelease  "
    "Temporary failure resolving 'deb.example'\n"
    "W: Failed to fetch https://pkgs.example/core/InRelease  "
    "Could not connect to pkgs.example:443 (192.0.2.1), connection timed out\n"
    "W: Some index files failed to download. They have been ignored, or old ones used instead.\n"
)
"""As apt says it, and ends well."""


async def test_a_host_without_a_network_is_said_to_be_one():
    """Not that its sources lack what could not be read of them."""
    shell = bare()
    shell.on(lambda line: line.endswith(" update"), stderr=NO_NETWORK)
    with pytest.raises(RepositoriesUnreachable) as caught:
        await from_sources(shell)
    sources = caught.value.data["sources"]
    assert "deb.example (Temporary failure resolving" in sources
    assert "pkgs.example (Could not connect" in sources


async def test_a_source_that_refuses_is_no_missing_network():
    shell = bare()
    refused = (
        "W: Failed to fetch http://deb.example/dists/x/InRelease  404  Not Found [IP: 192.0.2.1]"
    )
    shell.on(lambda line: line.endswith(" update"), stderr=refused)
    with pytest.raises(PackagesUnavailable):
        await from_sources(shell)


async def test_lists_of_better_days_do_not_hide_a_missing_network():
    """All is offered, nothing can be fetched."""
    shell = with_sources()
    shell.on(
        by_apt,
        stderr="E: Failed to fetch http://deb.example/pool/kubelet.deb  Could not resolve "
        "'deb.example'\nE: Unable to fetch some archives, maybe run apt-get update or try with "
        "--fix-missing?\n",
        status=100,
    )
    with pytest.raises(RepositoriesUnreachable) as caught:
        await from_sources(shell)
    assert "deb.example (Could not resolve" in caught.value.data["sources"]


async def test_what_is_there_needs_no_network():
    shell = with_sources()
    shell.on(lambda line: line.endswith(" update"), stderr=NO_NETWORK)
    assert (await from_sources(shell))[-1].startswith("prepared")


def with_sources() -> FakeShell:
    """A bare host whose own package sources have all that a node needs."""
    shell = bare()
    shell.on("apt-cache policy containerd.io", "containerd.io:\n  Candidate: 2.2.3-1~debian.12\n")
    rows = [*((name, "1.0-1") for name in (*distribution.TOOLS, "kubernetes-cni"))]
    rows += [(name, "1.36.3-1.1") for name in ("kubelet", "kubeadm", "kubectl")]
    offered = "".join(f"{name} | {version} | https://mirror\n" for name, version in rows)
    shell.on("apt-cache madison", offered)
    coming = ["kubernetes-cni", "kubelet", "kubeadm", "kubectl", "cri-tools", "containerd.io"]
    inst = "".join(f"Inst {name} (1 mirror [amd64])\n" for name in coming)
    shell.on(lambda line: "apt-get" in line and "--simulate" in line, inst)
    return shell


async def from_sources(shell: FakeShell) -> list[str]:
    log: list[str] = []
    await distribution.prepare(
        shell, "control_plane", "1.36.3", {}, log=log.append, progress=lambda _: None
    )
    return log


def by_apt(line: str) -> bool:
    return "apt-get" in line and " install " in line and "--simulate" not in line


async def test_from_the_hosts_own_sources_and_back():
    shell = with_sources()
    log = await from_sources(shell)
    compare("distribution", shell, log)
    made = await ledger.read(shell)
    # Else the settings that another tool takes away would never come back.
    assert made.drop_in == shell.text(runtime.CONTAINERD_DROP_IN)
    shell.calls.clear()
    log.clear()
    await clean.clean(shell, log=log.append)
    plan = shell.calls[0].stdin
    # No package has it: an image of the pods' network brings it later.
    assert "file\t/opt/cni/bin/flannel\tremove" in plan


async def test_what_a_package_starts_by_itself_is_not_taken_for_somebody_elses():
    """The connection dies while apt installs; containerd runs by then, with data of its own."""
    shell = with_sources()
    lost = HostConnectionLost(host="nuc-1", address="192.0.2.11", what="apt-get", reason="reset")
    shell.fail(by_apt, lost)
    with pytest.raises(HostConnectionLost):
        await from_sources(shell)
    first = await ledger.read(shell)
    assert (first.runtime, first.services) == (True, [])
    shell.on(
        "sh -s --",
        "service\tcontainerd\tactive\nenabled\tcontainerd\tenabled\ndata\tcontainerd\tthere\n"
        "held\t/var/lib/containerd/io.containerd.content.v1.content\t-\n",
    )
    await from_sources(shell)
    made = await ledger.read(shell)
    assert (made.runtime, made.services, made.held) == (True, [], [])
    assert made.units == ["containerd.service", "kubelet.service"]
