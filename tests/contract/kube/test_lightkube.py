"""The Kubernetes client against an API on loopback: TLS, several doors, apply, watch, refusals."""

import asyncio
import contextlib
import dataclasses
import socket
from contextlib import aclosing
from pathlib import Path

import pytest

from haechi.adapters import kube_calls, kube_requests, kube_transport
from haechi.adapters.kube_errors import (
    BadKubeconfig,
    KubeConflict,
    KubeForbidden,
    KubeObjectMissing,
    KubeRefused,
    KubeUnreachable,
)
from haechi.adapters.kube_lightkube import LightKubes
from haechi.core.secrets import Secret
from haechi.core.tasks import Tasks
from haechi.domains.clusters.model import DEVICE_LABEL
from haechi.testing.kube_api import running_kube
from haechi.testing.kube_store import Key
from haechi.testing.waiting import eventually

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "haechi"}}


@pytest.fixture
async def kube(tmp_path):
    async with running_kube(tmp_path, doors=3) as kube:
        yield kube


@pytest.fixture
async def kubes():
    kubes = LightKubes()
    yield kubes
    await kubes.close()


@pytest.fixture
async def client(kube, kubes):
    async with kubes.open(kube.access) as client:
        yield client


def config_map(name, **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "haechi"},
        "data": data,
    }


def node(name, device_id=None, *, ready="True", **spec):
    labels = {DEVICE_LABEL: device_id} if device_id else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": "KubeletReady",
                    "message": "well",
                    "lastTransitionTime": "2026-01-02T03:04:05Z",
                }
            ],
            "addresses": [
                {"type": "InternalIP", "address": "10.1.2.3"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {"kubeletVersion": "v1.36.3", "machineID": "m1", "bootID": "b1"},
        },
    }


async def add_node(kube, name, device_id=None, **more):
    key = Key("v1", "nodes", "", name)
    await kube.store.create(key, node(name, device_id, **more), manager="kubelet")
    return key


async def add_pod(kube, name, *, node="n1", owner="ReplicaSet", **annotations):
    await kube.store.apply(
        Key("v1", "namespaces", "", "haechi"), NAMESPACE, manager="test", force=True
    )
    key = Key("v1", "pods", "haechi", name)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "x"},
            "annotations": annotations,
            "ownerReferences": [{"kind": owner, "uid": "elsewhere"}],
        },
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "containerStatuses": [{"restartCount": 2}]},
    }
    await kube.store.create(key, pod, manager="test")
    return key


async def test_says_its_version(client):
    assert await client.version() == "1.36.3"


async def test_apply_makes_changes_and_takes_away_what_it_no_longer_names(kube, client):
    said = []
    await client.apply([NAMESPACE, config_map("c", a="1", b="2")], log=said.append)
    assert said == ["applied Namespace haechi", "applied ConfigMap haechi/c"]
    assert (await client.get("v1", "ConfigMap", "c", "haechi"))["data"] == {"a": "1", "b": "2"}

    await client.apply([config_map("c", a="3")])
    assert (await client.get("v1", "ConfigMap", "c", "haechi"))["data"] == {"a": "3"}


async def test_apply_leaves_what_others_added_and_takes_back_what_they_changed(kube, client):
    await client.apply([NAMESPACE, config_map("c", a="1")])
    key = Key("v1", "configmaps", "haechi", "c")
    await kube.store.merge(key, {"data": {"a": "edited", "theirs": "x"}})

    with pytest.raises(KubeConflict) as caught:
        await client.calls.apply(config_map("c", a="1"), force=False)
    assert "kubectl-edit" in caught.value.data["reason"]

    await client.apply([config_map("c", a="1")])
    found = await client.get("v1", "ConfigMap", "c", "haechi")
    assert found["data"] == {"a": "1", "theirs": "x"}


async def test_fields_that_no_model_knows_are_kept(client):
    await client.apply([NAMESPACE, {**config_map("c"), "ofTheFuture": {"x": 1}}])
    assert (await client.get("v1", "ConfigMap", "c", "haechi"))["ofTheFuture"] == {"x": 1}


