"""Deploying to devices: first time, replacing by both strategies, and every way to fail."""

from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM, Principal, Role
from haechi.domains.agents.model import NotConnected
from haechi.domains.deployments.model import NotAgreed, NoTargets, NothingToRollBack
from haechi.errors import AppError, Busy, ObjectNotFound
from haechi.protocol.commands import EngineInfo
from haechi.protocol.problems import EngineAway, EngineFailed, RegistryUnreachable
from haechi.testing.waiting import eventually


def stages(*names):
    """(strategy, stage) of every case there is: overlap stops nothing before the new is proven."""
    return [
        (strategy, stage)
        for strategy in ("overlap", "recreate")
        for stage in names
        if (strategy, stage) != ("overlap", "stop")
    ]


async def test_first_deployment_takes_the_devices_cameras(world):
    operation = await world.deploy("1")
    assert operation.state == "succeeded", operation.error
    result = operation.ctx["result"]["devices"][0]
    assert (result["state"], result["outcome"]) == ("succeeded", "deployed")
    one = await world.check_one("1")
    assert await world.assigned() == {"cam-1": "1", "cam-2": "1"}
    spec = world.engine.containers["dev-a"][one.id].spec
    assert spec.environment["HAECHI_EID"] == "dev-a"
    assert spec.environment["HAECHI_NODE"] == "host-gate"
    assert spec.environment["HAECHI_AI_VERSION"] == "1"
    assert "HAECHI_TOKEN" not in spec.environment
    assert (spec.privileged, spec.internet, spec.pids_limit) == (False, False, 256)
    assert spec.token_digest


async def test_it_is_built_where_it_is_not(world):
    world.images.built.clear()
    operation = await world.deploy("1")
    assert operation.state == "succeeded"
    assert world.images.builds == ["ver-1"]


@pytest.mark.parametrize("strategy", ["overlap", "recreate"])
async def test_a_new_version_replaces_the_old(world, strategy):
    await world.deploy("1")
    first = await world.check_one("1")
    before = len(world.engine.calls)
    operation = await world.deploy("2", strategy=strategy)
    assert operation.state == "succeeded"
    second = await world.check_one("2")
    assert await world.assigned() == {"cam-1": "2", "cam-2": "2"}
    stages = [
        stage for stage, _ in world.engine.calls[before:] if stage in {"start", "stop", "remove"}
    ]
    expected = ["start", "remove"] if strategy == "overlap" else ["stop", "start", "remove"]
    assert stages == expected
    gone = await world.deployments.book.get(first.id)
    assert (gone.state, gone.outcome) == ("gone", "replaced")
    assert second.generation == first.generation + 1
    device = operation.ctx["result"]["devices"][0]
    assert ("gap_s" in device) == (strategy == "recreate")
    text = world.operations.log_path(device["operation_id"]).read_text()
    assert ("expected gap" in text) == (strategy == "recreate")


async def test_the_same_again_is_no_operation(world):
    await world.deploy("1")
    before = list(world.engine.calls)
    operation = await world.deploy("1")
    assert operation.state == "succeeded"
    assert operation.ctx["result"]["devices"][0]["outcome"] == "unchanged"
    acted = {stage for stage, _ in world.engine.calls[len(before) :]}
    assert acted <= {"info"}


async def test_other_settings_make_it_anew(world):
    await world.deploy("1")
    first = await world.check_one("1")
    await world.deploy("1", environment={"LEVEL": "2"})
    second = await world.check_one("1")
    assert second.id != first.id
    assert world.engine.containers["dev-a"][second.id].spec.environment["LEVEL"] == "2"


@pytest.mark.parametrize("strategy", ["overlap", "recreate"])
@pytest.mark.parametrize("behaviour", ["crash", "mute"])
async def test_a_bad_version_is_taken_back(world, strategy, behaviour):
    await world.deploy("1")
    first = await world.check_one("1")
    assigned = await world.assigned()
    world.engine.behaviour[world.image("2")] = behaviour
    operation = await world.deploy("2", strategy=strategy)
    assert operation.state == "failed"
    assert operation.error["code"] == "deployments.not_proven"
    assert operation.error["data"]["log"][-1].endswith("Traceback: boom")
    assert (await world.check_one("1")).id == first.id
    assert await world.assigned() == assigned
    bad = operation.error["data"]["deployment_id"]
    assert bad not in world.engine.containers["dev-a"]
    gone = await world.deployments.book.get(bad)
    assert (gone.state, gone.outcome, gone.started_at) == ("gone", "failed", None)
    kept = [line async for line in world.deployments.book.logs(bad)]
    assert kept[-1].endswith("Traceback: boom")
    # A bad version is nothing to go back to.
    with pytest.raises(NothingToRollBack):
        await world.deployments.rollback_deployment(first.id, by=SYSTEM)


