"""What is kept and what is made of it: desired state on disk, container states, the clock."""

import logging
from pathlib import Path
from typing import Any

import pytest

from haechi.agent import boot
from haechi.agent.containers import observe
from haechi.agent.deployments import Deployment, Deployments, Kept
from haechi.agent.errors import AlreadyRunning, NotEnrolled
from haechi.agent.home import Device, Home, read_json, write_json
from haechi.agent.identity import clock_is_set, renewal_due
from haechi.agent.media import MediaKeeper
from haechi.agent.reconcile import Reconciler
from haechi.protocol.assignments import Assignment
from haechi.protocol.desired import CameraSource, ContainerSpec, DesiredState, Export, Relay
from haechi.protocol.media import MediaDesired, MediaState


def spec(name: str, **more: Any) -> ContainerSpec:
    return ContainerSpec(f"dep-{name}", "pkg-1", "ver-1", name, "image", **more)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.prepare()
    return made


class FakeContainers:
    reachable = True

    def __init__(self) -> None:
        self.started: list[str] = []
        self.removed: list[str] = []

    async def start(self, deployment: Deployment) -> None:
        self.started.append(deployment.id)
        deployment.state = "running"

    async def remove(self, deployment_id: str, *, grace_s: float) -> bool:
        del grace_s
        self.removed.append(deployment_id)
        return True


async def settle(reconciler: Reconciler) -> None:
    reconciler._look()
    while reconciler._working:
        for task in list(reconciler._working.values()):
            await task
    reconciler._look()


async def reconciler_of(home: Home) -> tuple[Reconciler, Deployments, FakeContainers]:
    deployments, containers = Deployments(home), FakeContainers()
    deployments.load()

    async def nothing(_value: object) -> None:
        return None

    made = Reconciler(
        home=home,
        deployments=deployments,
        containers=containers,  # type: ignore[arg-type]
        pull=nothing,
        on_desired=nothing,
    )
    await made.load()
    return made, deployments, containers


async def test_desired_outlives_a_restart_without_camera_secrets(home: Home) -> None:
    reconciler, _deployments, containers = await reconciler_of(home)
    wanted = DesiredState(
        revision=7,
        deployments=[spec("a")],
        cameras=[CameraSource("cam-1", "rtsp://root:geheim@10.0.0.1/x")],
    )
    await reconciler.take(wanted)
    await settle(reconciler)
    assert containers.started == ["dep-a"]
    assert reconciler.applied_revision == 7
    for file in home.root.rglob("*"):
        assert not file.is_file() or b"geheim" not in file.read_bytes()

    again, _deployments, containers = await reconciler_of(home)
    assert again.desired.revision == 7
    await settle(again)
    assert containers.started == ["dep-a"]


async def test_only_stopping_removes(home: Home) -> None:
    reconciler, deployments, containers = await reconciler_of(home)
    deployments.keep(Kept(spec=spec("proving")))
    await reconciler.take(DesiredState(revision=1, deployments=[spec("a")]))
    await settle(reconciler)
    await reconciler.take(DesiredState(revision=2, stopping=["dep-a", "dep-never-seen"]))
    await settle(reconciler)
    assert sorted(containers.removed) == ["dep-a", "dep-never-seen"]
    assert containers.started == ["dep-a"]
    states = {one.deployment_id: one.state for one in reconciler.statuses()}
    assert states == {"dep-proving": "absent", "dep-a": "absent", "dep-never-seen": "absent"}
    assert deployments.get("dep-a") is None
    assert deployments.get("dep-proving") is not None


async def test_stopped_by_command_stays_until_it_is_listed_anew(home: Home) -> None:
    reconciler, deployments, containers = await reconciler_of(home)
    await reconciler.take(DesiredState(revision=1, deployments=[spec("a")]))
    await settle(reconciler)
    await reconciler.take(DesiredState(revision=2))
    stopped = deployments.get("dep-a")
    assert stopped is not None
    stopped.kept.wanted = False
    stopped.state = "exited"
    await settle(reconciler)
    assert containers.started == ["dep-a"]
    await reconciler.take(DesiredState(revision=3, deployments=[spec("a")]))
    await settle(reconciler)
    assert containers.started == ["dep-a", "dep-a"]


INSPECTED: dict[str, Any] = {
    "Id": "c1",
    "RestartCount": 2,
    "Config": {"Image": "image"},
    "State": {
        "Status": "running",
        "Pid": 4711,
        "StartedAt": "2026-11-24T01:02:03.123456789Z",
        "ExitCode": 0,
    },
}