async def test_what_is_not_there_is_none_or_missing(client):
    assert await client.get("v1", "ConfigMap", "none", "haechi") is None
    assert await client.node("none") is None
    await client.delete([config_map("none")])
    await client.delete_node("none")
    with pytest.raises(KubeObjectMissing) as caught:
        await client.calls.get("v1", "ConfigMap", "none", "haechi")
    assert caught.value.data["cluster_id"] == "clu-test"
    with pytest.raises(KubeRefused, match="no kind"):
        await client.get("example.com/v1", "Unheard", "x")


async def test_delete_is_in_reverse_and_waits(kube, client):
    await client.apply([NAMESPACE, config_map("c")])
    kube.api.calls.clear()
    await client.delete([NAMESPACE, config_map("c")])
    deleted = [path for method, path in kube.api.calls if method == "DELETE"]
    assert deleted == ["/api/v1/namespaces/haechi/configmaps/c", "/api/v1/namespaces/haechi"]
    assert await client.get("v1", "Namespace", "haechi") is None


async def test_nodes_are_told_with_device_conditions_and_addresses(kube, client):
    taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    await add_node(kube, "n1", "dev-1")
    await add_node(kube, "n2", ready="Unknown", taints=taints, unschedulable=True)
    one, two = await client.nodes()
    assert (one.name, one.device_id, one.ready, one.addresses) == (
        "n1",
        "dev-1",
        True,
        ("10.1.2.3",),
    )
    assert (one.kubelet_version, one.machine_id) == ("1.36.3", "m1")
    assert (two.ready, two.unschedulable, two.why_not_ready) == (False, True, "well")
    assert (one.network_address, two.network_address) == ("", "")
    assert two.taints == ("node-role.kubernetes.io/control-plane=:NoSchedule",)


async def test_where_a_nodes_network_leads_is_told(kube, client):
    key = Key("v1", "nodes", "", "n1")
    told = node("n1")
    told["metadata"]["annotations"] = {"flannel.alpha.coreos.com/public-ip": "10.1.2.9"}
    await kube.store.create(key, told, manager="kubelet")
    (one,) = await client.nodes()
    assert (one.addresses, one.network_address) == (("10.1.2.3",), "10.1.2.9")


async def test_long_lists_come_in_pages(kube, client, monkeypatch):
    monkeypatch.setattr(kube_calls, "PAGE", 3)
    for index in range(8):
        await add_node(kube, f"n{index}")
    assert [one.name for one in await client.nodes()] == [f"n{index}" for index in range(8)]


async def test_nodes_are_labelled_untainted_and_cordoned(kube, client):
    taints = [
        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
        {"key": "other", "effect": "NoSchedule"},
    ]
    await add_node(kube, "n1", "dev-1", taints=taints)
    await client.label_node("n1", {"a": "1", DEVICE_LABEL: None})
    await client.untaint_node("n1", "node-role.kubernetes.io/control-plane")
    await client.untaint_node("n1", "node-role.kubernetes.io/control-plane")
    await client.cordon("n1")
    seen = await client.node("n1")
    assert (seen.labels, seen.device_id, seen.unschedulable) == ({"a": "1"}, None, True)
    assert seen.taints == ("other=:NoSchedule",)
    await client.uncordon("n1")
    assert not (await client.node("n1")).unschedulable


async def test_drain_evicts_but_for_daemons_and_static_pods_and_says_what_is_left(kube, client):
    await add_node(kube, "n1")
    await add_pod(kube, "ai")
    await add_pod(kube, "guarded")
    await add_pod(kube, "daemon", owner="DaemonSet")
    await add_pod(kube, "elsewhere", node="n2")
    await add_pod(kube, "static", **{"kubernetes.io/config.mirror": "x"})
    kube.api.protected.add("guarded")
    drained = await client.drain("n1", grace_s=1, timeout_s=6, log=lambda _text: None)
    assert (drained.evicted, drained.left) == (1, ("haechi/guarded",))
    assert {pod.name for pod in await client.pods()} == {
        "guarded",
        "daemon",
        "elsewhere",
        "static",
    }
    assert (await client.node("n1")).unschedulable
    kube.api.protected.clear()
    assert (await client.drain("n1", grace_s=1, timeout_s=60, log=print)).left == ()
    assert await client.drain("gone", grace_s=1, timeout_s=60, log=print) == (
        dataclasses.replace(drained, evicted=0, left=())
    )


