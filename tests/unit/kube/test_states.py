"""What Kubernetes says of a pod, as a ContainerStatus; and quantities."""

import pytest

from haechi.adapters.kube_shapes import quantity
from haechi.adapters.kube_specs import MADE_NOTE, digest_of_spec
from haechi.adapters.kube_states import is_pulled, pull_error, status_of
from haechi.protocol.problems import ImageNotFound, RegistryRefused, RegistryUnreachable


def deployment(*, replicas=1, noted="right", conditions=()):
    made = {
        "metadata": {"annotations": {}},
        "spec": {
            "replicas": replicas,
            "template": {"spec": {"containers": [{"name": "ai", "image": "x@sha256:1"}]}},
        },
        "status": {"conditions": list(conditions)},
    }
    if noted:
        made["metadata"]["annotations"][MADE_NOTE] = (
            digest_of_spec(made) if noted == "right" else noted
        )
    return made


def pod(state=None, *, created="2026-01-02T03:04:05Z", phase="Running", ending=False, **more):
    container = {"name": "ai", "restartCount": 0, "state": state or {}, **more}
    meta = {"creationTimestamp": created}
    if ending:
        meta["deletionTimestamp"] = created
    status = {"phase": phase}
    if state is not None:
        status["containerStatuses"] = [container]
    return {"metadata": meta, "status": status}


RUNNING = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def ended(code, reason="Error"):
    return {"terminated": {"exitCode": code, "reason": reason}}


@pytest.mark.parametrize(
    ("seen", "pods", "state"),
    [
        (None, [pod(RUNNING)], "absent"),
        (deployment(), [], "starting"),
        (deployment(), [pod(RUNNING)], "running"),
        (deployment(noted=""), [pod(RUNNING)], "running"),
        (deployment(noted="another"), [pod(RUNNING)], "failed"),
        (deployment(replicas=0), [], "exited"),
        (deployment(replicas=0), [pod(RUNNING, ending=True)], "running"),
        (deployment(), [pod(RUNNING, ending=True)], "starting"),
        (deployment(), [pod(RUNNING, phase="Failed")], "starting"),
        (deployment(), [pod(waiting("ContainerCreating"))], "starting"),
        (deployment(), [pod(waiting("ContainerCreating"), lastState=ended(1))], "restarting"),
        (deployment(), [pod(waiting("CrashLoopBackOff"), lastState=ended(1))], "restarting"),
        (deployment(), [pod(waiting("CreateContainerConfigError", "no secret"))], "failed"),
        (deployment(), [pod(waiting("ImagePullBackOff"))], "failed"),
        (deployment(), [pod(ended(0, "Completed"))], "restarting"),
        (deployment(), [pod(ended(3))], "restarting"),
    ],
)
def test_state(seen, pods, state):
    assert status_of("dep-1", seen, pods).state == state


def test_the_newest_pod_that_stays_counts():
    old = pod(waiting("CrashLoopBackOff"), created="2026-01-01T00:00:00Z")
    new = pod(RUNNING, created="2026-01-02T00:00:00Z")
    assert status_of("dep-1", deployment(), [new, old]).state == "running"


def test_memory_and_exit_codes_of_the_life_before_are_told():
    status = status_of(
        "dep-1",
        deployment(),
        [pod(waiting("CrashLoopBackOff"), lastState=ended(137, "OOMKilled"), restartCount=2)],
    )
    assert (status.exit_code, status.oom_killed, status.restarts) == (137, True, 2)
    again = status_of("dep-1", deployment(), [pod(RUNNING, lastState=ended(3), restartCount=1)])
    assert (again.exit_code, again.restarts, again.started_ms) == (None, 1, 1767323045000)


def test_what_keeps_it_from_running_is_said():
    unfit = pod(phase="Pending")
    unfit["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/2 nodes are available: 1 Insufficient memory.",
        }
    ]
    status = status_of("dep-1", deployment(), [unfit])
    assert status.state == "failed"
    assert "Insufficient memory" in status.error
    refused = deployment(
        conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
    )
    assert status_of("dep-1", refused, []).error == "exceeded quota"


@pytest.mark.parametrize(
    ("state", "pulled"),
    [
        (ended(128, "StartError"), True),
        (waiting("RunContainerError"), True),
        (waiting("CreateContainerError"), True),
        (waiting("ContainerCreating"), False),
        (waiting("ErrImagePull"), False),
    ],
)
def test_an_image_is_there_once_its_container_was_to_start(state, pulled):
    assert is_pulled(state) is pulled


IMAGE = "registry.haechi.internal:40100/no-certificate-denied@sha256:684b4018403afda35"
HEAD = f'failed to resolve image: failed to do request: Head "https://{IMAGE}": '
TOLD = f'failed to pull and unpack image "{IMAGE}": {"far " * 100}'


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (HEAD + "dial tcp 192.0.2.1:40100: i/o timeout", RegistryUnreachable),
        (HEAD + "dial tcp 192.0.2.1:403: connect: connection refused", RegistryUnreachable),
        (HEAD + "x509: certificate signed by unknown authority", RegistryRefused),
        ("failed to authorize: unexpected status: 401 Unauthorized", RegistryRefused),
        ("unexpected status from HEAD request: 403 Forbidden", RegistryRefused),
        (
            f"GET request to https://{IMAGE[:60]}a403: 500 Internal Server Error",
            RegistryUnreachable,
        ),
        (f"{IMAGE}: not found", ImageNotFound),
    ],
)
def test_why_an_image_did_not_come_is_not_read_from_its_name(message, error):
    """The digest has 401 and 403 in it, the package's name what refusals say."""
    state = {"waiting": {"reason": "ErrImagePull", "message": TOLD + message}}
    found = pull_error(state, image=IMAGE, address="192.0.2.1")
    assert type(found) is error
    if error is not ImageNotFound:  # that names the image alone
        assert found.data["detail"].endswith(message[-40:])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (None, 0),
        ("", 0),
        ("2", 2),
        ("1500m", 1.5),
        ("1536Mi", 1536 * 2**20),
        ("2G", 2e9),
        ("16Ki", 16384),
        (3, 3),
        ("128974848", 128974848),
        ("250u", 0.00025),
    ],
)
def test_quantities(text, number):
    assert quantity(text) == pytest.approx(number)
