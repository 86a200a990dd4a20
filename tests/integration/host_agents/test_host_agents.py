"""Bringing agents to hosts: what is done there, in which order, and back when it fails."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Definition, Operations, Step
from haechi.core.secrets import Secret
from haechi.domains.agents.model import Enrolment
from haechi.domains.audit.service import Audit
from haechi.domains.clusters import store
from haechi.domains.clusters.agent.errors import NoAgentImage
from haechi.domains.clusters.agent.places import INVITATION, MANIFEST
from haechi.domains.clusters.agent.pod import agent_pod
from haechi.domains.clusters.agent.ports import AgentImage
from haechi.domains.clusters.agent.service import HostAgents
from haechi.domains.clusters.agent.steps import Pace
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.model import Cluster, ClusterState, FormOptions, Member, MemberState
from haechi.errors import Busy, Text
from haechi.protocol.desired import NODE_AGENT_ADDRESS
from haechi.testing.hosts import FakeHosts, FakeShell
from haechi.testing.waiting import eventually

TOKEN = "a-one-time-token"


class FakeAgents:
    """The agents domain: `calls` says which images call in once they run."""

    def __init__(self) -> None:
        self.server = "192.0.2.1:8421"
        self.connected: set[str] = set()
        self.has_pod = lambda _device_id: False
        self.revoked: list[str] = []
        self.late: dict[str, int] = {}
        """Device → how often it is waited for before it calls in."""

    async def invite_device(self, device_id, by):
        return Enrolment(
            device_id=device_id,
            token=Secret(TOKEN),
            command=Secret("-"),
            server=self.server,
            ca_fingerprint="sha256:00",
            expires_at=SystemClock().now() + timedelta(hours=1),
        )

    async def revoke_device(self, device_id, by):
        self.revoked.append(device_id)
        self.connected.discard(device_id)

    def is_connected(self, device_id):
        return device_id in self.connected or self.has_pod(device_id)

    async def wait_connected(self, device_id, timeout_s):
        await asyncio.sleep(min(timeout_s, 0.01))
        if device_id in self.late:
            self.late[device_id] -= 1
            if not self.late[device_id]:
                self.connected.add(device_id)
        return self.is_connected(device_id)


class FakeImages:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 1

    async def known(self, platform):
        return platform == "linux/amd64"

    async def image(self, platform):
        if platform != "linux/amd64":
            raise NoAgentImage(platform=platform, reason="not made")
        path = self.folder / "agent.tar.gz"
        path.write_bytes(b"an archive")
        return AgentImage(f"haechi.internal/agent:{self.version}", path, "", 10)


@dataclass
class Device:
    id: str
    enrolment: str


class Devices:
    def __init__(self):
        self.enrolments = {}

    async def get(self, ref):
        return Device(ref, self.enrolments.get(ref, "enrolled"))


@dataclass
class World:
    folder: Path
    agents: FakeAgents = field(default_factory=FakeAgents)
    hosts: FakeHosts = field(default_factory=FakeHosts)
    devices: Devices = field(default_factory=Devices)
    silent: set[str] = field(default_factory=set)
    """Images whose agents never call in."""
    runs: dict[str, str] = field(default_factory=dict)
    overlapped: bool = False
    seen_s: float = 0.3

    async def begin(self) -> None:
        clock = SystemClock()
        self.db = Database(self.folder / "control.db")
        await self.db.create_all()
        if not hasattr(self, "images"):
            self.images = FakeImages(self.folder)
        self.agents.has_pod = lambda one: MANIFEST in self.hosts.hosts[one].files
        bus = Bus(lambda: to_ms(clock.now()))
        self.operations = Operations(self.db, bus, clock, self.folder / "operations")
        self.service = HostAgents(
            db=self.db,
            clock=clock,
            hosts=self.hosts,
            agents=self.agents,
            images=self.images,
            devices=self.devices,
            operations=self.operations,
            audit=Audit(db=self.db, clock=clock),
            pace=Pace(seen_s=self.seen_s, stays_s=0.02),
        )
        await self.operations.start_engine()

    async def end(self) -> None:
        await self.operations.close()
        await self.db.close()

    def host(self, device_id: str, *, docker: bool = True) -> FakeShell:
        shell = self.hosts.add(device_id, name=f"host-{device_id}")
        shell.on("uname -m", "x86_64\n")
        for quiet in (
            "install",
            "rm",
            "ip address",
            "docker load",
            "docker image rm",
            "docker rm",
            "ctr",
        ):
            shell.on(quiet)
        shell.on(lambda line: "HAECHI-" in line)
        shell.on("docker version", "20.10\n", status=0 if docker else 127)
        shell.on("docker image inspect", status=1)
        shell.on("docker image ls", "haechi.internal/agent:1\nhaechi.internal/agent:0\n")
        shell.on("test -s", status=1)
        shell.on("docker logs", stderr="cannot reach the server\n")
        shell.on("docker inspect", do=lambda _: _ran(self.runs.get(device_id, "")))
        shell.on("docker stop", do=lambda _: self._stopped(device_id))
        shell.on("docker run", do=lambda call: self._started(device_id, call.command.split()[-1]))
        shell.on("sh -c", do=lambda call: self._script(device_id, call))
        return shell

    def _script(self, device_id, call):
        if "haechi-hold" in call.command:
            self.hosts.hosts[device_id].files.pop(MANIFEST, None)
            return self._stopped(device_id)
        return None

    def _started(self, device_id, image):
        self.overlapped |= device_id in self.runs
        self.runs[device_id] = image
        if image not in self.silent:
            self.agents.connected.add(device_id)

    def _stopped(self, device_id):
        self.runs.pop(device_id, None)
        self.agents.connected.discard(device_id)

    async def ended(self, operation):
        return await self.operations.wait(operation.id)

    async def install(self, device_id):
        return await self.ended(await self.service.install_agent(device_id, by=SYSTEM))

    async def update(self, device_id):
        self.images.version += 1
        return await self.ended(await self.service.update_agent(device_id, by=SYSTEM))


def _ran(image):
    from haechi.domains.clusters.host.ports import Ran

    return Ran(0, image) if image else Ran(1)


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    await made.begin()
    yield made
    await made.end()


async def test_a_docker_host_gets_image_invitation_and_container(world):
    host = world.host("dev-a")
    ended = await world.install("dev-a")
    assert ended.state == "succeeded", ended.error
    assert world.runs == {"dev-a": "haechi.internal/agent:1"}
    invitation = json.loads(host.text(INVITATION))
    assert (invitation["server"], invitation["token"]) == (world.agents.server, TOKEN)
    assert host.files[INVITATION].mode == 0o600
    commands = host.commands()
    (run,) = [one for one in commands if one.startswith("docker run")]
    assert "--network host" in run
    assert "--restart unless-stopped" in run
    # Its token is in no command: those are seen by everybody on the host.
    assert not [one for one in commands if TOKEN in one]
    log = world.operations.log_path(ended.id).read_text()
    assert TOKEN not in log


async def test_an_agent_that_never_calls_in_leaves_nothing(world):
    host = world.host("dev-a")
    world.silent.add("haechi.internal/agent:1")
    ended = await world.install("dev-a")
    assert ended.state == "failed"
    assert ended.error["code"] == "clusters.agent_not_seen"
    assert ended.error["data"]["host"] == "host-dev-a"
    assert ended.error["data"]["log"] == ["cannot reach the server"]
    assert world.runs == {}
    assert any(one.startswith("rm -rf /var/lib/haechi-agent") for one in host.commands())


async def test_an_update_never_overlaps_and_goes_back_where_the_new_one_is_mute(world):
    host = world.host("dev-a")
    await world.install("dev-a")
    assert (await world.update("dev-a")).state == "succeeded"
    assert world.runs == {"dev-a": "haechi.internal/agent:2"}
    world.silent.add("haechi.internal/agent:3")
    ended = await world.update("dev-a")
    assert ended.error["code"] == "clusters.agent_rolled_back"
    assert world.runs == {"dev-a": "haechi.internal/agent:2"}
    assert world.agents.is_connected("dev-a")
    assert not world.overlapped
    # What did not work takes no room.
    assert host.commands()[-1] == "docker image rm haechi.internal/agent:3"


async def test_the_agent_before_may_take_longer_to_come_back_than_a_new_one(world):
    host = world.host("dev-a")
    await world.install("dev-a")
    world.silent |= {"haechi.internal/agent:1", "haechi.internal/agent:2"}
    shell = world.hosts.hosts["dev-a"]
    started = world._started

    def begun(device_id, image):
        started(device_id, image)
        if image == "haechi.internal/agent:1":
            world.agents.late[device_id] = 60  # of 0.03 s at least: past what a new one may take

    shell.on("docker run", do=lambda call: begun("dev-a", call.command.split()[-1]))
    ended = await world.update("dev-a")
    assert ended.error["code"] == "clusters.agent_rolled_back", ended.error
    assert world.runs == {"dev-a": "haechi.internal/agent:1"}
    assert host.commands()[-1] == "docker image rm haechi.internal/agent:2"


async def test_removing_takes_everything_and_the_certificates(world):
    host = world.host("dev-a")
    await world.install("dev-a")
    ended = await world.ended(await world.service.remove_agent("dev-a", by=SYSTEM))
    assert ended.state == "succeeded"
    assert world.runs == {}
    assert world.agents.revoked == ["dev-a"]
    dropped = {one.split()[-1] for one in host.commands() if one.startswith("docker image rm")}
    assert dropped == {"haechi.internal/agent:0", "haechi.internal/agent:1"}
    again = await world.ended(await world.service.remove_agent("dev-a", by=SYSTEM))
    assert again.error["code"] == "clusters.agent_not_installed"


async def test_what_cannot_work_is_said_before_anything_is_done(world):
    world.host("dev-a", docker=False)
    ended = await world.install("dev-a")
    assert ended.error["code"] == "clusters.no_engine_for_agent"
    world.host("dev-b")
    world.agents.server = "127.0.0.1:8421"
    ended = await world.install("dev-b")
    assert ended.error["code"] == "clusters.server_on_loopback"
    world.agents.server = "192.0.2.1:8421"
    other = world.host("dev-c")
    other.on("uname -m", "aarch64\n")
    ended = await world.install("dev-c")
    assert ended.error["code"] == "clusters.no_agent_image"
    assert world.runs == {}


async def member_of(world, *device_ids):
    now = SystemClock().now()
    cluster = Cluster(
        id="clu-a",
        name="yard",
        state=ClusterState.READY,
        kubernetes_version="1.36.3",
        options=FormOptions(),
        message="",
        operation_id=None,
        created_by="test",
        revision=1,
        created_at=now,
        formed_at=now,
        ended_at=None,
    )
    async with world.db.write() as tx:
        await store.add_cluster(tx, cluster)
        for device_id in device_ids:
            await store.put_member(
                tx,
                Member(
                    cluster_id="clu-a",
                    device_id=device_id,
                    role="worker",
                    node_name=device_id,
                    address="192.0.2.9",
                    state=MemberState.READY,
                    message="",
                    observed={},
                    joined_at=now,
                    left_at=None,
                ),
            )


async def test_a_node_gets_a_static_pod(world):
    host = world.host("dev-a")
    await member_of(world, "dev-a")
    lines: list[str] = []
    await world.service.joined("clu-a", "dev-a", log=lines.append)
    operation = await world.operations.active_on("dev-a")
    assert (await world.ended(operation)).state == "succeeded"
    pod = json.loads(host.text(MANIFEST))
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "haechi.internal/agent:1"
    assert pod["spec"]["hostNetwork"]
    assert "--node" in container["args"]
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert INVITATION in host.files
    assert not [one for one in host.commands() if one.startswith("docker")]
    await world.service.leaving("clu-a", "dev-a", log=lines.append)
    assert MANIFEST not in host.files
    assert f"ip address delete {NODE_AGENT_ADDRESS}/32 dev lo" in host.commands()
    assert any("HAECHI-" in one for one in host.commands()), "its firewall rules go too"
    assert world.agents.revoked == ["dev-a"]


async def test_an_agent_that_cannot_be_taken_away_is_let_in_no_more(world):
    """Its host is off, stolen or somebody else's: its certificate does not wait for it."""
    world.host("dev-a")
    await member_of(world, "dev-a")
    world.hosts.turn_off("dev-a")
    with pytest.raises(HostAway):
        await world.service.leaving("clu-a", "dev-a", log=lambda _: None)
    assert world.agents.revoked == ["dev-a"]
    world.devices.enrolments["dev-a"] = "revoked"
    with pytest.raises(HostAway):
        await world.service.leaving("clu-a", "dev-a", log=lambda _: None)
    assert world.agents.revoked == ["dev-a"]


