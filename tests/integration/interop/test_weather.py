"""optimize_by_weather: dwell, confidence, minimum stay; never waits; the old one never goes first."""

import asyncio

import pytest

from haechi.testing import packages as zips
from haechi.testing.waiting import eventually

from .conftest import interop_world


@pytest.fixture
async def weather(world):
    """`ni01` runs weather-01; there are packages for 02 and 03."""
    await world.add_device("edge-1", "192.0.2.21", id="ni01")
    for class_ in ("01", "02", "03"):
        content = zips.sleeping(version=class_)
        (world.path / "inbox" / f"weather-{class_}.zip").write_bytes(content)
        body = {"filename": "weather", "version": "1", "ai_class": class_}
        reply = (await world.post("/request_upload_edgeAi", body)).json()
        assert reply["code"] == "0000"
        setattr(world, f"aid_{class_}", reply["aid"])
    await world.post("/request_deploy_aiToDevice", {"aid": world.aid_01, "nid": "ni01"})
    assert await world.running("ni01") == ["weather-01:1"]
    return world


async def say(world, class_, confidence="0.8"):
    body = {
        "created_at": world.clock.now().isoformat(sep=" ")[:19] + "+00:00",
        "res_class": class_,
        "res_confidence": confidence,
        "nid": "ni01",
    }
    reply = (await world.post("/optimize_by_weather", body)).json()
    assert reply["code"] in {"0000", "0020"}, reply
    return reply


async def say_for(world, class_, seconds):
    """Every second; returns the actions."""
    actions = []
    with world.clock.held():
        for _ in range(seconds):
            actions.append((await say(world, class_))["action"])
            world.clock.skip(1)
    return actions


async def ended(world, reply):
    return await world.operations.wait(reply["operation_id"])


def watch(world):
    """After every change of the engine: how many weather AIs run."""
    seen = []

    def look():
        there = [c for d in world.engine.containers.values() for c in d.values()]
        seen.append(sum(container.state == "running" for container in there))

    world.engine.on_change = look
    return seen


async def test_a_switch_after_the_dwell_new_before_old(weather):
    seen = watch(weather)
    actions = await say_for(weather, "02", 10)
    assert set(actions) == {"waiting"}
    reply = await say(weather, "02")
    assert reply["action"] == "started"
    assert (await ended(weather, reply)).state == "succeeded"
    assert await weather.running("ni01") == ["weather-02:1"]
    assert min(seen) >= 1
    assert (await say(weather, "02"))["action"] == "none"
    (decision,) = await weather.weather.decisions()
    assert (decision.action, decision.reason, decision.outcome) == (
        "started",
        "weather_changed",
        "succeeded",
    )
    assert decision.values["class"] == "02"
    assert decision.values["held_s"] >= 10
    assert decision.candidates == [weather.aid_02]


async def test_unsteady_or_unsure_readings_switch_nothing(weather):
    for _ in range(8):
        assert set(await say_for(weather, "02", 5)) == {"waiting"}
        assert set(await say_for(weather, "01", 2)) == {"none"}
    for _ in range(20):
        assert (await say(weather, "02", "0.49"))["action"] == "none"
        weather.clock.skip(1)
    assert (await say(weather, "02"))["action"] == "waiting"
    weather.clock.skip(60)  # silence is no steadiness
    assert (await say(weather, "02"))["action"] == "waiting"
    assert await weather.running("ni01") == ["weather-01:1"]
    assert await weather.weather.decisions() == []


async def test_the_environment_class_is_never_switched_nor_switches(weather):
    assert set(await say_for(weather, "00", 20)) == {"none"}
    assert await weather.running("ni01") == ["weather-01:1"]


async def test_no_package_for_the_class_leaves_the_old_one(weather):
    for _ in range(15):
        reply = await say(weather, "04")
        assert (reply["code"], reply["action"]) == ("0020", "none")
        weather.clock.skip(1)
    assert await weather.running("ni01") == ["weather-01:1"]
    assert [one.action for one in await weather.weather.decisions()] == ["refused"]


