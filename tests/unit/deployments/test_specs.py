"""What goes into a container, and what never does."""

from datetime import UTC, datetime

from haechi.domains.deployments.model import Deployment, DeploymentState, Wishes
from haechi.domains.deployments.ports import Place
from haechi.domains.deployments.specs import container_name, container_spec

PLACE = Place("dev-a", "정문", "gate-1")


def deployment(needs=None, **wishes):
    return Deployment(
        id="dep-abcdefghijklmnop",
        package_id="pkg-a",
        package_name="detector",
        version_id="ver-a",
        version="01",
        device_id="dev-a",
        engine="docker-agent",
        image="registry.haechi.internal/detector@sha256:00",
        image_digest="sha256:00",
        name="detector-klmnop",
        strategy="overlap",
        camera="one",
        camera_id="cam-1",
        wishes=Wishes(**wishes),
        needs=needs or {},
        generation=1,
        replaces=[],
        desired="running",
        state=DeploymentState.STARTING,
        outcome="",
        message="",
        operation_id=None,
        token_digest="d" * 64,
        created_by="x",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=None,
        ended_at=None,
    )


def test_nobody_overrides_haechis_own_variables():
    spec = container_spec(
        deployment(
            {"environment": {"A": "1", "HAECHI_EID": "evil", "B": "1"}},
            environment={"B": "2", "HAECHI_MASTER_URL": "evil"},
        ),
        PLACE,
        "http://server",
    )
    env = spec.environment
    assert (env["A"], env["B"]) == ("1", "2")
    assert env["HAECHI_EID"] == "dev-a"
    assert env["HAECHI_MASTER_URL"] == "http://server"
    assert env["HAECHI_SID"] == "dep-abcdefghijklmnop"
    assert env["HAECHI_CAMERA_ID"] == "cam-1"
    assert (spec.camera, spec.camera_id) == ("one", "cam-1")


def test_what_is_not_both_asked_and_agreed_stays_off():
    asked = {"internet": True, "privileged": True}
    assert not container_spec(deployment(asked), PLACE, "").internet
    assert not container_spec(
        deployment({}, allow=["internet", "privileged"]), PLACE, ""
    ).privileged
    both = container_spec(deployment(asked, allow=["internet"]), PLACE, "")
    assert (both.internet, both.privileged) == (True, False)


def test_limits_are_the_callers_else_the_packages():
    needs = {"cpu": 1.0, "memory_bytes": 100}
    spec = container_spec(deployment(needs, cpu=0.5), PLACE, "")
    assert (spec.cpu_limit, spec.memory_limit_bytes) == (0.5, 100)


def test_names_are_labels():
    name = container_name("x" * 80, "dep-abcdefghijklmnop")
    assert len(name) <= 63
    assert name.endswith("-klmnop")
    assert container_name("사람", "dep-abcdefghijklmnop") == "ai-klmnop"
