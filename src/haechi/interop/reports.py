"""INTERFACES 5, 6, 7.1: what AIs and devices report: results, usage, weather.

Every report becomes a row of the results domain and is answered once that is durable. The weather
is judged by its policy; the reply never waits for what that starts.
"""

from collections import OrderedDict
from typing import Any, Final

from haechi.core.clock import from_ms, to_ms, to_text
from haechi.core.tasks import Tasks
from haechi.domains.collaboration.model import Reading, Verdict
from haechi.domains.deployments.model import Deployment, DeploymentState
from haechi.domains.inventory.model import Device
from haechi.errors import Overloaded, Text
from haechi.interop import fields as f
from haechi.interop import times
from haechi.interop.codes import Refusal, reply
from haechi.interop.endpoint import Answer, Call, Endpoint, ok
from haechi.interop.fields import Field
from haechi.interop.identity import Identity, source_principal
from haechi.interop.lookups import Lookups
from haechi.interop.services import Services
from haechi.protocol.results import AgentResult, Result

FRESH_MS: Final = 5_000
NEWS_MS: Final = 30_000
"""A weather reading that comes later than this from an agent is history and switches nothing."""
_FUNCTIONS: Final = {"SUNNY": "01", "RAINY": "02", "RAINY02": "02"}
_ORDER: Final = ("started", "in_progress", "waiting", "refused", "none")
_REMEMBERED: Final = 4096

EID: Final = Field(("eid",), f.ID, Text("장치 ID", "device id"))
RESULT_FIELDS: Final = (
    EID,
    Field(("sid",), f.ID, Text("AI ID", "AI id"), required=True),
    Field(("time",), f.TIME, Text("시각", "time"), required=True),
    Field(("version",), f.NAME, Text("버전", "version"), required=True),
    Field(("ainame",), f.NAME, Text("AI 이름", "AI name"), required=True),
    Field(("class",), f.ANY_CLASS, Text("분류", "class"), required=True),
    Field(("class_prob",), f.RATIO, Text("확률 0-1", "probability 0-1"), required=True),
)
USAGE_FIELDS: Final = (
    Field(("cpu",), f.PERCENT, Text("CPU 사용률 (%)", "CPU percent"), required=True),
    Field(("memory",), f.PERCENT, Text("메모리 사용률 (%)", "memory percent"), required=True),
    Field(("did", "nid", "eid"), f.ID, Text("장치 ID", "device id")),
    Field(("username",), f.NAME, Text("무시되는 사용자 이름", "user name, identifies nobody")),
    Field(("func",), f.NAME, Text("SUNNY, RAINY, RAINY02", "SUNNY, RAINY, RAINY02")),
    Field(("ai_class",), f.ANY_CLASS, Text("분류", "class")),
    Field(("version",), f.NAME, Text("버전", "version")),
)
WEATHER_FIELDS: Final = (
    Field(("created_at",), f.TIME, Text("시각", "time"), required=True),
    Field(("res_class",), f.CLASS, Text("분류 00-06", "class 00-06"), required=True),
    Field(("res_confidence",), f.RATIO, Text("확신도 0-1", "confidence 0-1"), required=True),
    Field(("nid", "did", "eid"), f.ID, Text("노드 ID", "node id")),
)


