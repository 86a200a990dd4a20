"""Lab hosts that have all of a node's programs and images already, and the bundle they are from.

`by_haechi` are prepared by haechi's own code over SSH, `by_hand` by the plain commands of
`lab.byhand`. Each is made once for each bundle and state of that code, then started from there.
"""

import platform
import tempfile
from pathlib import Path

import yaml

from haechi.adapters.agent_images import REPOSITORY
from haechi.adapters.ssh_asyncssh import AsyncsshHosts
from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.domains.clusters import manifests
from haechi.domains.clusters.agent.places import PINNED
from haechi.domains.clusters.bundle.model import Bundle
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.domains.clusters.host import prepare
from haechi.domains.clusters.host.ports import Target
from haechi.settings import BundleSettings
from lab import byhand, engine, profile
from lab.engine import LabError
from lab.host import Host
from lab.prepared import Prepared, prepared
from lab.site import Site

BASE = "haechi/python:3.11-slim"
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


async def by_haechi(found: Bundle, *, agent: str = "") -> Prepared:
    """As nodes on which AIs have run before: the layers of this machine's Python image are there.
    `agent`: an image of its Docker that is there too, as haechi brings it.
    """
    held = [BASE, agent] if agent else [BASE]
    ids = [await _id_of(image) for image in held]
    names = ["lab.invalid/base:1", f"{REPOSITORY}:{ids[-1][:12]}"]

    async def do(_site: Site, host: Host) -> None:
        wanted = prepare.Preparation(found, "control_plane", profile.CONTAINERD)
        hosts = AsyncsshHosts(_OneHost(host, await host.host_key()))
        try:
            async with hosts.open(host.name) as shell:
                await prepare.prepare(shell, wanted, log=print, progress=lambda _: None)
        finally:
            await hosts.close()
        for image, name in zip(held, names, strict=False):
            await _import(host, image, name)

    code = sorted(Path(prepare.__file__).parent.rglob("*.*"))
    texts = [file.read_text() for file in code if file.suffix in {".py", ".sh"}]
    name = "prepared-agent" if agent else "prepared"
    return await prepared(name, [found.digest, *texts, str(profile.CONTAINERD), *ids], do)


async def _id_of(image: str) -> str:
    """Of one of this machine's Docker, in hex."""
    said = await engine.run(["docker", "image", "inspect", "--format", "{{.Id}}", image])
    return said.out.strip().removeprefix("sha256:")


async def _import(host: Host, image: str, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=engine.root()) as scratch:
        archive = Path(scratch) / "image.tar"
        await engine.run(["docker", "image", "tag", image, name])
        await engine.run(["docker", "save", "--output", archive, name], timeout_s=300)
        await engine.podman("cp", archive, f"{host.container}:/root/image.tar", timeout_s=300)
    bring = "ctr -n k8s.io images import --local /root/image.tar && rm /root/image.tar"
    pin = f"ctr -n k8s.io images label {name} {PINNED}"
    await host.shell(f"{bring}\n{pin}", timeout_s=300)


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
