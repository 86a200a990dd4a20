"""The main job with real processes: server, agents, Docker, registry, a camera, kill -9.

One small site for all tests of this file, in their order: two devices, one camera.
"""

import asyncio
import sys
import time
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from haechi.testing import packages

sys.path.insert(0, str(Path(__file__).parents[3] / "demo"))

from stage import GIB, DevicePlan, Site, free_ports

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.docker]

PLANS = (
    DevicePlan("one", "", 1.0, GIB, ("gate",)),
    DevicePlan("two", "", 1.0, GIB, ()),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main-job") / "site"
    async with Site(folder, free_ports(), plans=PLANS, say=lambda _: None) as made:
        await made.start_server()
        await made.furnish(await made.start_cameras())
        await made.start_agents()
        yield made


async def operation_in(site, state, operation_id, step):
    async def there():
        operation = await site.api.get(f"/operations/{operation_id}")
        assert operation["state"] in {"queued", "running", state}, operation
        return operation["step"] == step or operation["state"] == state

    await site.until(f"{operation_id} is in {step}", there, within_s=240)


async def results_after(site, start, **filters):
    rows = await site.api.all("/results", **filters)
    return [row for row in rows if row["stored_at"] > start]


async def test_a_zip_becomes_a_running_ai_whose_results_are_stored_once(site):
    version = await site.upload_zip("poster", packages.posting("poster"), "1")
    await site.build(version)
    _, operation = await site.deploy(version, ["one", "two"])
    assert {row["outcome"] for row in operation["result"]["devices"]} == {"deployed"}

    async def both():
        rows = await site.api.all("/results", package_id=version.package_id)
        return {row["device_id"] for row in rows} == set(site.devices.values())

    await site.until("both devices' results are stored", both, within_s=180)
    rows = await site.api.all("/results", package_id=version.package_id)
    assert len({(row["instance"], row["seq"]) for row in rows}) == len(rows)


async def test_deploying_the_same_again_restarts_nothing(site):
    version = await deployed_version(site, "poster")
    before = await running(site)
    _, operation = await site.deploy(version, ["one"])
    assert [row["outcome"] for row in operation["result"]["devices"]] == ["unchanged"]
    assert await running(site) == before


async def deployed_version(site, name):
    from stage import Version

    found = next(row for row in await site.api.all("/packages") if row["name"] == name)
    version = (await site.api.all(f"/packages/{found['id']}/versions"))[0]
    return Version(version["id"], found["id"], version["version"])


async def running(site):
    rows = await site.api.all("/deployments")
    return sorted(
        (row["id"], row["version"], row["restarts"]) for row in rows if row["state"] == "running"
    )


async def test_kill_9_in_the_middle_of_a_build_is_finished_by_the_next_start(site):
    version = await site.upload_zip("slow", _slow_build(), "1")
    path = f"/packages/{version.package_id}/versions/{version.version}/build"
    accepted = await site.api.post(path)
    await operation_in(site, "running", accepted["operation_id"], "build_images")
    await site.kill("server")
    await site.serve()
    operation = await site.api.wait(accepted["operation_id"], within_s=300)
    assert operation["state"] == "succeeded"
    builds = await site.api.all("/builds", version_id=version.id)
    assert [build["state"] for build in builds] == ["succeeded"]


def _slow_build():
    dockerfile = 'FROM python:3.11-slim\nRUN sleep 4\nCMD ["sleep", "1d"]\n'
    return packages.zip_of({"Dockerfile": dockerfile})


async def test_kill_9_in_the_middle_of_a_deployment_is_finished_and_the_old_ai_stays(site):
    old = await deployed_version(site, "poster")
    version = await site.upload_zip("poster", packages.posting("poster", version="2"), "2")
    await site.build(version)
    body = {"version_id": version.id, "device_ids": list(site.devices.values())}
    accepted = await site.api.post("/deployments", body)

    async def started():
        rows = await site.api.all("/deployments")
        return any(row["version"] == "2" and row["state"] == "starting" for row in rows)

    await site.until("the new version is started", started, within_s=240)
    start = time.time()
    await site.kill("server")
    await site.serve()
    operation = await site.api.wait(accepted["operation_id"], within_s=300)
    assert operation["state"] == "succeeded"
    assert {version for _, version, _ in await running(site)} == {"2"}
    times = sorted(
        row["captured_at"] for row in await site.api.all("/results", package_id=old.package_id)
    )
    assert times[-1] > _text(start)


def _text(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


async def test_kill_9_of_an_agent_stops_no_ai_and_loses_no_result(site):
    before = await running(site)
    await site.kill("one")
    await site.run_agent("one")

    async def again():
        rows = await site.api.all("/devices")
        return all(row["state"] == "ok" for row in rows)

    await site.until("the device is back", again, within_s=180)
    assert await running(site) == before
    device = site.devices["one"]
    start = _text(time.time())

    async def more():
        return await results_after(site, start, device_id=device)

    await site.until("its results go on", more, within_s=180)
    rows = await site.api.all("/results", device_id=device)
    for instance in {row["instance"] for row in rows}:
        seqs = sorted(row["seq"] for row in rows if row["instance"] == instance)
        assert seqs == list(range(seqs[0], seqs[-1] + 1))


async def test_a_crashing_version_is_rolled_back_with_its_last_words(site):
    before = await running(site)
    bad = await site.upload_zip("poster", packages.crashing("poster"), "3")
    await site.build(bad)
    _, operation = await site.deploy(bad, ["two"], ok=False)
    assert operation["state"] == "failed"
    assert await running(site) == before
    child = operation["result"]["devices"][0]["operation_id"]
    log = (await site.api.call("GET", f"/operations/{child}/log")).decode()
    assert "the model file is damaged" in log


async def test_a_deployment_token_is_worth_nothing_elsewhere(site):
    """Stolen from a container: not good at the server, nor at another device's agent."""
    container = await _docker("ps", "-q", "--filter", f"label=haechi.device={site.devices['one']}")
    environment = (await _docker("inspect", "-f", "{{json .Config.Env}}", container[0]))[0]
    token = environment.split("HAECHI_TOKEN=")[1].split('"')[0]
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(
            f"{site.url}/api/v1/results",
            json={"class": "01", "class_prob": 0.5},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 403
        assert token not in answer.text
    for log in site.data_dir.glob("*.log"):
        assert token not in log.read_text(errors="replace")


async def test_no_secret_is_in_any_log_or_command_line(site):
    secrets = {site.password, "root:root"}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "haechi" in line and str(site.data_dir) in line:
            assert not any(secret in line for secret in secrets), line
    for log in [*site.data_dir.glob("*.log"), *site.data_dir.rglob("operations/*.log")]:
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log
    exported = await site.api.call("GET", "/inventory/export")
    assert "root:root" not in str(exported)


async def test_removing_a_deployment_leaves_no_container(site):
    rows = [row for row in await site.api.all("/deployments") if row["state"] == "running"]
    for row in rows:
        accepted = await site.api.call("DELETE", f"/deployments/{row['id']}")
        await site.api.wait(accepted["operation_id"], within_s=240)
    for device_id in site.devices.values():
        assert await _docker("ps", "-aq", "--filter", f"label=haechi.device={device_id}") == []


async def _docker(*args):
    process = await asyncio.create_subprocess_exec(
        "docker", *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode().split()
