"""Clusters over the REST API of a whole server; the hosts behind it are in memory."""

import asyncio

import pytest

from haechi.domains.clusters.ports import HostFinding
from haechi.testing.server import running_server
from haechi.testing.waiting import eventually

pytestmark = pytest.mark.integration


def body(rest, **more):
    return {
        "name": "site",
        "control_plane_ids": [rest.ids["master"]],
        "worker_ids": [rest.ids["edge"]],
        **more,
    }


async def ended(rest, answer):
    assert answer.status_code == 202, answer.text
    path = f"/operations/{answer.json()['operation_id']}"
    assert answer.headers["location"] == f"/api/v1{path}"

    async def done():
        operation = (await rest.client.get(path)).json()
        return operation if operation["ended_at"] else None

    return await eventually(done, 60)


async def test_a_cluster_lives_from_forming_to_proof(rest):
    formed = await rest.client.post("/clusters", json=body(rest))
    cluster_id = formed.json()["cluster_id"]
    operation = await ended(rest, formed)
    assert operation["state"] == "succeeded", operation
    assert {one["stage"] for one in operation["result"]["hosts"].values()} == {"ready"}
    shown = await rest.client.get(f"/clusters/{cluster_id}")
    assert shown.json()["state"] == "ready"
    assert [one["node_name"] for one in shown.json()["members"]] == ["master", "edge"]
    renamed = await rest.client.patch(
        f"/clusters/{cluster_id}",
        json={"name": "gate"},
        headers={"If-Match": shown.headers["etag"]},
    )
    assert renamed.json()["name"] == "gate"
    listed = await rest.client.get("/clusters", params={"name": "gate"})
    assert [one["id"] for one in listed.json()["items"]] == [cluster_id]
    config = await rest.client.get(f"/clusters/{cluster_id}/kubeconfig")
    assert "tls-server-name: api." in config.text
    held = await rest.client.delete(f"/devices/{rest.ids['edge']}", params={"force": "true"})
    assert held.status_code == 409
    assert held.json()["data"]["where"][0]["id"] == cluster_id
    removed = await rest.client.delete(f"/clusters/{cluster_id}/nodes/{rest.ids['edge']}")
    assert (await ended(rest, removed))["state"] == "succeeded"
    added = await rest.client.post(
        f"/clusters/{cluster_id}/nodes", json={"device_ids": [rest.ids["edge"]]}
    )
    assert (await ended(rest, added))["state"] == "succeeded"
    deleted = await ended(rest, await rest.client.delete(f"/clusters/{cluster_id}"))
    assert deleted["state"] == "succeeded"
    proof = (await rest.client.get(f"/clusters/{cluster_id}/proof")).json()
    assert proof["clean"], proof
    assert (await rest.client.get("/clusters")).json()["items"] == []
    assert (await rest.client.delete(f"/devices/{rest.ids['edge']}")).status_code == 204
    audit = (await rest.client.get("/audit")).json()["items"]
    actions = {one["action"] for one in audit}
    assert {"form_cluster", "edit_cluster", "read_kubeconfig", "add_node", "remove_node"} <= actions
    assert "delete_cluster" in actions


async def test_a_check_tells_every_finding_in_the_callers_language(rest):
    rest.site.hosts.turn_off(rest.ids["edge"])
    rest.site.work.findings_of.append(
        HostFinding(
            device_id=rest.ids["master"],
            host="master",
            name="little_memory",
            level="warning",
            code="clusters.host_disk_full",
            data={"host": "master", "path": "/var"},
        )
    )
    wanted = {key: value for key, value in body(rest).items() if key != "name"}
    checked = await rest.client.post(
        "/clusters/check", json=wanted, headers={"Accept-Language": "ko"}
    )
    found = checked.json()
    assert not found["fit"]
    assert [(one["host"], one["level"]) for one in found["findings"]] == [
        ("master", "warning"),
        ("edge", "error"),
    ]
    assert "호스트" in found["findings"][0]["detail"]
    wanted["options"] = {"accept": ["little_memory"]}
    rest.site.hosts.turn_on(rest.ids["edge"])
    checked = await rest.client.post("/clusters/check", json=wanted)
    assert checked.json()["fit"]
    assert checked.json()["findings"][0]["accepted"]


async def test_a_plan_does_nothing(rest):
    plan = await rest.client.post(
        "/clusters/plan", json=body(rest), headers={"Accept-Language": "ko"}
    )
    assert plan.json()["steps"][0] == {
        "name": "check",
        "title": "호스트 점검",
        "hosts": ["master", "edge"],
    }
    assert rest.site.work.acts == []
    assert (await rest.client.get("/clusters")).json()["items"] == []


async def test_what_cannot_be_is_refused_with_its_code(rest):
    for wrong, code in (
        (body(rest, worker_ids=[rest.ids["master"]]), "clusters.bad_members"),
        (body(rest, options={"pod_cidr": "10.96.0.0/12"}), "clusters.bad_network"),
        (body(rest, worker_ids=["dev-nothing"]), "core.not_found"),
        (body(rest, options={"nonsense": 1}), "core.bad_request"),
    ):
        answer = await rest.client.post("/clusters", json=wrong)
        assert answer.json()["code"] == code, answer.text
    for path in ("/clusters/clu-none", "/clusters/clu-none/proof", "/clusters/clu-none/kubeconfig"):
        answer = await rest.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "clusters.not_found")


async def test_the_holder_is_named_where_two_want_the_same_hosts(rest):
    rest.site.work.hold["prepare", rest.ids["master"]] = asyncio.Event()
    first = await rest.client.post("/clusters", json=body(rest))
    again = await rest.client.post("/clusters", json=body(rest))
    assert again.json() == first.json()
    other = await rest.client.post("/clusters", json=body(rest, name="other"))
    assert (other.status_code, other.json()["code"]) == (409, "clusters.host_busy")
    assert first.json()["operation_id"] in other.json()["detail"]
    deleting = await rest.client.delete(f"/clusters/{first.json()['cluster_id']}")
    assert (deleting.status_code, deleting.json()["code"]) == (409, "core.busy")
    rest.site.work.hold["prepare", rest.ids["master"]].set()
    assert (await ended(rest, first))["state"] == "succeeded"


async def test_a_host_that_is_away_keeps_nothing_from_being_ended(tmp_path):
    """The first hook that finds it away is the last that is asked: what needs no host comes first,
    then the agent, whose certificate ends either way.
    """
    async with running_server(tmp_path) as server:
        names = [hook.name for hook in server.haechi.clusters.context.hooks]
    assert names[::-1] == ["deployments", "agent", "registry_trust"]
