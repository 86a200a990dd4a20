"""INTERFACES 4.1, 4.2, 4.5-4.7: clusters are formed and deleted, AIs deployed and removed.

One bad host stops no other; each has its own entry in `nodes`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from haechi.core.operations import Operation, State
from haechi.core.pages import MAX_LIMIT
from haechi.domains.deployments.model import Deployment
from haechi.domains.inventory.model import Device
from haechi.domains.packages.model import PackageVersion
from haechi.errors import Busy, Language, Text
from haechi.interop import fields as f
from haechi.interop.clusters import ClusterOutcome
from haechi.interop.codes import CODES, Refusal, reply
from haechi.interop.endpoint import Answer, Call, Endpoint
from haechi.interop.fields import Field
from haechi.interop.held import HeldCalls, Progress, key_of
from haechi.interop.inventory import zip_name
from haechi.interop.lookups import ForeignAi, Lookups
from haechi.interop.problems import code_of, explain, of_saved
from haechi.interop.services import Services
from haechi.interop.uploads import Uploads, Wanted

MAX_LOG_LINES: Final = 20
MID: Final = Field(("mid",), f.ID, Text("마스터 ID", "master id"), required=True)
WLIST: Final = Field(
    ("wlist",), f.WORKERS, Text("작업 장치 목록", "list of workers"), required=True
)
SID: Final = Field(("sid", "aid"), f.ID, Text("AI ID", "AI id"), required=True)
CID: Final = Field(("cid",), f.ID, Text("클러스터 ID", "cluster id"), required=True)
DID: Final = Field(("did", "wid", "nid", "eid"), f.ID, Text("장치 ID", "device id"), required=True)
CLUSTER_NAME: Final = Field(("name",), f.NAME, Text("표시 이름", "display name"), required=True)


class DeployCalls:
    def __init__(
        self, services: Services, lookups: Lookups, held: HeldCalls, uploads: Uploads
    ) -> None:
        self._s = services
        self._lookups = lookups
        self._held = held
        self._uploads = uploads

    # --- clusters

    async def form_cluster(self, call: Call) -> Answer:
        """Also /add_newCluster, which gives a name."""
        values = call.values
        master = await self._lookups.device(values["mid"], master=True)
        workers = [await self._lookups.device(wid) for wid in values["wlist"]]
        refs = dict(zip((one.id for one in workers), values["wlist"], strict=True))
        refs[master.id] = values["mid"]
        name = values.get("name") or master.name

        async def work(progress: Progress) -> dict[str, Any]:
            outcome = await self._s.clusters.form(
                master.id, [one.id for one in workers], name=name, by=call.caller.by
            )
            return _cluster_reply(outcome, refs, progress, call.language)

        key = key_of("form", {"mid": master.id, "wids": sorted(one.id for one in workers)})
        subjects = [f"host/{one.id}" for one in [master, *workers]]
        return Answer(await self._held.run(key, subjects, work, disconnected=call.disconnected))

    async def delete_cluster(self, call: Call) -> Answer:
        cluster = await self._lookups.cluster(call.values["id"], deleted=True)
        shown = await self._lookups.shown_devices()
        refs = {one: shown(one) for one in [cluster.mid, *cluster.wids]}

        async def work(progress: Progress) -> dict[str, Any]:
            outcome = await self._s.clusters.delete(cluster.id, by=call.caller.by)
            return _cluster_reply(outcome, refs, progress, call.language)

        key = key_of("delete_cluster", {"id": cluster.id})
        subjects = [f"host/{one}" for one in [cluster.mid, *cluster.wids]]
        return Answer(await self._held.run(key, subjects, work, disconnected=call.disconnected))

    # --- deploy

    async def deploy_to_device(self, call: Call) -> Answer:
        sid, did = _pair(call)
        device = await self._lookups.device(did)
        return await self.deploy(call, sid, [device], {device.id: did})

    async def deploy_to_cluster(self, call: Call) -> Answer:
        cluster = await self._lookups.cluster(call.values["cid"])
        shown = await self._lookups.shown_devices()
        workers = [await self._s.inventory.devices.get(wid) for wid in cluster.wids]
        if not workers:
            raise Refusal("0020", "클러스터에 작업 장치가 없습니다.", "The cluster has no workers.")
        refs = {one.id: shown(one.id) for one in workers}
        return await self.deploy(call, call.values["sid"], workers, refs)

    async def deploy(
        self, call: Call, sid: str, devices: Sequence[Device], refs: dict[str, str]
    ) -> Answer:
        ai = await self._lookups.ai_or_foreign(sid)
        device_ids = [one.id for one in devices]

        async def work(progress: Progress) -> dict[str, Any]:
            version = await self._fetched(ai, call, progress)
            operation = await self._s.deployments.deploy_package(
                version.id, device_ids, by=call.caller.by
            )
            progress.operation(operation.id)
            ended = await self._s.operations.wait(operation.id)
            return deploy_reply(ended, refs, call.language)

        identity = ai.id if isinstance(ai, PackageVersion) else f"{ai.file_name}:{ai.version}"
        package = ai.package_id if isinstance(ai, PackageVersion) else ai.file_name
        key = key_of("deploy", {"ai": identity, "devices": sorted(device_ids)})
        subjects = [f"{package}@{device_id}" for device_id in device_ids]
        return Answer(await self._held.run(key, subjects, work, disconnected=call.disconnected))

    async def _fetched(
        self, ai: PackageVersion | ForeignAi, call: Call, progress: Progress
    ) -> PackageVersion:
        """A package that only the VMS knows is uploaded first."""
        if isinstance(ai, PackageVersion):
            return ai
        wanted = Wanted((zip_name(ai.file_name),), ai.version)
        version, _ = await self._uploads.take_in(wanted, call.caller.by, progress)
        await self._lookups.keep_alias("version", ai.ref, version.id)
        return version

    # --- remove

    async def undeploy(self, call: Call) -> Answer:
        sid, did = _pair(call)
        device = await self._lookups.device(did)
        version = await self._lookups.ai(sid)
        return Answer(await self.undeploy_version(call, version, device, did))

    async def undeploy_version(
        self, call: Call, version: PackageVersion, device: Device, ref: str
    ) -> dict[str, Any]:
        page = await self._s.deployments.book.find(
            device_id=device.id, version_id=version.id, limit=MAX_LIMIT
        )
        there: list[Deployment] = page.items
        if not there:
            raise Refusal(
                "0004",
                f"{version.package_name} {version.version}은(는) '{device.name}'에 없습니다.",
                f"{version.package_name} {version.version} is not deployed on '{device.name}'.",
            )

        async def work(progress: Progress) -> dict[str, Any]:
            return await self._remove_all(there, ref, call, progress)

        key = key_of("undeploy", {"version": version.id, "device": device.id})
        subjects = [f"{version.package_id}@{device.id}"]
        return await self._held.run(key, subjects, work, disconnected=call.disconnected)

    async def _remove_all(
        self, there: list[Deployment], ref: str, call: Call, progress: Progress
    ) -> dict[str, Any]:
        """Containers of one package on one device are removed one after the other."""
        node: dict[str, Any] = _node(ref, "0000")
        for one in there:
            operation = await self._removal(one, call)
            progress.operation(operation.id)
            ended = await self._s.operations.wait(operation.id)
            if ended.state != State.SUCCEEDED:
                node = _failed_node(ref, ended.error, call.language)
            elif ended.ctx.get("result", {}).get("outcome") == "pending":
                detail = Text(
                    "장치가 연결되어 있지 않아, 다시 연결되면 제거합니다.",
                    "The device is not connected; the AI goes when it returns.",
                )
                node = _node(ref, "0014", getattr(detail, call.language))
        return _summed([node], progress.operation_id)

    async def _removal(self, one: Deployment, call: Call) -> Operation:
        try:
            return await self._s.deployments.remove_deployment(one.id, by=call.caller.by)
        except Busy as busy:
            holder = await self._s.operations.get(str(busy.data["operation_id"]))
            if holder.kind == "remove_deployment" and holder.ctx.get("deployment_id") == one.id:
                return holder
            raise


def _pair(call: Call) -> tuple[str, str]:
    """AI and device: `sid`, `did` in year 2; `aid`, `nid` in year 3."""
    return call.get("sid") or call.get("aid"), call.get("did") or call.get("nid")


# --- replies


def _node(ref: str, code: str, detail: str = "", **more: Any) -> dict[str, Any]:
    return {"id": ref, **reply(code, detail=detail, **more)}


def _failed_node(ref: str, saved: dict[str, Any] | None, language: Language) -> dict[str, Any]:
    error = of_saved(saved)
    if error is None:
        return _node(ref, "0014")
    more: dict[str, Any] = {}
    lines = error.data.get("log")
    if isinstance(lines, list) and lines:
        more["log"] = [str(line) for line in lines[-MAX_LOG_LINES:]]
    if error.code == "core.busy":
        more["busy_with"] = error.data.get("operation_id", "")
    return _node(ref, code_of(error), explain(error, language), **more)


def _summed(nodes: list[dict[str, Any]], operation_id: str) -> dict[str, Any]:
    """All good: 0000. One host alone: its own code. Else 0014."""
    bad = [node for node in nodes if node["code"] != "0000"]
    if not bad:
        return reply("0000", operation_id=operation_id, state="done", nodes=nodes)
    code = bad[0]["code"] if len(nodes) == 1 else "0014"
    more = {"busy_with": bad[0]["busy_with"]} if "busy_with" in bad[0] and len(nodes) == 1 else {}
    detail = str(bad[0].get("detail", "")) if len(bad) == 1 else f"{len(bad)}/{len(nodes)}"
    return reply(
        code, detail=detail, operation_id=operation_id, state="failed", nodes=nodes, **more
    )


def deploy_reply(ended: Operation, refs: dict[str, str], language: Language) -> dict[str, Any]:
    rows = ended.ctx.get("result", {}).get("devices", [])
    nodes = []
    for row in rows:
        ref = refs.get(row["device_id"], row["device_id"])
        if row["state"] == State.SUCCEEDED:
            nodes.append(_node(ref, "0000"))
        else:
            nodes.append(_failed_node(ref, row.get("error"), language))
    if not nodes:  # ended before it came to any device
        nodes = [_failed_node(ref, ended.error, language) for ref in refs.values()]
    return _summed(nodes, ended.id)


def _cluster_reply(
    outcome: ClusterOutcome, refs: dict[str, str], progress: Progress, language: Language
) -> dict[str, Any]:
    if outcome.operation_id:
        progress.operation(outcome.operation_id)
    text: Callable[[Text], str] = lambda given: str(getattr(given, language))  # noqa: E731
    nodes = [
        _node(refs.get(node.device_id, node.device_id), node.code, text(node.detail))
        for node in outcome.nodes
    ]
    assert outcome.code in CODES
    more: dict[str, Any] = {"operation_id": outcome.operation_id} if outcome.operation_id else {}
    state = "done" if outcome.code == "0000" else "failed"
    return reply(
        outcome.code,
        detail=text(outcome.detail),
        id=outcome.cluster.id,
        state=state,
        nodes=nodes,
        **more,
    )


def endpoints(calls: DeployCalls) -> list[Endpoint]:
    forming = ("0003", "0004", "0014", "0020")
    return [
        Endpoint(
            "POST",
            "/add_newCluster",
            calls.form_cluster,
            "3",
            Text("클러스터 등록 후 구성", "Register and form a cluster"),
            (CLUSTER_NAME, MID, WLIST),
            ("id", "nodes"),
            forming,
            long=True,
        ),
        Endpoint(
            "POST",
            "/add_newEdgeCluster",
            calls.form_cluster,
            "4.1",
            Text("클러스터 구성 (2.4.3)", "Form a cluster (2.4.3)"),
            (MID, WLIST),
            ("id", "nodes"),
            forming,
            long=True,
        ),
        Endpoint(
            "POST",
            "/remove_selectedEdgeCluster",
            calls.delete_cluster,
            "4.2",
            Text("클러스터 삭제 (2.4.4)", "Delete a cluster (2.4.4)"),
            (Field(("id",), f.ID, Text("클러스터 ID", "cluster id"), required=True),),
            ("nodes",),
            ("0004", "0014"),
            long=True,
        ),
        Endpoint(
            "POST",
            "/deploy_aiToCluster",
            calls.deploy_to_cluster,
            "4.5",
            Text(
                "클러스터의 모든 작업 장치에 배포 (2.6.1)",
                "Deploy to all workers of a cluster (2.6.1)",
            ),
            (SID, CID),
            ("nodes",),
            ("0004", "0014", "0020"),
            long=True,
        ),
        Endpoint(
            "POST",
            "/deploy_aiToDevice",
            calls.deploy_to_device,
            "4.6",
            Text("장치에 배포 (2.6.2)", "Deploy to a device (2.6.2)"),
            (SID, DID),
            ("nodes",),
            ("0004", "0014", "0020"),
            long=True,
        ),
        Endpoint(
            "POST",
            "/remove_deploySwInfo",
            calls.undeploy,
            "4.7",
            Text("장치에서 AI 제거", "Remove an AI from a device"),
            (SID, DID),
            ("nodes",),
            ("0004", "0014"),
            long=True,
        ),
    ]
