"""The Kubernetes engine on real nodes: what the contract says of the small API holds there too. And
how haechi finds these nodes, which are of a cluster that somebody else has formed.

One cluster for all scenes: forming it takes longest.
"""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio
import yaml
from tests.lab.conftest import Logins
from tests.lab.hosting import hosts_of, options, work

from haechi.adapters.engine_kube import KubeEngine
from haechi.adapters.kube_errors import KubeUnreachable, NodeAway
from haechi.adapters.kube_lightkube import LightKubes
from haechi.adapters.kube_nodes import Seat
from haechi.core.secrets import Secret
from haechi.domains.clusters.model import DEVICE_LABEL
from haechi.domains.clusters.ports import ApiServer, KubeAccess
from haechi.protocol.commands import RegistryAccess
from haechi.protocol.desired import ContainerSpec
from haechi.protocol.problems import ImageNotFound, RegistryUnreachable
from lab import Host, Site, byhand, engine, ready
from lab.registry import Registry, registry

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEVICE = "dev-worker"
LIMIT_S = 240.0
HOSTS_TOML = (
    'server = "http://{name}"\n[host."http://{name}"]\ncapabilities = ["pull", "resolve"]\n'
)


async def ai_image(folder: Path) -> str:
    """One static program and nothing else, in the lab's own storage."""
    binary = folder / "ai"
    build = await asyncio.create_subprocess_exec(
        *("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(binary), "main.go"),
        cwd=Path(__file__).parent / "ai",
        env={
            "PATH": "/usr/local/go/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "GOCACHE": str(engine.root().parent / "go" / "build"),
            "CGO_ENABLED": "0",
            "GO111MODULE": "off",
        },
    )
    assert await build.wait() == 0
    rootfs = folder / "root.tar"
    with tarfile.open(rootfs, "w") as tar:
        info = tarfile.TarInfo("ai")
        content = binary.read_bytes()
        info.size, info.mode = len(content), 0o755
        tar.addfile(info, io.BytesIO(content))
    name = f"localhost/haechi-lab/ai:{os.getpid()}"
    await engine.podman("import", "--change", 'ENTRYPOINT ["/ai"]', str(rootfs), name)
    return name


async def pinned(shelf: Registry, reference: str) -> str:
    """`host:port/name:tag` by its digest."""
    repository, _, tag = reference.rpartition(":")
    path = repository.removeprefix(f"{shelf.name}/")
    accept = "application/vnd.oci.image.manifest.v1+json"
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.head(
            f"http://{shelf.name}/v2/{path}/manifests/{tag}", headers={"Accept": accept}
        )
    return f"{repository}@{answer.headers['Docker-Content-Digest']}"


@dataclass
class Cluster:
    control: Host
    worker: Host
    shelf: Registry
    image: str
    engine: KubeEngine

    def spec(self, deployment_id: str, **environment: str) -> ContainerSpec:
        return ContainerSpec(
            deployment_id=deployment_id,
            package_id="pkg-a",
            version_id="ver-a",
            name=f"ai-{deployment_id}",
            image=self.image,
            environment={"HAECHI_DEVICE_ID": DEVICE, **environment},
            stop_grace_s=10,
        )

    async def start(self, deployment_id: str, **environment: str) -> Any:
        return await self.engine.start(
            DEVICE, self.spec(deployment_id, **environment), Secret("token"), []
        )

    async def status(self, deployment_id: str) -> Any:
        (status,) = await self.engine.status(DEVICE, [deployment_id])
        return status

    async def until(self, deployment_id: str, *states: str) -> Any:
        async with asyncio.timeout(LIMIT_S):
            while (status := await self.status(deployment_id)).state not in states:
                await asyncio.sleep(0.5)
        return status

    async def kubectl(self, command: str) -> str:
        return await self.control.shell(f"{byhand.KUBECTL} {command}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(bundle, tmp_path_factory) -> AsyncIterator[Cluster]:
    installed = await ready.by_hand(bundle)
    async with Site() as site:
        control, worker = await installed.add(site, 2)
        await byhand.form(control, [worker], ready.flannel(bundle), bundle.kubernetes)
        kubectl = byhand.KUBECTL
        await control.shell(f"{kubectl} label node {worker.name} {DEVICE_LABEL}={DEVICE}")
        kubeconfig = await control.shell("cat /etc/kubernetes/admin.conf")
        assert yaml.safe_load(kubeconfig)["users"]
        access = KubeAccess(
            "clu-lab",
            Secret(kubeconfig),
            "kubernetes",
            (ApiServer("dev-control", control.address, 6443),),
        )

        async def locate(device_id: str) -> Seat | None:
            return Seat("clu-lab", device_id, worker.name, "gate", access)

        kubes = LightKubes()
        async with registry(site) as shelf:
            folder = f"/etc/containerd/certs.d/{shelf.name}"
            await worker.shell(
                f"mkdir -p {folder}; cat > {folder}/hosts.toml",
                stdin=HOSTS_TOML.format(name=shelf.name).encode(),
            )
            made = await ai_image(tmp_path_factory.mktemp("ai"))
            image = await pinned(shelf, await shelf.put(made, "ai:1"))
            await engine.podman("image", "rm", made)
            yield Cluster(control, worker, shelf, image, KubeEngine(kubes, locate))
        await kubes.close()


@pytest.mark.parametrize("role", ["control_plane", "worker"])
async def test_a_node_of_somebodys_cluster_is_never_taken(cluster: Cluster, bundle, role):
    """Not as leftovers either, whatever one says of those."""
    logins = Logins()
    async with hosts_of(logins) as hosts:
        for host in (cluster.control, cluster.worker):
            async with hosts.open(await logins.add(host)) as shell:
                found = await work(bundle).report(shell, host.name, role)
            told = work(bundle).findings([found], options(clean_leftovers=True))
            assert {"existing_cluster"} <= {one.name for one in told if one.level == "error"}
            assert "leftovers" not in {one.name for one in told}


async def test_it_pulls_starts_replaces_corrects_and_removes(cluster: Cluster):
    info = await cluster.engine.info(DEVICE)
    assert (info.engine, info.platform) == ("kubernetes", "linux/amd64")
    assert info.memory_available_bytes > 0
    assert info.disk_free_bytes > 0

    access = RegistryAccess(cluster.shelf.name, cluster.shelf.name, user="u", password="p")
    pulled = await cluster.engine.pull(DEVICE, cluster.image, access, lambda _: None)
    assert pulled.pulled
    with pytest.raises(ImageNotFound):
        missing = f"{cluster.shelf.name}/none@sha256:{'0' * 64}"
        await cluster.engine.pull(DEVICE, missing, access, lambda _: None)
    elsewhere = f"{cluster.shelf.address}:1/ai@sha256:{'0' * 64}"
    with pytest.raises(RegistryUnreachable):
        await cluster.engine.pull(DEVICE, elsewhere, access, lambda _: None)

    first = await cluster.start("dep-one", VERSION="1")
    assert first.state == "running", first
    uid = await cluster.kubectl("get pods -n haechi-ai -o jsonpath='{.items[*].metadata.uid}'")
    assert (await cluster.start("dep-one", VERSION="1")).state == "running"
    again = await cluster.kubectl("get pods -n haechi-ai -o jsonpath='{.items[*].metadata.uid}'")
    assert again == uid

    follow = cluster.engine.logs(DEVICE, "dep-one", follow=True, tail=5)
    async with aclosing(follow):
        async with asyncio.timeout(LIMIT_S):
            seen = [(await anext(follow)).lines[0] for _ in range(8)]
    assert seen[-1].text.startswith("tick")
    assert seen[-1].at_ms > 1_700_000_000_000

    # The new beside the old, then the old goes at once: it hears SIGTERM.
    assert (await cluster.start("dep-two", VERSION="2")).state == "running"
    assert (await cluster.status("dep-one")).state == "running"
    removed = await cluster.engine.remove(DEVICE, "dep-one", 10, 50)
    assert removed.removed
    assert "version 1" in removed.log_tail[0].text or removed.log_tail[0].text.startswith("tick")
    assert (await cluster.status("dep-one")).state == "absent"

    # Drift: edited, its pod deleted, the whole object deleted.
    await cluster.kubectl("scale -n haechi-ai deployment dep-two --replicas=0")
    assert (await cluster.status("dep-two")).state == "failed"
    assert (await cluster.start("dep-two", VERSION="2")).state == "running"
    await cluster.kubectl("delete pods -n haechi-ai -l haechi.internal/deployment-id=dep-two")
    await cluster.until("dep-two", "running")
    await cluster.kubectl("delete deployment -n haechi-ai dep-two")
    assert (await cluster.status("dep-two")).state == "absent"
    assert (await cluster.start("dep-two", VERSION="2")).state == "running"

    # Stopped, and started again.
    assert (await cluster.engine.stop(DEVICE, "dep-two", 10)).state == "exited"
    assert (await cluster.start("dep-two", VERSION="2")).state == "running"

    crashing = await cluster.start("dep-bad", MODE="crash")
    if crashing.state != "restarting":
        crashing = await cluster.until("dep-bad", "restarting")
    assert crashing.exit_code == 3
    lines = [line.text async for p in cluster.engine.logs(DEVICE, "dep-bad") for line in p.lines]
    assert "the model file is damaged" in lines
    assert (await cluster.engine.remove(DEVICE, "dep-bad", 1, 10)).removed

    greedy = msgspec.structs.replace(cluster.spec("dep-big"), memory_limit_bytes=1 << 50)
    status = await cluster.engine.start(DEVICE, greedy, Secret("t"), [])
    assert (status.state, "Insufficient memory" in status.error) == ("failed", True), status
    assert (await cluster.engine.remove(DEVICE, "dep-big", 1, 10)).removed
    assert (await cluster.engine.remove(DEVICE, "dep-two", 10, 10)).removed


async def test_it_goes_on_while_the_api_is_away_and_says_when_its_node_is(cluster: Cluster):
    await cluster.engine.pull(DEVICE, cluster.image, None, lambda _: None)
    await cluster.start("dep-one", VERSION="1")
    before = await cluster.worker.shell("ctr -n k8s.io tasks ls -q | sort")
    await cluster.control.kill()
    with pytest.raises(KubeUnreachable):
        await cluster.status("dep-one")
    assert await cluster.worker.shell("ctr -n k8s.io tasks ls -q | sort") == before
    await cluster.control.start()
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                status = await cluster.status("dep-one")
                break
            except (KubeUnreachable, NodeAway):
                await asyncio.sleep(0.5)
    assert (status.state, status.restarts) == ("running", 0)

    await cluster.worker.kill()
    with pytest.raises(NodeAway) as caught:
        await cluster.engine.info(DEVICE)
    assert caught.value.data["host"] == "gate"
    with pytest.raises((NodeAway, KubeUnreachable)):
        other = cluster.image.replace("/ai@", "/other@")
        await cluster.engine.pull(DEVICE, other, None, lambda _: None)
    await cluster.worker.start()
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                if (await cluster.status("dep-one")).state == "running":
                    break
            except (KubeUnreachable, NodeAway):
                pass
            await asyncio.sleep(0.5)
    restarts = "{.items[*].status.containerStatuses[*].restartCount}"
    await cluster.control.until(
        f"{byhand.KUBECTL} get pods -n kube-system -l k8s-app=kube-proxy -o jsonpath='{restarts}'"
        f" --field-selector spec.nodeName={cluster.worker.name} | grep -q '[1-9]'",
        "the worker's pods were started again",
        timeout_s=600,
    )
    await byhand.until_ready(cluster.control, 2)