async def test_a_dead_nodes_pods_go_at_once(kube, client):
    """No kubelet would end them, and no disruption budget keeps what is dead already."""
    await add_node(kube, "n1")
    await add_pod(kube, "ai")
    await add_pod(kube, "guarded")
    await add_pod(kube, "daemon", owner="DaemonSet")
    await add_pod(kube, "elsewhere", node="n2")
    kube.api.protected.add("guarded")
    said = []
    assert await client.abandon("n1", log=said.append) == 2
    assert {pod.name for pod in await client.pods()} == {"daemon", "elsewhere"}
    assert (await client.node("n1")).unschedulable
    assert len(said) == 2
    assert await client.abandon("gone", log=print) == 0


async def test_pods_are_found_by_node_and_label(kube, client):
    await add_pod(kube, "ai")
    await add_pod(kube, "other", node="n2")
    (found,) = await client.pods(namespace="haechi", node="n1", labels={"app": "x"})
    assert (found.name, found.owner_kind, found.restarts) == ("ai", "ReplicaSet", 2)
    assert await client.pods(labels={"app": "y"}) == []


async def test_watching_nodes_goes_on_over_ended_watches_and_cut_history(kube, client, monkeypatch):
    monkeypatch.setattr(kube_calls, "WATCH_S", 1)
    await add_node(kube, "n1")
    seen = []

    async def follow():
        async with aclosing(client.watch_nodes()) as all_nodes:
            async for nodes in all_nodes:
                seen.append({one.name: one.unschedulable for one in nodes})  # noqa: PERF401

    tasks = Tasks("test")
    _ = tasks.spawn("follow", follow())
    await eventually(lambda: seen == [{"n1": False}])
    watches = lambda: len([1 for _, path in kube.api.calls if path == "/api/v1/nodes"])  # noqa: E731
    before = watches()
    await eventually(lambda: watches() > before + 1)  # ended and begun again
    await client.cordon("n1")
    await eventually(lambda: seen[-1] == {"n1": True})
    await kube.store.remove(Key("v1", "nodes", "", "n1"))
    await eventually(lambda: seen[-1] == {})
    kube.store.forget_history()
    await add_node(kube, "n2")
    await eventually(lambda: seen[-1] == {"n2": False})
    await tasks.close()


async def test_another_control_plane_answers_when_one_is_gone(kube, client):
    await client.apply([NAMESPACE])
    await kube.close_door(0)
    assert await client.get("v1", "Namespace", "haechi") is not None
    await kube.close_door(1)
    assert await client.get("v1", "Namespace", "haechi") is not None
    await kube.close_door(2)
    with pytest.raises(KubeUnreachable) as caught:
        await client.version()
    for server in kube.access.servers:
        assert f"127.0.0.1:{server.port}" in caught.value.data["reason"]


async def test_a_watch_is_cut_with_its_control_plane(kube, client):
    await add_node(kube, "n1")
    async with aclosing(client.watch_nodes()) as all_nodes:
        assert len(await anext(all_nodes)) == 1
        nothing = asyncio.get_running_loop().create_future()
        tasks = Tasks("test")
        waiting = tasks.spawn("next", anext(all_nodes))
        await eventually(lambda: ("GET", "/api/v1/nodes") in kube.api.calls[-1:])
        for index in range(3):
            await kube.close_door(index)
        with pytest.raises(KubeUnreachable):
            await waiting
        nothing.cancel()
        await tasks.close()


async def test_an_api_that_says_nothing_is_given_up(kube, client, monkeypatch):
    monkeypatch.setattr(kube_requests, "CALL_S", 1.0)
    kube.api.hold = asyncio.Event()
    with pytest.raises(KubeUnreachable) as caught:
        await client.version()
    assert "version" in caught.value.data["reason"]
    kube.api.hold.set()


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "Unauthorized", KubeForbidden),
        (403, "nodes is forbidden", KubeForbidden),
        (409, "exists", KubeConflict),
        (422, "spec.x: Invalid value", KubeRefused),
        (429, "too many requests", KubeUnreachable),
        (500, "etcdserver: leader changed", KubeUnreachable),
        (500, "nil pointer", KubeRefused),
        (503, "starting", KubeUnreachable),
        (599, "<html>bad gateway</html>", KubeUnreachable),
    ],
)
async def test_refusals_are_told_apart(kube, client, status, message, kind):
    kube.api.faults += [(status, message)] * 2
    with pytest.raises(kind) as caught:
        await client.version()
    assert type(caught.value) is kind
    assert message in caught.value.data["reason"]