async def test_an_agent_that_haechi_did_not_bring_stays(world):
    world.host("dev-a")
    await member_of(world, "dev-a")
    await world.service.leaving("clu-a", "dev-a", log=lambda _: None)
    assert world.agents.revoked == []


async def test_a_node_joins_without_an_agent_too(world):
    """What goes wrong with the agent is said; it is no reason to leave a node out."""
    host = world.host("dev-a")
    await member_of(world, "dev-a")
    host.on("uname -m", "aarch64\n")
    lines: list[str] = []
    await world.service.joined("clu-a", "dev-a", log=lines.append)
    assert any("no agent on this node" in line for line in lines)
    assert await world.operations.active_on("dev-a") is None
    assert MANIFEST not in host.files


async def held_update(world, begin):
    """The operation that `begin` starts, stopped in the middle at dev-a, and what lets it go on."""
    host, go = world.hosts.hosts["dev-a"], asyncio.Event()
    host.on("uname -m", "x86_64\n", hold=go)
    host.held.clear()
    operation = await begin()
    await host.held.wait()
    return operation, go


async def node_with_agent(world, device_id):
    host = world.host(device_id)
    await member_of(world, device_id)
    host.put(MANIFEST, json.dumps(agent_pod("haechi.internal/agent:1")))


async def test_an_agent_is_updated_by_one_at_a_time(world):
    """All of a cluster, or one of them: never both on one host."""
    await node_with_agent(world, "dev-a")
    service = world.service
    all_of_them, go = await held_update(world, lambda: service.update_agents("clu-a", by=SYSTEM))
    for begin in (service.update_agent, service.install_agent, service.remove_agent):
        with pytest.raises(Busy) as busy:
            await begin("dev-a", by=SYSTEM)
        assert busy.value.data["operation_id"] == all_of_them.id
    go.set()
    assert (await world.ended(all_of_them)).state == "succeeded"
    one, go = await held_update(world, lambda: service.update_agent("dev-a", by=SYSTEM))
    with pytest.raises(Busy) as busy:
        await service.update_agents("clu-a", by=SYSTEM)
    assert busy.value.data["operation_id"] == one.id
    go.set()
    assert (await world.ended(one)).state == "succeeded"


