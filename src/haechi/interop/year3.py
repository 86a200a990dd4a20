"""INTERFACES 7: the third year's three servers in one. AIs have a class; 7.2 follows an upload."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from haechi.core.pages import MAX_LIMIT
from haechi.domains.collaboration.model import AiVersion, newest, variant_of_name
from haechi.domains.collaboration.neighbours import ai_version
from haechi.domains.deployments.model import DeploymentState
from haechi.domains.packages.model import Package, PackageVersion
from haechi.errors import Text
from haechi.interop import fields as f
from haechi.interop.codes import Refusal, reply
from haechi.interop.deploys import DeployCalls, deploy_reply
from haechi.interop.endpoint import Answer, Call, Endpoint, ok
from haechi.interop.fields import Field
from haechi.interop.held import HeldCalls, Progress, key_of
from haechi.interop.inventory import InventoryCalls
from haechi.interop.lookups import Lookups
from haechi.interop.packages import VERSION_FIELD
from haechi.interop.services import Services
from haechi.interop.uploads import Uploads, Wanted

STEM_FIELD: Final = Field(
    ("filename",), f.STEM, Text("파일 이름 (.zip 없이)", "file name without .zip"), required=True
)
CLASS_FIELD: Final = Field(("ai_class",), f.CLASS, Text("분류 00-06", "class 00-06"), required=True)
AID: Final = Field(("aid", "id"), f.ID, Text("AI ID", "AI id"), required=True)
NID: Final = Field(("nid",), f.ID, Text("노드 ID", "node id"), required=True)


class Year3Calls:
    def __init__(
        self, services: Services, lookups: Lookups, held: HeldCalls, uploads: Uploads
    ) -> None:
        self._s = services
        self._lookups = lookups
        self._held = held
        self._uploads = uploads

    async def ping(self, _call: Call) -> Answer:
        return ok()

    # --- upload and 7.2

    async def upload(self, call: Call) -> Answer:
        """Upload, build, then replace older versions wherever they run."""
        values = call.values
        family, class_ = _without_class(values["filename"], values["ai_class"]), values["ai_class"]
        wanted = Wanted(
            (f"{family}-{class_}.zip", f"{family}.zip"),
            values["version"],
            name=f"{family}-{class_}",
        )
        aid = values.get("aid")
        if aid is not None:
            await self._check_aid(aid, wanted)

        async def work(progress: Progress) -> dict[str, Any]:
            version, done = await self._uploads.take_in(wanted, call.caller.by, progress)
            if aid is not None:
                await self._lookups.new_alias("version", aid, version.id)
            spread = await self._spread(version, call, progress)
            return {**done, "aid": aid or version.id, **spread}

        key = key_of("upload3", {"wanted": wanted.name, "version": wanted.version, "aid": aid})
        reply_ = await self._held.run(key, [wanted.subject], work, disconnected=call.disconnected)
        return Answer(reply_)

    async def _check_aid(self, aid: str, wanted: Wanted) -> None:
        known = await self._lookups.known_ai(aid)
        if known is None:
            return
        package = (await self._s.packages.get(known.package_id)).package
        if (package.original_name, known.version) != (wanted.name, wanted.version):
            raise Refusal(
                "0003",
                f"aid '{aid}'은(는) {package.original_name} {known.version}의 것입니다.",
                f"aid '{aid}' belongs to {package.original_name} {known.version}.",
            )

    async def _spread(
        self, version: PackageVersion, call: Call, progress: Progress
    ) -> dict[str, Any]:
        spread = await self._s.versions.spread(version.id, by=call.caller.by)
        if not spread.operations:
            return {"nodes": []}
        shown = await self._lookups.shown_devices()
        nodes: list[dict[str, Any]] = []
        for operation in spread.operations:
            progress.operation(operation.id)
            ended = await self._s.operations.wait(operation.id)
            refs = {one: shown(one) for one in ended.ctx["device_ids"]}
            nodes += deploy_reply(ended, refs, call.language)["nodes"]
        bad = [node for node in nodes if node["code"] != "0000"]
        if not bad:
            return {"nodes": nodes, "operation_id": progress.operation_id}
        return {
            **reply("0014", detail=f"{len(bad)}/{len(nodes)}", state="failed", nodes=nodes),
            "operation_id": progress.operation_id,
        }

    # --- what is there

    async def uploaded_ai(self, call: Call) -> Answer:
        version = await self._lookups.ai(call.values["aid"])
        package = (await self._s.packages.get(version.package_id)).package
        variant = ai_version(package, version).variant
        return ok(
            aid=call.values["aid"],
            filename=variant.family,
            version=version.version,
            ai_class=variant.class_,
        )

    async def ais_by_node(self, call: Call) -> Answer:
        device = await self._lookups.device(call.values["nid"])
        page = await self._s.deployments.book.find(device_id=device.id, limit=MAX_LIMIT)
        shown = await self._lookups.shown_ais()
        there = [one.version_id for one in page.items if one.state == DeploymentState.RUNNING]
        return ok(aid_list=[shown(one) for one in dict.fromkeys(there)])

    async def nodes_by_ai(self, call: Call) -> Answer:
        version = await self._lookups.ai(call.values["aid"])
        page = await self._s.deployments.book.find(version_id=version.id, limit=MAX_LIMIT)
        shown = await self._lookups.shown_devices()
        there = [one.device_id for one in page.items if one.state == DeploymentState.RUNNING]
        return ok(nid_list=[shown(one) for one in dict.fromkeys(there)])

    async def ai_by_name_and_class(self, call: Call) -> Answer:
        return await self._newest(call, without=None)

    async def other_ai_by_name_and_class(self, call: Call) -> Answer:
        return await self._newest(call, without=call.values["version"])

    async def _newest(self, call: Call, *, without: str | None) -> Answer:
        values = call.values
        family = _without_class(values["filename"], values["class"])
        found = [
            one
            for one in await self._built(family, values["class"])
            if without is None or one.version != without
        ]
        best = newest(found)
        if best is None:
            raise Refusal("0004", status=404, more={"error": "aid not found"})
        shown = await self._lookups.shown_ais()
        return ok(aid=shown(best.version_id))

    async def _built(self, family: str, class_: str) -> Sequence[AiVersion]:
        """Only what is built is listed."""
        found: list[tuple[Package, PackageVersion]] = []
        for summary in (await self._s.packages.find(limit=MAX_LIMIT)).items:
            package = summary.package
            versions = (await self._s.packages.versions(package.id, limit=MAX_LIMIT)).items
            found += [(package, version) for version in versions]
        facts = await self._s.packages.build_facts([version.id for _, version in found])
        built = [
            ai_version(package, version)
            for package, version in found
            if version.id in facts and facts[version.id].state == "built"
        ]
        return [
            one for one in built if (one.variant.family, one.variant.class_) == (family, class_)
        ]


def _without_class(stem: str, class_: str) -> str:
    """`weather-cam-02` with class 02 → `weather-cam`; another ending is part of the name."""
    variant = variant_of_name(stem)
    return variant.family if variant.class_ == class_ else stem


def endpoints(calls: Year3Calls, deploys: DeployCalls, inventory: InventoryCalls) -> list[Endpoint]:
    upload_codes = ("0003", "0014", "0019", "0020")
    upload_text = Text(
        "분류가 있는 AI 업로드, 빌드, 이전 버전 교체",
        "Upload an AI of a class, build, replace older",
    )
    free_aid = replace(AID, required=False)
    whole = (STEM_FIELD, VERSION_FIELD, CLASS_FIELD)

    def post(path: str, **given: Any) -> Endpoint:
        return Endpoint("POST", path, section="7", long=True, **given)

    def get(path: str, handler: Any, text: Text, *fields: Field, **given: Any) -> Endpoint:
        return Endpoint("GET", path, handler, "7", text, fields, needs="look", **given)

    uploads = [
        post(
            path,
            handler=calls.upload,
            text=upload_text,
            fields=(*first, *whole),
            reply=("id", "aid", "digest", "nodes"),
            codes=upload_codes,
            when=when,
        )
        for path, first, when in (
            ("/request_upload_edgeAi", (free_aid,), ()),
            ("/upload_edgeAi", (AID,), ("aid", "nid")),
            ("/upload_edgeAI", (AID,), ()),
            ("/optimize_by_version", (free_aid,), ()),
        )
    ]
    pair = (replace(AID, names=("aid", "sid")), replace(NID, names=("nid", "did", "wid")))
    moves = [
        post(
            path,
            handler=handler,
            text=text,
            fields=pair,
            reply=("nodes",),
            codes=codes,
        )
        for path, handler, text, codes in (
            (
                "/request_deploy_aiToDevice",
                deploys.deploy_to_device,
                Text("노드에 배포", "Deploy to a node"),
                ("0004", "0014", "0020"),
            ),
            (
                "/request_undeploy_aiFromDevice",
                deploys.undeploy,
                Text("노드에서 AI 제거", "Remove an AI from a node"),
                ("0004", "0014"),
            ),
            (
                "/undeploy_aiFromDevice",
                deploys.undeploy,
                Text("노드에서 AI 제거", "Remove an AI from a node"),
                ("0004", "0014"),
            ),
        )
    ]
    class_field = Field(("class",), f.CLASS, Text("분류 00-06", "class 00-06"), required=True)
    nip = Field(("nip",), f.ADDRESS, Text("노드 주소", "node address"), required=True)
    return [
        *uploads,
        *moves,
        get("/ping_to_master", calls.ping, Text("연결 확인", "Check the connection")),
        get("/ping_from_setup", calls.ping, Text("연결 확인", "Check the connection")),
        get(
            "/get_uploadedAiInfo",
            calls.uploaded_ai,
            Text("업로드된 AI 조회", "Look up an uploaded AI"),
            AID,
            reply=("aid", "filename", "version", "ai_class"),
            codes=("0004",),
        ),
        get(
            "/get_deployedAis_by_node",
            calls.ais_by_node,
            Text("노드에 배포된 AI 목록", "AIs deployed on a node"),
            NID,
            reply=("aid_list",),
            codes=("0004",),
        ),
        get(
            "/get_deployedNodes_by_aid",
            calls.nodes_by_ai,
            Text("AI가 배포된 노드 목록", "Nodes that an AI is deployed on"),
            AID,
            reply=("nid_list",),
            codes=("0004",),
        ),
        get(
            "/get_nid_by_ip",
            inventory.node_by_ip,
            Text("주소로 노드 찾기", "Find a node by its address"),
            nip,
            reply=("nid",),
            codes=("0004",),
        ),
        get(
            "/get_aid_by_fnameAndClass",
            calls.ai_by_name_and_class,
            Text("이름과 분류로 최신 AI 찾기", "Find the newest AI by name and class"),
            STEM_FIELD,
            class_field,
            reply=("aid",),
            codes=("0004",),
        ),
        get(
            "/get_aid_by_fnameAndClass_not_version",
            calls.other_ai_by_name_and_class,
            Text("그 버전이 아닌 최신 AI 찾기", "Find the newest AI of another version"),
            STEM_FIELD,
            class_field,
            VERSION_FIELD,
            reply=("aid",),
            codes=("0004",),
        ),
    ]
