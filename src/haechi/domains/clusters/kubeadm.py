"""kubeadm: its configuration documents and its commands on a host.

Documents are `kubeadm.k8s.io/v1beta4`. Tokens and keys stand in files that only root can read and
that are removed afterwards, never in arguments. kubeadm runs in a transient unit of its own, so
that one whose connection was lost can be found and ended before the next try.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import yaml

from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import CommandFailed, CommandTimedOut, short
from haechi.domains.clusters.host.ports import Ran, Shell
from haechi.domains.clusters.host.runtime import PATCHES_FOLDER
from haechi.domains.clusters.model import (
    API_PORT,
    DEVICE_LABEL,
    FormOptions,
    Member,
    api_endpoint,
    api_name,
)

FOLDER: Final = "/etc/haechi"
CONFIG: Final = f"{FOLDER}/kubeadm.yaml"
DISCOVERY: Final = f"{FOLDER}/discovery.conf"
ADMIN_CONF: Final = "/etc/kubernetes/admin.conf"
CA_FILE: Final = "/etc/kubernetes/pki/ca.crt"
UNIT: Final = "haechi-kubeadm"
CRI_SOCKET: Final = "unix:///run/containerd/containerd.sock"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOKEN_TTL: Final = "1m0s"  # noqa: S105 - a duration
"""Of the token that init makes in any case: nobody joins by it."""
KUBELET_WAIT: Final = "2m0s"
CONTROL_PLANE_WAIT: Final = "4m0s"
RUN_TIMEOUT_S: Final = 600.0
_CONTROL_PLANE_TAINT: Final = "node-role.kubernetes.io/control-plane"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_KERNEL: Final = re.compile(r"(CONFIG|CGROUPS|KERNEL)_[A-Z0-9_]+: |OS: ")
_DONE: Final = re.compile(r"initialized successfully!|This node has joined the cluster")


# --- documents


def init_documents(
    cluster_id: str,
    member: Member,
    options: FormOptions,
    *,
    version: str,
    token: Secret,
) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "bootstrapTokens": [
                {
                    "token": token.reveal(),
                    "ttl": TOKEN_TTL,
                    "usages": ["signing", "authentication"],
                    "groups": ["system:bootstrappers:kubeadm:default-node-token"],
                }
            ],
            "localAPIEndpoint": _endpoint(member),
            "nodeRegistration": _registration(member, options),
            "patches": {"directory": PATCHES_FOLDER},
            "timeouts": _timeouts(),
        },
        cluster_document(cluster_id, member, options, version=version),
        _over(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "cgroupDriver": "systemd",
                "rotateCertificates": True,
            },
            options.profile.kubelet,
        ),
        _over(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
            },
            options.profile.kube_proxy,
        ),
    ]


def cluster_document(
    cluster_id: str, member: Member, options: FormOptions, *, version: str
) -> dict[str, Any]:
    """ClusterConfiguration. The API's name and the loopback address are in the certificates, so
    they hold whatever address a control plane gets. Elliptic keys are made at once, and cost small
    hosts less at every handshake than RSA's.
    """
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": cluster_id,
        "kubernetesVersion": f"v{version}",
        "controlPlaneEndpoint": api_endpoint(cluster_id),
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {
            "podSubnet": options.pod_cidr,
            "serviceSubnet": options.service_cidr,
            "dnsDomain": "cluster.local",
        },
        "apiServer": {
            "certSANs": [api_name(cluster_id), member.node_name, member.address, "127.0.0.1"]
        },
    }


def join_document(
    member: Member,
    options: FormOptions,
    *,
    token: Secret,
    certificate_key: Secret | None = None,
) -> dict[str, Any]:
    """JoinConfiguration; with `certificate_key` as a control plane."""
    document: dict[str, Any] = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {
            "file": {"kubeConfigPath": DISCOVERY},
            "tlsBootstrapToken": token.reveal(),
        },
        "nodeRegistration": _registration(member, options),
        "timeouts": _timeouts(),
    }
    if certificate_key is not None:
        document["controlPlane"] = {
            "localAPIEndpoint": _endpoint(member),
            "certificateKey": certificate_key.reveal(),
        }
        document["patches"] = {"directory": PATCHES_FOLDER}
    return document


def upload_documents(
    cluster_id: str, member: Member, options: FormOptions, *, version: str, certificate_key: Secret
) -> list[dict[str, Any]]:
    """For the phase that offers the certificates to a further control plane. The cluster's part is
    there so that nothing is looked up on the internet.
    """
    return [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "certificateKey": certificate_key.reveal(),
            "localAPIEndpoint": _endpoint(member),
            "nodeRegistration": {"name": member.node_name, "criSocket": CRI_SOCKET},
        },
        cluster_document(cluster_id, member, options, version=version),
    ]


def discovery_document(cluster_id: str, ca_data: str) -> dict[str, Any]:
    """A kubeconfig without credentials: where the API is and which CA to trust."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "",
                "cluster": {
                    "server": f"https://{api_endpoint(cluster_id)}",
                    "certificate-authority-data": ca_data,
                },
            }
        ],
        "contexts": [],
        "users": [],
        "preferences": {},
        "current-context": "",
    }


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        yaml.safe_dump(dict(one), sort_keys=False, default_flow_style=False) for one in documents
    ]
    return "---\n".join(parts)


def _endpoint(member: Member) -> dict[str, Any]:
    return {"advertiseAddress": member.address, "bindPort": API_PORT}