async def test_the_minimum_stay_holds_after_a_switch_and_across_a_restart(weather):
    await say_for(weather, "02", 10)
    await ended(weather, await say(weather, "02"))
    actions = await say_for(weather, "03", 40)
    assert set(actions) == {"waiting"}
    weather.weather._stay_until_s.clear()
    await weather.weather.start()
    assert (await say(weather, "03"))["action"] == "waiting"
    actions = await say_for(weather, "03", 25)
    assert "started" in actions
    for operation in (await weather.operations.find()).items:
        await weather.operations.wait(operation.id)
    assert len(await weather.running("ni01")) == 1


async def test_a_bad_new_one_leaves_the_old_one_and_the_stay_begins_anew(weather):
    seen = watch(weather)
    weather.engine.behaviour[weather.images._image(weather.aid_02, "").reference] = "crash"
    await say_for(weather, "02", 10)
    operation = await ended(weather, await say(weather, "02"))
    assert operation.state == "failed"
    assert operation.error["code"] == "deployments.not_proven"
    assert await weather.running("ni01") == ["weather-01:1"]
    assert min(seen) >= 1
    assert set(await say_for(weather, "02", 30)) == {"waiting"}
    (decision,) = await weather.weather.decisions()
    assert decision.outcome == "failed"


async def test_the_reply_never_waits_for_the_switch(weather):
    weather.engine.hold["start"] = asyncio.Event()
    await say_for(weather, "02", 10)
    started = await say(weather, "02")
    assert started["action"] == "started"
    for _ in range(5):
        reply = await say(weather, "02")
        assert (reply["action"], reply["operation_id"]) == ("in_progress", started["operation_id"])
    assert (await say(weather, "03"))["action"] == "in_progress"
    weather.engine.hold["start"].set()
    assert (await ended(weather, started)).state == "succeeded"


async def test_many_readings_at_once_start_one_switch(weather):
    await say_for(weather, "02", 10)
    replies = await asyncio.gather(*(say(weather, "02") for _ in range(10)))
    started = [one for one in replies if one["action"] == "started"]
    assert len(started) == 1
    assert {one["action"] for one in replies} <= {"started", "in_progress"}
    await ended(weather, started[0])
    assert await weather.running("ni01") == ["weather-02:1"]


async def test_cancelled_before_the_old_was_touched_the_new_one_goes(weather):
    weather.engine.hold["start"] = asyncio.Event()
    await say_for(weather, "02", 10)
    started = await say(weather, "02")
    await asyncio.wait_for(weather.engine.held.wait(), 60)
    await weather.operations.cancel(started["operation_id"])
    weather.engine.hold["start"].set()
    assert (await ended(weather, started)).state == "cancelled"
    await eventually(lambda: one_runs(weather))


async def one_runs(world):
    return await world.running("ni01") == ["weather-01:1"]


async def test_a_reading_through_an_agent_counts_too(tmp_path):
    from haechi.protocol.results import AgentResult, Result

    settings = {"weather_dwell_s": 0, "weather_minimum_stay_s": 0}
    async with interop_world(tmp_path / "agent", weather_settings=settings) as world:
        await world.add_device("edge-1", "192.0.2.21", id="ni01")
        for class_ in ("01", "02"):
            content = zips.sleeping(version=class_)
            (world.path / "inbox" / f"weather-{class_}.zip").write_bytes(content)
            body = {"filename": "weather", "version": "1", "ai_class": class_}
            aid = (await world.post("/request_upload_edgeAi", body)).json()["aid"]
            if class_ == "01":
                await world.post("/request_deploy_aiToDevice", {"aid": aid, "nid": "ni01"})
        device_id = (await world.inventory.devices.get("ni01")).id
        now_ms = round(world.clock.now().timestamp() * 1000)
        result = Result(class_="02", class_prob=0.9, attributes={"kind": "weather"})
        usage = Result(attributes={"kind": "usage", "cpu": 7.0, "memory": 8.0})
        late = AgentResult(result, "dep", now_ms - 60_000, 1, "boot")
        for listener in world.devices.listeners:
            listener(device_id, [late])
        await asyncio.sleep(0.05)
        assert await world.weather.decisions() == []
        rows = [AgentResult(one, "dep", now_ms, 1, "boot") for one in (result, usage)]
        for listener in world.devices.listeners:
            listener(device_id, rows)
        await eventually(world.weather.decisions)
        assert (await world.get("/usage", did="ni01")).json()["cpu"] == 7.0

        async def switched():
            there = await world.deployments.book.find(device_id=device_id)
            return [(d.package_name, d.state) for d in there.items] == [("weather-02", "running")]

        await eventually(switched)


