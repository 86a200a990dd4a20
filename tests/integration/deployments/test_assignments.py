"""Handing cameras out and moving them: make before break, across devices, epochs."""

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.agents.model import NotConnected
from haechi.domains.deployments.model import (
    AlreadyAssigned,
    FixedCamera,
    NoHome,
    NotRunning,
    TakesNoCamera,
)
from haechi.protocol.desired import MediaStatus, ObservedState
from haechi.protocol.results import AgentResult, Result
from haechi.testing.waiting import eventually


@pytest.fixture
async def moved(world):
    """The package on both devices; cam-1 of dev-a."""
    await world.deploy("1", "dev-a")
    await world.deploy("1", "dev-b")
    page = await world.assignments.find(camera_id="cam-1")
    return page.items[0], (await world.running("dev-b"))[0]


async def test_assign_and_end(world):
    await world.deploy("1", "dev-b", assign=False)
    one = (await world.running("dev-b"))[0]
    assert await world.assigned() == {}
    made = await world.assignments.assign_camera("cam-3", one.id, by=SYSTEM, fps=2.0, stream="sub")
    assert (made.state, made.epoch, made.fps) == ("active", 1, 2.0)
    with pytest.raises(AlreadyAssigned):
        await world.assignments.assign_camera("cam-3", one.id, by=SYSTEM)
    await world.devices.push("dev-b")
    told = world.devices.desired["dev-b"].assignments
    assert [(a.camera_id, a.stream, a.url) for a in told] == [("cam-3", "sub", "")]
    await world.assignments.end_assignment(made.id, by=SYSTEM)
    await world.assignments.end_assignment(made.id, by=SYSTEM)
    assert await world.assigned() == {}
    again = await world.assignments.assign_camera("cam-3", one.id, by=SYSTEM)
    assert again.epoch == 2


async def test_move_to_another_device_makes_before_it_breaks(world, moved):
    old, target = moved
    world.devices.addresses_of["dev-a"] = ["10.0.0.5"]
    world.devices.report("dev-a", ObservedState(0, media=MediaStatus(True, "go2rtc", 8554)))
    made = await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)
    assert (made.state, made.epoch) == ("trial", old.epoch + 1)

    # Both have it; A exports under an unguessable path, B pulls it from there.
    await world.devices.push("dev-a")
    await world.devices.push("dev-b")
    a, b = world.devices.desired["dev-a"], world.devices.desired["dev-b"]
    assert old.id in {x.id for x in a.assignments}
    assert made.id in {x.id for x in b.assignments}
    assert [(x.camera_id, x.path) for x in a.exports] == [("cam-1", made.export_path)]
    assert [x.url for x in b.relays] == [f"rtsp://10.0.0.5:8554/{made.export_path}"]
    assert len(made.export_path) >= 32
    # The login goes to the home device only.
    assert "root:pass" in next(c.main_url for c in a.cameras if c.camera_id == "cam-1")
    assert "cam-1" not in {c.camera_id for c in b.cameras}

    def rule(epoch, device):
        return world.assignments.authoritative("cam-1", "pkg-detector", epoch, device)

    assert rule(old.epoch, "dev-a")
    assert not rule(made.epoch, "dev-b")
    world.devices.result("dev-b", target.id, made.id)

    async def handed_over():
        return (await world.assignments.get(old.id)).state == "ended"

    await eventually(handed_over)
    assert (await world.assignments.get(made.id)).state == "active"
    assert not rule(old.epoch, "dev-a")
    assert rule(made.epoch, "dev-b")
    assert rule(old.epoch + 5, "dev-c")  # an agent decided while cut off


async def test_move_without_a_result_happens_all_the_same(world, moved):
    old, target = moved
    made = await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)

    async def active():
        return (await world.assignments.get(made.id)).state == "active"

    await eventually(active)
    assert (await world.assignments.get(old.id)).state == "ended"


async def test_a_move_is_finished_by_the_next_server(world, moved):
    old, target = moved
    made = await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)
    await world.kill()
    await world.revive()

    async def active():
        return (await world.assignments.get(made.id)).state == "active"

    await eventually(active)
    assert not world.assignments.authoritative("cam-1", "pkg-detector", old.epoch, "dev-a")


async def test_a_device_that_does_not_take_it_leaves_everything(world, moved):
    old, target = moved
    original = world.devices.wait_applied

    async def never(device_id, revision, timeout_s):
        return False

    world.devices.wait_applied = never
    made = await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)

    async def ended():
        return (await world.assignments.get(made.id)).state == "ended"

    await eventually(ended)
    world.devices.wait_applied = original
    assert (await world.assignments.get(old.id)).state == "active"
    assert world.assignments.authoritative("cam-1", "pkg-detector", old.epoch, "dev-a")


