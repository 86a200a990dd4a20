"""Each device has its engine, and each deployment keeps the one that it was given to."""

import pytest

from haechi.core.secrets import Secret
from haechi.domains.deployments.engines import Engines
from haechi.protocol.desired import ContainerSpec
from haechi.testing.engine import FakeEngine


def spec(deployment_id):
    return ContainerSpec(deployment_id, "pkg-1", "ver-1", "ai", "image@sha256:1")


@pytest.fixture
def world():
    docker, kubernetes = FakeEngine(name="docker-agent"), FakeEngine(name="kubernetes")
    members = {"dev-node"}
    given = {"dep-old": "docker-agent", "dep-new": "kubernetes"}

    async def choose(device_id):
        return "kubernetes" if device_id in members else None

    async def engine_of(deployment_id):
        return given.get(deployment_id)

    for engine in (docker, kubernetes):
        engine.images = {"dev-node": {"image@sha256:1"}, "dev-lone": {"image@sha256:1"}}
    engines = Engines([docker, kubernetes], choosers=[choose], engine_of=engine_of)
    return engines, docker, kubernetes, members


async def test_a_device_of_a_cluster_is_that_clusters_and_any_other_its_agents(world):
    engines, _docker, _kubernetes, _members = world
    assert await engines.name_of("dev-node") == "kubernetes"
    assert await engines.name_of("dev-lone") == "docker-agent"


async def test_images_go_to_the_engine_of_the_device(world):
    engines, docker, kubernetes, _members = world
    await engines.pull("dev-node", "x@sha256:2", None, lambda _: None)
    await engines.pull("dev-lone", "y@sha256:2", None, lambda _: None)
    assert await engines.has_image("dev-node", "x@sha256:2")
    assert docker.calls == [("pull", "y@sha256:2")]
    assert kubernetes.calls == [("pull", "x@sha256:2"), ("has_image", "x@sha256:2")]


async def test_what_runs_stays_with_its_engine_when_the_device_joins_a_cluster(world):
    engines, docker, kubernetes, _members = world
    await engines.start("dev-node", spec("dep-old"), Secret("t"), [])
    await engines.start("dev-node", spec("dep-new"), Secret("t"), [])
    assert docker.running("dev-node") == ["dep-old"]
    assert kubernetes.running("dev-node") == ["dep-new"]
    statuses = await engines.status("dev-node", ["dep-new", "dep-old", "dep-none"])
    assert [(one.deployment_id, one.state) for one in statuses] == [
        ("dep-new", "running"),
        ("dep-old", "running"),
        ("dep-none", "absent"),
    ]
    lines = [piece async for piece in engines.logs("dev-node", "dep-old")]
    assert lines
    await engines.stop("dev-node", "dep-old", 1)
    assert (await engines.remove("dev-node", "dep-old", 1, 10)).removed
    assert docker.running("dev-node") == []
    assert kubernetes.running("dev-node") == ["dep-new"]


async def test_what_was_never_deployed_is_asked_of_the_device_as_it_is_now(world):
    engines, _docker, kubernetes, members = world
    members.clear()
    await engines.remove("dev-node", "dep-none", 1, 10)
    assert kubernetes.calls == []
