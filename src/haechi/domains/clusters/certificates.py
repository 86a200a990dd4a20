"""When the certificates of a cluster's nodes end, read on the hosts; and a kubelet's made anew."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from haechi.core.clock import from_text
from haechi.core.pki import ends_at
from haechi.core.secrets import Secret
from haechi.domains.clusters import kubeadm, kubeconfig
from haechi.domains.clusters.host.errors import CommandFailed, short
from haechi.domains.clusters.host.ports import Shell

KUBELET_PKI: Final = "/var/lib/kubelet/pki"
KUBELET_CLIENT: Final = f"{KUBELET_PKI}/kubelet-client-current.pem"
CHECK_ARGV: Final = ("kubeadm", "certs", "check-expiration", "-o", "json")
RENEW_ARGV: Final = ("kubeadm", "certs", "renew", "all")
KUBELET_NAME: Final = "kubelet"
_ONLY_CERTIFICATES: Final = "/BEGIN CERTIFICATE/,/END CERTIFICATE/p"
"""The file holds the key too, which stays on the host."""


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    device_id: str
    node_name: str
    name: str
    """As kubeadm calls it (`apiserver`, `admin.conf`…), or `kubelet`."""
    ends_at: datetime
    authority: bool = False
    """A CA: kubeadm makes them for ten years and never renews them."""

    def has_ended(self, now: datetime) -> bool:
        return self.ends_at <= now


def read_expirations(stdout: str, device_id: str, node_name: str) -> list[NodeCertificate]:
    """What `kubeadm certs check-expiration -o json` prints, whatever words stand before it."""
    start = stdout.find("{")
    document: dict[str, Any] = json.loads(stdout[start:]) if start >= 0 else {}
    found = []
    for key, authority in (("certificates", False), ("certificateAuthorities", True)):
        for one in document.get(key) or ():
            if one.get("missing") or one.get("externallyManaged"):
                continue
            until = from_text(str(one["expirationDate"]))
            found.append(NodeCertificate(device_id, node_name, str(one["name"]), until, authority))
    return found


async def look_at_control_plane(
    shell: Shell, device_id: str, node_name: str
) -> list[NodeCertificate]:
    ran = await shell.run(list(CHECK_ARGV), root=True, timeout_s=90)
    try:
        return read_expirations(ran.stdout, device_id, node_name)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CommandFailed(
            host=shell.host.name,
            command=" ".join(CHECK_ARGV),
            status=ran.status,
            message=short(f"it printed something else: {type(error).__name__}: {error}"),
        ) from error


async def look_at_kubelet(shell: Shell, device_id: str, node_name: str) -> list[NodeCertificate]:
    """The certificate by which the kubelet shows itself to the API; it renews it by itself while it
    runs and reaches the API.
    """
    ran = await shell.run(["sed", "-n", _ONLY_CERTIFICATES, KUBELET_CLIENT], root=True)
    try:
        until = ends_at(ran.stdout)
    except ValueError as error:
        raise CommandFailed(
            host=shell.host.name, command=f"sed {KUBELET_CLIENT}", status=0, message=str(error)
        ) from error
    return [NodeCertificate(device_id, node_name, KUBELET_NAME, until)]


def due(
    certificates: Sequence[NodeCertificate], now: datetime, before_days: float
) -> list[NodeCertificate]:
    """Those that can be renewed and should be, soonest first."""
    soon = [
        one
        for one in certificates
        if not one.authority and (one.ends_at - now).total_seconds() < before_days * 86400
    ]
    return sorted(soon, key=lambda one: one.ends_at)


# --- a kubelet's, made anew


def issue_argv(node_name: str) -> list[str]:
    """By the CA that lies on a control plane, whether or not its API answers."""
    return [
        *("kubeadm", "kubeconfig", "user", "--config", kubeadm.CONFIG),
        *("--client-name", f"system:node:{node_name}", "--org", "system:nodes"),
    ]


async def issue_kubelet(
    shell: Shell, node_name: str, documents: Sequence[Mapping[str, Any]]
) -> Secret:
    """A client certificate and its key for the node's kubelet, in PEM. `shell`: a control plane;
    `documents`: its kubeadm configuration.
    """
    argv = issue_argv(node_name)
    # The key is printed: not into a log.
    ran = await kubeadm.run(shell, argv, documents, log=_nothing)
    try:
        return kubeconfig.client_pem(Secret(ran.stdout))
    except ValueError as error:
        raise CommandFailed(
            host=shell.host.name, command=" ".join(argv[:3]), status=ran.status, message=str(error)
        ) from error


async def lay_kubelet(shell: Shell, pem: Secret, now: datetime) -> None:
    """Under a name such as the kubelet gives its own, which it takes up when it starts."""
    path = f"{KUBELET_PKI}/kubelet-client-{now:%Y-%m-%d-%H-%M-%S}.pem"
    await shell.write(path, pem, mode=0o600, root=True)
    await shell.run(["ln", "-sfn", path, KUBELET_CLIENT], root=True)
    await restart_kubelet(shell)


async def restart_kubelet(shell: Shell) -> None:
    await shell.run(["systemctl", "restart", "kubelet"], root=True, timeout_s=120)


def _nothing(line: str) -> None:
    del line
