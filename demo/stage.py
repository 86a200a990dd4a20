"""The demo site: four simulated cameras, three devices as slices of this machine, one server.

Everything is real but the cameras' lenses: RTSP with digest authentication, Docker, the site
registry, agents as separate processes that enrol like any other. Used by `run.py` (with a
dashboard, until Ctrl-C) and `check.py` (a minute, with a verdict).
"""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slices
from api import Api, CallFailed
from cameras.layout import NEIGHBOURS

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tools")]

import pack  # noqa: E402 - from examples/
from provision import cache  # noqa: E402 - from tools/

from haechi.adapters.iptables import sweep  # noqa: E402
from haechi.testing.cameras import CameraSite, simulated_cameras  # noqa: E402

HAECHI = ROOT / ".venv" / "bin" / "haechi"
GIB = 1024**3
Say = Callable[[str], None]


@dataclass(frozen=True)
class DevicePlan:
    name: str
    description: str
    cpus: float
    memory_bytes: int
    cameras: tuple[str, ...]


DEVICES = (
    DevicePlan("nuc-gate", "정문 엣지 컴퓨터", 0.9, 2 * GIB, ("gate", "path")),
    DevicePlan("nuc-square", "광장 엣지 컴퓨터", 0.6, 2 * GIB, ("square",)),
    DevicePlan("nuc-corner", "모퉁이 엣지 컴퓨터", 0.6, 2 * GIB, ("corner",)),
)
CAMERA_TITLES = {"gate": "정문", "path": "보행로", "square": "광장", "corner": "모퉁이"}


@dataclass(frozen=True)
class Version:
    id: str
    package_id: str
    version: str


@dataclass
class Ports:
    server: int = 8420
    agents: int = 8421
    registry: int = 8425
    interop: int = 5231


def free_ports() -> Ports:
    """Ports that nobody uses now, so that a check never meets another haechi on this machine.

    The registry takes two: its own and the next one.
    """
    while True:
        with ExitStack() as stack:
            ports = []
            for _ in range(4):
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", 0))
                ports.append(sock.getsockname()[1])
            after = stack.enter_context(socket.socket())
            try:
                after.bind(("127.0.0.1", ports[2] + 1))
            except OSError:
                continue
            return Ports(*ports)


