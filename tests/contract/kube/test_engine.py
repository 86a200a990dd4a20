"""The Kubernetes engine on the small API with nodes: deploy, replace, drift, faults, adoption."""

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from haechi.adapters import engine_kube, kube_pull
from haechi.adapters.engine_kube import KubeEngine
from haechi.adapters.kube_errors import KubeUnreachable, NodeAway, NoNode
from haechi.adapters.kube_lightkube import LightKubes
from haechi.adapters.kube_nodes import Seat
from haechi.core.secrets import Secret
from haechi.core.tasks import Tasks
from haechi.errors import Unavailable
from haechi.protocol.commands import RegistryAccess
from haechi.protocol.desired import ContainerSpec
from haechi.protocol.problems import (
    DeviceDiskFull,
    EngineFailed,
    ImageNotFound,
    NoContainer,
    RegistryRefused,
    RegistryUnreachable,
)
from haechi.testing.kube_api import running_kube
from haechi.testing.kube_nodes import KubeNodes
from haechi.testing.kube_store import Key
from haechi.testing.waiting import eventually

DEVICE = "dev-a"
ONE = "registry.haechi.internal:8425/ai@sha256:11111111"
TWO = "registry.haechi.internal:8425/ai@sha256:22222222"
ACCESS = RegistryAccess(
    "registry.haechi.internal:8425", "10.0.0.1:8425", user=DEVICE, password="pw"
)


def spec(deployment_id="dep-one", image=ONE, **more):
    return ContainerSpec(
        deployment_id=deployment_id,
        package_id="pkg-a",
        version_id="ver-a",
        name=f"ai-{deployment_id}",
        image=image,
        environment={"A": "1"},
        **more,
    )


class World:
    def __init__(self, kube, nodes, kubes):
        self.kube, self.nodes, self.kubes = kube, nodes, kubes
        self.lone = set()
        self.engine = self.revived()

    def revived(self):
        return KubeEngine(self.kubes, self._locate)

    async def _locate(self, device_id):
        if device_id in self.lone:
            return None
        return Seat(
            self.kube.access.cluster_id, device_id, f"n-{device_id}", device_id, self.kube.access
        )

    async def pull(self, image=ONE, access=ACCESS):
        return await self.engine.pull(DEVICE, image, access, lambda _progress: None)

    async def start(self, wanted=None, token="token"):
        return await self.engine.start(DEVICE, wanted or spec(), Secret(token), [])

    async def status(self, *ids):
        return await self.engine.status(DEVICE, list(ids or ["dep-one"]))

    async def state(self, deployment_id="dep-one"):
        (status,) = await self.status(deployment_id)
        return status.state

    def pods(self):
        return [one["metadata"]["uid"] for one in self.kube.store.find("Pod")]


@pytest.fixture
async def world(tmp_path):
    kubes = LightKubes()
    async with running_kube(tmp_path) as kube:
        nodes = KubeNodes(kube.store, registry={ONE, TWO})
        await nodes.add("n-dev-a", DEVICE)
        await nodes.add("n-dev-b", "dev-b")
        async with nodes.working():
            yield World(kube, nodes, kubes)
            await kubes.close()


async def test_it_says_what_the_node_has(world):
    info = await world.engine.info(DEVICE)
    assert (info.engine, info.version, info.platform) == ("kubernetes", "1.36.3", "linux/amd64")
    assert (info.cpu_cores, info.memory_bytes) == (2.0, 2 * 1024**3)
    assert (info.memory_available_bytes, info.disk_free_bytes) == (1024**3, 10 * 1024**3)
    assert info.gpu == ""


async def test_what_is_asked_for_already_is_not_free(world):
    await world.pull()
    await world.start(spec(memory_limit_bytes=1536 * 1024**2))
    assert (await world.engine.info(DEVICE)).memory_available_bytes == 512 * 1024**2


