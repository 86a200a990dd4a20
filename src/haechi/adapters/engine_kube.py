"""The Kubernetes of a cluster as the `Engine` of the devices that are its nodes.

Every deployment of haechi is one Deployment object, called by the deployment's id, with one pod on
its node. Kubernetes restarts and remakes the pod by itself, whether or not this server is there;
what it cannot know is put right from here: objects that were deleted or edited. Everything is
idempotent by name, so that a server that comes back finds its objects instead of making new ones.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from haechi.adapters import kube_specs as specs
from haechi.adapters.kube_calls import Calls
from haechi.adapters.kube_errors import (
    KubeObjectMissing,
    KubeRefused,
    KubeUnreachable,
    NodeAway,
    NoNode,
)
from haechi.adapters.kube_lightkube import LightKubes
from haechi.adapters.kube_logs import read_logs
from haechi.adapters.kube_nodes import (
    Locate,
    Seat,
    engine_info,
    has_image,
    room_of,
    seen_node,
)
from haechi.adapters.kube_pull import pull_image
from haechi.adapters.kube_states import current, status_of
from haechi.core.secrets import Secret
from haechi.domains.clusters.model import DEVICE_LABEL
from haechi.protocol.assignments import Assignment
from haechi.protocol.commands import (
    EngineInfo,
    LogLine,
    LogLines,
    PulledImage,
    PullProgress,
    RegistryAccess,
    RemovedContainer,
)
from haechi.protocol.desired import ContainerSpec, ContainerStatus
from haechi.protocol.problems import NoContainer, RegistryRefused, RegistryUnreachable

NAME: Final = "kubernetes"
POLL_S: Final = 0.25
STARTED_S: Final = 20.0
"""For the kubelet to begin; what takes longer is followed by whoever asks for the status."""
MARGIN_S: Final = 30.0
TAIL_S: Final = 10.0
_KEPT_TAILS: Final = 500
_NAMESPACES: Final = (specs.NAMESPACE, specs.PRIVILEGED_NAMESPACE)

CameraUrl = Callable[[str, ContainerSpec], Awaitable[str]]
"""`(device_id, spec)` → HAECHI_CAMERA_URL of an AI that knows no assignments; "" where it needs
none."""


Mend = Callable[[str], Awaitable[bool]]
"""Look after a node's way to the registry; True where something was put right."""


async def _no_mending(device_id: str) -> bool:
    del device_id
    return False


async def _no_camera(device_id: str, spec: ContainerSpec) -> str:
    del device_id, spec
    return ""


