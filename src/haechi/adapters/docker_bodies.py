"""From a ContainerSpec to the Docker Engine's create body: pure, golden-tested.

One body for every way to a Docker: the agent makes it on its device, the server for a host that it
reaches over SSH. The safety defaults of every AI container live here and nowhere else: all
capabilities dropped, no new privileges, limits on processes, memory and CPU, no host network, no
engine socket, no swap, bounded logs, /tmp in memory. The root file system stays writable: packages
in the wild write beside their code; it goes with the container.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from haechi.protocol.desired import ContainerSpec

LABEL_DEVICE: Final = "haechi.device"
LABEL_DEPLOYMENT: Final = "haechi.deployment"
LABEL_PACKAGE: Final = "haechi.package"
LABEL_VERSION: Final = "haechi.version"
LABEL_SPEC: Final = "haechi.spec"
"""Digest of everything below: another one means the container has to be made again."""

MEMORY_SHARE: Final = 0.8
TMP_BYTES: Final = 256 * 1024 * 1024
_RESTART: Final = {"always": "always", "on-failure": "on-failure", "no": "no"}


@dataclass(frozen=True)
class Place:
    """What the device adds to a spec."""

    device_id: str
    network: str
    environment: Mapping[str, str]
    """Where the AI calls; see `agent_environment`."""
    cores: float
    memory_bytes: int
    cgroup_parent: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names that the AI cannot look up where it runs, with their addresses."""


def agent_environment(agent_url: str) -> dict[str, str]:
    """Where AIs call on a device with an agent: its intake, `http://<gateway>:<port>`."""
    return {
        "HAECHI_AGENT_URL": agent_url,
        "HAECHI_RESULTS_URL": f"{agent_url}/v1/results",
        "HAECHI_USAGE_URL": f"{agent_url}/usage",
    }


def network_name(device_id: str) -> str:
    return f"haechi-{device_id}"


def internet_name(device_id: str) -> str:
    """The second bridge, for packages that declare internet and were allowed it."""
    return f"haechi-net-{device_id}"


def fenced_name(device_id: str) -> str:
    """Where there is no agent: the bridge of AIs that reach the server and nobody else."""
    return f"haechi-out-{device_id}"


def create_body(
    spec: ContainerSpec, place: Place, *, token: str, camera_url: str
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "Image": spec.image,
        "Hostname": spec.name[:63],
        "Env": _environment(spec, place, token, camera_url),
        "Labels": {
            LABEL_DEVICE: place.device_id,
            LABEL_DEPLOYMENT: spec.deployment_id,
            LABEL_PACKAGE: spec.package_id,
            LABEL_VERSION: spec.version_id,
        },
        "StopTimeout": max(1, round(spec.stop_grace_s)),
        "HostConfig": _host_config(spec, place),
        "NetworkingConfig": {"EndpointsConfig": {place.network: {}}},
    }
    digest = hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
    body["Labels"][LABEL_SPEC] = digest
    return body


def _environment(spec: ContainerSpec, place: Place, token: str, camera_url: str) -> list[str]:
    values = {**spec.environment, **place.environment}
    if "HAECHI_AGENT_URL" in values:
        values.setdefault("HAECHI_MASTER_URL", values["HAECHI_AGENT_URL"])
    if token:
        values["HAECHI_TOKEN"] = token
    if camera_url:
        values["HAECHI_CAMERA_URL"] = camera_url
    return [f"{name}={value}" for name, value in sorted(values.items())]


def _host_config(spec: ContainerSpec, place: Place) -> dict[str, Any]:
    memory = spec.memory_limit_bytes or int(place.memory_bytes * MEMORY_SHARE)
    memory = min(memory, place.memory_bytes)
    cores = min(spec.cpu_limit or place.cores, place.cores)
    tmp_bytes = min(TMP_BYTES, memory // 4)
    config: dict[str, Any] = {
        "NetworkMode": place.network,
        "PublishAllPorts": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "ReadonlyRootfs": False,
        "Tmpfs": {"/tmp": f"rw,nosuid,nodev,size={tmp_bytes}"},  # noqa: S108 - the container's
        "PidsLimit": spec.pids_limit,
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": int(cores * 1_000_000_000),
        "Init": True,
        "RestartPolicy": {"Name": _RESTART[spec.restart]},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "3"}},
    }
    if place.cgroup_parent:
        config["CgroupParent"] = place.cgroup_parent
    if not spec.internet:
        # The engine itself asks the host's name service for a container, past every fence.
        config["Dns"] = ["127.0.0.1"]
    if place.names:
        config["ExtraHosts"] = [f"{name}:{address}" for name, address in place.names.items()]
    if spec.gpu:
        config["DeviceRequests"] = [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]
    if spec.privileged:
        # Only an administrator can allow it, per package (CONTRACTS 7).
        config["Privileged"] = True
        del config["CapDrop"], config["SecurityOpt"]
    return config