async def test_a_gpu_is_found_by_plugin_or_by_label(world):
    key = Key("v1", "nodes", "", "n-dev-a")
    handlers = {"status": {"runtimeHandlers": [{"name": ""}, {"name": "nvidia"}]}}
    await world.kube.store.merge(key, handlers, subresource="status")
    assert "runtime" in (await world.engine.info(DEVICE)).gpu
    await world.kube.store.merge(
        key, {"status": {"runtimeHandlers": [{"name": "runc"}]}}, subresource="status"
    )
    assert (await world.engine.info(DEVICE)).gpu == ""
    await world.kube.store.merge(key, {"metadata": {"labels": {"haechi.internal/gpu": "runtime"}}})
    assert "runtime" in (await world.engine.info(DEVICE)).gpu
    await world.pull()
    await world.start(spec(gpu=True))
    (made,) = world.kube.store.find("Deployment")
    assert made["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"
    assert world.kube.store.find("RuntimeClass")
    await world.kube.store.merge(
        key, {"status": {"allocatable": {"nvidia.com/gpu": "1"}}}, subresource="status"
    )
    assert (await world.engine.info(DEVICE)).gpu == "nvidia.com/gpu"


async def test_an_image_is_pulled_before_anything_runs(world):
    assert not await world.engine.has_image(DEVICE, ONE)
    pulled = await world.pull()
    assert (pulled.pulled, pulled.platform) == (True, "linux/amd64")
    assert world.nodes.images == {"n-dev-a": {ONE}, "n-dev-b": set()}
    assert world.nodes.started == []
    assert await world.engine.has_image(DEVICE, ONE)
    assert not (await world.pull()).pulled
    await eventually(lambda: world.pods() == [])


async def test_an_image_that_could_not_be_fetched_again_counts_as_absent(world):
    world.nodes.images["n-dev-a"].add(ONE)
    await world.nodes._report_images("n-dev-a")
    assert not await world.engine.has_image(DEVICE, ONE)
    await world.pull()
    assert await world.engine.has_image(DEVICE, ONE)


async def test_each_device_pulls_with_its_own_credential(world):
    await world.pull()
    secrets = [
        one for one in world.kube.store.find("Secret") if one["metadata"]["name"] == "pull-dev-a"
    ]
    assert sorted(one["metadata"]["namespace"] for one in secrets) == [
        "haechi-ai",
        "haechi-ai-privileged",
    ]
    (pod_secret,) = {one["spec"]["imagePullSecrets"][0]["name"] for one in [_last_pull_pod(world)]}
    assert pod_secret == "pull-dev-a"


def _last_pull_pod(world):
    return next(
        change.seen
        for change in reversed(world.kube.store.history)
        if change.key.plural == "pods" and change.key.name.startswith("pull-")
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", ImageNotFound),
        ("dial tcp 10.0.0.1:8425: connect: connection refused", RegistryUnreachable),
        ("dial tcp: lookup registry.haechi.internal: no such host", RegistryUnreachable),
        ("unexpected status from HEAD request: 401 Unauthorized", RegistryRefused),
        ("tls: failed to verify certificate: x509: unknown authority", RegistryRefused),
        ("write /var/lib/containerd: no space left on device", DeviceDiskFull),
        ("something that nobody has seen before", EngineFailed),
    ],
)
async def test_a_failed_pull_says_why_and_leaves_nothing(world, said, kind):
    world.nodes.registry_error = said
    with pytest.raises(kind) as caught:
        await world.pull("registry.haechi.internal:8425/none@sha256:00")
    assert said in caught.value.data.get("detail", said)
    await eventually(lambda: world.pods() == [])


async def test_only_what_may_pass_is_worth_another_try(world):
    world.nodes.registry_error = "connection refused"
    with pytest.raises(Unavailable):
        await world.pull()
    world.nodes.registry_error = ""
    assert (await world.pull()).pulled


async def test_a_cancelled_pull_leaves_nothing_and_the_next_begins_anew(world):
    world.nodes.away.add("n-dev-a")
    tasks = Tasks("test")
    pulling = tasks.spawn("pull", world.pull())
    await eventually(world.pods)
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    await eventually(lambda: world.pods() == [])
    await world.nodes.bring_back("n-dev-a")
    assert (await world.pull()).pulled
    await tasks.close()


@pytest.mark.parametrize("noticed", [False, True])
async def test_a_pull_at_a_node_that_died_is_given_up(world, monkeypatch, noticed):
    monkeypatch.setattr(kube_pull, "SILENT_S", 0.5)
    world.nodes.away.add("n-dev-a")
    tasks = Tasks("test")
    pulling = tasks.spawn("pull", world.pull())
    await eventually(world.pods)
    if noticed:
        await world.nodes.lose("n-dev-a")
    with pytest.raises(NodeAway, match="n-dev-a"):
        await pulling
    await tasks.close()