@dataclass
class Site:
    """Ids by the plan's names, once `furnish` has run."""

    data_dir: Path
    ports: Ports = field(default_factory=Ports)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    say: Say = print
    plans: tuple[DevicePlan, ...] = DEVICES
    devices: dict[str, str] = field(default_factory=dict)
    cameras: dict[str, str] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _slices: dict[str, slices.Slice] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.server}"

    async def __aenter__(self) -> "Site":
        await self._stack.__aenter__()
        self.api = Api(self.url)
        self._stack.push_async_callback(self.api.close)
        self._stack.push_async_callback(sweep)  # the firewall, once the networks are gone
        self._stack.push_async_callback(asyncio.to_thread, self._sweep)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.__aexit__(None, None, None)

    # --- processes

    async def start_server(self) -> None:
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.data_dir.mkdir(parents=True)
        await self.serve()
        await self.api.log_in("admin", self.password)

    async def serve(self) -> None:
        """Start `haechi serve`, or start it again."""
        self.say("server: starting")
        await self._spawn(
            "server",
            "serve",
            f"--data-dir={self.data_dir / 'server'}",
            f"--listen=127.0.0.1:{self.ports.server}",
            f"--agents-listen=127.0.0.1:{self.ports.agents}",
            f"--registry-listen=127.0.0.1:{self.ports.registry}",
            environment={
                "HAECHI_ADMIN_PASSWORD": self.password,
                "HAECHI_INTEROP__LISTEN": f'["127.0.0.1:{self.ports.interop}"]',
                "HAECHI_INTEROP__ALLOW": '["127.0.0.0/8"]',
                **_build_environment(),
            },
        )
        await self._until("the server answers", self._server_answers, within_s=180)

    async def _server_answers(self) -> bool:
        process = self._processes["server"]
        if process.returncode is not None:
            log = (self.data_dir / "server.log").read_text(errors="replace")
            raise CallFailed(f"the server ended with {process.returncode}:\n{log[-3000:]}")
        try:
            await self.api.get("/health")
        except (OSError, CallFailed, _transport_error()):
            return False
        return True

    async def start_cameras(self) -> CameraSite:
        names = [name for plan in self.plans for name in plan.cameras]
        self.say(f"cameras: {', '.join(names)}")
        return await self._stack.enter_async_context(simulated_cameras(*names))

    async def furnish(self, cameras: CameraSite) -> None:
        """What an operator enters: site, devices, cameras, neighbours, base image."""
        await self.api.call(
            "PATCH", "/site", json={"name": "해치 데모 현장"}, headers={"If-Match": "*"}
        )
        for plan in self.plans:
            made = await self.api.post(
                "/devices",
                {"name": plan.name, "description": plan.description, "supports_analysis": True},
            )
            self.devices[plan.name] = made["id"]
            for name in plan.cameras:
                camera = cameras[name]
                entered = {
                    "name": CAMERA_TITLES[name],
                    "device_id": made["id"],
                    "url": camera.main_url,
                    "sub_url": camera.sub_url,
                }
                self.cameras[name] = (await self.api.post("/cameras", entered))["id"]
        for one, other in NEIGHBOURS:
            if not {one, other} <= self.cameras.keys():
                continue
            await self.api.post(
                "/links", {"camera_a": self.cameras[one], "camera_b": self.cameras[other]}
            )
        mapped = await self.api.put(
            "/base-images", {"source": "python:3.11-slim", "target": cache.BASE_IMAGE}
        )
        if mapped["operation_id"]:
            self.say("base image: stored in the site registry")
            await self.api.wait(mapped["operation_id"], within_s=180)

    async def start_agents(self) -> None:
        """Enrol each device as an operator does it: a one-time token, then the agent."""
        for plan in self.plans:
            self.say(f"device {plan.name}: {plan.cpus:g} cores, {plan.memory_bytes // GIB} GiB")
            made = slices.create(plan.name, plan.cpus, plan.memory_bytes)
            self._stack.callback(slices.remove, made)
            invitation = await self.api.post(f"/devices/{self.devices[plan.name]}/enrolment")
            folder = self.data_dir / plan.name
            await self._run(
                "agent",
                "enrol",
                f"--server={invitation['server']}",
                f"--token={invitation['token']}",
                f"--ca-fingerprint={invitation['ca_fingerprint']}",
                f"--data-dir={folder}",
            )
            self._slices[plan.name] = made
            await self.run_agent(plan.name)
        await self._until("all devices are connected", self._all_connected, within_s=30)

    async def run_agent(self, name: str) -> None:
        """Start a device's agent, or start it again."""
        await self._spawn(
            name,
            "agent",
            "run",
            f"--data-dir={self.data_dir / name}",
            f"--cgroup={self._slices[name].name}",
            environment=_go2rtc(),
        )

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    async def kill(self, name: str) -> None:
        """`kill -9` of the server or of a device's agent."""
        process = self._processes[name]
        process.kill()
        await process.wait()

    async def _all_connected(self) -> bool:
        found = await self.api.all("/devices")
        return all(device["state"] == "ok" for device in found)

    async def _spawn(self, name: str, *args: str, environment: dict[str, str]) -> None:
        with (self.data_dir / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                str(HAECHI),
                *args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                cwd=self.data_dir,
                start_new_session=True,
            )
        self._processes[name] = process
        self._stack.push_async_callback(self._end, process)

    async def _run(self, *args: str) -> None:
        process = await asyncio.create_subprocess_exec(
            str(HAECHI), *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        if process.returncode:
            raise CallFailed(f"haechi {args[0]} {args[1]}: {output.decode(errors='replace')}")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _sweep(self) -> None:
        """Remove the containers and networks of the demo's devices, and of those only."""
        for device_id in self.devices.values():
            label = f"label=haechi.device={device_id}"
            found = _docker("ps", "-aq", "--filter", label)
            if found:
                _docker("rm", "-f", *found)
            networks = _docker("network", "ls", "-q", "--filter", f"name=haechi-{device_id}")
            if networks:
                _docker("network", "rm", *networks)

    # --- the main job, step by step

    async def upload(self, name: str, version: str, **environment: str) -> Version:
        """Zip an example and upload it."""
        weights = cache.path("detector") if name in pack.WEIGHTS else None
        file = self.data_dir / f"{name}.zip"
        pack.pack(name, file, weights=weights, environment=environment or None)
        return Version(**await self._upload(file, version))

    async def upload_zip(self, name: str, content: bytes, version: str) -> Version:
        file = self.data_dir / f"{name}.zip"
        file.write_bytes(content)
        return Version(**await self._upload(file, version))

    async def _upload(self, file: Path, version: str) -> dict[str, str]:
        made = await self.api.upload(file, version)
        return {"id": made["id"], "package_id": made["package_id"], "version": version}

    async def build(self, version: Version) -> float:
        """Seconds from the request to the image in the site registry."""
        started = time.monotonic()
        path = f"/packages/{version.package_id}/versions/{version.version}/build"
        accepted = await self.api.post(path)
        await self.api.wait(accepted["operation_id"], within_s=600)
        return time.monotonic() - started

    async def deploy(
        self, version: Version, devices: Sequence[str], *, within_s: float = 180, ok: bool = True
    ) -> tuple[float, Any]:
        """(seconds, operation)."""
        started = time.monotonic()
        ids = [self.devices[name] for name in devices]
        body = {"version_id": version.id, "device_ids": ids}
        accepted = await self.api.post("/deployments", body)
        operation = await self.api.wait(accepted["operation_id"], within_s=within_s, ok=ok)
        return time.monotonic() - started, operation

    async def move_camera(self, camera: str, to_device: str) -> None:
        """By hand: the camera's assignment goes to the same package on another device."""
        camera_id = self.cameras[camera]
        found = await self.api.all("/assignments", camera_id=camera_id)
        assignment = next(item for item in found if item["state"] == "active")
        deployments = await self.api.all("/deployments", device_id=self.devices[to_device])
        target = next(
            item
            for item in deployments
            if item["package_id"] == assignment["package_id"] and item["state"] == "running"
        )
        await self.api.post(
            f"/assignments/{assignment['id']}/move", {"deployment_id": target["id"]}
        )

    def title(self, camera: str) -> str:
        return CAMERA_TITLES[camera]

    async def _until(self, what: str, condition: Callable[[], Any], *, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not await condition():
            if time.monotonic() > deadline:
                raise CallFailed(f"waited {within_s:g} s in vain until {what}")
            await asyncio.sleep(0.1)

    until = _until


def _transport_error() -> type[Exception]:
    import httpx2

    return httpx2.TransportError


def _go2rtc() -> dict[str, str]:
    binary = cache.path("go2rtc")
    return {"HAECHI_GO2RTC": str(binary)} if binary.exists() else {}


def _build_environment() -> dict[str, str]:
    """Builds use this machine's Python index and CA, where it has its own."""
    made: dict[str, str] = {}
    index = os.environ.get("PIP_INDEX_URL")
    if index:
        made["HAECHI_BUILDS__PIP_INDEX_URL"] = index
    ca = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if ca and Path(ca).is_file():
        made["HAECHI_BUILDS__CA_FILE"] = ca
    return made


def _docker(*args: str) -> list[str]:
    docker = shutil.which("docker")
    if docker is None:
        return []
    done = subprocess.run([docker, *args], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split()


def become_root() -> None:
    """Slices, Docker and the registry's trust need root; ask sudo once."""
    if os.geteuid() != 0:
        os.execvp("sudo", ["sudo", "-E", sys.executable, *sys.argv])  # noqa: S606
