"""What is allowed on hosts is allowed by the operation that takes them, and not for ever."""

import asyncio
import dataclasses

import pytest

from haechi.core.access import SYSTEM
from haechi.core.clock import SystemClock
from haechi.domains.audit.service import Audit
from haechi.domains.clusters.consent import Consent
from haechi.domains.clusters.host.errors import HostKeyUnknown
from haechi.domains.clusters.host.findings import MemoryScarce, OtherRuntime
from haechi.domains.clusters.host.ports import HostKey
from haechi.domains.clusters.model import FormOptions
from haechi.domains.clusters.ports import HostFinding
from haechi.domains.inventory import Inventory
from haechi.interop import FormedClusters, RecordedClusters
from haechi.testing.upkeep import UpkeepSite
from haechi.testing.waiting import eventually

pytestmark = pytest.mark.integration
RUNTIME, MEMORY, KEY = "other_runtime", "memory_scarce", "host_key_unknown"


def finding(cls, device_id, host, **facts):
    name = cls.code.rpartition(".")[2]
    return HostFinding(device_id, host, name, cls.level, cls.code, {"host": host, **facts})


def runs_docker(site, device_id, host):
    site.work.findings_of.append(finding(OtherRuntime, device_id, host, runtime="docker"))


def is_small(site, device_id, host):
    site.work.findings_of.append(finding(MemoryScarce, device_id, host, available_mb=100))


def is_met_first(site, device_id, host):
    """Its key is pinned nowhere."""
    hosts, shell = site.hosts, site.hosts.hosts[device_id]
    shell.away = HostKeyUnknown(host=host, address="192.0.2.7", fingerprint=f"SHA256:{device_id}")
    learn = hosts.learn

    async def look(device_id):
        return HostKey(f"ssh-ed25519 {device_id}", f"SHA256:{device_id}")

    async def learn_and_open(device_id, **given):
        shell.away = None
        return await learn(device_id, **given)

    hosts.look, hosts.learn = look, learn_and_open


@pytest.fixture
def newcomer(world):
    lab = UpkeepSite(world.site)
    world.site.host("dev-new", name="newcomer")
    for device_id in ("dev-m", "dev-a", "dev-b", "dev-new"):
        lab.prepare(device_id)
    return "dev-new"


async def add(world, cluster_id, *device_ids, **consent):
    return await world.clusters.add_node(
        cluster_id, device_ids, consent=Consent(**consent), by=SYSTEM
    )


async def replace(world, cluster_id, device_id, **consent):
    world.site.hosts.turn_off("dev-a")
    return await world.upkeep.replace_node(
        cluster_id, "dev-a", device_id, consent=Consent(**consent), by=SYSTEM
    )


async def rebuild(world, cluster_id, device_id, **consent):
    if not (await world.upkeep.backups(cluster_id)).items:
        made = await world.ended(await world.upkeep.back_up_cluster(cluster_id, by=SYSTEM))
        assert made.state == "succeeded", await world.log(made)
    world.site.hosts.turn_off("dev-m")
    return await world.upkeep.restore_cluster(
        cluster_id, onto=device_id, consent=Consent(**consent), by=SYSTEM
    )


WAYS = pytest.mark.parametrize("way", [add, replace, rebuild])


def problems(operation):
    assert operation.state == "failed", operation.state
    assert operation.error["code"] == "clusters.hosts_not_fit", operation.error
    return [one["code"].rpartition(".")[2] for one in operation.error["data"]["problems"]]


@WAYS
async def test_leftovers_stay_unless_this_operation_is_to_remove_them(world, newcomer, way):
    cluster_id = await world.formed(clean_leftovers=True)
    world.site.work.leftovers.add(newcomer)
    refused = await world.ended(await way(world, cluster_id, newcomer))
    assert problems(refused) == ["leftovers"]
    assert world.site.work.leftovers == {newcomer}
    ended = await world.ended(await way(world, cluster_id, newcomer, clean_leftovers=True))
    assert ended.state == "succeeded", await world.log(ended)
    assert world.site.work.leftovers == set()


