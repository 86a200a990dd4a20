"""INTERFACES 3: masters, devices and clusters are registered and looked up."""

import asyncio
import contextlib
from typing import Any, Final

from haechi.core.secrets import Secret
from haechi.domains.inventory import rtsp, rules
from haechi.domains.inventory.cameras import CameraFields
from haechi.domains.inventory.devices import DeviceFields
from haechi.domains.inventory.model import Camera, Device
from haechi.errors import ObjectNotFound, Text
from haechi.interop import fields as f
from haechi.interop.codes import Refusal
from haechi.interop.endpoint import Answer, Call, Endpoint, ok
from haechi.interop.fields import Field
from haechi.interop.lookups import Lookups
from haechi.interop.services import Services

_COMMON: Final = (
    Field(("name",), f.NAME, Text("표시 이름", "display name"), required=True),
    Field(("ip",), f.ADDRESS, Text("주소 (IP 또는 호스트 이름)", "address"), required=True),
    Field(("id",), f.ID, Text("외부 ID", "foreign id")),
    Field(("port",), f.PORT, Text("포트", "port")),
    Field(("description",), f.TEXT, Text("설명", "description")),
    Field(
        ("host_name",),
        f.HOST_NAME,
        Text("노드 이름이자 기본 SSH 사용자", "node name and default SSH user"),
    ),
    Field(("host_pwd",), f.SECRET, Text("SSH 비밀번호", "SSH password")),
)
MASTER_FIELDS: Final = _COMMON
DEVICE_FIELDS: Final = (
    *_COMMON,
    Field(("type",), f.TYPE, Text("종류 (1)", "type (1)")),
    Field(("gps",), f.GPS, Text("좌표", "coordinates")),
    Field(("address",), f.TEXT, Text("우편 주소", "postal address")),
    Field(("isSupportAnnalysis",), f.YES_NO, Text("분석 지원", "supports analysis")),
    Field(("url",), f.CAMERA_URL, Text("카메라 주소", "camera URL")),
)
_PARTS: Final = {
    "id": "ID",
    "name": "이름",
    "ip": "IP",
    "host_name": "호스트 이름",
    "host": "이 호스트",
}
ID_FIELD: Final = Field(("id",), f.ID, Text("ID", "id"), required=True)