class ReportCalls:
    def __init__(self, services: Services, lookups: Lookups, identity: Identity) -> None:
        self._s = services
        self._lookups = lookups
        self._identity = identity
        self._tasks = Tasks("interop-reports")
        self._latest: OrderedDict[str, dict[str, Any]] = OrderedDict()
        services.agents.listen_results(self._from_agent)

    async def close(self) -> None:
        await self._tasks.close()

    # --- 5

    async def add_result(self, call: Call) -> Answer:
        values = call.values
        at = self._time(values["time"])
        device = await self._identity.device_of(call, values.get("eid"), strict=True)
        claimed = {name: values[name] for name in ("sid", "version", "ainame")}
        if values.get("eid") and values["eid"] != device.id:
            claimed["eid"] = values["eid"]
        source = await self._deployment(values["sid"], device)
        result = Result(
            captured_at=at,
            class_=values["class"],
            class_prob=values["class_prob"],
            camera_id=await self._camera(source, device),
            claimed=claimed,
        )
        await self._store(result, device, call, _facts(source))
        return Answer({"code": 200, "msg": "GOOD"})

    async def _deployment(self, sid: str, device: Device) -> Deployment | None:
        """What runs there under that id, if anything: AIs are told their deployment's id."""
        version = await self._lookups.known_ai(sid)
        if version is None:
            return None
        page = await self._s.deployments.book.find(device_id=device.id, version_id=version.id)
        running = [one for one in page.items if one.state == DeploymentState.RUNNING]
        named = [one for one in page.items if one.id == sid]
        return next(iter([*named, *running]), None)

    async def _camera(self, source: Deployment | None, device: Device) -> str | None:
        if source is not None:
            return source.camera_id or self._s.deployments.assignments.only_camera(source.id)
        cameras = await self._s.inventory.cameras.of_device(device.id)
        return cameras[0].id if len(cameras) == 1 else None

    # --- 6

    async def add_usage(self, call: Call) -> Answer:
        values = call.values
        device = await self._identity.device_of(call, values.get("did"))
        attributes: dict[str, str | int | float | bool | None] = {
            "kind": "usage",
            "cpu": values["cpu"],
            "memory": values["memory"],
        }
        for name in ("username", "func", "ai_class", "version"):
            if name in values:
                attributes[name] = values[name]
        if values.get("func") in _FUNCTIONS and "ai_class" not in values:
            attributes["ai_class"] = _FUNCTIONS[values["func"]]
        claimed = {"did": values["did"]} if values.get("did", device.id) != device.id else {}
        await self._store(Result(attributes=attributes, claimed=claimed), device, call, {})
        self._note(device.id, attributes)
        if call.twice:
            return Answer(b"usage", content_type="text/plain; charset=utf-8")
        return ok()

    async def latest_usage(self, call: Call) -> Answer:
        """Of the device, or the newest of any; what the device's own agent measures counts too."""
        ref = call.get("did")
        known = {**self._measured(), **self._reported()}
        device_id = max(known, key=lambda one: known[one]["at_ms"], default="")
        if ref:
            try:
                device_id = (await self._lookups.device(ref)).id
            except Refusal:
                device_id = ""
        found = known.get(device_id)
        if found is None:
            raise Refusal("0004", status=404, more={"message": "데이터 없음"})
        shown = await self._lookups.shown_devices()
        values = {name: value for name, value in found.items() if name not in {"at_ms", "kind"}}
        at = to_text(from_ms(found["at_ms"]))
        return ok(did=ref or shown(device_id), at=at, **values)

    def _reported(self) -> dict[str, dict[str, Any]]:
        """What old clients said in the last seconds."""
        after_ms = self._now_ms() - FRESH_MS
        return {one: row for one, row in self._latest.items() if row["at_ms"] >= after_ms}

    def _measured(self) -> dict[str, dict[str, Any]]:
        after_ms = self._now_ms() - FRESH_MS
        return {
            device_id: {
                "at_ms": at_ms,
                "cpu": round(100 * row.cpu_ratio, 1),
                "memory": round(100 * row.memory_used_bytes / max(1, row.memory_total_bytes), 1),
            }
            for device_id, (at_ms, row) in self._s.samples().items()
            if at_ms >= after_ms
        }

    def _note(self, device_id: str, attributes: dict[str, Any]) -> None:
        self._latest.pop(device_id, None)
        self._latest[device_id] = {**attributes, "at_ms": self._now_ms()}
        while len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)

    # --- 7.1

    async def weather(self, call: Call) -> Answer:
        values = call.values
        at = self._time(values["created_at"])
        device = await self._identity.device_of(call, values.get("nid"))
        claimed = {"nid": values["nid"]} if values.get("nid", device.id) != device.id else {}
        result = Result(
            captured_at=at,
            class_=values["res_class"],
            class_prob=values["res_confidence"],
            attributes={"kind": "weather"},
            claimed=claimed,
        )
        await self._store(result, device, call, {})
        reading = Reading(device.id, values["res_class"], values["res_confidence"])
        verdicts = await self._s.weather.read(reading, by=call.caller.by)
        return Answer(weather_reply(verdicts, reading))

    def _from_agent(self, device_id: str, rows: list[AgentResult]) -> None:
        """Reports that came through a device's agent."""
        for row in rows:
            kind = row.result.attributes.get("kind")
            if kind == "usage":
                self._note(device_id, dict(row.result.attributes))
            elif kind == "weather" and self._now_ms() - row.received_ms < NEWS_MS:
                name, sure = row.result.class_, row.result.class_prob
                if name is not None and sure is not None:
                    _ = self._tasks.spawn("weather", self._judge(Reading(device_id, name, sure)))

    async def _judge(self, reading: Reading) -> None:
        await self._s.weather.read(reading)

    # --- small

    def _time(self, text: str) -> str:
        """RFC 3339; raises Refusal 0018: these callers have no agent that knows better."""
        at = times.parse(text, times.zone(self._s.settings().timezone))
        if at is None or not times.plausible(at, self._s.clock.now()):
            shown = text[:40]
            raise Refusal(
                "0018", f"날짜로 쓸 수 없습니다: {shown}", f"This cannot be the date: {shown}"
            )
        return to_text(at)

    async def _store(
        self, result: Result, device: Device, call: Call, facts: dict[str, str]
    ) -> None:
        by = source_principal(device, call.caller.by, facts)
        if not self._s.results.has_room(1024):
            raise Overloaded(retry_after_s=1)
        outcome = await self._s.results.ingest([result], by)
        if outcome.refused:
            problem = outcome.refused[0].problem
            raise Refusal("0010", problem, problem)

    def _now_ms(self) -> int:
        return to_ms(self._s.clock.now())


