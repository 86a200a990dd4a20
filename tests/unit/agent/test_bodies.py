"""ContainerSpec → Docker's create body, against golden files (tests/golden/agent)."""

import json
import os
from pathlib import Path

import pytest

from haechi.adapters.docker_bodies import LABEL_SPEC, Place, agent_environment, create_body
from haechi.protocol.desired import ContainerSpec

GOLDEN = Path(__file__).parents[2] / "golden" / "agent"
PLACE = Place(
    device_id="dev-aaaaaaaaaaaaaaaa",
    network="haechi-dev-aaaaaaaaaaaaaaaa",
    environment=agent_environment("http://172.30.0.1:8430"),
    cores=2.0,
    memory_bytes=2_000_000_000,
    cgroup_parent="/edge1",
)
PLAIN = ContainerSpec(
    deployment_id="dep-aaaaaaaaaaaaaaaa",
    package_id="pkg-aaaaaaaaaaaaaaaa",
    version_id="ver-aaaaaaaaaaaaaaaa",
    name="person-detector-aaaa",
    image="registry.haechi.internal:8425/person@sha256:00",
    environment={"HAECHI_EID": "dev-aaaaaaaaaaaaaaaa", "OMP_NUM_THREADS": "1"},
)
CASES = {
    "plain": PLAIN,
    "limited": ContainerSpec(
        **{field: getattr(PLAIN, field) for field in PLAIN.__struct_fields__}
        | {
            "cpu_limit": 0.5,
            "memory_limit_bytes": 268_435_456,
            "pids_limit": 64,
            "restart": "on-failure",
            "stop_grace_s": 6.0,
        }
    ),
    "greedy": ContainerSpec(
        **{field: getattr(PLAIN, field) for field in PLAIN.__struct_fields__}
        | {"cpu_limit": 64.0, "memory_limit_bytes": 10**12, "gpu": True, "internet": True}
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_golden(name: str) -> None:
    body = create_body(CASES[name], PLACE, token="secret-token", camera_url="")
    file = GOLDEN / f"container-{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    assert body == json.loads(file.read_text())


def test_no_container_gets_what_would_break_out() -> None:
    for spec in CASES.values():
        body = create_body(spec, PLACE, token="", camera_url="")
        host = body["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Privileged"] is False
        assert host["NetworkMode"] == PLACE.network
        assert "Binds" not in host
        assert "Mounts" not in host
        assert host["Memory"] <= PLACE.memory_bytes
        assert host["NanoCpus"] <= PLACE.cores * 1e9


def test_the_engine_looks_up_no_names_for_whom_the_internet_was_not_allowed() -> None:
    """It would ask the host's name service, from the host's own network."""
    for spec in CASES.values():
        host = create_body(spec, PLACE, token="", camera_url="")["HostConfig"]
        assert host.get("Dns") == (None if spec.internet else ["127.0.0.1"])


def test_any_difference_means_another_spec() -> None:
    one = create_body(PLAIN, PLACE, token="a", camera_url="")
    same = create_body(PLAIN, PLACE, token="a", camera_url="")
    token = create_body(PLAIN, PLACE, token="b", camera_url="")
    camera = create_body(PLAIN, PLACE, token="a", camera_url="rtsp://gateway/x")
    digests = [body["Labels"][LABEL_SPEC] for body in (one, same, token, camera)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