async def test_an_api_that_knows_no_rights_yet_is_not_taken_at_its_word(kube, client):
    kube.api.ready = False
    with pytest.raises(KubeUnreachable) as caught:
        await client.version()
    assert "not ready" in caught.value.data["reason"]
    kube.api.ready = True
    # It got ready between the refusal and the question.
    kube.api.faults.append((403, "everybody is forbidden everything"))
    assert await client.version() == "1.36.3"


async def test_one_that_knows_no_rights_yet_is_passed_over_for_one_that_does(kube, client):
    assert await client.version() == "1.36.3"
    ports = [one.port for one in kube.access.servers]
    kube.api.unready |= {*ports[:2]}
    before = len(kube.api.calls)
    await client.apply([NAMESPACE])
    assert [path for _, path in kube.api.calls[before:]].count("/readyz") == 2
    before = len(kube.api.calls)
    assert await client.version() == "1.36.3"
    assert len(kube.api.calls) == before + 1, "the one that answered is asked first from now on"
    kube.api.unready = {*ports}
    with pytest.raises(KubeUnreachable, match="not ready"):
        await client.version()
    kube.api.unready = set()
    # What somebody refuses who is ready is refused.
    kube.api.faults += [(403, "you may not")] * 2
    with pytest.raises(KubeRefused, match="you may not"):
        await client.version()


async def test_a_long_refusal_is_cut(kube, client):
    kube.api.faults.append((422, "x" * 100_000))
    with pytest.raises(KubeRefused) as caught:
        await client.version()
    assert len(caught.value.data["reason"]) <= 400


async def test_a_too_large_answer_is_refused(kube, client, monkeypatch):
    monkeypatch.setattr(kube_requests, "MAX_BYTES", 1000)
    await client.apply([NAMESPACE])
    with pytest.raises(KubeRefused, match="larger"):
        await client.apply([config_map("c", a="x" * 2000)])


async def test_a_stranger_at_the_address_is_not_talked_to(tmp_path, kubes):
    async with running_kube(tmp_path, name="api.clu-other.haechi.internal") as kube:
        async with kubes.open(kube.access) as client:
            with pytest.raises(KubeUnreachable) as caught:
                await client.version()
        assert "certificate" in caught.value.data["reason"]
        assert kube.api.calls == []


@contextlib.asynccontextmanager
async def behind_a_tunnel(path, port):
    """A unix socket whose connections end at a port, as `Shell.tunnel` gives."""
    tasks = Tasks("tunnel")

    async def pipe(reader, writer):
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
        except OSError:
            pass
        finally:
            writer.close()

    async def carry(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        tasks.spawn("there", pipe(reader, far_writer))
        await pipe(far_reader, writer)

    def enter(reader, writer):
        tasks.spawn("connection", carry(reader, writer))

    server = await asyncio.start_unix_server(enter, path)
    yield path
    server.close()
    await tasks.close()


async def test_who_answers_in_an_apis_place_is_known_by_its_certificate(kube, kubes, tmp_path):
    async def is_another(port, name):
        async with behind_a_tunnel(tmp_path / name, port) as path:
            return await kubes.is_another(kube.access, path)

    own = kube.access.servers[0].port
    assert await is_another(own, "own") is False
    # Another cluster's, and the same name by another authority.
    async with (
        running_kube(tmp_path / "b", cluster_id="clu-b") as other,
        running_kube(tmp_path / "c") as namesake,
    ):
        for name, one in (("other", other), ("namesake", namesake)):
            assert await is_another(one.access.servers[0].port, name) is True
            assert one.api.calls == []
    # Nobody says who it is: that is not another one.
    await kube.close_door(0)
    assert await is_another(own, "nobody") is False
    assert await kubes.is_another(kube.access, tmp_path / "none") is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "a: [",
        "[]",
        "contexts: []\ncurrent-context: x\n",
    ],
)
async def test_a_damaged_kubeconfig_is_named_and_not_shown(kube, kubes, text):
    access = dataclasses.replace(kube.access, kubeconfig=Secret(text))
    with pytest.raises(BadKubeconfig):
        async with kubes.open(access):
            pass


