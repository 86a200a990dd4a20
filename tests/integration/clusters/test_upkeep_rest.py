"""Looking after clusters over the API and by commands, against a whole server; hosts in memory."""

import asyncio
import io
import json
import tarfile

import pytest
from click.testing import CliRunner

from haechi.cli.main import main
from haechi.testing.upkeep import UpkeepSite
from haechi.testing.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def lab(rest):
    made = UpkeepSite(rest.site)
    for device_id in rest.ids.values():
        made.prepare(device_id)
    return made


async def ended(rest, answer):
    assert answer.status_code == 202, answer.text
    operation = await rest.haechi.operations.wait(answer.json()["operation_id"])
    assert answer.headers["Location"].endswith(operation.id)
    return operation


@pytest.fixture
async def cluster_id(rest, lab):
    body = {
        "name": "gate",
        "control_plane_ids": [rest.ids["master"]],
        "worker_ids": [rest.ids["edge"]],
    }
    operation = await ended(rest, await rest.client.post("/clusters", json=body))
    assert operation.state == "succeeded", operation.error
    return operation.subject


async def health(rest, cluster_id, **headers):
    answer = await rest.client.get(f"/clusters/{cluster_id}/health", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_health_in_both_languages(rest, cluster_id):
    async def well():
        shown = await health(rest, cluster_id)
        nodes = [(one["node_name"], one["presence"], one["ready"]) for one in shown["nodes"]]
        return shown["api"] == "ok" and nodes == [("master", "ok", True), ("edge", "ok", True)]

    await eventually(well)
    address = rest.site.hosts.hosts[rest.ids["edge"]].host.address
    members = {one.device_id: one for one in await rest.haechi.clusters.context.members(cluster_id)}
    rest.probe.vanish(members[rest.ids["edge"]].address or address)

    async def dead():
        nodes = (await health(rest, cluster_id, **{"Accept-Language": "en"}))["nodes"]
        found = [one for one in nodes if (one["node_name"], one["presence"]) == ("edge", "dead")]
        return found[0] if found else None

    node = await eventually(dead)
    assert node["reason"] == "unreachable"
    assert "off" in node["reason_text"]
    assert "power" in node["remedy"]
    (korean,) = [
        one
        for one in (await health(rest, cluster_id, **{"Accept-Language": "ko"}))["nodes"]
        if one["node_name"] == "edge"
    ]
    assert "전원" in korean["reason_text"]


async def test_services_that_do_not_work_on_a_node_are_said(rest, cluster_id, cli):
    kube = rest.site.kubes.of(cluster_id)
    assert (await health(rest, cluster_id))["findings"] == []
    kube.ailing["kube-proxy-edge"] = "CrashLoopBackOff"

    async def told():
        return (await health(rest, cluster_id, **{"Accept-Language": "en"}))["findings"]

    (one,) = await eventually(told)
    assert (one["host"], one["level"], one["name"]) == ("edge", "error", "services_down")
    assert one["device_id"] == rest.ids["edge"]
    assert "kube-proxy-edge" in one["detail"]
    assert "kubectl" in one["remedy"]
    (korean,) = (await health(rest, cluster_id, **{"Accept-Language": "ko"}))["findings"]
    assert "서비스" in korean["detail"]
    code, shown = await cli("cluster", "health", "gate")
    assert code == 5
    assert json.loads(shown)["findings"] == [one]
    code, shown = await cli("cluster", "health", "gate", as_json=False)
    assert code == 5
    assert "edge  error  services_down" in shown
    assert f"  → {one['remedy']}" in shown
    kube.ailing.clear()

    async def well():
        return (await cli("cluster", "health", "gate"))[0] == 0

    await eventually(well)


async def test_a_backup_from_taking_to_restoring(rest, cluster_id):
    path = f"/clusters/{cluster_id}"
    operation = await ended(rest, await rest.client.post(f"{path}/backups"))
    assert operation.state == "succeeded", operation.error
    backup_id = operation.ctx["result"]["backup_id"]
    (shown,) = (await rest.client.get(f"{path}/backups")).json()["items"]
    assert (shown["id"], shown["revision"], shown["occasion"]) == (backup_id, 42, "asked")
    assert (await rest.client.get(f"{path}/backups/{backup_id}")).json() == shown
    assert (await health(rest, cluster_id))["newest_backup"] == shown
    content = await rest.client.get(f"{path}/backups/{backup_id}/content")
    assert content.headers["Cache-Control"] == "no-store"
    with tarfile.open(fileobj=io.BytesIO(content.content), mode="r:gz") as tar:
        assert "etcd.db" in tar.getnames()
    operation = await ended(rest, await rest.client.post(f"{path}/restore", json={}))
    assert operation.state == "succeeded", operation.error
    assert (await rest.client.delete(f"{path}/backups/{backup_id}")).status_code == 204
    assert (await rest.client.get(f"{path}/backups/{backup_id}")).status_code == 404
    refused = await rest.client.post(f"{path}/restore", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "clusters.no_backup")


async def test_what_cannot_be_done_is_said(rest, cluster_id):
    path = f"/clusters/{cluster_id}/nodes"
    edge, master = rest.ids["edge"], rest.ids["master"]
    same = await rest.client.post(f"{path}/{edge}/replace", json={"device_id": edge})
    assert same.json()["code"] == "clusters.same_device"
    held = await rest.client.post(f"{path}/{edge}/replace", json={"device_id": master})
    assert held.json()["code"] == "clusters.device_in_cluster"
    nobody = await rest.client.post(f"{path}/dev-none/readdress", json={})
    assert nobody.status_code == 404
    unknown = await rest.client.post(f"/clusters/{cluster_id}/restore", json={"backup": "x"})
    assert unknown.status_code == 422
    assert (await rest.client.get("/clusters/clu-none/health")).status_code == 404


@pytest.fixture
def cli(rest, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))

    async def run(*words, as_json=True):
        if not hasattr(rest, "token"):
            made = await rest.client.post("/tokens", json={"name": "cli", "role": "admin"})
            rest.token = made.json()["secret"]
        given = ["--url", rest.url, "--token", rest.token, "--language", "en"]
        given += ["--json"] if as_json else []
        done = await asyncio.to_thread(CliRunner().invoke, main, [*given, *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout

    return run


async def test_the_commands(rest, cluster_id, cli, tmp_path):
    assert (await cli("cluster", "backup", "gate"))[0] == 0
    code, shown = await cli("cluster", "backups", "gate")
    (backup,) = json.loads(shown)["items"] if "items" in shown else json.loads(shown)
    target = tmp_path / "backup.tar.gz"
    assert (await cli("cluster", "download-backup", "gate", backup["id"], str(target)))[0] == 0
    with tarfile.open(target) as tar:
        assert "etcd.db" in tar.getnames()
    assert target.stat().st_mode & 0o777 == 0o600
    assert (await cli("cluster", "restore", "gate", "--backup", backup["id"]))[0] == 0
    code, shown = await cli("cluster", "certificates", "gate")
    assert code == 0
    assert {one["name"] for one in json.loads(shown)["certificates"]} >= {"apiserver", "kubelet"}
    assert (await cli("cluster", "renew", "gate", "--due"))[0] == 0
    assert (await cli("cluster", "readdress", "gate", "edge"))[0] == 3, "it has no login"
    assert (await cli("cluster", "readdress", "gate", "--control-planes"))[0] == 4, "etcd decides"
    for wrong in ([], ["edge", "--control-planes"], ["edge", "--leave-out-away"]):
        assert (await cli("cluster", "readdress", "gate", *wrong))[0] == 2
    assert (await cli("cluster", "readdress-server"))[0] == 0
    assert (await cli("cluster", "replace", "gate", "edge", "master"))[0] == 4
    assert (await cli("cluster", "delete-backup", "gate", backup["id"]))[0] == 0
    assert (await cli("cluster", "restore", "gate"))[0] == 4

    async def well():
        return (await cli("cluster", "health", "gate"))[0] == 0

    await eventually(well)