async def test_it_starts_once_and_is_found_again(world):
    await world.pull()
    status = await world.start()
    assert (status.state, status.image, status.restarts) == ("running", ONE, 0)
    assert status.started_ms
    before = world.pods()
    assert (await world.start()).state == "running"
    assert world.pods() == before
    assert world.nodes.started == [ONE]
    assert world.nodes.running("dev-b") == []


async def test_a_server_that_comes_back_adopts_what_runs(world):
    await world.pull()
    await world.start()
    before = world.pods()
    world.engine = world.revived()
    assert await world.state() == "running"
    assert (await world.start()).state == "running"
    assert world.pods() == before


async def test_two_versions_run_beside_each_other(world):
    await world.pull()
    await world.pull(TWO)
    await world.start()
    await world.start(spec("dep-two", TWO))
    assert world.nodes.running(DEVICE) == [ONE, TWO]
    removed = await world.engine.remove(DEVICE, "dep-one", 1, 10)
    assert removed.removed
    assert removed.last.state == "running"
    assert next(line.text for line in removed.log_tail).startswith("log of dep-one")
    assert world.nodes.running(DEVICE) == [TWO]
    assert [one.state for one in await world.status("dep-one", "dep-two")] == ["absent", "running"]
    assert not (await world.engine.remove(DEVICE, "dep-one", 1, 10)).removed
    left = {one["metadata"]["name"] for one in world.kube.store.find("Secret")}
    assert not [name for name in left if name.startswith("dep-one")]


async def test_what_is_stopped_stays_stopped_and_starts_again(world):
    await world.pull()
    await world.start()
    stopped = await world.engine.stop(DEVICE, "dep-one", 1)
    assert stopped.state == "exited"
    assert world.nodes.running(DEVICE) == []
    assert await world.state() == "exited"
    pieces = [piece async for piece in world.engine.logs(DEVICE, "dep-one")]
    assert pieces[0].lines[0].text.startswith("log of")
    assert (await world.start()).state == "running"
    assert world.nodes.running(DEVICE) == [ONE]
    assert (await world.engine.stop(DEVICE, "dep-none", 1)).state == "absent"


@pytest.mark.parametrize(
    ("behaviour", "state"), [("crash", "restarting"), ("mute", "starting"), ("up", "running")]
)
async def test_it_says_how_the_container_fares(world, behaviour, state, monkeypatch):
    monkeypatch.setattr(engine_kube, "STARTED_S", 0.5)
    world.nodes.behaviour[ONE] = behaviour
    await world.pull()
    status = await world.start()
    assert status.state == state
    if behaviour == "crash":
        assert (status.restarts, status.exit_code) == (2, 1)


async def test_an_edited_object_counts_as_failed_until_it_is_put_back(world):
    await world.pull()
    await world.start()
    key = Key("apps/v1", "deployments", "haechi-ai", "dep-one")
    await world.kube.store.merge(key, {"spec": {"replicas": 0}})
    (status,) = await world.status()
    assert (status.state, "edited" in status.error) == ("failed", True)
    assert (await world.start()).state == "running"
    assert await world.state() == "running"
    # What others note on it is no change of what it is.
    await world.kube.store.merge(key, {"metadata": {"annotations": {"note": "mine"}}})
    assert await world.state() == "running"


async def test_a_deleted_object_is_absent_and_comes_back(world):
    await world.pull()
    await world.start()
    await world.kube.store.remove(Key("apps/v1", "deployments", "haechi-ai", "dep-one"))
    assert await world.state() == "absent"
    assert (await world.start()).state == "running"


async def test_a_deleted_pod_comes_back_by_itself(world):
    await world.pull()
    await world.start()
    (before,) = world.pods()
    (pod,) = world.kube.store.find("Pod")
    await world.kube.store.delete(Key("v1", "pods", "haechi-ai", pod["metadata"]["name"]))
    await eventually(lambda: world.nodes.running(DEVICE) == [ONE] and before not in world.pods())


async def test_a_deleted_namespace_comes_back(world):
    await world.pull()
    for key in [key for key in world.kube.store.objects if key.namespace == "haechi-ai"]:
        await world.kube.store.remove(key)
    await world.kube.store.remove(Key("v1", "namespaces", "", "haechi-ai"))
    assert (await world.start()).state == "running"


