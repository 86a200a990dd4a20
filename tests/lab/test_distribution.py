"""Nodes made of packages, where a site has internet: by the hosts' own apt from Debian's mirror, and
Kubernetes from a site's own mirror of packages and images.

Kubernetes' and Docker's own packages cannot be had here. These are made of the bundle's programs,
with the files, units and services that theirs have; their images come through a mirror that
containerd is told of.
"""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haechi.domains.clusters.bundle import recipe
from haechi.domains.clusters.bundle.model import Bundle
from haechi.domains.clusters.host.errors import PackagesUnavailable, RepositoriesUnreachable
from haechi.errors import Upstream
from lab import Host, Site, engine
from lab.registry import Registry, registry
from lab.yard import KUBECTL, Yard

from .hosting import options, work

SHELF = "/srv/kubernetes"
KUBELET_UNIT = """\
[Unit]
Description=kubelet: The Kubernetes Node Agent
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
"""
KUBEADM_DROP_IN = """\
[Service]
Environment="A=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf"
Environment="B=--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $A $B $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""
CONTAINERD_UNIT = """\
[Unit]
Description=containerd container runtime
After=network.target dbus.service

[Service]
ExecStart=/usr/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
# Docker's package: made for Docker, not for Kubernetes.
CONTAINERD_CONFIG = 'version = 3\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
ENABLED = "#!/bin/sh\nsystemctl daemon-reload\nsystemctl enable -q {0}.service\n"
STARTED = ENABLED + "systemctl restart {0}.service\n"
ENDED = '#!/bin/sh\n[ "$1" != remove ] || systemctl disable -q --now {0}.service\n'
FORGOTTEN = "#!/bin/sh\nsystemctl daemon-reload\n"


@dataclass
class Deb:
    """A package to be made: files of texts or of local files, scripts by their names."""

    name: str
    version: str
    files: Mapping[str, str | Path]
    needs: str = ""
    more: str = ""
    scripts: Mapping[str, str] = field(default_factory=dict)
    configuration: tuple[str, ...] = ()

    def control(self) -> str:
        needs = f"Depends: {self.needs}\n" if self.needs else ""
        return (
            f"Package: {self.name}\nVersion: {self.version}\nArchitecture: amd64\n{needs}"
            f"{self.more}Maintainer: nobody <nobody@localhost>\nDescription: for tests\n"
        )


def packages_of(bundle: Bundle, scratch: Path) -> list[Deb]:
    programs, kubernetes = bundle.folder / "bin", f"{bundle.kubernetes}-1.1"
    plugins = [one for one in sorted((bundle.folder / "cni").iterdir()) if one.name != "flannel"]
    units = "/usr/lib/systemd/system"
    containerd = {
        f"/usr/bin/{name}": programs / name
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    }
    return [
        Deb(
            "kubelet",
            kubernetes,
            {
                "/usr/bin/kubelet": programs / "kubelet",
                f"{units}/kubelet.service": KUBELET_UNIT,
                "/etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n",
                "/etc/kubernetes/manifests/.kubelet-keep": "",
                "/var/lib/kubelet/.kubelet-keep": "",
            },
            "iptables (>= 1.4.21), kubernetes-cni (>= 1.2.0), mount, util-linux",
            scripts={
                "postinst": STARTED.format("kubelet"),
                "prerm": ENDED.format("kubelet"),
                "postrm": FORGOTTEN,
            },
            configuration=("/etc/default/kubelet",),
        ),
        Deb(
            "kubeadm",
            kubernetes,
            {
                "/usr/bin/kubeadm": programs / "kubeadm",
                f"{units}/kubelet.service.d/10-kubeadm.conf": KUBEADM_DROP_IN,
            },
        ),
        Deb("kubectl", kubernetes, {"/usr/bin/kubectl": programs / "kubectl"}),
        Deb(
            "kubernetes-cni",
            f"{bundle.versions['cni-plugins']}-1.1",
            {
                **{f"/opt/cni/bin/{one.name}": one for one in plugins},
                "/etc/cni/net.d/.kubernetes-cni-keep": "",
            },
        ),
        Deb(
            "containerd.io",
            f"{bundle.versions['containerd']}-1~debian.12~bookworm",
            {
                **containerd,
                "/usr/bin/runc": scratch / "usr/sbin/runc",
                f"{units}/containerd.service": CONTAINERD_UNIT,
                "/etc/containerd/config.toml": CONTAINERD_CONFIG,
            },
            "libc6, libseccomp2",
            "Provides: containerd, runc\nConflicts: containerd, runc\n",
            {
                "postinst": STARTED.format("containerd"),
                "prerm": ENDED.format("containerd"),
                "postrm": FORGOTTEN,
            },
            ("/etc/containerd/config.toml",),
        ),
    ]