class KubeEngine:
    name = NAME

    def __init__(
        self,
        kubes: LightKubes,
        locate: Locate,
        *,
        camera_url: CameraUrl = _no_camera,
        mend: Mend = _no_mending,
    ) -> None:
        self._kubes = kubes
        self._locate = locate
        self._camera_url = camera_url
        self._mend = mend
        self._based: set[str] = set()
        self._tails: OrderedDict[str, list[LogLine]] = OrderedDict()
        """Last words of what was stopped: its pod is gone, and its log with it."""

    async def name_of(self, device_id: str) -> str:
        del device_id
        return self.name

    @asynccontextmanager
    async def _at(self, device_id: str) -> AsyncIterator[tuple[Calls, Seat]]:
        seat = await self._locate(device_id)
        if seat is None:
            raise NoNode(device_id=device_id)
        async with self._kubes.open(seat.access) as kube:
            yield kube.calls, seat

    async def _base(self, calls: Calls) -> None:
        """Namespaces and rules, once a cluster and process."""
        if calls.cluster_id in self._based:
            return
        for one in specs.base_objects():
            _ = await calls.apply(one)
        self._based.add(calls.cluster_id)

    async def _apply(self, calls: Calls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """With its namespace, should somebody have deleted that."""
        await self._base(calls)
        try:
            return await calls.apply(manifest)
        except KubeObjectMissing:
            self._based.discard(calls.cluster_id)
            await self._base(calls)
            return await calls.apply(manifest)

    # --- the node and its images

    async def info(self, device_id: str) -> EngineInfo:
        async with self._at(device_id) as (calls, seat):
            return await engine_info(calls, seat)

    async def remove_image(self, device_id: str, image: str) -> bool:
        """The kubelet clears up by itself when its disk fills."""
        del device_id, image
        return False

    async def has_image(self, device_id: str, image: str) -> bool:
        """Only where the node could also fetch it again: a No costs a pull that is quick."""
        async with self._at(device_id) as (calls, seat):
            if not has_image(await seen_node(calls, seat), image):
                return False
            with contextlib.suppress(KubeObjectMissing):
                for namespace in _NAMESPACES:
                    name = specs.pull_secret_name(device_id)
                    _ = await calls.get("v1", "Secret", name, namespace)
                return True
        return False

    async def pull(
        self,
        device_id: str,
        image: str,
        access: RegistryAccess | None,
        progress: Callable[[PullProgress], None],
    ) -> PulledImage:
        async with self._at(device_id) as (calls, seat):
            if access is not None:
                for namespace in _NAMESPACES:
                    _ = await self._apply(calls, specs.pull_secret(device_id, namespace, access))
            await self._base(calls)
            address = access.address if access is not None else image.partition("/")[0]
            try:
                return await pull_image(calls, seat, image, address=address, progress=progress)
            except (RegistryUnreachable, RegistryRefused):
                if not await self._mend(device_id):
                    raise
            return await pull_image(calls, seat, image, address=address, progress=progress)

    # --- one deployment

    async def start(
        self,
        device_id: str,
        spec: ContainerSpec,
        token: Secret,
        assignments: Sequence[Assignment],
    ) -> ContainerStatus:
        """Assignments reach the AI through the agent of its node, by the desired state."""
        del assignments
        camera_url = await self._camera_url(device_id, spec)
        async with self._at(device_id) as (calls, seat):
            room = room_of(seat, await seen_node(calls, seat))
            if spec.gpu and room.gpu == "runtime":
                _ = await calls.apply(specs.runtime_class())
            secret = specs.secret_of(spec, token, camera_url=camera_url, gpu=room.gpu)
            _ = await self._apply(calls, secret)
            made = await self._apply(
                calls, specs.deployment_of(spec, room, secret["metadata"]["name"])
            )
            await self._note_made(calls, made)
            status = await self._until_started(calls, spec.deployment_id, device_id)
            await self._drop_secrets(calls, spec.deployment_id, keep=secret["metadata"]["name"])
            self._tails.pop(spec.deployment_id, None)
            return status

    async def _note_made(self, calls: Calls, made: Mapping[str, Any]) -> None:
        """So that a change by anybody else can be told from our own."""
        meta, digest = made["metadata"], specs.digest_of_spec(made)
        if (meta.get("annotations") or {}).get(specs.MADE_NOTE) == digest:
            return
        note = {"metadata": {"annotations": {specs.MADE_NOTE: digest}}}
        _ = await calls.merge("apps/v1", "Deployment", meta["name"], note, meta["namespace"])

    async def _until_started(
        self, calls: Calls, deployment_id: str, device_id: str
    ) -> ContainerStatus:
        loop = asyncio.get_running_loop()
        end = loop.time() + STARTED_S
        while True:
            (status,) = await self._statuses(calls, device_id, [deployment_id])
            if status.state not in {"starting", "absent"} or loop.time() >= end:
                return status
            await asyncio.sleep(POLL_S)

    async def stop(self, device_id: str, deployment_id: str, grace_s: float) -> ContainerStatus:
        """Its Deployment stays, without a pod."""
        async with self._at(device_id) as (calls, seat):
            seen = await self._find(calls, deployment_id)
            if seen is None:
                return ContainerStatus(deployment_id, "absent")
            if seen["spec"].get("replicas", 1):
                self._keep_tail(deployment_id, await self._tail(calls, deployment_id, 200))
                namespace = seen["metadata"]["namespace"]
                stopped = await calls.merge(
                    "apps/v1", "Deployment", deployment_id, {"spec": {"replicas": 0}}, namespace
                )
                await self._note_made(calls, stopped)
            if not await self._until_no_pod(calls, deployment_id, grace_s):
                _ = await seen_node(calls, seat)  # raises NodeAway where that is why
            (status,) = await self._statuses(calls, device_id, [deployment_id])
            return status

    async def remove(
        self, device_id: str, deployment_id: str, grace_s: float, keep_log_lines: int
    ) -> RemovedContainer:
        """A node that is away loses its pod when it is back: the cluster has been told."""
        if await self._locate(device_id) is None:
            return RemovedContainer(removed=False)
        async with self._at(device_id) as (calls, seat):
            seen = await self._find(calls, deployment_id)
            lines = await self._tail(calls, deployment_id, keep_log_lines)
            pods = await self._pods(calls, deployment_id)
            last = status_of(deployment_id, seen, pods)
            if seen is not None:
                with contextlib.suppress(KubeObjectMissing):
                    await calls.delete(
                        "apps/v1", "Deployment", deployment_id, seen["metadata"]["namespace"]
                    )
            for pod in pods:
                await self._end_pod(calls, pod, grace_s)
            with contextlib.suppress(NodeAway):
                _ = await seen_node(calls, seat)
                _ = await self._until_no_pod(calls, deployment_id, grace_s)
            await self._drop_secrets(calls, deployment_id)
        lines = lines or self._tails.pop(deployment_id, [])
        return RemovedContainer(seen is not None or bool(pods), lines[-keep_log_lines:], last)

    async def _end_pod(self, calls: Calls, pod: Mapping[str, Any], grace_s: float) -> None:
        meta = pod["metadata"]
        with contextlib.suppress(KubeObjectMissing):
            await calls.delete(
                "v1", "Pod", meta["name"], meta["namespace"], grace_s=max(1, round(grace_s))
            )

    async def _until_no_pod(self, calls: Calls, deployment_id: str, grace_s: float) -> bool:
        """Whether they are gone; of a node that does not answer they stay until it does."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s + MARGIN_S
        while await self._pods(calls, deployment_id):
            if loop.time() >= end:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _drop_secrets(self, calls: Calls, deployment_id: str, *, keep: str = "") -> None:
        found, _ = await calls.list("v1", "Secret", labels={specs.DEPLOYMENT_LABEL: deployment_id})
        for one in found:
            meta = one["metadata"]
            if meta["name"] != keep:
                with contextlib.suppress(KubeObjectMissing):
                    await calls.delete("v1", "Secret", meta["name"], meta["namespace"])

    # --- looking

    async def status(self, device_id: str, deployment_ids: Sequence[str]) -> list[ContainerStatus]:
        """Raises NodeAway while the node does not answer: what the API remembers is old then."""
        if await self._locate(device_id) is None:
            return [ContainerStatus(one, "absent") for one in deployment_ids]
        async with self._at(device_id) as (calls, seat):
            _ = await seen_node(calls, seat)
            return await self._statuses(calls, device_id, deployment_ids)

    async def _statuses(
        self, calls: Calls, device_id: str, deployment_ids: Sequence[str]
    ) -> list[ContainerStatus]:
        """Two questions, however many there are."""
        labels = {DEVICE_LABEL: device_id}
        made, _ = await calls.list("apps/v1", "Deployment", labels=labels)
        pods, _ = await calls.list("v1", "Pod", labels=labels)
        by_name = {one["metadata"]["name"]: one for one in made}
        return [
            status_of(one, by_name.get(one), [pod for pod in pods if _belongs(pod, one)])
            for one in deployment_ids
        ]

    async def _find(self, calls: Calls, deployment_id: str) -> dict[str, Any] | None:
        for namespace in _NAMESPACES:
            with contextlib.suppress(KubeObjectMissing):
                return await calls.get("apps/v1", "Deployment", deployment_id, namespace)
        return None

    async def _pods(self, calls: Calls, deployment_id: str) -> list[dict[str, Any]]:
        found, _ = await calls.list("v1", "Pod", labels={specs.DEPLOYMENT_LABEL: deployment_id})
        return found

    # --- logs

    async def logs(
        self,
        device_id: str,
        deployment_id: str,
        *,
        since_ms: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLines]:
        async with self._at(device_id) as (calls, _seat):
            pods = await self._pods(calls, deployment_id)
            pod = current(pods) or (pods[-1] if pods else None)
            if pod is None:
                kept = self._tails.get(deployment_id)
                if kept is None:
                    raise NoContainer(deployment_id=deployment_id)
                yield LogLines(kept[-tail:] if tail else kept)
                return
            pieces = read_logs(calls, pod, since_ms=since_ms, follow=follow, tail=tail)
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece

    async def _tail(self, calls: Calls, deployment_id: str, lines: int) -> list[LogLine]:
        """Last words, where they can be had in a moment."""
        found: list[LogLine] = []
        try:
            async with asyncio.timeout(TAIL_S):
                pods = await self._pods(calls, deployment_id)
                pod = current(pods) or (pods[-1] if pods else None)
                if pod is not None:
                    async for piece in read_logs(calls, pod, tail=lines):
                        found += piece.lines
        except (TimeoutError, KubeUnreachable, KubeRefused):
            return found
        return found

    def _keep_tail(self, deployment_id: str, lines: list[LogLine]) -> None:
        self._tails[deployment_id] = lines
        while len(self._tails) > _KEPT_TAILS:
            self._tails.popitem(last=False)


def _belongs(pod: Mapping[str, Any], deployment_id: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return bool(labels.get(specs.DEPLOYMENT_LABEL) == deployment_id)
