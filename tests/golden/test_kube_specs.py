"""ContainerSpec → Kubernetes objects (tests/golden/kube). `HAECHI_GOLDEN=write` renews them."""

import base64
import json
import os
from pathlib import Path

import msgspec
import pytest

from haechi.adapters import kube_specs
from haechi.adapters.kube_specs import NodeRoom
from haechi.core.secrets import Secret
from haechi.protocol.commands import RegistryAccess
from haechi.protocol.desired import ContainerSpec

FOLDER = Path(__file__).parent / "kube"
NUC = NodeRoom("dev-aaaaaaaaaaaaaaaa", "linux/amd64", 2.0, 2_000_000_000)
PLAIN = ContainerSpec(
    deployment_id="dep-aaaaaaaaaaaaaaaa",
    package_id="pkg-aaaaaaaaaaaaaaaa",
    version_id="ver-aaaaaaaaaaaaaaaa",
    name="person-detector-aaaaaa",
    image="registry.haechi.internal:8425/person@sha256:00",
    environment={"HAECHI_EID": "dev-aaaaaaaaaaaaaaaa", "OMP_NUM_THREADS": "1"},
)


def but(**changes):
    return msgspec.structs.replace(PLAIN, **changes)


CASES = {
    "plain": (PLAIN, NUC),
    "limited": (
        but(cpu_limit=0.5, memory_limit_bytes=268_435_456, stop_grace_s=6.0, internet=True),
        NUC,
    ),
    "greedy": (but(cpu_limit=64, memory_limit_bytes=1 << 40), NUC),
    "privileged": (but(privileged=True), NUC),
    "gpu-plugin": (
        but(gpu=True),
        NodeRoom("dev-aaaaaaaaaaaaaaaa", "linux/amd64", 8.0, 32_000_000_000, "plugin"),
    ),
    "gpu-jetson": (
        but(gpu=True),
        NodeRoom("dev-aaaaaaaaaaaaaaaa", "linux/arm64", 6.0, 8_000_000_000, "runtime"),
    ),
    "jetson-without-gpu": (
        PLAIN,
        NodeRoom("dev-aaaaaaaaaaaaaaaa", "linux/arm64", 6.0, 8_000_000_000, "runtime"),
    ),
}


def compare(name, made):
    text = json.dumps(made, indent=2, sort_keys=True) + "\n"
    path = FOLDER / f"{name}.json"
    if os.environ.get("HAECHI_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def objects(spec, room, *, camera_url=""):
    secret = kube_specs.secret_of(spec, Secret("the-token"), camera_url=camera_url, gpu=room.gpu)
    return [secret, kube_specs.deployment_of(spec, room, secret["metadata"]["name"])]


@pytest.mark.parametrize("case", CASES)
def test_objects_of_an_ai(case):
    compare(case, objects(*CASES[case]))


def test_objects_of_a_cluster():
    compare("base", [*kube_specs.base_objects(), kube_specs.runtime_class()])


def test_pulling():
    access = RegistryAccess(
        "registry.haechi.internal:8425", "10.0.0.1:8425", user="dev-a", password="secret"
    )
    secret = kube_specs.pull_secret("dev-aaaaaaaaaaaaaaaa", "haechi-ai", access)
    compare("pull", [secret, kube_specs.pull_pod(NUC, PLAIN.image)])


@pytest.mark.parametrize("case", CASES)
def test_the_token_is_in_the_secret_and_nowhere_else(case):
    secret, deployment = objects(*CASES[case])
    data = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    assert data["HAECHI_TOKEN"] == "the-token"
    assert data["HAECHI_EID"] == "dev-aaaaaaaaaaaaaaaa"
    assert "the-token" not in json.dumps(deployment)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]


def test_another_environment_is_another_secret_and_another_pod():
    one = objects(PLAIN, NUC)
    same = objects(PLAIN, NUC)
    other = objects(PLAIN, NUC, camera_url="rtsp://169.254.84.30:8554/x")
    assert one == same
    assert other[0]["metadata"]["name"] != one[0]["metadata"]["name"]
    notes = [
        made[1]["spec"]["template"]["metadata"]["annotations"][kube_specs.SPEC_NOTE]
        for made in (one, other)
    ]
    assert notes[0] != notes[1]


@pytest.mark.parametrize("case", [case for case in CASES if case != "privileged"])
def test_nothing_runs_with_more_than_it_needs(case):
    _, deployment = objects(*CASES[case])
    pod = deployment["spec"]["template"]["spec"]
    security = pod["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert deployment["metadata"]["namespace"] == "haechi-ai"
    assert [volume.keys() - {"name"} for volume in pod["volumes"]] == [{"emptyDir"}]