class InventoryCalls:
    def __init__(self, services: Services, lookups: Lookups) -> None:
        self._s = services
        self._lookups = lookups
        self._adding = asyncio.Lock()

    # --- add

    async def add_master(self, call: Call) -> Answer:
        return await self._add(call, master=True)

    async def add_device(self, call: Call) -> Answer:
        return await self._add(call, master=False)

    async def _add(self, call: Call, *, master: bool) -> Answer:
        async with self._adding:  # the same body twice at once is one host
            return await self._add_one(call, master=master)

    async def _add_one(self, call: Call, *, master: bool) -> Answer:
        values = call.values
        wanted = _wanted(values, master=master)
        devices = self._s.inventory.devices
        known = await self._known(values, wanted, master=master)
        if known is None:
            known = await devices.create(wanted, by=call.caller.by, alias=values.get("id", ""))
        else:
            await devices.edit(known.id, wanted, by=call.caller.by)
            if values.get("id"):
                await self._lookups.new_alias("device", values["id"], known.id)
        if values.get("url"):
            await self._set_camera(known, values["url"], call)
        return ok(id=values.get("id") or known.id)

    async def _known(
        self, values: dict[str, Any], wanted: DeviceFields, *, master: bool
    ) -> Device | None:
        """The same host registered before. Raises Refusal 0003 where a part of it is another's."""
        devices = self._s.inventory.devices
        found: dict[str, Device] = {}
        if values.get("id"):
            with contextlib.suppress(ObjectNotFound):
                found["id"] = await devices.get(values["id"])
        by_name = await devices.by_name(wanted["name"])
        if by_name is not None:
            found["name"] = by_name
        for one in await devices.all():
            if one.address == wanted["address"]:
                found["ip"] = one
            if wanted.get("host_name") and one.host_name == wanted["host_name"]:
                found["host_name"] = one
        if not found:
            return None
        name, first = next(iter(found.items()))
        same = (
            {one.id for one in found.values()} == {first.id}
            and first.address == wanted["address"]
            and rules.name_key(first.name) == rules.name_key(wanted["name"])
            and (first.role == "server") == master
            and first.host_name == wanted.get("host_name", first.host_name)
        )
        if same and values.get("id") and "id" not in found:
            # A host that an old program knows by another id is another host to it.
            foreign = (await self._s.inventory.aliases("device")).get(first.id, [])
            name, same = "host", not foreign
        if not same:
            raise Refusal(
                "0003",
                f"{_PARTS[name]}은(는) 이미 등록된 '{first.name}'({first.id})의 것입니다.",
                f"The {name} already belongs to '{first.name}' ({first.id}).",
            )
        return first

    async def _set_camera(self, device: Device, url: str, call: Call) -> None:
        cameras = self._s.inventory.cameras
        mine = await cameras.of_device(device.id)
        shown = rtsp.parse(url).shown
        same = next((one for one in mine if one.url == shown), None)
        target = same or (mine[0] if len(mine) == 1 else None)
        fields: CameraFields = {"url": url}
        if target is not None:
            await cameras.edit(target.id, fields, by=call.caller.by)
            return
        taken = await cameras.by_name(device.name)
        name = device.name if taken is None else f"{device.name[:110]} {device.id[-6:]}"
        new: CameraFields = {"name": name, "device_id": device.id, "url": url, "gps": device.gps}
        await cameras.create(new, by=call.caller.by)

    # --- look up

    async def master_info(self, call: Call) -> Answer:
        device = await self._lookups.device(call.values["id"], master=True)
        return ok(
            id=call.values["id"],
            name=device.name,
            ip=address_of(device),
            port=_port(device),
            description=device.description,
            host_name=device.host_name or "",
        )

    async def device_info(self, call: Call) -> Answer:
        device = await self._lookups.device(call.values["id"])
        camera = await self._camera_of(device)
        return ok(
            id=call.values["id"],
            name=device.name,
            type=device.type,
            gps=_gps(device),
            address=device.postal_address,
            ip=address_of(device),
            port=_port(device),
            isSupportAnnalysis="YES" if device.supports_analysis else "NO",
            url=camera.url if camera else "",
            description=device.description,
            host_name=device.host_name or "",
        )

    async def _camera_of(self, device: Device) -> Camera | None:
        mine = await self._s.inventory.cameras.of_device(device.id)
        return min(mine, key=lambda one: one.created_at, default=None)

    async def edge_list(self, _call: Call) -> Answer:
        shown = await self._lookups.shown_devices()
        devices = await self._s.inventory.devices.all()
        return ok(list=[{"id": shown(one.id), "name": one.name} for one in devices])

    async def edge_info(self, call: Call) -> Answer:
        device = await self._lookups.device(call.values["id"])
        return ok(
            id=call.values["id"],
            name=device.name,
            type="Master" if device.role == "server" else "Device",
            ip=address_of(device),
            port=_port(device),
            gps=_gps(device),
            host_name=device.host_name or "",
        )

    async def short_info(self, call: Call) -> Answer:
        device = await self._lookups.device(call.values["id"])
        return ok(name=device.name, ip=address_of(device), port=_port(device))

    async def cluster_info(self, call: Call) -> Answer:
        cluster = await self._lookups.cluster(call.values["id"])
        shown = await self._lookups.shown_devices()
        return ok(
            id=call.values["id"],
            name=cluster.name,
            mid=shown(cluster.mid),
            wlist=[{"wid": shown(wid)} for wid in cluster.wids],
        )

    async def edge_cluster_info(self, call: Call) -> Answer:
        cluster = await self._lookups.cluster(call.values["cid"])
        shown = await self._lookups.shown_devices()
        return ok(mid=shown(cluster.mid))

    async def ai_info(self, call: Call) -> Answer:
        version = await self._lookups.ai(call.values["id"])
        return ok(id=call.values["id"], name=zip_name(version.file_name), version=version.version)

    async def node_by_ip(self, call: Call) -> Answer:
        """Exactly one, or nobody."""
        found = await self._s.inventory.devices.find(address=call.values["nip"])
        if len(found.items) != 1:
            raise Refusal("0004", status=404, more={"error": "Node not found"})
        shown = await self._lookups.shown_devices()
        return ok(nid=shown(found.items[0].id))


def zip_name(file_name: str) -> str:
    return file_name if file_name.lower().endswith(".zip") else f"{file_name}.zip"


