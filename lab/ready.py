"""Lab hosts that have all of a node's programs and images already, and the bundle they are from.

`by_haechi` are prepared by haechi's own code over SSH, `by_hand` by the plain commands of
`lab.byhand`. Each is made once for each bundle and state of that code, then started from there.
"""

import platform
from pathlib import Path

import yaml

from haechi.adapters.ssh_asyncssh import AsyncsshHosts
from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.domains.clusters import manifests
from haechi.domains.clusters.bundle.model import Bundle
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.domains.clusters.host import prepare
from haechi.domains.clusters.host.ports import Target
from haechi.settings import BundleSettings
from lab import byhand, profile
from lab.engine import LabError
from lab.host import Host
from lab.prepared import Prepared, prepared
from lab.site import Site

PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


def bundle() -> Bundle:
    """The newest one for this machine's platform."""
    shelf = Shelf(BundleSettings().folder.expanduser())
    fitting = [one for one in shelf.bundles() if one.platform == PLATFORMS[platform.machine()]]
    if not fitting:
        raise LabError("there is no offline bundle for this machine: make bundle")
    return fitting[-1]


async def by_hand(found: Bundle) -> Prepared:
    return await prepared(
        "byhand",
        [(found.folder / "bundle.toml").read_text(), Path(byhand.__file__).read_text()],
        lambda _site, host: byhand.install(host, found.folder),
    )


async def by_haechi(found: Bundle) -> Prepared:
    async def do(_site: Site, host: Host) -> None:
        wanted = prepare.Preparation(found, "control_plane", profile.CONTAINERD)
        hosts = AsyncsshHosts(_OneHost(host, await host.host_key()))
        try:
            async with hosts.open(host.name) as shell:
                await prepare.prepare(shell, wanted, log=print, progress=lambda _: None)
        finally:
            await hosts.close()

    code = sorted(Path(prepare.__file__).parent.rglob("*.*"))
    texts = [file.read_text() for file in code if file.suffix in {".py", ".sh"}]
    return await prepared("prepared", [found.digest, *texts, str(profile.CONTAINERD)], do)


async def forget(host: Host) -> None:
    """What it was prepared with counts as its own from here on, not as haechi's."""
    await host.shell("systemctl stop kubelet || :; rm -rf /var/lib/haechi/host")


def flannel(found: Bundle) -> bytes:
    """The pods' network as haechi applies it, in YAML, for a cluster made by hand: that has no
    proxy of haechi's on its nodes, so flannel reaches the API by Kubernetes' own address.
    """
    image = f"ghcr.io/flannel-io/flannel:v{found.versions['flannel']}"
    objects = manifests.flannel(image=image, pod_cidr="10.244.0.0/16", pull_policy="Never")
    for one in objects:
        if one["kind"] == "DaemonSet":
            for container in one["spec"]["template"]["spec"]["containers"]:
                container["env"] = [
                    variable
                    for variable in container.get("env", [])
                    if not variable["name"].startswith("KUBERNETES_SERVICE_")
                ]
    return yaml.safe_dump_all(objects).encode()


class _OneHost:
    """The directory that knows this one host, by its robot's key."""

    def __init__(self, host: Host, host_key: str) -> None:
        self._host = host
        self._host_key = host_key

    async def target(self, device_id: str) -> Target:
        login = self._host.robot
        return Target(
            device_id=device_id,
            name=self._host.name,
            addresses=(self._host.address,),
            port=22,
            user=login.user,
            password=None,
            key=Secret(login.key_file.read_text()) if login.key_file else None,
            host_key=self._host_key,
        )

    async def pin(self, device_id: str, host_key: str, *, by: Principal) -> None:
        raise AssertionError(f"{device_id}: {by.name} pins {host_key}; it is pinned")
