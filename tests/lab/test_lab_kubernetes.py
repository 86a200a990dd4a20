"""Lab hosts run real Kubernetes: from the offline bundle, by hand, without the product.

One cluster for all scenes: forming it takes longest.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab import Host, Site, byhand, ready
from lab.prepared import Prepared

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(bundle) -> Prepared:
    return await ready.by_hand(bundle)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(installed: Prepared, bundle) -> AsyncIterator[tuple[Host, Host]]:
    async with Site() as site:
        control, worker = await installed.add(site, 2)
        await byhand.form(control, [worker], ready.flannel(bundle), bundle.kubernetes)
        yield control, worker


async def test_a_node_that_lost_its_power_comes_back_to_its_cluster(cluster):
    control, worker = cluster
    pods = await control.shell(f"{byhand.KUBECTL} get pods -A -o wide --no-headers")
    assert worker.address in pods

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


async def test_prepared_hosts_do_not_share_what_they_write(cluster, installed: Prepared):
    """Last: the worker has no images any more."""
    control, worker = cluster
    assert control.machine_id != worker.machine_id
    assert await control.host_key() != await worker.host_key()
    assert "kube-apiserver" in await worker.shell("ctr -n k8s.io images ls -q")

    await worker.shell("ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q)", timeout_s=120)
    async with Site() as other:
        (fresh,) = await installed.add(other, 1)
        assert "kube-apiserver" in await fresh.shell("ctr -n k8s.io images ls -q")