def weather_reply(verdicts: list[Verdict], reading: Reading) -> dict[str, Any]:
    """One word for all AIs of the node: the strongest that applies to any of them."""
    action = min((one.action for one in verdicts), key=_ORDER.index, default="none")
    operation_id = next((one.operation_id for one in verdicts if one.action == action), None)
    more: dict[str, Any] = {} if operation_id is None else {"operation_id": operation_id}
    if len(verdicts) > 1:
        more["ais"] = [{"filename": one.family, "action": one.action} for one in verdicts]
    missing = [one.family for one in verdicts if one.action == "refused"]
    if action == "refused":
        detail = f"분류 {reading.class_}용 패키지가 없습니다: {', '.join(missing)}"
        return reply("0020", detail=detail, action="none", **more)
    return reply("0000", action=action, **more)


def _facts(source: Deployment | None) -> dict[str, str]:
    if source is None:
        return {}
    return {
        "deployment_id": source.id,
        "package_id": source.package_id,
        "package_name": source.package_name,
        "version_id": source.version_id,
        "version": source.version,
        "image_digest": source.image_digest,
    }


def endpoints(calls: ReportCalls) -> list[Endpoint]:
    weather = [
        Endpoint(
            "POST",
            path,
            calls.weather,
            "7.1",
            Text("날씨 보고와 AI 전환", "Report the weather; AIs are switched"),
            WEATHER_FIELDS,
            ("action",),
            ("0004", "0018", "0019", "0020"),
            needs="report",
            twice=True,
        )
        for path in ("/optimize_by_weather", "/save_edgeData")
    ]
    return [
        Endpoint(
            "POST",
            "/add_newAiResult",
            calls.add_result,
            "5",
            Text("AI 결과", "AI result"),
            RESULT_FIELDS,
            ("code: 200", "msg: GOOD"),
            ("0004", "0018", "0019"),
            needs="report",
        ),
        Endpoint(
            "POST",
            "/usage",
            calls.add_usage,
            "6",
            Text("CPU와 메모리 사용률 보고", "Report CPU and memory percent"),
            USAGE_FIELDS,
            (),
            ("0004", "0019"),
            needs="report",
            twice=True,
            ignored=("code", "message"),
        ),
        Endpoint(
            "GET",
            "/usage",
            calls.latest_usage,
            "6",
            Text("최근 사용률", "Latest usage"),
            (Field(("did", "nid", "eid"), f.ID, Text("장치 ID", "device id")),),
            ("did", "at", "cpu", "memory"),
            ("0004",),
            needs="look",
        ),
        *weather,
    ]
