"""The nodes of the small Kubernetes API: what its controllers and kubelets would do, by wish.

Deployments get their pod, pods are bound by node affinity, images are "pulled" from `registry`,
and containers behave as `behaviour` says of their image. A node in `away` does nothing, as one
that lost its power.
"""

import copy
import itertools
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from haechi.core.tasks import Tasks
from haechi.domains.clusters.model import DEVICE_LABEL
from haechi.testing.engine import Behaviour
from haechi.testing.kube_store import Key, KubeStore, Object, Refusal

STARTED: Final = "2026-01-02T03:04:05Z"
STATS: Final = {
    "node": {
        "memory": {"availableBytes": 1024**3},
        "runtime": {"imageFs": {"availableBytes": 10 * 1024**3}},
    }
}


@dataclass
class KubeNodes:
    store: KubeStore
    registry: set[str] = field(default_factory=set)
    """Images that can be pulled; of any other the registry says "not found"."""
    registry_error: str = ""
    """What kubelets say instead, e.g. `dial tcp 10.0.0.1:8425: connect: connection refused`."""
    images: dict[str, set[str]] = field(default_factory=dict)
    """By node."""
    behaviour: dict[str, Behaviour] = field(default_factory=dict)
    """Image → what its containers do; `up` unless said otherwise."""
    away: set[str] = field(default_factory=set)
    started: list[str] = field(default_factory=list)
    """Images whose containers really ran, in order."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def add(self, name: str, device_id: str, **labels: str) -> None:
        self.images.setdefault(name, set())
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {DEVICE_LABEL: device_id, "kubernetes.io/arch": "amd64", **labels},
            },
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                "allocatable": {"cpu": "2", "memory": "2Gi"},
                "nodeInfo": {
                    "kubeletVersion": "v1.36.3",
                    "architecture": "amd64",
                    "operatingSystem": "linux",
                },
            },
        }
        _ = await self.store.create(Key("v1", "nodes", "", name), node, manager="kubelet")
        self.store.raw[_stats_path(name)] = STATS

    async def lose(self, name: str, *, noticed: bool = True) -> None:
        """Its power. The API takes most of a minute to notice."""
        self.away.add(name)
        message = (
            "error trying to reach service: dial tcp 10.0.0.2:10250: connect: no route to host"
        )
        self.store.raw[_stats_path(name)] = Refusal(503, "ServiceUnavailable", message)
        if noticed:
            await self._ready(name, "Unknown", "Kubelet stopped posting node status.")

    async def bring_back(self, name: str, *, restarted: bool = False) -> None:
        """`restarted`: it had lost its power; what ran there begins again after a moment."""
        self.away.discard(name)
        self.store.raw[_stats_path(name)] = STATS
        await self._ready(name, "True", "kubelet is posting ready status")
        if restarted:
            ended = {"exitCode": 255, "reason": "Unknown"}
            await self._containers(name, state={"terminated": ended})
            await self._containers(
                name,
                state={"running": {"startedAt": STARTED}},
                lastState={"terminated": ended},
                restartCount=1,
            )

    async def _containers(self, node: str, **status: Any) -> None:
        """What its kubelet says of those of AIs."""
        for key, pod in list(self.store.objects.items()):
            told = pod.get("status", {}).get("containerStatuses")
            if key.plural == "pods" and pod["spec"].get("nodeName") == node and told:
                patch = {"status": {"containerStatuses": [{**told[0], **status}]}}
                _ = await self.store.merge(key, patch, subresource="status")

    async def _ready(self, name: str, status: str, message: str) -> None:
        condition = {"type": "Ready", "status": status, "reason": "x", "message": message}
        key = Key("v1", "nodes", "", name)
        patch = {"status": {"conditions": [condition]}}
        _ = await self.store.merge(key, patch, subresource="status")

    def running(self, device_id: str) -> list[str]:
        """Images of the containers that run there."""
        return sorted(
            pod["spec"]["containers"][0]["image"]
            for pod in self.store.find("Pod")
            if self._device(pod) == device_id
            and any("running" in one["state"] for one in pod["status"].get("containerStatuses", []))
        )

    @asynccontextmanager
    async def working(self) -> Any:
        self.store.keeps = self._keeps
        tasks = Tasks("kube-nodes")
        tasks.forever("work", self._work)
        try:
            yield self
        finally:
            await tasks.close()

    def _keeps(self, key: Key, one: Object) -> bool:
        """A pod that is on a node is finished by its kubelet."""
        return key.plural == "pods" and bool(one["spec"].get("nodeName"))

    async def _work(self) -> None:
        while True:
            version = self.store.version
            for key, one in list(self.store.objects.items()):
                if key.plural == "deployments":
                    await self._control(key, one)
                if key.plural == "pods" and key in self.store.objects:
                    await self._run(key, one)
            if self.store.version == version:
                await self.store.wait_beyond(version)

    async def _control(self, key: Key, seen: Object) -> None:
        """The deployment controller: one pod of the present template, or none."""
        mine = [
            pod
            for pod in self.store.find("Pod")
            if any(
                ref["uid"] == seen["metadata"]["uid"]
                for ref in pod["metadata"].get("ownerReferences") or []
            )
        ]
        template = seen["spec"]["template"]
        wanted = seen["spec"].get("replicas", 1)
        for pod in mine:
            if not wanted or pod["metadata"]["annotations"]["template"] != str(template):
                await self._delete(pod)
        if wanted and not mine:
            name = f"{key.name}-{next(self._numbers)}"
            meta = copy.deepcopy(template["metadata"])
            meta.setdefault("annotations", {})["template"] = str(template)
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    **meta,
                    "ownerReferences": [{"kind": "ReplicaSet", "uid": seen["metadata"]["uid"]}],
                },
                "spec": copy.deepcopy(template["spec"]),
                "status": {"phase": "Pending"},
            }
            pod_key = Key("v1", "pods", key.namespace, name)
            _ = await self.store.create(pod_key, pod, manager="controller")

    async def _delete(self, pod: Object) -> None:
        if "deletionTimestamp" not in pod["metadata"]:
            meta = pod["metadata"]
            await self.store.delete(Key("v1", "pods", meta["namespace"], meta["name"]))

    def _device(self, pod: Object) -> str:
        terms = pod["spec"]["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"][0]["matchExpressions"]
        return str(next(one["values"][0] for one in terms if one["key"] == DEVICE_LABEL))

    async def _run(self, key: Key, pod: Object) -> None:
        node = pod["spec"].get("nodeName")
        if not node:
            node = self._node_for(pod)
            if node is None:
                return
            _ = await self.store.merge(key, {"spec": {"nodeName": node}}, manager="scheduler")
            return
        if node in self.away:
            return
        if "deletionTimestamp" in pod["metadata"]:
            await self.store.remove(key)
            return
        if not (pod["status"].get("containerStatuses")):
            await self._begin(key, pod, node)

    def _node_for(self, pod: Object) -> str | None:
        for node in self.store.find("Node"):
            if node["metadata"]["labels"].get(DEVICE_LABEL) == self._device(pod):
                return str(node["metadata"]["name"])
        return None

    async def _begin(self, key: Key, pod: Object, node: str) -> None:
        container = pod["spec"]["containers"][0]
        image = container["image"]
        status: Object = {"name": container["name"], "image": image, "restartCount": 0}
        if image not in self.images[node] and not self.registry_error and image in self.registry:
            self.images[node].add(image)
            await self._report_images(node)
        if image not in self.images[node]:
            said = self.registry_error or f'failed to resolve reference "{image}": not found'
            status["state"] = {"waiting": {"reason": "ErrImagePull", "message": said}}
        elif container.get("command"):
            ended = {"reason": "StartError", "exitCode": 128, "message": "no such file"}
            status |= {"imageID": f"id-of-{image[-8:]}", "state": {"terminated": ended}}
        else:
            status |= self._life(image)
        patch = {"status": {"phase": "Running", "containerStatuses": [status]}}
        _ = await self.store.merge(key, patch, subresource="status")

    def _life(self, image: str) -> Object:
        self.started.append(image)
        behaviour = self.behaviour.get(image, "up")
        ran = {"containerID": f"containerd://c{len(self.started)}"}
        ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
        if behaviour == "crash":
            waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
            return {**ran, "restartCount": 2, "state": waiting, "lastState": ended}
        if behaviour == "mute":
            return {"state": {"waiting": {"reason": "ContainerCreating"}}}
        return {**ran, "state": {"running": {"startedAt": STARTED}}}

    async def _report_images(self, node: str) -> None:
        images = [{"names": [one]} for one in sorted(self.images[node])]
        key = Key("v1", "nodes", "", node)
        _ = await self.store.merge(key, {"status": {"images": images}}, subresource="status")


def _stats_path(node: str) -> str:
    return f"/api/v1/nodes/{node}/proxy/stats/summary"