@pytest.mark.parametrize(
    ("strategy", "stage"), stages("info", "has_image", "pull", "start", "status", "stop")
)
async def test_a_fault_in_any_stage_leaves_the_old_running(world, strategy, stage):
    await world.deploy("1")
    first = await world.check_one("1")
    world.engine.fail[stage] = [EngineFailed(detail="no")]
    operation = await world.deploy("2", strategy=strategy)
    assert operation.state == "failed"
    assert operation.error["code"] == "agent.engine_failed"
    assert (await world.check_one("1")).id == first.id
    assert await world.assigned() == {"cam-1": "1", "cam-2": "1"}
    # And the next attempt works.
    assert (await world.deploy("2", strategy=strategy)).state == "succeeded"
    await world.check_one("2")


@pytest.mark.parametrize("stage", ["info", "has_image", "pull", "start", "status", "stop"])
async def test_what_is_away_for_a_moment_is_waited_for(world, stage):
    world.deployments.context.pace = replace(world.deployments.context.pace, away_s=60.0)
    await world.deploy("1")
    world.engine.fail[stage] = [
        EngineAway(detail="restarting"),
        RegistryUnreachable(address="x", detail="y"),
    ]
    operation = await world.deploy("2", strategy="recreate")
    assert operation.state == "succeeded", operation.error
    await world.check_one("2")


async def test_removal_of_the_old_may_fail_now_and_happen_later(world):
    from haechi.protocol.desired import ContainerStatus, ObservedState

    await world.deploy("1")
    first = await world.check_one("1")
    world.engine.fail["remove"] = [EngineAway(detail="gone")]
    operation = await world.deploy("2")
    assert operation.state == "succeeded"
    revision = await world.devices.push("dev-a")
    assert world.devices.desired["dev-a"].stopping == [first.id]
    # The agent removes it by itself and says so.
    world.devices.report("dev-a", ObservedState(revision, [ContainerStatus(first.id, "absent")]))

    async def gone():
        return (await world.deployments.book.get(first.id)).state == "gone"

    await eventually(gone)
    await world.devices.push("dev-a")
    assert world.devices.desired["dev-a"].stopping == []


async def test_one_bad_device_does_not_stop_the_others(world):
    world.engine.info_of["dev-b"] = EngineInfo("docker", memory_bytes=10)
    operation = await world.deploy("1", "dev-a", "dev-b", memory_bytes=1000)
    assert operation.state == "failed"
    assert operation.error["code"] == "deployments.partly_failed"
    by_device = {one["device_id"]: one for one in operation.ctx["result"]["devices"]}
    assert by_device["dev-a"]["state"] == "succeeded"
    assert by_device["dev-b"]["error"]["code"] == "deployments.no_room"
    await world.check_one("1", "dev-a")
    assert await world.running("dev-b") == []


async def test_a_group_is_its_devices(world):
    world.places.groups["grp-1"] = ["dev-a", "dev-b"]
    operation = await world.deployments.deploy_package("ver-1", [], group_id="grp-1", by=SYSTEM)
    assert (await world.operations.wait(operation.id)).state == "succeeded"
    await world.check_one("1", "dev-b")
    assert await world.assigned() == {"cam-1": "1", "cam-2": "1", "cam-3": "1"}


async def test_unknown_things_are_refused_at_once(world):
    with pytest.raises(ObjectNotFound):
        await world.deploy("9")
    with pytest.raises(ObjectNotFound):
        await world.deploy("1", "dev-x")
    world.places.groups["grp-0"] = []
    with pytest.raises(NoTargets):
        await world.deployments.deploy_package("ver-1", [], group_id="grp-0", by=SYSTEM)