def _registration(member: Member, options: FormOptions) -> dict[str, Any]:
    """No `node-ip`: a node whose address changes must come back by itself."""
    registration: dict[str, Any] = {
        "name": member.node_name,
        "criSocket": CRI_SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "kubeletExtraArgs": [
            {"name": "node-labels", "value": f"{DEVICE_LABEL}={member.device_id}"}
        ],
    }
    if options.profile.ignore_preflight:
        registration["ignorePreflightErrors"] = list(options.profile.ignore_preflight)
    if member.is_control_plane:
        taints = [] if options.run_ai_on_control_plane else [_taint()]
        registration["taints"] = taints
    return registration


def _taint() -> dict[str, str]:
    return {"key": _CONTROL_PLANE_TAINT, "effect": "NoSchedule"}


def _timeouts() -> dict[str, str]:
    return {
        "kubeletHealthCheck": KUBELET_WAIT,
        "controlPlaneComponentHealthCheck": CONTROL_PLANE_WAIT,
    }


def _over(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`more` laid over `base`, tables key by key."""
    merged = dict(base)
    for key, value in more.items():
        own = merged.get(key)
        both = isinstance(own, dict) and isinstance(value, Mapping)
        merged[key] = _over(own, value) if both and isinstance(own, dict) else value
    return merged


# --- commands


def init_argv() -> list[str]:
    return ["kubeadm", "init", "--config", CONFIG, "--skip-token-print"]


def join_argv() -> list[str]:
    return ["kubeadm", "join", "--config", CONFIG]


def upload_argv() -> list[str]:
    return ["kubeadm", "init", "phase", "upload-certs", "--upload-certs", "--config", CONFIG]


def mark_argv() -> list[str]:
    """Label and taint of a control plane; waits for its node."""
    return ["kubeadm", "init", "phase", "mark-control-plane", "--config", CONFIG]


def reset_argv() -> list[str]:
    """Without a way to the cluster: whoever leaves it is taken out of etcd by those that stay
    (`leaving`), and of several that leave at once each would wait for a majority of the others.
    """
    alone = ["--kubeconfig", "/dev/null"]
    return ["kubeadm", "reset", "--force", "--cleanup-tmp-dir", "--cri-socket", CRI_SOCKET, *alone]


def in_unit(argv: Sequence[str]) -> list[str]:
    """The command in a transient unit whose name is known, waited for."""
    return [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        f"--unit={UNIT}",
        f"--setenv=PATH={PATH}",
        *argv,
    ]


async def end_earlier(shell: Shell) -> None:
    """End a kubeadm that an earlier, lost connection left running."""
    await shell.run(["systemctl", "stop", f"{UNIT}.service"], root=True, timeout_s=120, check=False)


async def run(
    shell: Shell,
    argv: Sequence[str],
    documents: Sequence[Mapping[str, Any]],
    *,
    log: Callable[[str], None],
    discovery: Mapping[str, Any] | None = None,
    timeout_s: float = RUN_TIMEOUT_S,
) -> Ran:
    """Run kubeadm with its configuration on the host for just that long. Raises CommandFailed,
    CommandTimedOut, HostAway.
    """
    await end_earlier(shell)
    await shell.write(CONFIG, Secret(to_yaml(documents)), mode=0o600, root=True)
    if discovery is not None:
        await shell.write(DISCOVERY, to_yaml([discovery]), mode=0o600, root=True)
    try:
        ran = await shell.run(
            in_unit(argv), root=True, timeout_s=timeout_s, on_line=_plain(log), check=False
        )
    except CommandTimedOut:
        await end_earlier(shell)
        raise
    finally:
        await forget_secrets(shell)
    if ran.status:
        command = " ".join(argv[:2])
        raise CommandFailed(
            host=shell.host.name, command=command, status=ran.status, message=last_words(ran)
        )
    return ran


def last_words(ran: Ran) -> str:
    """What kubeadm says went wrong: its failed checks by name, or its error."""
    lines = [_COLOUR.sub("", line).strip() for line in f"{ran.stdout}\n{ran.stderr}".splitlines()]
    failed = [line for line in lines if line.startswith("[ERROR ")]
    errors = [line for line in lines if line.startswith("error")]
    told = failed or errors[-1:]
    return short("; ".join(told) if told else ran.last_line)


def _plain(log: Callable[[str], None]) -> Callable[[str], None]:
    """Without colours, empty lines, the long list of what the kernel can, and the advice at the
    end, which haechi follows itself.
    """
    done = False

    def line(text: str) -> None:
        nonlocal done
        plain = _COLOUR.sub("", text).rstrip()
        if plain and not done and not _KERNEL.match(plain):
            log(plain)
        done = done or bool(_DONE.search(plain))

    return line


async def forget_secrets(shell: Shell) -> None:
    await shell.run(["rm", "-f", CONFIG, DISCOVERY], root=True, timeout_s=30, check=False)


async def reset(shell: Shell, *, log: Callable[[str], None], timeout_s: float = 180) -> None:
    """Back to before init or join, as far as kubeadm itself goes. Idempotent. `host/clean.py` does
    the rest.
    """
    await end_earlier(shell)
    ran = await shell.run(
        in_unit(reset_argv()), root=True, timeout_s=timeout_s, on_line=_nothing, check=False
    )
    if ran.status:
        log(f"kubeadm reset: {last_words(ran)}")


def _nothing(line: str) -> None:
    """What reset prints tells how to clean by hand; `host/clean.py` does it."""
    del line