async def test_what_cannot_be_moved_is_refused(world, moved):
    old, target = moved
    world.devices.connected.discard("dev-b")
    with pytest.raises(NotConnected):
        await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)
    world.devices.connected.add("dev-b")
    made = await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)
    with pytest.raises(AlreadyAssigned):
        await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)
    assert made.replaces == old.id


async def test_packages_without_assignments(world):
    world.versions.change("ver-1", camera="none")
    await world.deploy("1")
    with pytest.raises(TakesNoCamera):
        await world.assignments.assign_camera("cam-1", (await world.running())[0].id, by=SYSTEM)
    world.versions.change("ver-2", camera="one")
    await world.deploy("2", camera_ids=["cam-1"])
    with pytest.raises(FixedCamera):
        await world.assignments.assign_camera("cam-3", (await world.running())[0].id, by=SYSTEM)
    world.places.cameras["cam-1"] = None
    with pytest.raises(NoHome):
        await world.assignments.assign_camera("cam-1", (await world.running())[0].id, by=SYSTEM)


async def test_gone_deployments_take_nothing(world):
    await world.deploy("1")
    one = (await world.running())[0]
    operation = await world.deployments.remove_deployment(one.id, by=SYSTEM)
    await world.operations.wait(operation.id)
    with pytest.raises(NotRunning):
        await world.assignments.assign_camera("cam-1", one.id, by=SYSTEM)


async def test_results_without_a_camera_belong_to_the_only_one(world):
    await world.deploy("1", "dev-b")
    one = (await world.running("dev-b"))[0]
    assert world.assignments.only_camera(one.id) == "cam-3"
    await world.deploy("1", "dev-a")
    assert world.assignments.only_camera((await world.running("dev-a"))[0].id) is None
    await world.kill()
    await world.revive()
    assert world.assignments.only_camera(one.id) == "cam-3"


async def test_late_results_know_their_deployment(world):
    await world.deploy("1")
    one = (await world.running())[0]
    await world.deploy("2")
    known = await world.deployments.book.known(one.id, "dev-a")
    assert (known.version, known.image_digest) == ("1", one.image_digest)
    assert await world.deployments.book.known(one.id, "dev-b") is None
    assert await world.deployments.book.known("dep-x", "dev-a") is None


async def test_digests_kept_for_rollback(world):
    for version in ("1", "2", "3"):
        await world.deploy(version)
    async with world.db.read() as tx:
        kept = await world.deployments.book.digests_in_use(tx)
    assert kept == {world.image(v).partition("@")[2] for v in ("1", "2", "3")}


async def test_only_the_device_that_has_it_speaks_for_an_assignment(world):
    await world.deploy("1")
    await world.deploy("1", "dev-b", camera_ids=[])
    (there,) = await world.running("dev-b")
    (old,) = (await world.assignments.find(camera_id="cam-1")).items
    moved = await world.assignments.move_assignment(old.id, there.id, by=SYSTEM)
    forged = AgentResult(Result(assignment_id=moved.id), there.id, 1, 1, "boot")
    invented = [AgentResult(Result(), f"dep-{n}", 1, 1, "boot") for n in range(100)]
    world.assignments._on_results("dev-a", [forged, *invented])
    assert not world.assignments._awaited[moved.id].is_set()
    assert world.assignments.seconds_since_result(there.id) is None
    assert world.assignments.seconds_since_result("dep-7") is None
    true = AgentResult(Result(assignment_id=moved.id), there.id, 1, 1, "boot")
    world.assignments._on_results("dev-b", [true])
    assert world.assignments.seconds_since_result(there.id) is not None


async def test_what_was_not_committed_was_never_known(world, moved, monkeypatch):
    """Memory follows the DB: a change that is rolled back leaves no epoch and ends nothing."""
    old, target = moved
    ledger = world.assignments.ledger
    [second] = (await world.assignments.find(camera_id="cam-2")).items
    await world.assignments.end_assignment(second.id, by=SYSTEM)
    before = ledger.held(target.id, "dev-b")

    async def fail(*_args, **_kw):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(world.assignments._audit, "record", fail)
        with pytest.raises(OSError):
            await world.assignments.move_assignment(old.id, target.id, by=SYSTEM)
        with pytest.raises(OSError):
            await world.assignments.end_assignment(old.id, by=SYSTEM)
        with pytest.raises(OSError):
            await world.assignments.assign_camera("cam-2", target.id, by=SYSTEM)
    assert old.id in ledger.held(old.deployment_id, "dev-a")
    assert ledger.held(target.id, "dev-b") == before
    assert ledger.authoritative("cam-1", old.package_id, old.epoch, "dev-a")
    assert ledger.authoritative("cam-2", old.package_id, second.epoch, "dev-a")
    await world.assignments.end_assignment(old.id, by=SYSTEM)
    assert old.id not in ledger.held(old.deployment_id, "dev-a")
