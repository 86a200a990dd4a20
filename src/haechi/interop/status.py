"""INTERFACES 4.8-4.10: obsolete port numbers, the state of cluster nodes, and the greeting."""

import secrets
from typing import Final

from haechi.core.clock import Clock
from haechi.errors import Text
from haechi.interop import fields as f
from haechi.interop.codes import Refusal, reply
from haechi.interop.endpoint import Answer, Call, Endpoint, ok
from haechi.interop.fields import Field
from haechi.interop.lookups import Lookups
from haechi.interop.services import Services

RESERVED_S: Final = 600.0
RANGES: Final = {
    "/get_servicePort": range(6000, 7000),
    "/get_targetPort": range(5000, 6000),
    "/get_nodePort": range(30000, 32767),
}
GREETING: Final = "접속 완료"


class Ports:
    """Numbers nobody else was given in that cluster within ten minutes. Nothing listens there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reserved: dict[tuple[str, int], float] = {}

    def reserve(self, cluster_id: str, numbers: range) -> int | None:
        """Taking and marking are one step; None where all are taken."""
        now_s = self._clock.monotonic()
        self._reserved = {key: until for key, until in self._reserved.items() if until > now_s}
        taken = {port for cluster, port in self._reserved if cluster == cluster_id}
        free = [port for port in numbers if port not in taken]
        if not free:
            return None
        port = secrets.choice(free)
        self._reserved[cluster_id, port] = now_s + RESERVED_S
        return port


class StatusCalls:
    def __init__(self, services: Services, lookups: Lookups) -> None:
        self._s = services
        self._lookups = lookups
        self._ports = Ports(services.clock)

    async def service_port(self, call: Call) -> Answer:
        return await self._port(call, RANGES["/get_servicePort"])

    async def target_port(self, call: Call) -> Answer:
        return await self._port(call, RANGES["/get_targetPort"])

    async def node_port(self, call: Call) -> Answer:
        return await self._port(call, RANGES["/get_nodePort"])

    async def _port(self, call: Call, numbers: range) -> Answer:
        cluster = await self._lookups.cluster(call.values["cid"])
        port = self._ports.reserve(cluster.id, numbers)
        if port is None:
            raise Refusal("9999", "남은 포트가 없습니다.", "No port is left; try again later.")
        return ok(port=str(port))

    async def check_nodes(self, call: Call) -> Answer:
        """Every cluster, or the one named."""
        ref = call.get("id")
        clusters = [await self._lookups.cluster(ref)] if ref else await self._s.clusters.all()
        shown = await self._lookups.shown_devices()
        nodes = []
        for cluster in clusters:
            for node in await self._s.clusters.check(cluster.id):
                detail = getattr(node.detail, call.language)
                nodes.append({"id": shown(node.device_id), **reply(node.code, detail=detail)})
        good = all(node["code"] == "0000" for node in nodes)
        return Answer(reply("0000" if good else "0014", nodes=nodes))

    async def greet(self, _call: Call) -> Answer:
        return Answer(GREETING.encode(), content_type="text/plain; charset=utf-8")


def endpoints(calls: StatusCalls) -> list[Endpoint]:
    cluster = Field(("cid",), f.ID, Text("클러스터 ID", "cluster id"), required=True)
    handlers = {
        "/get_servicePort": calls.service_port,
        "/get_targetPort": calls.target_port,
        "/get_nodePort": calls.node_port,
    }
    text = Text(
        "포트 번호 (쓰이지 않음, 10분간 예약)", "A port number (unused, reserved for 10 minutes)"
    )
    return [
        *(
            Endpoint("POST", path, handler, "4.8", text, (cluster,), ("port",), ("0004",))
            for path, handler in handlers.items()
        ),
        Endpoint(
            "GET",
            "/check_k8s_node",
            calls.check_nodes,
            "4.9",
            Text("클러스터 노드 상태 확인", "Check the nodes of clusters"),
            (Field(("id",), f.ID, Text("클러스터 ID", "cluster id")),),
            ("nodes",),
            ("0004", "0014"),
            needs="look",
        ),
        Endpoint(
            "GET",
            "/",
            calls.greet,
            "4.10",
            Text("인사", "Greeting"),
            (),
            ("(text)",),
            needs="look",
        ),
    ]