@WAYS
async def test_a_host_is_trusted_only_on_the_word_of_this_operation(world, newcomer, way):
    cluster_id = await world.formed(accept=[KEY])
    is_met_first(world.site, newcomer, "newcomer")
    refused = await world.ended(await way(world, cluster_id, newcomer))
    assert problems(refused) == [KEY]
    assert world.site.hosts.pinned == {}
    ended = await world.ended(await way(world, cluster_id, newcomer, accept=[KEY]))
    assert ended.state == "succeeded", await world.log(ended)
    assert set(world.site.hosts.pinned) == {newcomer}


@WAYS
async def test_a_warning_about_a_later_host_can_be_accepted(world, newcomer, way):
    cluster_id = await world.formed()
    runs_docker(world.site, newcomer, "newcomer")
    assert problems(await world.ended(await way(world, cluster_id, newcomer))) == [RUNTIME]
    ended = await world.ended(await way(world, cluster_id, newcomer, accept=[RUNTIME]))
    assert ended.state == "succeeded", await world.log(ended)
    assert f"[newcomer] warning: {RUNTIME} (accepted)" in await world.log(ended)


async def test_what_was_merely_tolerated_at_forming_is_so_for_later_hosts(world, newcomer):
    cluster_id = await world.formed(accept=[MEMORY, RUNTIME])
    is_small(world.site, newcomer, "newcomer")
    runs_docker(world.site, newcomer, "newcomer")
    assert problems(await world.ended(await add(world, cluster_id, newcomer))) == [RUNTIME]
    ended = await world.ended(await add(world, cluster_id, newcomer, accept=[RUNTIME]))
    assert ended.state == "succeeded", await world.log(ended)


async def test_consent_is_of_one_operation(world, newcomer):
    cluster_id = await world.formed()
    runs_docker(world.site, newcomer, "newcomer")
    ended = await world.ended(await add(world, cluster_id, newcomer, accept=[RUNTIME]))
    assert ended.state == "succeeded", await world.log(ended)
    _ = await world.ended(await world.clusters.remove_node(cluster_id, newcomer, by=SYSTEM))
    assert problems(await world.ended(await add(world, cluster_id, newcomer))) == [RUNTIME]


async def test_it_outlives_the_server(world, newcomer):
    cluster_id = await world.formed()
    world.site.work.leftovers.add(newcomer)
    hold = world.site.work.hold["report", newcomer] = asyncio.Event()
    operation = await add(world, cluster_id, newcomer, clean_leftovers=True)
    await eventually(lambda: ("report", newcomer) in world.site.work.acts)
    await world.kill()
    hold.set()
    await world.revive()
    assert (await world.ended(operation)).state == "succeeded"
    assert world.site.work.leftovers == set()


async def test_one_that_an_older_release_began_ends_as_it_began(world, newcomer, monkeypatch):
    """It has no consent of its own, and was begun with what the cluster was formed with."""
    cluster_id = await world.formed(clean_leftovers=True, accept=[RUNTIME])
    runs_docker(world.site, newcomer, "newcomer")
    world.site.work.leftovers.add(newcomer)
    monkeypatch.setattr(Consent, "as_ctx", lambda self: {})
    ended = await world.ended(await add(world, cluster_id, newcomer))
    assert "consent" not in ended.ctx
    assert ended.state == "succeeded", await world.log(ended)


async def test_a_host_is_looked_at_before_it_joins(world, newcomer):
    cluster_id = await world.formed(accept=[MEMORY])
    is_small(world.site, newcomer, "newcomer")
    world.site.work.leftovers.add(newcomer)
    calls = list(world.site.calls)

    async def look(**consent):
        checked = await world.clusters.check_nodes(
            cluster_id, [newcomer], consent=Consent(**consent)
        )
        return [one.name for one in checked.hindering]

    assert await look() == ["leftovers"]
    assert await look(clean_leftovers=True) == []
    assert world.site.calls == calls
    assert newcomer not in await world.states(cluster_id)
    kube = world.site.kubes.of(cluster_id)
    alpha = kube.nodes_by_name["alpha"]
    kube.nodes_by_name["alpha"] = dataclasses.replace(alpha, machine_id=newcomer)
    assert await look(clean_leftovers=True) == ["same_machine_id"]
    kube.down = True
    assert await look(clean_leftovers=True) == []


