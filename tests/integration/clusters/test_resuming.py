"""The server dies at some step and is started again: the job is finished, nothing is done twice."""

import asyncio
import json

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.host.errors import HostConnectionLost
from haechi.domains.clusters.marker import MARKER
from haechi.domains.clusters.model import FormOptions
from haechi.testing.waiting import eventually

ALL = {"dev-m": "ready", "dev-a": "ready", "dev-b": "ready"}


@pytest.mark.parametrize(
    ("act", "device_id"),
    [
        ("report", "dev-m"),
        ("snapshot", "dev-a"),
        ("prepare", "dev-m"),
        ("prepare", "dev-b"),
    ],
)
async def test_killed_while_a_host_is_worked_on(world, act, device_id):
    hold = world.site.work.hold[act, device_id] = asyncio.Event()
    operation = await world.form()
    await eventually(lambda: (act, device_id) in world.site.work.acts)
    await world.kill()
    hold.set()
    await world.revive()
    assert (await world.ended(operation)).state == "succeeded"
    assert await world.states(operation.subject) == ALL
    assert [one for one, _ in world.site.calls if one != "reset"].count("init") == 1


@pytest.mark.parametrize(
    ("what", "device_id"), [("kubeadm init", "dev-m"), ("kubeadm join", "dev-b")]
)
async def test_killed_while_kubeadm_runs(world, what, device_id):
    """Half-done work is taken back on the host before it is begun anew."""
    shell = world.site.hosts.hosts[device_id]
    hold = asyncio.Event()
    shell.on(lambda line: what in line, hold=hold, times=1)
    operation = await world.form()
    await eventually(shell.held.is_set)
    await world.kill()
    hold.set()
    await world.revive()
    assert (await world.ended(operation)).state == "succeeded"
    assert await world.states(operation.subject) == ALL
    mine = [one for one, where in world.site.calls if where == device_id]
    assert mine == ["reset", what.split()[1]]
    assert "systemctl stop haechi-kubeadm.service" in shell.commands()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_hosts_join_by_does_not_outlive_a_server_that_was_killed(world, cancelled):
    """Nobody withdrew it then: whoever goes on does, or takes it back."""
    cluster_id = await world.formed(workers=("dev-a",))
    kube, shell = world.site.kubes.of(cluster_id), world.site.hosts.hosts["dev-b"]
    hold = asyncio.Event()
    shell.on(lambda line: "kubeadm join" in line, hold=hold, times=1)
    operation = await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM)
    await eventually(shell.held.is_set)
    kube.down = True
    if cancelled:
        await world.operations.cancel(operation.id)
    await world.kill()
    (left,) = [name for kind, _, name in kube.objects if kind == "Secret"]
    first = kube.objects["Secret", "kube-system", left]["stringData"]["token-secret"]
    kube.down = False
    hold.set()
    held = shell.held = asyncio.Event()
    again = asyncio.Event()
    join = world.site._join
    shell.on(lambda line: "kubeadm join" in line, hold=again, times=1, do=lambda _: join(shell))
    await world.revive()
    if not cancelled:
        await held.wait()
        (now,) = [one for (kind, *_), one in kube.objects.items() if kind == "Secret"]
        assert now["stringData"]["token-secret"] != first, "that of before counts no more"
    again.set()
    ended = await world.ended(operation)
    assert ended.state == ("cancelled" if cancelled else "succeeded"), await world.log(ended)
    assert [name for kind, _, name in kube.objects if kind == "Secret"] == []


async def test_a_host_that_loses_its_power_when_its_kubelet_has_registered_joins_anew(world):
    """Kubernetes calls its node Ready for most of a minute yet, and lets no other have the name."""
    site, shell = world.site, world.site.hosts.hosts["dev-a"]

    def lost(_call) -> None:
        assert site._join(shell).status == 0
        raise HostConnectionLost(host="a", address="x", what="kubeadm join", reason="power")

    shell.on(lambda line: "kubeadm join" in line, do=lost, times=1)
    operation = await world.form()
    assert (await world.ended(operation)).state == "succeeded"
    assert await world.states(operation.subject) == ALL
    mine = [one for one, where in site.calls if where == "dev-a"]
    assert mine == ["join", "reset", "join"]


