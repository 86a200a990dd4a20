"""Certificates of a cluster: renewed in time, and put right where they have ended, on one host or on
all of them.
"""

import base64
import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from haechi.domains.clusters.certificates import KUBELET_CLIENT
from lab import Host
from lab.yard import KUBECTL, Yard

PKI = "/etc/kubernetes/pki"
SIGNED_BY = {
    "ca": ("apiserver", "apiserver-kubelet-client"),
    "front-proxy-ca": ("front-proxy-client",),
    "etcd/ca": ("apiserver-etcd-client", "etcd/server", "etcd/peer", "etcd/healthcheck-client"),
}
CONFIGS = ("admin", "super-admin", "controller-manager", "scheduler")
BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
DATA = re.compile(r"(client-certificate-data: )(\S+)")
SERIAL = f"sha256sum {PKI}/apiserver.crt"


class Authority:
    """One of the cluster's own, with the key that lies on its control plane."""

    def __init__(self, certificate: str, key: str) -> None:
        self._issuer = x509.load_pem_x509_certificate(certificate.encode())
        self._key = serialization.load_pem_private_key(key.encode(), None)

    @classmethod
    async def of(cls, master: Host, name: str = "ca") -> "Authority":
        pair = [await master.shell(f"cat {PKI}/{name}.{end}") for end in ("crt", "key")]
        return cls(*pair)

    def ended(self, pem: str) -> str:
        """The same certificate, of which the year was over yesterday."""
        old = x509.load_pem_x509_certificate(pem.encode())
        yesterday = datetime.now(UTC) - timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(old.subject)
            .issuer_name(self._issuer.subject)
            .public_key(old.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(yesterday - timedelta(days=365))
            .not_valid_after(yesterday)
        )
        for one in old.extensions:
            made = made.add_extension(one.value, one.critical)
        signed = made.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()


async def rewrite(host: Host, path: str, pattern: re.Pattern, put) -> None:
    before = await host.shell(f"cat {path}") + "\n"
    after = pattern.sub(put, before)
    assert after != before, path
    await host.shell(f"cat > {path}", stdin=after.encode())


async def let_kubelet_end(host: Host, master: Host) -> None:
    ca = await Authority.of(master)
    await rewrite(host, KUBELET_CLIENT, BLOCK, lambda found: ca.ended(found[0]))


async def let_control_plane_end(master: Host) -> None:
    for authority, names in SIGNED_BY.items():
        ca = await Authority.of(master, authority)
        for name in names:
            path = f"{PKI}/{name}.crt"
            await rewrite(master, path, BLOCK, lambda found, ca=ca: ca.ended(found[0]))
    ca = await Authority.of(master)

    def ended(found: re.Match) -> str:
        pem = ca.ended(base64.b64decode(found[2]).decode())
        return found[1] + base64.b64encode(pem.encode()).decode()

    for name in CONFIGS:
        await rewrite(master, f"/etc/kubernetes/{name}.conf", DATA, ended)


@pytest.fixture
async def pair(site, prepared_hosts, tmp_path):
    hosts = await prepared_hosts(2)
    async with Yard.open(site, tmp_path / "data") as yard:
        yield yard, *hosts


async def test_certificates_are_renewed_in_time_or_after_it(pair):
    yard, master, worker = pair
    cluster_id = await yard.form([master], [worker])
    path = f"/clusters/{cluster_id}/certificates"
    shown = (await yard.server.client.get(path, timeout=120)).json()
    names = {one["name"] for one in shown["certificates"]}
    assert {"apiserver", "etcd-server", "admin.conf", "kubelet"} <= names
    assert shown["not_reached"] == []

    before = await master.shell(SERIAL)
    done = await yard.does("POST", f"{path}/renew", {})
    assert done.ctx["result"]["renewed"] == [yard.devices[master.name]]
    assert await master.shell(SERIAL) != before
    assert "Ready" in await master.shell(f"{KUBECTL} get nodes")
    for host in (master, worker):
        await yard.until_node(cluster_id, host, "ok", "connected")

    await _a_host_was_off_for_long(yard, cluster_id, master, worker)
    await _the_site_was_off_for_long(yard, cluster_id, master, worker)


async def _a_host_was_off_for_long(yard: Yard, cluster_id: str, master: Host, worker: Host) -> None:
    """Its kubelet can neither log in nor ask for another certificate, and starts nothing."""
    await let_kubelet_end(worker, master)
    await worker.kill()
    await worker.start()
    await yard.until_node(cluster_id, worker, "dead", "kubelet_dead")
    done = await yard.does("POST", f"/clusters/{cluster_id}/certificates/renew", {"every": False})
    assert done.ctx["result"]["renewed"] == []
    assert done.ctx["result"]["kubelets"] == [yard.devices[worker.name]]
    await yard.until_node(cluster_id, worker, "ok", "connected")


async def _the_site_was_off_for_long(
    yard: Yard, cluster_id: str, master: Host, worker: Host
) -> None:
    """Nothing of it may talk to anything else of it."""
    await let_kubelet_end(worker, master)
    await let_kubelet_end(master, master)
    await let_control_plane_end(master)
    for host in (worker, master):
        await host.kill()
        await host.start()
    for host in (worker, master):
        await yard.until_node(cluster_id, host, "dead", "kubelet_dead")
    done = await yard.does("POST", f"/clusters/{cluster_id}/certificates/renew", {"every": False})
    assert done.ctx["result"]["renewed"] == [yard.devices[master.name]]
    both = sorted(yard.devices[host.name] for host in (master, worker))
    assert done.ctx["result"]["kubelets"] == both
    for host in (master, worker):
        await yard.until_node(cluster_id, host, "ok", "connected")
    await master.until(f"{KUBECTL} get nodes | grep -c ' Ready ' | grep -x 2", "both are Ready")