async def test_old_programs_add_hosts_with_the_consent_of_the_settings(world):
    """They cannot be asked; what is in `interop.form_options` is said for every call of theirs."""
    audit = Audit(db=world.db, clock=SystemClock())
    inventory = Inventory(
        db=world.db, bus=world.bus, clock=SystemClock(), keyring=world.keyring, audit=audit
    )
    old = FormedClusters(
        db=world.db,
        clusters=world.clusters,
        operations=world.operations,
        recorded=RecordedClusters(
            db=world.db, clock=SystemClock(), inventory=inventory, audit=audit
        ),
        options=FormOptions(accept=[RUNTIME], clean_leftovers=True),
    )
    world.site.refuse("dev-b", "kubeadm join", "kubelet is dead")
    first = await old.form("dev-m", ["dev-a", "dev-b"], name="gate", by=SYSTEM)
    assert first.code == "0014"
    runs_docker(world.site, "dev-b", "beta")
    world.site.work.leftovers.add("dev-b")
    again = await old.form("dev-m", ["dev-a", "dev-b"], name="gate", by=SYSTEM)
    assert (again.code, again.cluster.id) == ("0000", first.cluster.id)


# --- over the API


async def formed(rest, **options):
    body = {"name": "site", "control_plane_ids": [rest.ids["master"]], "options": options}
    answer = await rest.client.post("/clusters", json=body)
    assert (await ended(rest, answer)).state == "succeeded"
    return answer.json()["cluster_id"]


async def ended(rest, answer):
    assert answer.status_code == 202, answer.text
    return await rest.haechi.operations.wait(answer.json()["operation_id"])


async def test_it_is_given_in_the_body(rest):
    cluster_id = await formed(rest)
    edge, nodes = rest.ids["edge"], f"/clusters/{cluster_id}/nodes"
    runs_docker(rest.site, edge, "edge")
    rest.site.work.leftovers.add(edge)
    body = {"device_ids": [edge], "accept": [RUNTIME], "clean_leftovers": True}
    checked = (await rest.client.post(f"{nodes}/check", json={"device_ids": [edge]})).json()
    assert not checked["fit"]
    assert [(one["name"], one["accepted"]) for one in checked["findings"]] == [
        ("leftovers", False),
        (RUNTIME, False),
    ]
    assert (await rest.client.post(f"{nodes}/check", json=body)).json()["fit"]
    refused = await ended(rest, await rest.client.post(nodes, json={"device_ids": [edge]}))
    assert problems(refused) == ["leftovers", RUNTIME]
    joined = await ended(rest, await rest.client.post(nodes, json=body))
    assert joined.state == "succeeded", joined.error
    audit = (await rest.client.get("/audit")).json()["items"]
    (newest, *_) = [one for one in audit if one["action"] == "add_node"]
    assert newest["details"]["accept"] == [RUNTIME]
    assert newest["details"]["clean_leftovers"] is True


@pytest.mark.parametrize("way", ["replace", "restore"])
async def test_so_it_is_where_a_host_takes_anothers_place(rest, way):
    lab = UpkeepSite(rest.site)
    for device_id in rest.ids.values():
        lab.prepare(device_id)
    cluster_id = await formed(rest)
    master, edge, path = rest.ids["master"], rest.ids["edge"], f"/clusters/{cluster_id}"
    assert (await ended(rest, await rest.client.post(f"{path}/backups"))).state == "succeeded"
    rest.site.work.leftovers.add(edge)
    url, body = f"{path}/restore", {"onto_device_id": edge}
    if way == "replace":
        url, body = f"{path}/nodes/{master}/replace", {"device_id": edge, "force": True}
    else:
        rest.site.hosts.turn_off(master)
    assert problems(await ended(rest, await rest.client.post(url, json=body))) == ["leftovers"]
    operation = await ended(rest, await rest.client.post(url, json={**body, "accept": [KEY]}))
    assert problems(operation) == ["leftovers"]
    assert operation.ctx["consent"] == {"accept": [KEY], "clean_leftovers": False}
    operation = await ended(
        rest, await rest.client.post(url, json={**body, "clean_leftovers": True})
    )
    assert operation.ctx["consent"] == {"accept": [], "clean_leftovers": True}
    assert rest.site.work.leftovers == set()