async def test_a_node_that_joined_before_the_server_could_note_it_is_not_joined_again(world):
    """The marker on the host says so: the step runs again, kubeadm does not."""
    shell = world.site.hosts.hosts["dev-a"]
    hold = asyncio.Event()
    operation = await world.form()
    world.site.hosts.hosts["dev-b"].on(lambda line: "kubeadm join" in line, hold=hold, times=1)
    await eventually(lambda: json.loads(_marker(shell))["joined"])
    await eventually(world.site.hosts.hosts["dev-b"].held.is_set)
    await world.kill()
    hold.set()
    await world.revive()
    assert (await world.ended(operation)).state == "succeeded"
    assert [one for one, where in world.site.calls if where == "dev-a"] == ["join"]


async def test_killed_while_deleting(world):
    cluster_id = await world.formed()
    hold = world.site.work.hold["clean", "dev-a"] = asyncio.Event()

    operation = await world.clusters.delete_cluster(cluster_id, by=SYSTEM)
    await eventually(lambda: ("clean", "dev-a") in world.site.work.acts)
    await world.kill()
    hold.set()
    await world.revive()
    assert (await world.ended(operation)).state == "succeeded"
    assert set((await world.states(cluster_id)).values()) == {"gone"}
    assert await world.state(cluster_id) == "deleted"


async def test_a_cluster_written_down_without_its_operation_is_let_go(world):
    """The server died in between: its devices must not be held for ever."""

    async def die(*given, **more):
        del given, more
        raise RuntimeError("power loss")

    started, world.operations.start = world.operations.start, die
    with pytest.raises(RuntimeError):
        await world.clusters.form_cluster("x", ("dev-m",), (), FormOptions(), by=SYSTEM)
    world.operations.start = started
    await world.kill()
    await world.revive()
    page = await world.clusters.book.find(include_gone=True)
    assert [one.cluster.state for one in page.items] == ["failed"]
    assert (await world.ended(await world.form(name="x"))).state == "succeeded"


def _marker(shell) -> str:
    return shell.text(MARKER) if MARKER in shell.files else '{"joined": false}'


@pytest.mark.parametrize(
    ("what", "device_id"), [("kubeadm init", "dev-m"), ("kubeadm join", "dev-b")]
)
async def test_cancelled_while_kubeadm_runs(world, what, device_id):
    """Every host is as it was, and free for the next cluster."""
    before = {one: dict(shell.files) for one, shell in world.site.hosts.hosts.items()}
    shell = world.site.hosts.hosts[device_id]
    shell.on(lambda line: what in line, hold=asyncio.Event(), times=1)
    operation = await world.form()
    await eventually(shell.held.is_set)
    await world.operations.cancel(operation.id)
    assert (await world.ended(operation)).state == "cancelled"
    assert await world.state(operation.subject) == "failed"
    for one, other in world.site.hosts.hosts.items():
        assert other.files == before[one], f"{one} is as it was"
    assert (await world.ended(await world.form(name="again"))).state == "succeeded"


async def test_killed_while_it_is_taken_back(world):
    """The undoing is resumed too: what cannot be told is cleaned again."""
    before = dict(world.site.hosts.hosts["dev-m"].files)
    hold = world.site.work.hold["clean", "dev-m"] = asyncio.Event()
    world.site.refuse("dev-m", "kubeadm init", "no", times=None)
    operation = await world.form()
    await eventually(lambda: ("clean", "dev-m") in world.site.work.acts)
    await world.kill()
    hold.set()
    await world.revive()
    assert (await world.ended(operation)).state == "failed"
    assert world.site.hosts.hosts["dev-m"].files == before
    assert set((await world.states(operation.subject)).values()) <= {"gone", "failed"}
