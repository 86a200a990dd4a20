"""What the tests of hosts say of lab hosts: options that containers need, and what does the work."""

from contextlib import asynccontextmanager

from haechi.adapters.ssh_asyncssh import AsyncsshHosts, Pace
from haechi.core.clock import SystemClock
from haechi.domains.clusters.bundle.model import Bundle
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.domains.clusters.host.work import BundledHostWork
from haechi.domains.clusters.model import FormOptions, HostProfile
from lab import profile

# Quick to give up and patient with busy machines: nothing here waits for a host to come back.
PACE = Pace(dial_s=20, login_s=90, attempts=2, retry_s=0.5, keepalive_s=5, keepalive_count=4)


def options(**more) -> FormOptions:
    """What containers need is said, never assumed."""
    needs = HostProfile(
        kubelet=profile.KUBELET,
        kube_proxy=profile.KUBE_PROXY,
        containerd=profile.CONTAINERD,
        ignore_preflight=profile.IGNORE_PREFLIGHT,
    )
    return FormOptions(profile=needs, **more)


def work(bundle: Bundle) -> BundledHostWork:
    return BundledHostWork(Shelf(bundle.folder.parent), SystemClock())


@asynccontextmanager
async def hosts_of(logins, pace: Pace = PACE):
    hosts = AsyncsshHosts(logins, pace=pace)
    try:
        yield hosts
    finally:
        await hosts.close()
