"""What a Deployment and its pods say of one AI, as a ContainerStatus. Pure.

An object that somebody else changed counts as failed, so that whoever keeps deployments puts it
back as it was.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from haechi.adapters.docker_errors import reason_in, short
from haechi.adapters.kube_shapes import at, why_waiting
from haechi.adapters.kube_specs import CONTAINER, MADE_NOTE, digest_of_spec
from haechi.core.clock import to_ms
from haechi.errors import AppError
from haechi.protocol.desired import ContainerState, ContainerStatus
from haechi.protocol.problems import (
    DeviceDiskFull,
    EngineFailed,
    ImageNotFound,
    RegistryRefused,
    RegistryUnreachable,
)

ERROR_LIMIT: Final = 300
_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing", ""})
PULLING: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ErrImageNeverPull"}
)
EDITED: Final = "edited by somebody else; it is put back"


def status_of(
    deployment_id: str, seen: Mapping[str, Any] | None, pods: Iterable[Mapping[str, Any]]
) -> ContainerStatus:
    """`seen` is the Deployment, None where there is none; `pods` are its own, ending ones too."""
    if seen is None:
        return ContainerStatus(deployment_id, "absent")
    template = seen["spec"]["template"]["spec"]
    image = next(
        (str(one.get("image") or "") for one in template["containers"] if one["name"] == CONTAINER),
        "",
    )
    there = list(pods)
    if is_edited(seen):
        return ContainerStatus(deployment_id, "failed", image=image, error=EDITED)
    if not seen["spec"].get("replicas", 1):
        return ContainerStatus(deployment_id, "exited" if not there else "running", image=image)
    pod = current(there)
    if pod is None:
        refused = _refused(seen)
        state: ContainerState = "failed" if refused else "starting"
        return ContainerStatus(deployment_id, state, image=image, error=refused)
    return _of_pod(deployment_id, image, pod)


def is_edited(seen: Mapping[str, Any]) -> bool:
    """Whether the spec is another than the one that haechi made."""
    noted = (seen["metadata"].get("annotations") or {}).get(MADE_NOTE)
    return noted is not None and digest_of_spec(seen) != noted


def current(pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one that counts: the newest that is not on its way out."""
    staying = [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and (pod.get("status") or {}).get("phase") not in {"Failed", "Succeeded"}
    ]
    return max(staying, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def _refused(seen: Mapping[str, Any]) -> str:
    """Why the cluster makes no pod of it at all: a quota, a security policy."""
    for one in (seen.get("status") or {}).get("conditions") or []:
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return str(one.get("message") or one.get("reason") or "")[:ERROR_LIMIT]
    return ""


def _of_pod(deployment_id: str, image: str, pod: Mapping[str, Any]) -> ContainerStatus:
    status = pod.get("status") or {}
    container = next(
        (one for one in status.get("containerStatuses") or [] if one["name"] == CONTAINER), None
    )
    if container is None:
        reason = why_waiting(pod)[:ERROR_LIMIT]
        state: ContainerState = "failed" if reason else "starting"
        return ContainerStatus(deployment_id, state, image=image, error=reason)
    facts: dict[str, Any] = {
        "container_id": str(container.get("containerID") or "").partition("://")[2][:64],
        "image": image,
        "restarts": int(container.get("restartCount") or 0),
    }
    now = container.get("state") or {}
    before = (container.get("lastState") or {}).get("terminated")
    if before:
        facts |= _end(before)
    if now.get("running"):
        facts.pop("exit_code", None)
        began = at(now["running"].get("startedAt"))
        facts["started_ms"] = None if began is None else to_ms(began)
        return ContainerStatus(deployment_id, "running", **facts)
    if now.get("terminated"):
        # A Deployment's container is always started again; a quiet node's kubelet says for minutes
        # that it ended before it says that it waits.
        return ContainerStatus(deployment_id, "restarting", **facts | _end(now["terminated"]))
    waiting = now.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if reason == "CrashLoopBackOff":
        return ContainerStatus(deployment_id, "restarting", **facts)
    if reason in _STARTING:
        # Between two lives of a container that crashed it is "creating" as well.
        return ContainerStatus(deployment_id, "restarting" if before else "starting", **facts)
    return ContainerStatus(
        deployment_id, "failed", error=why_waiting(pod)[:ERROR_LIMIT] or reason, **facts
    )


def _end(ended: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "exit_code": int(ended.get("exitCode") or 0),
        "oom_killed": ended.get("reason") == "OOMKilled",
    }


# --- pulling


def pull_state(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The state of a pull pod's container; None while the kubelet has not said anything."""
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        state: dict[str, Any] = one.get("state") or {}
        return state
    return None


def is_pulled(state: Mapping[str, Any]) -> bool:
    """It was to be started, so that its image is there; that it cannot run is what was wanted."""
    if state.get("terminated") or state.get("running"):
        return True
    reason = (state.get("waiting") or {}).get("reason")
    return reason in {"RunContainerError", "CreateContainerError", "CrashLoopBackOff"}


def pull_error(state: Mapping[str, Any], *, image: str, address: str) -> AppError | None:
    """What a kubelet says of a pull that failed, as the error of a pull; None where none did."""
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if reason not in PULLING and reason not in {"InvalidImageName", "SignatureValidationFailed"}:
        return None
    message = str(waiting.get("message") or reason)
    detail, said = short(message), reason_in(message, image)
    if "no space left" in said:
        return DeviceDiskFull(needed_bytes=0, free_bytes=0)
    if _STATUS.search(said) or any(sign in said for sign in _REFUSED):
        return RegistryRefused(address=address, detail=detail)
    # One that waits ("BackOff") no longer says what was wrong: it may pass.
    if reason == "ImagePullBackOff" or any(sign in said for sign in _AWAY):
        return RegistryUnreachable(address=address, detail=detail)
    if any(sign in said for sign in _MISSING):
        return ImageNotFound(image=image)
    return EngineFailed(detail=detail)


_STATUS: Final = re.compile(r"(?<![:\w])40[13]\b")
"""Neither a port nor the end of a digest."""
_REFUSED: Final = (
    "unauthorized",
    "denied",
    "insufficient_scope",
    "x509",
    "certificate",
)
_MISSING: Final = (": not found", "manifest unknown", "name unknown")
_AWAY: Final = (
    "no such host",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "timed out",
    "deadline exceeded",
    "no route to host",
    "network is unreachable",
    "unexpected eof",
    "tls handshake timeout",
    "503 service unavailable",
    "502 bad gateway",
    "500 internal server error",
)
