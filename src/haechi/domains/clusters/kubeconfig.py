"""The admin's kubeconfig: read from a control plane, kept by haechi, and given to the host's user.

The user is the one whose login haechi uses, not root under sudo: the file belongs to them, in
their own home.
"""

import base64
import shlex
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import yaml

from haechi.core.secrets import Secret
from haechi.domains.clusters.errors import HostStepFailed
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.kubeadm import ADMIN_CONF

KEPT_SUFFIX: Final = ".before-haechi"


class HostUser(NamedTuple):
    name: str
    group: str
    home: str


async def read_admin(shell: Shell) -> Secret:
    """`admin.conf` as kubeadm wrote it."""
    return Secret((await shell.read(ADMIN_CONF, root=True)).decode())


def ca_data(kubeconfig: Secret) -> str:
    """The cluster's CA in base64 of PEM, as kubeconfigs carry it."""
    document = yaml.safe_load(kubeconfig.reveal())
    return str(document["clusters"][0]["cluster"]["certificate-authority-data"])


def client_pem(kubeconfig: Secret) -> Secret:
    """Certificate and key of its user, in one PEM text. Raises ValueError, which quotes nothing."""
    try:
        user = yaml.safe_load(kubeconfig.reveal())["users"][0]["user"]
        parts = [
            base64.b64decode(user[f"client-{name}-data"], validate=True).decode()
            for name in ("certificate", "key")
        ]
    except (yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"no kubeconfig with a certificate: {type(error).__name__}") from None
    return Secret("".join(parts))


def renamed(
    kubeconfig: Secret, cluster_id: str, server: str | None = None, *, tls_server_name: str = ""
) -> Secret:
    """With the cluster's id as the name of cluster, user and context, so that several can be
    merged; with another server address where one is given, whose certificate bears
    `tls_server_name`.
    """
    document: dict[str, Any] = yaml.safe_load(kubeconfig.reveal())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    if server is not None:
        cluster = {**cluster, "server": server, "tls-server-name": tls_server_name}
    named: Mapping[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster_id, "cluster": cluster}],
        "users": [{"name": f"{cluster_id}-admin", "user": user}],
        "contexts": [
            {
                "name": cluster_id,
                "context": {"cluster": cluster_id, "user": f"{cluster_id}-admin"},
            }
        ],
        "current-context": cluster_id,
    }
    return Secret(yaml.safe_dump(named, sort_keys=False))


async def host_user(shell: Shell) -> HostUser:
    """Who logs in to the host. Without root's rights, or it would always be root."""
    ran = await shell.run(
        ["sh", "-c", 'id -un; id -gn; getent passwd "$(id -un)" | cut -d: -f6'], timeout_s=30
    )
    lines = ran.stdout.splitlines()
    if len(lines) != 3 or not lines[2].startswith("/"):
        raise HostStepFailed(
            host=shell.host.name, step="kubeconfig", reason="the login user has no home folder"
        )
    return HostUser(*lines)


async def give_to_user(shell: Shell, kubeconfig: Secret) -> HostUser:
    """Write `~/.kube/config` of the login user (0600, owned by them). Another cluster's file is
    kept beside it and put back by `take_from_user`.
    """
    user = await host_user(shell)
    path = f"{user.home}/.kube/config"
    # The folder is the user's own; only what is missing is made, with their rights.
    await shell.run(["mkdir", "-p", "-m", "0700", f"{user.home}/.kube"], timeout_s=30)
    file, kept = shlex.quote(path), shlex.quote(path + KEPT_SUFFIX)
    keep = (
        f"if [ -e {file} ] && [ ! -e {kept} ] && ! grep -q haechi.internal {file}; "
        f"then cp -p {file} {kept}; fi"
    )
    await shell.run(["sh", "-c", keep], timeout_s=30)
    await shell.write(path, kubeconfig, mode=0o600, root=True, owner=f"{user.name}:{user.group}")
    return user


async def take_from_user(shell: Shell, api_name: str) -> None:
    """Remove the user's file where it is this cluster's, and put back what was there before.
    Idempotent.
    """
    user = await host_user(shell)
    path = shlex.quote(f"{user.home}/.kube/config")
    kept = shlex.quote(f"{user.home}/.kube/config{KEPT_SUFFIX}")
    folder = shlex.quote(f"{user.home}/.kube")
    script = (
        f"if grep -qs {shlex.quote(api_name)} {path}; then rm -f {path}; "
        f"if [ -e {kept} ]; then mv {kept} {path}; else rm -rf {folder}/cache; fi; fi; "
        f"rmdir {folder} 2>/dev/null || true"
    )
    await shell.run(["sh", "-c", script], timeout_s=30)