def test_what_the_engine_says_of_a_container() -> None:
    deployment = Deployment(Kept(spec=spec("a")))
    observe(deployment, INSPECTED)
    status = deployment.status()
    assert (status.state, status.restarts, status.exit_code) == ("running", 2, None)
    assert status.started_ms == 1795482123123
    deployment.first_result_ms = 5
    ended = {
        **INSPECTED,
        "State": {**INSPECTED["State"], "Status": "exited", "Pid": 0, "ExitCode": 137}
        | {"OOMKilled": True},
    }
    observe(deployment, ended)
    status = deployment.status()
    assert (status.state, status.exit_code, status.oom_killed) == ("exited", 137, True)
    assert status.first_result_ms == 5
    anew = {**INSPECTED, "State": {**INSPECTED["State"], "StartedAt": "2026-11-24T02:00:00Z"}}
    observe(deployment, anew)
    assert deployment.status().first_result_ms is None
    observe(deployment, None)
    assert deployment.status().state == "absent"


async def test_media_hears_cameras_and_paths_and_the_disk_only_tokens(home: Home) -> None:
    async def nothing() -> None:
        return None

    keeper = MediaKeeper(home, enabled=True, on_change=nothing)
    keeper.set_gateway("172.30.0.1")
    given = Assignment("asg-1", "cam-1", "dep-a", "watch", 5, "sub", 1)
    wanted = DesiredState(
        revision=1,
        assignments=[given],
        cameras=[CameraSource("cam-1", "rtsp://root:geheim@10.0.0.1/x")],
        exports=[Export("cam-1", "sub", "e" * 32)],
        relays=[Relay("cam-2", "main", "rtsp://10.0.0.2/token")],
    )
    keeper.take(wanted, [], live=True)
    assert keeper.url_of(given) == ""
    cameras = keeper._cameras
    assert cameras is not None
    assert [(one.camera_id, one.home) for one in cameras] == [("cam-1", True), ("cam-2", False)]
    keeper._told = MediaDesired(cameras=cameras, paths=list(keeper._used.values()))
    keeper.state = MediaState(version=1, running=True, local_port=8554)
    url = keeper.url_of(given)
    assert url.startswith("rtsp://172.30.0.1:8554/")
    assert "geheim" not in home.paths_file.read_text()

    # After a restart without the server: the same path, from what media remembers.
    again = MediaKeeper(home, enabled=True, on_change=nothing)
    again.set_gateway("172.30.0.1")
    again.take(DesiredState(revision=1, assignments=[given]), [], live=False)
    again.state = keeper.state
    assert again.url_of(given) == url
    # Taken away, the path goes: nobody can go on watching with it.
    keeper.take(DesiredState(revision=2), [], live=True)
    assert read_json(home.paths_file, dict[str, str]) == {}


def test_one_process_per_folder(home: Home) -> None:
    with pytest.raises(NotEnrolled):
        home.device()
    with home.lock(), pytest.raises(AlreadyRunning), Home(home.root).lock():
        pass
    with home.lock():
        assert (home.root / "agent.lock").stat().st_mode & 0o777 == 0o600


def test_a_broken_file_is_put_aside(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    home.desired_file.write_bytes(b'{"revision": ')
    assert read_json(home.desired_file, DesiredState) is None
    assert home.desired_file.with_name("desired.json.bad").exists()
    write_json(home.desired_file, DesiredState(revision=3))
    kept = read_json(home.desired_file, DesiredState)
    assert kept is not None
    assert kept.revision == 3


def test_the_clock_counts_only_when_it_can_be_right() -> None:
    now_ms, day_ms = boot.wall_ms(), 86_400_000
    fresh = Device("dev-1", "sit-1", "h:1", now_ms - day_ms, now_ms + 364 * day_ms, now_ms)
    assert clock_is_set(fresh)
    assert not renewal_due(fresh)
    old = Device("dev-1", "sit-1", "h:1", now_ms - 200 * day_ms, now_ms + 165 * day_ms, now_ms)
    assert renewal_due(old)
    unset = Device("dev-1", "sit-1", "h:1", now_ms + 30 * day_ms, now_ms + 395 * day_ms)
    assert not clock_is_set(unset)
    assert not renewal_due(unset)
    far = Device("dev-1", "sit-1", "h:1", now_ms - 999 * day_ms, now_ms - 634 * day_ms)
    assert not clock_is_set(far)