async def made(deb: Deb, folder: Path) -> str:
    """The package in `folder`; its paragraph of apt's index."""
    root = folder / f".{deb.name}"
    for path, content in deb.files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, file)
            file.chmod(0o755)
        else:
            file.write_text(content)
    control = root / "DEBIAN"
    control.mkdir(mode=0o755)
    (control / "control").write_text(deb.control())
    (control / "conffiles").write_text("".join(f"{one}\n" for one in deb.configuration))
    for name, script in deb.scripts.items():
        (control / name).write_text(script)
        (control / name).chmod(0o755)
    name = f"{deb.name}_{deb.version}_amd64.deb"
    build = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", root, folder / name]
    await engine.run(build, timeout_s=300)
    shutil.rmtree(root)
    content = (folder / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return f"{deb.control()}Filename: ./{name}\nSize: {len(content)}\nSHA256: {digest}\n"


async def fill_shelf(shelf: Path, bundle: Bundle) -> None:
    """An apt repository of what a node needs and Debian has not."""
    shelf.mkdir()
    scratch = shelf / ".runc"
    (runc,) = (bundle.folder / "host").glob("runc_*.deb")
    await engine.run(["dpkg-deb", "--extract", runc, scratch])
    paragraphs = [await made(deb, shelf) for deb in packages_of(bundle, scratch)]
    shutil.rmtree(scratch)
    (shelf / "Packages").write_text("\n".join(paragraphs))


async def fill_mirror(mirror: Registry, bundle: Bundle) -> None:
    """What kubeadm and the pods' network ask for, under the same paths."""
    for archive in {image.archive for image in bundle.images}:
        await engine.podman("load", "--quiet", "--input", bundle.folder / archive, timeout_s=300)
    plugin = recipe.load(bundle.kubernetes).cni_plugin
    flannel = bundle.image("flannel").reference
    name = f"haechi-lab-cni-{os.getpid()}"
    await engine.podman("create", "--name", name, flannel)
    try:
        await engine.podman("cp", bundle.folder / "cni/flannel", f"{name}:/flannel")
        await engine.podman("commit", "--quiet", name, plugin, timeout_s=300)
    finally:
        await engine.podman("rm", "--force", name)
    references = [*(image.reference for image in bundle.images), plugin]
    try:
        for reference in references:
            await mirror.put(reference, reference.partition("/")[2])
    finally:
        await engine.podman("image", "rm", "--force", *references, check=False)


async def lead_to_mirror(host: Host, mirror: Registry) -> None:
    for name in ("registry.k8s.io", "ghcr.io"):
        folder = f"/etc/containerd/certs.d/{name}"
        text = f'[host."http://{mirror.name}"]\ncapabilities = ["pull", "resolve"]\n'
        await host.shell(f"mkdir -p {folder}; cat > {folder}/hosts.toml", stdin=text.encode())


@pytest.fixture
async def open_site() -> AsyncIterator[Site]:
    """Its hosts reach Debian's mirror."""
    async with Site(internet=True) as site:
        yield site


async def refused(reach, bundle: Bundle, host: Host, error: type[Upstream]) -> tuple[Upstream, str]:
    """Why it cannot be prepared from packages, and the log; it is as it was before."""
    log: list[str] = []
    async with await reach.shell(host) as shell:
        before = await work(bundle).snapshot(shell)
        with pytest.raises(error) as caught:
            await work(bundle).prepare(
                shell,
                "control_plane",
                options(source="distribution"),
                bundle.kubernetes,
                log=log.append,
                progress=lambda _ratio: None,
            )
        assert caught.value.data["host"] == host.name
        assert work(bundle).differences(before, await work(bundle).snapshot(shell)) == []
    return caught.value, "\n".join(log)


async def test_a_site_without_internet_is_told_so_and_what_is_missing(bare_host, reach, bundle):
    error, log = await refused(reach, bundle, bare_host, RepositoriesUnreachable)
    assert "resolving" in error.data["sources"]
    for name in ("containerd (>= 2)", "conntrack", "haproxy", "kubernetes-cni", "kubelet="):
        assert name in log


async def test_a_cluster_of_packages_and_back(open_site, reach, bundle, tmp_path):
    host = await open_site.host("nuc")
    policy = "apt-get update -q && apt-cache policy conntrack | grep -q 'Candidate: [0-9]'"
    if not await host.holds(policy):
        pytest.skip("Debian's mirror cannot be reached from here")
    await host.shell("rm -rf /var/lib/apt/lists/*")
    # Debian 12 has the tools, and of the rest an older containerd at the most.
    version = bundle.kubernetes
    kubernetes = ", ".join(f"{one}={version}-*" for one in ("kubelet", "kubeadm", "kubectl"))
    wanted = f"containerd (>= 2), kubernetes-cni, {kubernetes}"
    error, _ = await refused(reach, bundle, host, PackagesUnavailable)
    assert error.data["packages"] == wanted

    shelf = tmp_path / "kubernetes"
    await fill_shelf(shelf, bundle)
    await engine.podman("cp", shelf, f"{host.container}:{SHELF}", timeout_s=300)
    await host.shell(
        f"echo 'deb [trusted=yes] file:{SHELF} ./' > /etc/apt/sources.list.d/kubernetes.list"
    )
    async with (
        registry(open_site) as mirror,
        Yard.open(open_site, tmp_path / "data") as yard,
    ):
        await fill_mirror(mirror, bundle)
        await lead_to_mirror(host, mirror)
        cluster_id = await yard.form([host], [], source="distribution")
        await yard.until_node(cluster_id, host, "ok", "connected")
        await yard.until_all_run(host)
        assert "coredns" in await host.shell(f"{KUBECTL} get pods -A --no-headers")
        assert (await host.shell("dpkg-query -W -f '${Version}' kubelet")).startswith(version)
        assert not await host.holds("test -e /usr/local/bin/kubelet")
        # Nothing of haechi's settings is lost, and so nothing is to be mended.
        assert not await yard.haechi.node_trust.mend(yard.devices[host.name])
        await host.reboot()
        await yard.until_node(cluster_id, host, "ok", "connected")

        await yard.does("DELETE", f"/clusters/{cluster_id}")
        proof = (await yard.server.client.get(f"/clusters/{cluster_id}/proof")).json()
        (one,) = proof["hosts"]
        assert (one["state"], one["differences"]) == ("clean", [])
    assert not await host.holds(
        "dpkg-query -W -f '${db:Status-Status}' kubelet | grep -q installed"
    )