async def test_deployments_to_a_node_go_on_beside_its_agents_update(world):
    async def work(run):
        pass

    step = Step("work", Text("일", "work"), work)
    world.operations.register(Definition("deploy_something", Text("일", "work"), [step]))
    await node_with_agent(world, "dev-a")
    updating, go = await held_update(world, lambda: world.service.update_agents("clu-a", by=SYSTEM))
    other = await world.operations.start("deploy_something", "dev-a/pkg-1", {}, requested_by="kim")
    assert (await world.ended(other)).state == "succeeded"
    go.set()
    assert (await world.ended(updating)).state == "succeeded"


async def test_a_mute_agent_is_taken_back_though_the_server_died_meanwhile(world):
    """What ran there before is not seen on the host any more."""
    await world.end()
    world.seen_s = 600
    await world.begin()
    host = world.host("dev-a")
    await member_of(world, "dev-a")
    host.put(MANIFEST, json.dumps(agent_pod("haechi.internal/agent:1")))
    calls_in = "haechi.internal/agent:1"
    world.agents.has_pod = lambda _: calls_in in host.text(MANIFEST)
    world.images.version = 2
    operation = await world.service.update_agents("clu-a", by=SYSTEM)
    await eventually(lambda: MANIFEST in host.files and "agent:2" in host.text(MANIFEST))
    await world.end()
    world.seen_s = 0.3
    await world.begin()
    world.agents.has_pod = lambda _: calls_in in host.text(MANIFEST)
    ended = await world.operations.wait(operation.id)
    assert ended.error["code"] == "clusters.agent_rolled_back"
    assert calls_in in host.text(MANIFEST)
