"""From a deployment to the container spec: environment, limits and the safety defaults.

Everything that is not asked for and agreed to stays off (DESIGN 7): no internet, no privileges; the
agent drops capabilities, forbids new privileges and keeps the container on its own network.
"""

import re
from collections.abc import Mapping
from typing import Final

from haechi.domains.deployments.model import Deployment
from haechi.domains.deployments.ports import Place
from haechi.protocol.desired import ContainerSpec

PIDS: Final = 256
GRACE_S: Final = 10.0
MAX_LABEL: Final = 63
_NOT_LABEL: Final = re.compile(r"[^a-z0-9-]+")


def container_name(package_name: str, deployment_id: str) -> str:
    """`<package>-<suffix>`, a DNS label."""
    suffix = deployment_id[-6:]
    stem = _NOT_LABEL.sub("-", package_name.lower()).strip("-")
    return f"{stem[: MAX_LABEL - 7].rstrip('-') or 'ai'}-{suffix}"


def environment_of(
    deployment: Deployment, place: Place, server_url: str, manifest: Mapping[str, str]
) -> dict[str, str]:
    """The package's defaults, then the caller's, then haechi's own, which nobody overrides."""
    own = {
        "HAECHI_MASTER_URL": server_url,
        "HAECHI_EID": deployment.device_id,
        "HAECHI_SID": deployment.id,
        "HAECHI_NODE": place.host_name or place.name,
        "HAECHI_AI_VERSION": deployment.version,
        "HAECHI_DEVICE_ID": deployment.device_id,
        "HAECHI_DEPLOYMENT_ID": deployment.id,
        "HAECHI_PACKAGE": deployment.package_name,
    }
    if deployment.camera_id is not None:
        own["HAECHI_CAMERA_ID"] = deployment.camera_id
    return {**manifest, **deployment.wishes.environment, **own}


def container_spec(deployment: Deployment, place: Place, server_url: str) -> ContainerSpec:
    needs, wishes = deployment.needs, deployment.wishes
    return ContainerSpec(
        deployment_id=deployment.id,
        package_id=deployment.package_id,
        version_id=deployment.version_id,
        name=deployment.name,
        image=deployment.image,
        environment=environment_of(deployment, place, server_url, needs.get("environment", {})),
        token_digest=deployment.token_digest,
        cpu_limit=wishes.cpu if wishes.cpu is not None else needs.get("cpu"),
        memory_limit_bytes=(
            wishes.memory_bytes if wishes.memory_bytes is not None else needs.get("memory_bytes")
        ),
        pids_limit=PIDS,
        gpu=bool(needs.get("gpu")),
        internet=bool(needs.get("internet")) and "internet" in wishes.allow,
        privileged=bool(needs.get("privileged")) and "privileged" in wishes.allow,
        restart="always",
        stop_grace_s=GRACE_S,
        camera=deployment.camera,
        camera_id=deployment.camera_id,
    )