async def test_privileges_need_agreement(world):
    world.versions.change("ver-1", internet=True)
    with pytest.raises(NotAgreed):
        await world.deploy("1")
    assert (await world.deploy("1", allow=["internet"])).state == "succeeded"
    one = await world.check_one("1")
    assert world.engine.containers["dev-a"][one.id].spec.internet is True

    world.versions.change("ver-2", privileged=True)
    operator = Principal(kind="user", id="u", name="op", role=Role.OPERATOR)
    from haechi.domains.deployments.model import Wishes

    with pytest.raises(NotAgreed):
        await world.deployments.deploy_package(
            "ver-2", ["dev-a"], by=operator, wishes=Wishes(allow=["privileged"])
        )


async def test_two_at_once_on_one_device(world):
    import asyncio

    gate = world.engine.hold["start"] = asyncio.Event()
    first = await world.begin_deploy("1")
    same = await world.begin_deploy("1")
    assert same.id == first.id
    with pytest.raises(Busy) as early:
        await world.begin_deploy("2")
    assert early.value.data["operation_id"]
    await eventually(world.engine.held.is_set)
    assert (await world.begin_deploy("1")).id == first.id
    with pytest.raises(Busy):
        await world.begin_deploy("2")
    other = await world.begin_deploy("2", "dev-b")  # another device is free
    gate.set()
    assert (await world.operations.wait(first.id)).state == "succeeded"
    assert (await world.operations.wait(other.id)).state == "succeeded"
    await world.check_one("1", "dev-a")
    await world.check_one("2", "dev-b")


@pytest.mark.parametrize(
    ("strategy", "stage"), stages("has_image", "pull", "stop", "start", "status")
)
async def test_cancel_undoes(world, strategy, stage):
    import asyncio

    await world.deploy("1")
    first = await world.check_one("1")
    gate = world.engine.hold_after[stage] = asyncio.Event()
    if stage in {"has_image", "status"}:
        world.engine.hold[stage] = world.engine.hold_after.pop(stage)
    operation = await world.begin_deploy("2", strategy=strategy)
    await eventually(world.engine.held.is_set)
    await world.operations.cancel(operation.id)
    gate.set()
    ended = await world.operations.wait(operation.id)
    assert ended.state == "cancelled"
    assert (await world.check_one("1")).id == first.id
    assert await world.assigned() == {"cam-1": "1", "cam-2": "1"}
    assert await world.operations.active_on("dev-a/pkg-detector") is None


async def test_rollback_returns_to_the_earlier_version_and_its_settings(world):
    await world.deploy("1", environment={"LEVEL": "1"})
    await world.deploy("2")
    second = await world.check_one("2")
    assert await world.deployments.book.previous_version(second) == "1"
    operation = await world.deployments.rollback_deployment(second.id, by=SYSTEM)
    assert (await world.operations.wait(operation.id)).state == "succeeded"
    third = await world.check_one("1")
    assert third.wishes.environment == {"LEVEL": "1"}
    assert await world.assigned() == {"cam-1": "1", "cam-2": "1"}
    with pytest.raises(NothingToRollBack):
        first_only = await world.deploy("1", "dev-b")
        assert first_only.state == "succeeded"
        await world.deployments.rollback_deployment((await world.running("dev-b"))[0].id, by=SYSTEM)


async def test_remove(world):
    await world.deploy("1")
    one = await world.check_one("1")
    operation = await world.deployments.remove_deployment(one.id, by=SYSTEM)
    ended = await world.operations.wait(operation.id)
    assert ended.ctx["result"]["outcome"] == "removed"
    assert world.engine.running("dev-a") == []
    assert await world.assigned() == {}
    gone = await world.deployments.book.get(one.id)
    assert (gone.state, gone.outcome) == ("gone", "removed")
    assert [line async for line in world.deployments.book.logs(one.id)] == [
        "1970-01-01T00:00:00.000Z last words"
    ]
    async with world.db.read() as tx:
        assert await world.deployments.book.where_version(tx, "ver-1") == []


async def test_remove_of_a_device_that_is_away_is_left_to_it(world):
    await world.deploy("1")
    one = await world.check_one("1")
    world.devices.connected.clear()
    operation = await world.deployments.remove_deployment(one.id, by=SYSTEM)
    ended = await world.operations.wait(operation.id)
    assert (ended.state, ended.ctx["result"]["outcome"]) == ("succeeded", "pending")
    await world.devices.push("dev-a")
    assert world.devices.desired["dev-a"].stopping == [one.id]


