"""Puts the agent together and runs it: the only module here that knows all the others."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from haechi import __version__
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.fence_rules import Door
from haechi.adapters.iptables import sweep
from haechi.agent import boot, cgroups, identity
from haechi.agent.board import Board
from haechi.agent.containers import Containers
from haechi.agent.deployments import Deployments
from haechi.agent.errors import TooManyConnections
from haechi.agent.executor import Executor
from haechi.agent.fence import Fence
from haechi.agent.gpu import GpuWatch
from haechi.agent.home import Device, Home
from haechi.agent.http_server import HttpServer
from haechi.agent.identity import renewal_due, split_address
from haechi.agent.intake import Intake, problem
from haechi.agent.link import Link
from haechi.agent.link_log import LinkLog
from haechi.agent.media import MediaKeeper
from haechi.agent.node import RUNTIME_SOCKET, Node
from haechi.agent.outbox import DEFAULT_LIMIT_BYTES, Outbox
from haechi.agent.reconcile import Reconciler
from haechi.agent.redirect import Redirector
from haechi.agent.results_feed import ResultsFeed
from haechi.agent.sampler import Sampler, Watched
from haechi.agent.samples_feed import SamplesFeed
from haechi.core.tasks import Tasks
from haechi.errors import AppError
from haechi.protocol.assignments import Assignment
from haechi.protocol.desired import NODE_AGENT_ADDRESS, DesiredState, ObservedState
from haechi.protocol.frames import PROTOCOL, Capacity, Hello

log = logging.getLogger(__name__)

enrol = identity.enrol

INTAKE_PORT: Final = 8430
SAMPLE_S: Final = 1.0
RENEW_CHECK_S: Final = 3600.0
RENEW_S: Final = 60.0
REBIND_S: Final = 2.0


class Options(Struct, omit_defaults=True):
    """How one agent runs; as JSON the argument of `python -m haechi.agent run`."""

    data_dir: str
    cgroup: str = ""
    """This device is the slice of that name, and its containers live in it."""
    docker_socket: str = "/var/run/docker.sock"
    """Empty: no containers on this device."""
    node: bool = False
    """This device is a node of a cluster: its AIs are pods, and there is no Docker."""
    node_address: str = NODE_AGENT_ADDRESS
    """Where a node's pods find this agent; another one only beside another agent."""
    media: bool = True
    intake_port: int = INTAKE_PORT
    docker_config: str = "/etc/docker"
    hosts_file: str = "/etc/hosts"
    queue_limit_bytes: int = DEFAULT_LIMIT_BYTES
    log_level: str = "INFO"