async def test_another_environment_replaces_the_pod_and_its_secret(world):
    await world.pull()
    await world.start()
    before = world.pods()
    await world.start(msgspec.structs.replace(spec(), environment={"A": "2"}))
    await eventually(lambda: world.nodes.running(DEVICE) == [ONE])
    await eventually(lambda: not set(before) & set(world.pods()))
    mine = [
        one for one in world.kube.store.find("Secret") if one["metadata"]["name"].startswith("dep-")
    ]
    assert len(mine) == 1


async def test_a_privileged_one_is_kept_apart(world):
    await world.pull()
    assert (await world.start(spec(privileged=True))).state == "running"
    (made,) = world.kube.store.find("Deployment")
    assert made["metadata"]["namespace"] == "haechi-ai-privileged"
    assert (await world.engine.remove(DEVICE, "dep-one", 1, 10)).removed
    assert world.pods() == []


async def test_a_node_that_is_away_is_named_and_worth_another_try(world):
    await world.pull()
    await world.start()
    await world.nodes.lose("n-dev-a")
    for call in (
        world.engine.info(DEVICE),
        world.status(),
        world.pull(TWO),
        world.start(spec("dep-two", TWO)),
    ):
        with pytest.raises(NodeAway) as caught:
            await call
        assert caught.value.data["node"] == "n-dev-a"
        assert "posting" in caught.value.data["reason"]
    assert world.nodes.running(DEVICE) == [ONE]
    await world.nodes.bring_back("n-dev-a")
    assert await world.state() == "running"


async def test_a_removal_at_a_node_that_is_away_is_done_when_it_returns(world, monkeypatch):
    monkeypatch.setattr(engine_kube, "MARGIN_S", 0.2)
    await world.pull()
    await world.start()
    await world.nodes.lose("n-dev-a")
    assert (await world.engine.remove(DEVICE, "dep-one", 0.1, 10)).removed
    await world.nodes.bring_back("n-dev-a")
    await eventually(lambda: world.pods() == [])


async def test_an_api_that_is_away_is_worth_another_try_and_the_ai_goes_on(world):
    await world.pull()
    await world.start()
    await world.kube.close_door(0)
    with pytest.raises(KubeUnreachable):
        await world.status()
    with pytest.raises(KubeUnreachable):
        await world.engine.remove(DEVICE, "dep-one", 1, 10)
    assert world.nodes.running(DEVICE) == [ONE]


async def test_a_device_that_left_its_cluster_has_nothing_there(world):
    await world.pull()
    await world.start()
    world.lone.add(DEVICE)
    assert await world.state() == "absent"
    assert not (await world.engine.remove(DEVICE, "dep-one", 1, 10)).removed
    with pytest.raises(NoNode):
        await world.start()


async def test_logs_are_followed(world):
    await world.pull()
    await world.start()
    more = asyncio.Event()

    async def logs(pod, params):
        yield b"2026-01-02T03:04:05.006007008Z one line\n"
        await more.wait()
        yield b'2026-01-02T03:04:05.007Z \n2026-01-02T03:04:05.008Z {"json": 1}\n'

    world.kube.api.logs = logs
    pieces = world.engine.logs(DEVICE, "dep-one", follow=True)
    async with aclosing(pieces):
        first = (await anext(pieces)).lines[0]
        assert (first.at_ms, first.text) == (1767323045006, "one line")
        more.set()
        texts = [line.text async for piece in pieces for line in piece.lines]
    assert texts == ["", '{"json": 1}']
    with pytest.raises(NoContainer):
        await anext(world.engine.logs(DEVICE, "dep-none"))


async def test_a_node_whose_way_to_the_registry_was_mended_pulls_again(world):
    asked = []

    async def mend(device_id):
        asked.append(device_id)
        world.nodes.registry_error = ""
        return True

    world.engine = KubeEngine(world.kubes, world._locate, mend=mend)
    world.nodes.registry_error = "lookup registry.haechi.internal: no such host"
    assert (await world.pull()).pulled
    assert asked == [DEVICE]


async def test_a_kubelet_that_tells_no_figures_is_there_all_the_same(world):
    world.kube.store.raw.clear()
    info = await world.engine.info(DEVICE)
    assert (info.memory_available_bytes, info.disk_free_bytes) == (2 * 1024**3, 0)