def _wanted(values: dict[str, Any], *, master: bool) -> DeviceFields:
    """Only what was given; `host_name` defaults to the name where that is a DNS label."""
    wanted: DeviceFields = {"name": values["name"], "address": values["ip"]}
    if master:
        wanted["role"] = "server"
    if "host_name" in values:
        wanted["host_name"] = values["host_name"]
    elif rules.is_host_name(values["name"]):
        wanted["host_name"] = values["name"]
    if "host_pwd" in values:
        wanted["ssh_password"] = Secret(values["host_pwd"])
    names = {
        "port": "port",
        "type": "type",
        "description": "description",
        "address": "postal_address",
        "isSupportAnnalysis": "supports_analysis",
        "gps": "gps",
    }
    for name, key in names.items():
        if name in values:
            wanted[key] = values[name]  # type: ignore[literal-required]
    return wanted


def address_of(device: Device) -> str:
    """Where it was seen last, unless that says nothing; else as it was entered."""
    seen = device.seen_address or ""
    if seen and not seen.startswith(("127.", "::1")):
        return seen
    return device.address or seen


def _port(device: Device) -> str:
    return "" if device.port is None else str(device.port)


def _gps(device: Device) -> dict[str, str]:
    if device.gps is None:
        return {"latitude": "", "longitude": ""}
    return {
        "latitude": f"{device.gps.latitude:.9g}",
        "longitude": f"{device.gps.longitude:.9g}",
    }


def endpoints(calls: InventoryCalls) -> list[Endpoint]:
    look = {"needs": "look", "section": "3"}
    device_keys = ("id", "name", "type", "gps", "address", "ip", "port", "isSupportAnnalysis")
    return [
        Endpoint(
            "POST",
            "/add_newMaster",
            calls.add_master,
            "3",
            Text("마스터 등록", "Register a master"),
            MASTER_FIELDS,
            ("id",),
            ("0003", "0019"),
        ),
        Endpoint(
            "POST",
            "/add_newDevice",
            calls.add_device,
            "3",
            Text("장치 등록", "Register a device"),
            DEVICE_FIELDS,
            ("id",),
            ("0003", "0019"),
        ),
        *(
            Endpoint(
                "GET",
                path,
                handler,
                text=text,
                fields=fields,
                reply=keys,
                codes=codes,
                **look,  # type: ignore[arg-type]
            )
            for path, handler, text, fields, keys, codes in (
                (
                    "/get_selectedMasterInfo",
                    calls.master_info,
                    Text("마스터 조회", "Look up a master"),
                    (ID_FIELD,),
                    ("id", "name", "ip", "port", "description", "host_name"),
                    ("0004", "0014"),
                ),
                (
                    "/get_selectedDeviceInfo",
                    calls.device_info,
                    Text("장치 조회", "Look up a device"),
                    (ID_FIELD,),
                    (*device_keys, "url", "description", "host_name"),
                    ("0004", "0014"),
                ),
                (
                    "/get_selectedClusterInfo",
                    calls.cluster_info,
                    Text("클러스터 조회", "Look up a cluster"),
                    (ID_FIELD,),
                    ("id", "name", "mid", "wlist"),
                    ("0004", "0014"),
                ),
                (
                    "/get_selectedEdgeAiInfo",
                    calls.ai_info,
                    Text(
                        "AI 조회. name은 zip 파일 이름",
                        "Look up an AI; `name` is the zip file name",
                    ),
                    (ID_FIELD,),
                    ("id", "name", "version"),
                    ("0004", "0014"),
                ),
                (
                    "/get_edgeList",
                    calls.edge_list,
                    Text("마스터와 장치 목록", "List masters and devices"),
                    (),
                    ("list",),
                    (),
                ),
                (
                    "/get_edgeInfo",
                    calls.edge_info,
                    Text("마스터 또는 장치 조회", "Look up a master or device"),
                    (ID_FIELD,),
                    ("id", "name", "type", "ip", "port", "gps", "host_name"),
                    ("0004", "0014"),
                ),
                (
                    "/get_edgeClusterInfo",
                    calls.edge_cluster_info,
                    Text("클러스터의 마스터 조회", "Look up a cluster's master"),
                    (Field(("cid",), f.ID, Text("클러스터 ID", "cluster id"), required=True),),
                    ("mid",),
                    ("0004", "0014"),
                ),
                (
                    "/get_deviceInfo",
                    calls.short_info,
                    Text("장치 주소 조회", "Look up a device's address"),
                    (ID_FIELD,),
                    ("name", "ip", "port"),
                    ("0004", "0014"),
                ),
            )
        ),
    ]
