"""Certificates of a cluster, as they are when their year is over: signed anew by its own authorities,
with the same keys.
"""

import base64
import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from haechi.domains.clusters.certificates import KUBELET_CLIENT
from lab import Host

PKI = "/etc/kubernetes/pki"
SIGNED_BY = {
    "ca": ("apiserver", "apiserver-kubelet-client"),
    "front-proxy-ca": ("front-proxy-client",),
    "etcd/ca": ("apiserver-etcd-client", "etcd/server", "etcd/peer", "etcd/healthcheck-client"),
}
CONFIGS = ("admin", "super-admin", "controller-manager", "scheduler")
BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
DATA = re.compile(r"(client-certificate-data: )(\S+)")


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