async def test_strategy_is_chosen_by_what_fits(world):
    gb = 1024**3
    world.engine.info_of["dev-a"] = EngineInfo(
        "docker", platform="linux/amd64", memory_bytes=4 * gb, memory_available_bytes=gb // 2
    )
    await world.deploy("1", memory_bytes=gb)
    operation = await world.deploy("2", memory_bytes=gb)
    assert operation.ctx["result"]["devices"][0]["strategy"] == "recreate"
    world.engine.info_of.clear()
    operation = await world.deploy("3", memory_bytes=gb)
    assert operation.ctx["result"]["devices"][0]["strategy"] == "overlap"


async def test_a_full_disk_is_found_before_the_pull(world):
    world.images.size_bytes = 10**12
    operation = await world.deploy("1")
    assert operation.error["code"] == "deployments.no_room"
    assert not any(stage == "pull" for stage, _ in world.engine.calls)


async def test_one_container_per_camera(world):
    world.versions.change("ver-1", camera="one", ready="uptime")
    world.versions.change("ver-2", camera="one", ready="uptime")
    assert (await world.deploy("1")).state == "succeeded"
    running = await world.running()
    assert sorted(one.camera_id for one in running) == ["cam-1", "cam-2"]
    specs = [world.engine.containers["dev-a"][one.id].spec for one in running]
    assert sorted((spec.camera, spec.camera_id) for spec in specs) == [
        ("one", "cam-1"),
        ("one", "cam-2"),
    ]
    world.places.cameras["cam-9"] = "dev-a"
    assert (await world.deploy("1")).state == "succeeded"
    again = await world.running()
    assert {one.id for one in running} < {one.id for one in again}  # only the new camera's is new
    assert len(again) == 3
    assert (await world.deploy("2")).state == "succeeded"
    assert {one.version for one in await world.running()} == {"2"}
    assert len(world.engine.running("dev-a")) == 3
    assert await world.assigned() == {"cam-1": "2", "cam-2": "2", "cam-9": "2"}


async def test_no_camera_for_a_package_that_needs_one(world):
    world.versions.change("ver-1", camera="one")
    world.places.cameras.clear()
    operation = await world.deploy("1")
    assert operation.error["code"] == "deployments.no_camera"


async def test_package_without_cameras_gets_none(world):
    world.versions.change("ver-1", camera="none")
    assert (await world.deploy("1")).state == "succeeded"
    assert await world.assigned() == {}


@pytest.mark.parametrize(
    ("ready", "behaviour", "ok"),
    [
        ("sdk", "ready", True),
        ("sdk", "result", False),
        ("result", "result", True),
        ("result", "up", False),
        ("uptime", "up", True),
        (None, "up", True),
        (None, "result", True),
    ],
)
async def test_proof_by_manifest(world, ready, behaviour, ok):
    world.versions.change("ver-1", ready=ready)
    world.engine.behaviour[world.image("1")] = behaviour
    operation = await world.deploy("1")
    assert (operation.state == "succeeded") is ok, operation.error


async def test_overlap_waits_for_the_new_eyes_before_the_old_close(world):
    import asyncio

    await world.deploy("1")
    first = await world.check_one("1")
    world.devices.result("dev-a", first.id)  # the old one is seeing
    seen = []
    world.engine.on_change = lambda: seen.append(len(world.engine.running("dev-a")))
    operation = await world.begin_deploy("2")

    async def trial():
        page = await world.assignments.find(device_id="dev-a")
        return [one for one in page.items if one.state == "trial"]

    trials = await eventually(trial)
    assert world.engine.running("dev-a")[0]
    # Until it has spoken, the old one's results count.
    for one in trials:
        assert world.assignments.authoritative(
            one.camera_id, one.package_id, one.epoch - 1, "dev-a"
        )
        assert not world.assignments.authoritative(
            one.camera_id, one.package_id, one.epoch, "dev-a"
        )
    await asyncio.sleep(0)
    for one in trials:
        world.devices.result("dev-a", one.deployment_id, one.id)
    assert (await world.operations.wait(operation.id)).state == "succeeded"
    assert min(seen) >= 1  # no moment without a running AI
    for one in trials:
        assert world.assignments.authoritative(one.camera_id, one.package_id, one.epoch, "dev-a")
        assert not world.assignments.authoritative(
            one.camera_id, one.package_id, one.epoch - 1, "dev-a"
        )


