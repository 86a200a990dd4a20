"""Lab hosts run real Kubernetes: from the offline bundle, by hand, without the product."""

import platform
from pathlib import Path

import pytest
import yaml

from haechi.domains.clusters import manifests
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.settings import BundleSettings
from lab import Site, byhand
from lab.prepared import Prepared, prepared

ARCHES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


@pytest.fixture
def bundle():
    shelf = Shelf(BundleSettings().folder.expanduser())
    fitting = [one for one in shelf.bundles() if one.platform == ARCHES[platform.machine()]]
    assert fitting, "make one first: haechi bundle create (make test-lab does)"
    return fitting[-1]


@pytest.fixture
def flannel(bundle) -> bytes:
    image = f"ghcr.io/flannel-io/flannel:v{bundle.versions['flannel']}"
    objects = manifests.flannel(image=image, pod_cidr="10.244.0.0/16", pull_policy="Never")
    return yaml.safe_dump_all(objects).encode()


@pytest.fixture
async def installed(bundle) -> Prepared:
    """Hosts with the bundle installed by hand."""
    return await prepared(
        "byhand",
        [(bundle.folder / "bundle.toml").read_text(), Path(byhand.__file__).read_text()],
        lambda _site, host: byhand.install(host, bundle.folder),
    )


async def test_prepared_hosts_form_a_cluster_and_do_not_share_what_they_write(
    site, bundle, flannel, installed
):
    control, worker = await installed.add(site, 2)
    assert control.machine_id != worker.machine_id
    assert await control.host_key() != await worker.host_key()
    assert "kube-apiserver" in await worker.shell("ctr -n k8s.io images ls -q")

    await byhand.form(control, [worker], flannel, bundle.kubernetes)

    pods = await control.shell(f"{byhand.KUBECTL} get pods -A -o wide --no-headers")
    assert worker.address in pods
    await worker.shell("ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q)", timeout_s=120)
    async with Site() as other:
        (fresh,) = await installed.add(other, 1)
        assert "kube-apiserver" in await fresh.shell("ctr -n k8s.io images ls -q")


async def test_a_node_that_lost_its_power_comes_back_to_its_cluster(
    site, bundle, flannel, installed
):
    control, worker = await installed.add(site, 2)
    await byhand.form(control, [worker], flannel, bundle.kubernetes)

    await worker.kill()
    await worker.start()

    restarts = "{.items[*].status.containerStatuses[*].restartCount}"
    await control.until(
        f"{byhand.KUBECTL} get pods -n kube-system -l k8s-app=kube-proxy -o jsonpath='{restarts}'"
        " --field-selector spec.nodeName=host-2 | grep -q '[1-9]'",
        "the worker's pods were started again",
        timeout_s=600,
    )
    await byhand.until_ready(control, 2)