async def test_a_kubeconfig_whose_key_fits_nothing_is_refused(kube, kubes):
    whole = kube.access.kubeconfig.reveal()
    damaged = whole.replace("client-key-data: ", "client-key-data: AAAA")
    with pytest.raises(BadKubeconfig) as caught:
        async with kubes.open(dataclasses.replace(kube.access, kubeconfig=Secret(damaged))):
            pass
    assert "AAAA" not in str(caught.value.data)


async def test_keys_are_read_from_memory_and_no_file_is_made(kube, kubes, monkeypatch, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = []
    monkeypatch.setattr(
        "tempfile.NamedTemporaryFile", lambda *_a, **_k: made.append(1) or pytest.fail("a file")
    )
    async with kubes.open(kube.access) as client:
        assert await client.version() == "1.36.3"
    assert not made
    assert list(scratch.iterdir()) == []


async def test_many_clusters_in_one_process_and_a_changed_access(kube, kubes, tmp_path):
    async with running_kube(tmp_path / "two", cluster_id="clu-two") as other:
        other.api.version = "v1.35.0"
        async with kubes.open(kube.access) as one, kubes.open(other.access) as two:
            assert (await one.version(), await two.version()) == ("1.36.3", "1.35.0")
        async with kubes.open(kube.access) as one:
            fewer = dataclasses.replace(kube.access, servers=kube.access.servers[1:])
            async with kubes.open(fewer) as changed:
                await kube.close_door(0)
                assert await changed.version() == "1.36.3"
            assert await one.version() == "1.36.3"  # still in use: not closed under it
        await kubes.forget("clu-two")
        async with kubes.open(other.access) as two:
            assert await two.version() == "1.35.0"


async def test_an_access_that_changes_twice_at_once_closes_nothing_under_anybody(kube, kubes):
    """Each control plane of a cluster asked by itself, while one that answered is let go."""

    async def version(access):
        async with kubes.open(access) as one:
            return await one.version()

    alone = [dataclasses.replace(kube.access, servers=(one,)) for one in kube.access.servers]
    assert await version(kube.access) == "1.36.3"
    assert set(await asyncio.gather(*map(version, alone))) == {"1.36.3"}


async def test_logs_are_followed_and_end_with_their_pod(kube, client):
    key = await add_pod(kube, "ai")
    more = asyncio.Event()
    asked = []

    async def logs(pod, params):
        asked.append(params)
        yield b"2026-01-02T03:04:05.006007Z one\n2026-01-02T03:04:05.007Z tw"
        await more.wait()
        yield b"o\n"

    kube.api.logs = logs
    lines = client.calls.logs(key.namespace, key.name, "ai", follow=True, tail=5, since="2026")
    async with aclosing(lines):
        assert await anext(lines) == "2026-01-02T03:04:05.006007Z one"
        more.set()
        assert await anext(lines) == "2026-01-02T03:04:05.007Z two"
        with contextlib.suppress(StopAsyncIteration):
            pytest.fail(await anext(lines))
    assert asked[0] | {"tailLines": "5", "follow": "true", "timestamps": "true"} == asked[0]
    with pytest.raises(KubeObjectMissing):
        await anext(client.calls.logs("haechi", "none", "ai", follow=True))


def test_connecting_is_bounded():
    assert kube_transport.CONNECT_S < kube_requests.CALL_S


def patience_ms(port):
    """For how long this process's connections to that port wait for their other end's kernel."""
    found = set()
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):  # gone meanwhile, or no socket
            with socket.fromfd(int(entry.name), socket.AF_INET, socket.SOCK_STREAM) as one:
                if one.getpeername()[1:] == (port,):
                    found.add(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    return found


async def test_a_control_plane_without_power_is_left_soon_where_there_is_another(kube, kubes):
    """Its kernel takes nothing any more; a slow one's does, and is waited for."""
    async with kubes.open(kube.access) as client:
        assert await client.version() == "1.36.3"
        assert patience_ms(kube.access.servers[0].port) == {round(kube_transport.CONNECT_S * 1000)}
    alone = dataclasses.replace(
        kube.access, cluster_id="clu-alone", servers=kube.access.servers[2:]
    )
    async with kubes.open(alone) as client:
        assert await client.version() == "1.36.3"
        assert patience_ms(alone.servers[0].port) == {0}