async def test_errors_have_both_languages(world):
    import haechi.domains.deployments.model as model

    kinds = [
        one for one in vars(model).values() if isinstance(one, type) and issubclass(one, AppError)
    ]
    for kind in kinds:
        if kind.__module__ == model.__name__:
            assert kind.detail.ko != kind.detail.en


async def test_the_word_of_an_agent_that_has_not_looked_yet_does_not_count(world):
    """Seen: just after its start an agent lists what it has not looked at as absent."""
    from haechi.protocol.desired import ContainerStatus, ObservedState

    await world.deploy("1")
    one = await world.check_one("1")
    world.devices.connected.clear()
    operation = await world.deployments.remove_deployment(one.id, by=SYSTEM)
    await world.operations.wait(operation.id)
    revision = await world.devices.push("dev-a")
    absent = [ContainerStatus(one.id, "absent")]

    async def state():
        return (await world.deployments.book.get(one.id)).state

    world.devices.report("dev-a", ObservedState(revision - 1, absent))
    world.devices.report("dev-a", ObservedState(revision, [ContainerStatus(one.id, "running")]))
    await eventually(lambda: not world.deployments.is_comparing)
    assert await state() == "stopping"
    world.devices.report("dev-a", ObservedState(revision, absent))

    async def gone():
        return await state() == "gone"

    await eventually(gone)


async def test_a_stray_container_is_sent_away_again(world):
    from datetime import timedelta

    from haechi.domains.deployments import store
    from haechi.protocol.desired import ContainerStatus, ObservedState

    await world.deploy("1")
    first = await world.check_one("1")
    await world.deploy("2")
    gone = await world.deployments.book.get(first.id)
    assert gone.state == "gone"
    running = [ContainerStatus(first.id, "running")]
    world.devices.report("dev-a", ObservedState(1, running))  # a word from before its removal
    await eventually(lambda: not world.deployments.is_comparing)
    assert (await world.deployments.book.get(first.id)).state == "gone"
    async with world.db.write() as tx:
        await store.change_deployments(
            tx, [first.id], ended_at=gone.ended_at - timedelta(minutes=1)
        )
    world.devices.report("dev-a", ObservedState(2, running))

    async def stopping():
        return (await world.deployments.book.get(first.id)).state == "stopping"

    await eventually(stopping)


async def test_cancel_after_the_switch_gives_the_cameras_back(world):
    import asyncio

    await world.deploy("1")
    first = await world.check_one("1")
    switched, gate = asyncio.Event(), asyncio.Event()

    async def hang(device_id, revision, timeout_s):
        switched.set()
        await gate.wait()
        return True

    world.devices.wait_applied = hang
    operation = await world.begin_deploy("2")
    await switched.wait()
    assert await world.assigned() == {"cam-1": "2", "cam-2": "2"}
    await world.operations.cancel(operation.id)
    assert (await world.operations.wait(operation.id)).state == "cancelled"
    assert (await world.check_one("1")).id == first.id
    assert await world.assigned() == {"cam-1": "1", "cam-2": "1"}
    page = await world.assignments.find(deployment_id=first.id)
    for one in page.items:
        assert one.epoch == 3  # 1: first, 2: the new version's, 3: given back
        assert world.assignments.authoritative(one.camera_id, one.package_id, 3, "dev-a")
        assert not world.assignments.authoritative(one.camera_id, one.package_id, 2, "dev-a")


async def test_cancel_once_the_old_one_retires_keeps_the_new(world):
    import asyncio

    await world.deploy("1")
    world.engine.hold["remove"] = asyncio.Event()
    operation = await world.begin_deploy("2")
    await eventually(world.engine.held.is_set)
    await world.operations.cancel(operation.id)
    assert (await world.operations.wait(operation.id)).state == "cancelled"
    assert [one.version for one in await world.running()] == ["2"]
    assert await world.assigned() == {"cam-1": "2", "cam-2": "2"}
    await world.devices.push("dev-a")
    assert len(world.devices.desired["dev-a"].stopping) == 1  # the device removes the old one


def stages(*names):
    """(strategy, stage) of every case there is: overlap stops nothing before the new one is
    proven."""
    return [
        (strategy, stage)
        for strategy in ("overlap", "recreate")
        for stage in names
        if (strategy, stage) != ("overlap", "stop")
    ]