async def test_optimize_by_version_orders_by_number_and_keeps_the_old(weather):
    async def version(number, content_version):
        content = zips.sleeping(version=content_version)
        (weather.path / "inbox" / "weather-01.zip").write_bytes(content)
        body = {"filename": "weather", "version": number, "ai_class": "1"}
        return (await weather.post("/optimize_by_version", body)).json()

    assert (await version("1.9", "a"))["nodes"][0]["id"] == "ni01"
    assert (await version("1.10", "b"))["nodes"][0]["code"] == "0000"
    assert await weather.running("ni01") == ["weather-01:1.10"]
    older = await version("1.2", "c")
    assert (older["code"], older["nodes"]) == ("0000", [])
    assert await weather.running("ni01") == ["weather-01:1.10"]
    stored = await weather.packages.versions("weather-01")
    assert {one.version for one in stored.items} == {"1", "1.9", "1.10", "1.2"}


async def test_optimize_by_version_rolls_back_and_says_so(weather):
    (weather.path / "inbox" / "weather-01.zip").write_bytes(zips.sleeping(version="bad"))
    build = weather.builds._build

    async def built_badly(run):
        await build(run)
        weather.engine.behaviour[weather.images._image(run.subject, "").reference] = "crash"

    weather.operations.definition("build_version").steps[0] = type(
        weather.operations.definition("build_version").steps[0]
    )("build", weather.operations.definition("build_version").title, built_badly)
    body = {"filename": "weather", "version": "2", "ai_class": "01"}
    reply = (await weather.post("/optimize_by_version", body)).json()
    assert reply["code"] == "0014"
    assert reply["nodes"][0]["code"] == "0014"
    assert reply["nodes"][0]["log"]
    assert await weather.running("ni01") == ["weather-01:1"]


@pytest.mark.parametrize("stage", ["start", "remove"])
async def test_a_killed_server_goes_on_with_the_switch(tmp_path, stage):
    """Killed while the new one starts, and while the old one is removed."""
    from haechi.testing.deployments import FakeDevices
    from haechi.testing.interop import InteropWorld

    settings = {"weather_dwell_s": 0}
    world = await InteropWorld(tmp_path, weather_settings=settings).begin()
    await world.add_device("edge-1", "192.0.2.21", id="ni01")
    for class_ in ("01", "02"):
        content = zips.sleeping(version=class_)
        (tmp_path / "inbox" / f"weather-{class_}.zip").write_bytes(content)
        body = {"filename": "weather", "version": "1", "ai_class": class_}
        aid = (await world.post("/request_upload_edgeAi", body)).json()["aid"]
        if class_ == "01":
            await world.post("/request_deploy_aiToDevice", {"aid": aid, "nid": "ni01"})
    world.engine.hold[stage] = asyncio.Event()
    started = await say(world, "02")
    await asyncio.wait_for(world.engine.held.wait(), 60)
    await world.end()
    world.engine.hold[stage].set()
    seen = watch(world)
    devices = FakeDevices()
    devices.connected |= world.devices.connected
    revived = InteropWorld(tmp_path, engine=world.engine, images=world.images, devices=devices)
    await revived.begin()
    try:
        assert (await ended(revived, started)).state == "succeeded"
        assert await revived.running("ni01") == ["weather-02:1"]
        assert min(seen) >= 1
    finally:
        await revived.end()