class Agent:
    """Everything one device runs."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.home = Home(Path(options.data_dir))
        self.home.prepare()
        self.device: Device = self.home.device()
        self.tasks = Tasks("agent")
        self.boot_id = boot.boot_id()
        slice_ = cgroups.named(options.cgroup) if options.cgroup else None
        if options.cgroup and slice_ is None:
            log.error("there is no cgroup %r: the whole machine is measured", options.cgroup)
        self.gpu = GpuWatch()
        self.outbox = Outbox(self.home.queue_file, limit_bytes=options.queue_limit_bytes)
        self.samples = SamplesFeed(self.outbox)
        self.deployments = Deployments(self.home)
        self.board = Board()
        self.sampler = Sampler(
            boot_id=self.boot_id,
            disk=self.home.root,
            cgroup=slice_,
            containers=self._watched,
            gpu=self.gpu.now,
            rtt_ms=lambda: self.samples.rtt_ms,
            runtime_socket=RUNTIME_SOCKET if options.node else "",
        )
        self.engine = DockerApi(options.docker_socket)
        self.media = MediaKeeper(
            self.home, enabled=options.media, on_change=self._assignments_changed
        )
        self.containers = Containers(
            engine=self.engine,
            deployments=self.deployments,
            device_id=self.device.device_id,
            cores=self.sampler.cores,
            memory_bytes=self.sampler.memory_bytes,
            cgroup_parent=f"/{options.cgroup.strip('/')}" if slice_ else "",
            intake_port=options.intake_port,
            camera_url=self.media.camera_url,
        )
        self.executor = Executor(
            home=self.home,
            engine=self.engine,
            containers=self.containers,
            deployments=self.deployments,
            still=self.media.still,
            camera_url=self.media.camera_url,
            on_assignments=self._assignments_changed,
            cores=self.sampler.cores,
            memory_bytes=self.sampler.memory_bytes,
            gpu=self.gpu.name[:255],
            memory_available=self._memory_available,
            docker_config=Path(options.docker_config),
            hosts_file=Path(options.hosts_file),
        )
        self.reconciler = Reconciler(
            home=self.home,
            deployments=self.deployments,
            containers=self.containers,
            pull=self.executor.pull_kept,
            on_desired=self._desired_changed,
            engine=bool(options.docker_socket),
        )
        self.node = Node(
            self.deployments, address=options.node_address, on_pods=self._observed_changed
        )
        self.intake = Intake(
            device_id=self.device.device_id,
            deployments=self.deployments,
            board=self.board,
            outbox=self.outbox,
            locate=self.node.pods.locate if options.node else self.containers.locate,
        )
        self.server = HttpServer(
            self.intake.handle, too_many=problem(TooManyConnections(retry_after_s=1), "ko")
        )
        self.intake_at: tuple[str, int] | None = None
        self.redirector = Redirector(
            device_id=self.device.device_id,
            sources=self.node.sources if options.node else self.containers.sources,
            intake=lambda: self.intake_at,
            pids=lambda: [one.pid for one in self.deployments if one.pid and not one.served],
        )
        self.fence = Fence(
            device_id=self.device.device_id,
            doors=self._doors,
            fenced=self.node.fenced if options.node else self.containers.fenced,
        )
        self.link = Link(
            home=self.home,
            device=self.device,
            executor=self.executor,
            samples=self.samples,
            results=ResultsFeed(self.outbox),
            hello=self._hello,
            observed=self._observed,
            on_desired=self.reconciler.take,
        )
        self.deployments.on_change = self._observed_changed
        self.containers.on_event = self._observed_changed
        self.containers.fence = self.fence.lay
        self.containers.on_gateway = self.node.on_gateway = self._gateway_changed
        self._last_available = 0
        self._rebind = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what is in memory is written down before it returns."""
        await self.outbox.open()
        try:
            self.deployments.load()
            await self.reconciler.load()
            self.tasks.forever("sample", self._sample)
            if self.options.media:
                self.tasks.forever("media", self.media.keep)
            self.tasks.forever("link", self.link.run)
            self.tasks.forever("renew", self._renew)
            _ = self.tasks.spawn("gpu", self.gpu.watch())
            if self.options.node:
                self.tasks.forever("node", self.node.keep)
                self.tasks.forever("pods", self.node.pods.keep)
            if self.options.node or self.options.docker_socket:
                self.tasks.forever("intake", self._keep_intake)
                self.tasks.forever("redirect", self.redirector.keep)
                self.tasks.forever("fence", self.fence.keep)
                ours = {self.fence.chain, self.redirector.chain}
                _ = self.tasks.spawn("sweep", sweep(but=ours))
            if self.options.docker_socket:
                self.tasks.forever("engine", self.containers.follow)
                self.tasks.forever("reconcile", self.reconciler.run)
            # What is loaded now stays: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            log.info(
                "agent %s of %s runs: %.1f cores, %d MB",
                __version__,
                self.device.device_id,
                self.sampler.cores,
                self.sampler.memory_bytes // 1_000_000,
            )
            _ = await stop.wait()
        finally:
            await self.server.close()
            await self.tasks.close()
            await self.link.close()
            await self.reconciler.close()
            await self.media.close()
            with contextlib.suppress(AppError):
                await self.samples.keep()
            await self.outbox.close()

    # -- what changed -------------------------------------------------------------------------

    def _observed_changed(self) -> None:
        self.link.report_state()
        self.reconciler.wake()
        self.redirector.wake()
        self.fence.wake()

    @property
    def _gateway(self) -> str:
        return self.node.gateway if self.options.node else self.containers.gateway

    def _gateway_changed(self) -> None:
        self.media.set_gateway(self._gateway)
        self._rebind.set()

    async def _desired_changed(self, desired: DesiredState) -> None:
        """From the server (then the document names a newer revision than what is applied) or,
        at start, from disk."""
        live = self.link.connected
        self.deployments.serve(desired.workloads)
        self.node.pod_networks = desired.pod_networks
        self.redirector.want(desired.redirects)
        self.media.take(desired, self.deployments, live=live)
        await self._fill_board()

    async def _assignments_changed(self) -> None:
        """Media's addresses or a command's assignments are other than before."""
        self.media.take(self.reconciler.desired, self.deployments, live=False)
        await self.fence.lay()
        await self._fill_board()

    async def _fill_board(self) -> None:
        _ = await self.board.put(self._assignments(), self.media.url_of)
        self.link.report_state()

    def _assignments(self) -> list[Assignment]:
        """Of the desired state; and what `container.start` told of deployments it has not yet."""
        desired = self.reconciler.desired
        found = list(desired.assignments)
        named = {spec.deployment_id for spec in desired.deployments}
        named |= {one.deployment_id for one in found}
        for deployment in self.deployments:
            if deployment.id not in named:
                found.extend(deployment.kept.assignments)
        return found

    # -- for ever -----------------------------------------------------------------------------

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            sample = self.sampler.sample()
            self._last_available = sample.memory_total_bytes - sample.memory_used_bytes
            with contextlib.suppress(AppError):
                await self.samples.add(sample)
            next_s = max(next_s + SAMPLE_S, loop.time() + SAMPLE_S / 10)
            await asyncio.sleep(next_s - loop.time())

    async def _keep_intake(self) -> None:
        """Serve on the gateway of the device's network, wherever that is now."""
        while True:
            _ = await self._rebind.wait()
            self._rebind.clear()
            gateway = self._gateway
            self.intake_at = None
            await self.server.close()
            try:
                port = await self.server.listen(gateway, self.options.intake_port)
            except OSError as error:
                log.error("the intake cannot listen on %s: %s", gateway, error)  # noqa: TRY400
                await asyncio.sleep(REBIND_S)
                self._rebind.set()
                continue
            self.intake_at = (gateway, port)
            self.redirector.wake()
            self.fence.wake()
            log.info("intake on %s:%d", gateway, port)

    async def _renew(self) -> None:
        while True:
            if renewal_due(self.device):
                await self._renew_once()
            await asyncio.sleep(RENEW_CHECK_S)

    async def _renew_once(self) -> None:
        """In a process of its own: making keys costs 8 MB that this one has not got."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "haechi.agent", "renew", self.options.data_dir
        )
        try:
            async with asyncio.timeout(RENEW_S):
                code = await child.wait()
        except TimeoutError:
            child.kill()
            code = await child.wait()
        if code == 0:
            self.device = self.link.device = self.home.device()
            log.info("the certificate was renewed")
        else:
            log.error("the certificate could not be renewed; it is tried again in an hour")

    # -- what others ask ----------------------------------------------------------------------

    def _watched(self) -> Iterator[Watched]:
        now_ms = boot.wall_ms()
        for one in self.deployments:
            if one.pid:
                yield Watched(one.id, one.pid, one.restarts + one.remade, one.frame_lag_ms(now_ms))

    def _doors(self) -> list[Door]:
        """Where AIs are served, as far as it is known."""
        options = self.options
        address = options.node_address if options.node else self.containers.gateway
        intake = self.intake_at[1] if self.intake_at else options.intake_port
        return [Door(address, one) for one in (intake, self.media.local_port) if one]

    def _memory_available(self) -> int:
        return self._last_available

    def _observed(self) -> ObservedState:
        return ObservedState(
            revision=self.reconciler.applied_revision,
            deployments=self.reconciler.statuses(),
            assignments=sorted(self.board.handed_out),
            media=self.media.status(),
            addresses=boot.address_towards(*split_address(self.device.server)),
        )

    async def _hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            agent_version=__version__,
            device_id=self.device.device_id,
            boot_id=self.boot_id,
            wall_ms=boot.wall_ms(),
            monotonic_ms=boot.monotonic_ms(),
            queue_id=self.outbox.queue_id,
            machine_id=boot.machine_id(),
            host_name=boot.host_name(),
            capacity=await self._capacity(),
            desired_revision=self.reconciler.desired.revision if self._is_live() else 0,
            addresses=boot.address_towards(*split_address(self.device.server)),
        )

    def _is_live(self) -> bool:
        """Whether the desired state was heard in this run: the file on disk lacks the cameras,
        so after a restart the whole document is asked for again."""
        return self.media.heard

    async def _capacity(self) -> Capacity:
        engine = "kubernetes" if self.options.node else ""
        if self.options.docker_socket:
            with contextlib.suppress(AppError):
                version = await self.engine.version()
                engine = f"docker {version.get('Version', '')}"[:255]
        return Capacity(
            cpu_cores=self.sampler.cores,
            memory_bytes=self.sampler.memory_bytes,
            disk_bytes=boot.disk_total_bytes(self.home.root),
            platform=boot.oci_platform(),
            os=boot.os_name(),
            engine=engine,
            gpu=self.gpu.name[:255],
        )


def run(options: Options) -> None:
    """Run the agent of a data folder until SIGTERM. Raises AppError where it cannot start."""
    logging.basicConfig(
        level=options.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    os.umask(0o077)
    home = Home(Path(options.data_dir))
    home.prepare()
    if home.invitation_file.exists():
        identity.accept_in_child(home)
    _ = home.device()
    with home.lock():
        asyncio.run(_run(options))


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    agent = Agent(options)
    handler = LinkLog(agent.link.report_log)
    logging.getLogger("haechi").addHandler(handler)
    try:
        await agent.run(stop)
    finally:
        logging.getLogger("haechi").removeHandler(handler)