async def test_a_deploy_cancelled_before_its_turn_holds_nothing(world):
    slots = world.operations._slots["deploy_package"]
    taken = slots._value
    for _ in range(taken):
        await slots.acquire()
    waiting = await world.begin_deploy("1")
    await world.operations.cancel(waiting.id)
    assert (await world.operations.wait(waiting.id)).state == "cancelled"
    for _ in range(taken):
        slots.release()
    assert (await world.deploy("2")).state == "succeeded"
    await world.check_one("2")


async def test_what_is_gone_has_no_token_any_more(world):
    await world.deploy("1")
    first = await world.check_one("1")
    assert world.tokens.revoked == []
    await world.deploy("2")
    second = await world.check_one("2")
    assert world.tokens.revoked == [first.id]
    world.engine.behaviour[world.image("3")] = "crash"
    failed = await world.deploy("3")
    assert failed.state == "failed"
    await world.check_one("2")
    third = set(world.tokens.issued) - {first.id, second.id}
    assert third <= set(world.tokens.revoked)
    assert second.id not in world.tokens.revoked
    removal = await world.deployments.remove_deployment(second.id, by=SYSTEM)
    await world.operations.wait(removal.id)
    assert second.id in world.tokens.revoked


async def test_old_images_go_but_for_the_one_before(world):
    there = world.engine.images["dev-a"] = set()
    await world.deploy("1")
    await world.deploy("2")
    assert there == {world.image("1"), world.image("2")}
    world.engine.behaviour[world.image("3")] = "crash"
    assert (await world.deploy("3")).state == "failed"
    assert {world.image("1"), world.image("2")} <= there, "what a rollback needs stays"
    world.versions.add("ver-4", "4")
    world.images.built.add("ver-4")
    await world.deploy("4")
    assert there == {world.image("2"), world.image("4")}, "also those that never proved themselves"
    again = await world.deployments.rollback_deployment((await world.running())[0].id, by=SYSTEM)
    assert (await world.operations.wait(again.id)).state == "succeeded"
    await world.check_one("2")
    assert there == {world.image("2"), world.image("4")}


async def test_images_that_cannot_be_removed_hold_nothing_up(world):
    there = world.engine.images["dev-a"] = set()
    for version in ("1", "2"):
        await world.deploy(version)
    world.engine.fail["remove_image"] = [EngineAway(reason="restarting")]
    operation = await world.deploy("3")
    assert operation.state == "succeeded"
    assert world.image("1") in there
    await world.check_one("3")


def take_away(world, device):
    """Switched off: neither its agent nor its engine answers."""
    world.devices.connected.discard(device)
    world.engine.away[device] = NotConnected(device_id=device)


def bring_back(world, device):
    world.engine.away.clear()
    world.devices.connected.add(device)


async def test_a_device_that_is_away_is_waited_for(world):
    take_away(world, "dev-a")
    operation = await world.deployments.deploy_package("ver-1", ["dev-a"], by=SYSTEM, wait_s=3600)
    await eventually(lambda: len(world.engine.calls) > 40)
    child = (await world.operations.find(parent_id=operation.id)).items[0]
    assert child.state == "running"
    assert await world.running() == []
    bring_back(world, "dev-a")
    assert (await world.operations.wait(operation.id)).state == "succeeded"
    await world.check_one("1")


async def test_waiting_for_a_device_ends_when_asked_or_when_its_time_is_up(world):
    take_away(world, "dev-a")
    waiting = await world.deployments.deploy_package("ver-1", ["dev-a"], by=SYSTEM, wait_s=3600)
    await eventually(lambda: len(world.engine.calls) > 5)
    await world.operations.cancel(waiting.id)
    assert (await world.operations.wait(waiting.id)).state == "cancelled"
    for wait_s in (0.2, None):
        ended = await world.deployments.deploy_package("ver-1", ["dev-a"], by=SYSTEM, wait_s=wait_s)
        ended = await world.operations.wait(ended.id)
        assert ended.state == "failed"
        assert ended.ctx["result"]["devices"][0]["error"]["code"] == "agents.not_connected"
    assert await world.running() == []


async def test_others_do_not_wait_for_those_that_are_away(world):
    take_away(world, "dev-a")
    waiting = await world.deployments.deploy_package(
        "ver-1", ["dev-a", "dev-b"], by=SYSTEM, wait_s=3600
    )
    await eventually(lambda: world.engine.running("dev-b"))
    bring_back(world, "dev-a")
    assert (await world.operations.wait(waiting.id)).state == "succeeded"
    await world.check_one("1")
