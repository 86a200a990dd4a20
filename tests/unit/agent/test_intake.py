"""The intake: who may call, what a row must be, the historic forms. No sockets."""

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from haechi.agent.board import Board
from haechi.agent.deployments import Deployment, Deployments, Kept
from haechi.agent.home import Home
from haechi.agent.http_server import Request, Response
from haechi.agent.intake import Intake
from haechi.agent.outbox import Outbox
from haechi.protocol.assignments import Assignment
from haechi.protocol.desired import ContainerSpec
from haechi.protocol.results import AgentResult

HERE = "172.30.0.2"
OTHER = "172.30.0.3"


class Site:
    def __init__(self, home: Home) -> None:
        self.deployments = Deployments(home)
        self.board = Board()
        self.outbox = Outbox(home.queue_file)
        self.located: list[str] = []
        self.seconds = 0.0
        self.intake = Intake(
            device_id="dev-mine",
            deployments=self.deployments,
            board=self.board,
            outbox=self.outbox,
            locate=self._locate,
            monotonic=lambda: self.seconds,
        )

    async def _locate(self, address: str) -> None:
        self.located.append(address)

    def deploy(self, name: str, address: str, **spec: Any) -> Deployment:
        deployment = self.deployments.keep(
            Kept(
                spec=ContainerSpec(
                    deployment_id=f"dep-{name}",
                    package_id="pkg-1",
                    version_id="ver-1",
                    name=name,
                    image="x",
                    **spec,
                ),
                token=f"token-{name}",
            )
        )
        deployment.container_id = f"container-{name}"
        self.deployments.placed(deployment, (address,))
        return deployment

    async def call(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        peer: str = HERE,
        token: str = "token-a",
        language: str = "en",
        refused: HTTPStatus | None = None,
    ) -> tuple[int, Any, Response]:
        path, _, query = target.partition("?")
        headers = {"accept-language": language}
        if token:
            headers["authorization"] = f"Bearer {token}"
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        pairs = dict(pair.split("=") for pair in query.split("&") if pair)
        answer = await self.intake.handle(Request(method, path, pairs, headers, peer, raw, refused))
        try:
            decoded = json.loads(answer.body) if answer.body else None
        except ValueError:
            decoded = answer.body.decode()
        return answer.status, decoded, answer

    async def stored(self) -> list[AgentResult]:
        batch = await self.outbox.read(0, max_rows=5000, max_bytes=10**8)
        return batch.rows if batch else []


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    home = Home(tmp_path)
    home.prepare()
    made = Site(home)
    await made.outbox.open()
    made.deploy("a", HERE)
    made.deploy("b", OTHER)
    yield made
    await made.outbox.close()


def seen(**more: Any) -> dict[str, Any]:
    found = {"box": [0.1, 0.1, 0.2, 0.2], "class": "person", "class_prob": 0.9}
    return {"camera_id": "cam-1", "objects": [found], **more}


async def test_one_and_many_and_a_repeat(site: Site) -> None:
    status, answer, _ = await site.call("POST", "/v1/results", seen(instance="i", seq=1))
    assert (status, answer) == (200, {"accepted": 1, "refused": []})
    both = [seen(instance="i", seq=1), seen(instance="i", seq=2)]
    status, answer, _ = await site.call("POST", "/v1/results", both)
    assert (status, answer["accepted"]) == (200, 2)
    rows = await site.stored()
    assert [row.result.seq for row in rows] == [1, 2]
    assert rows[0].deployment_id == "dep-a"


async def test_bad_rows_are_refused_by_index_and_the_rest_kept(site: Site) -> None:
    rows = [
        seen(),
        seen(objects=[{"box": [0.9, 0, 0.2, 0.2], "class": "x", "class_prob": 0.5}]),
        {"class": "rain", "class_prob": 1.7},
        {"class": "rain"},
        seen(),
        "text",
    ]
    status, answer, _ = await site.call("POST", "/v1/results", rows)
    assert status == 200
    assert answer["accepted"] == 2
    assert [one["index"] for one in answer["refused"]] == [1, 2, 3, 5]
    status, answer, _ = await site.call("POST", "/v1/results", {"class": "x", "class_prob": -1})
    assert (status, answer["code"]) == (422, "intake.rows_refused")


async def test_nan_spoils_its_own_row_only(site: Site) -> None:
    body = b'[{"class": "a", "class_prob": NaN}, {"class": "a", "class_prob": 0.5}]'
    status, answer, _ = await site.call("POST", "/v1/results", body)
    assert status == 200
    assert answer["accepted"] == 1
    assert answer["refused"][0]["index"] == 0
    for number in ("NaN", "Infinity", "-Infinity"):
        box = f'{{"objects":[{{"box":[0,0,{number},1],"class":"a","class_prob":0.5}}]}}'
        status, _answer, _ = await site.call("POST", "/v1/results", box.encode())
        assert status == 422
        attribute = f'{{"attributes": {{"x": {number}}}}}'
        assert (await site.call("POST", "/v1/results", attribute.encode()))[0] == 422


async def test_bodies_that_are_no_results(site: Site) -> None:
    deep = b"[" * 100_000
    for body in (b"", b"{", b"\xff\xfe", b"[1,", deep, json.dumps([{}] * 1001).encode()):
        status, answer, _ = await site.call("POST", "/v1/results", body)
        assert (status, answer["code"]) == (400, "intake.bad_body")
    too_large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    status, answer, _ = await site.call("POST", "/v1/results", refused=too_large)
    assert (status, answer["code"]) == (413, "intake.too_large")
    assert (await site.call("GET", "/v2/nothing"))[0] == 404


async def test_who_may_call(site: Site) -> None:
    assert (await site.call("POST", "/v1/results", {}))[0] == 200
    assert (await site.call("POST", "/v1/results", {}, token=""))[0] == 200
    stolen = await site.call("POST", "/v1/results", {}, token="token-b", language="ko")
    assert stolen[0] == 403
    assert stolen[1]["code"] == "intake.unknown_caller"
    assert "배포가 아닙니다" in stolen[1]["detail"]
    assert (await site.call("POST", "/v1/results", {}, token="elsewhere"))[0] == 403
    assert (await site.call("POST", "/v1/results", {}, peer="10.9.9.9"))[0] == 403
    assert (await site.call("POST", "/v1/results", {}, peer="10.9.9.9", token=""))[0] == 403
    assert (await site.call("POST", "/v1/results", {}, peer="127.0.0.1"))[0] == 403
    assert "10.9.9.9" in site.located
    assert len(await site.stored()) == 2


async def test_identities_of_a_body_do_not_count(site: Site) -> None:
    body = seen(device_id="dev-x", package_id="pkg-1", deployment_id="dep-b", eid=7)
    await site.call("POST", "/v1/results", body)
    row = (await site.stored())[0]
    assert row.deployment_id == "dep-a"
    assert row.result.claimed == {"device_id": "dev-x", "deployment_id": "dep-b", "eid": "7"}


async def test_the_agent_fills_in_assignment_and_time(site: Site) -> None:
    given = Assignment("asg-1", "cam-9", "dep-a", "watch", 5, "sub", 4)
    await site.board.put([given], lambda _one: "rtsp://gateway/token")
    await site.call("POST", "/v1/results", {"captured_at": "2026-11-24T01:02:03.500Z"})
    await site.call("POST", "/v1/results", {"captured_at": "yesterday", "camera_id": "cam-8"})
    first, second = await site.stored()
    assert (first.result.camera_id, first.result.assignment_id, first.result.epoch) == (
        "cam-9",
        "asg-1",
        4,
    )
    assert first.captured_ms == 1795482123500
    assert (first.result.instance, first.result.seq) == (second.result.instance, 1)
    assert second.result.seq == 2
    assert second.captured_ms is None
    assert second.result.assignment_id is None


async def test_a_flood_gets_retry_after(site: Site) -> None:
    batch = [{} for _ in range(1000)]
    answers = [await site.call("POST", "/v1/results", batch) for _ in range(9)]
    status, answer, response = answers[-1]
    assert (status, answer["code"]) == (503, "intake.queue_full")
    wait_s = int(response.headers["Retry-After"])
    assert wait_s >= 1
    assert (await site.call("POST", "/v1/results", {}, peer=OTHER, token="token-b"))[0] == 200
    site.seconds += wait_s
    assert (await site.call("POST", "/v1/results", batch))[0] == 200


async def test_assignments_by_long_poll(site: Site) -> None:
    status, first, _ = await site.call("GET", "/v1/assignments?wait=30&revision=")
    assert (status, first["assignments"]) == (200, [])
    poll = f"/v1/assignments?wait=0.01&revision={first['revision']}"
    assert (await site.call("GET", poll))[0] == 204
    given = Assignment("asg-1", "cam-9", "dep-a", "watch", 5, "sub", 1)
    moved = Assignment("asg-2", "cam-9", "dep-a", "focus", 15, "main", 2)
    await site.board.put([given, moved], lambda one: f"rtsp://gateway/{one.id}")
    status, second, _ = await site.call("GET", poll)
    assert status == 200
    assert [one["id"] for one in second["assignments"]] == ["asg-2"]
    assert second["assignments"][0]["url"] == "rtsp://gateway/asg-2"
    assert not await site.board.put([given, moved], lambda one: f"rtsp://gateway/{one.id}")
    assert (await site.call("GET", "/v1/assignments?wait=x"))[0] == 400


async def test_ready_is_of_the_container_that_said_it(site: Site, tmp_path: Path) -> None:
    assert (await site.call("POST", "/v1/ready", {"instance": "ins-1"}))[0] == 200
    deployment = site.deployments.get("dep-a")
    assert deployment is not None
    assert deployment.status().ready_ms is not None
    deployment.container_id = "another"
    assert deployment.status().ready_ms is None
    again = Deployments(Home(tmp_path))
    again.load()
    kept = again.get("dep-a")
    assert kept is not None
    assert kept.kept.ready_container == "container-a"
    assert (Home(tmp_path).containers / "dep-a.json").stat().st_mode & 0o777 == 0o600


RESULT = {
    "eid": "0x01",
    "sid": "0xs01",
    "time": 202511201414,
    "version": "0.01v",
    "ainame": "WeatherAI",
    "class": 3,
    "class_prob": "0.7",
}


async def test_historic_result(site: Site) -> None:
    status, answer, _ = await site.call("POST", "/add_newAiResult/", RESULT, token="")
    assert (status, answer) == (200, {"code": 200, "msg": "GOOD"})
    native_path = await site.call("POST", "/v1/results", RESULT)
    assert native_path[1] == {"code": 200, "msg": "GOOD"}
    row = (await site.stored())[0]
    assert (row.result.class_, row.result.class_prob) == ("03", 0.7)
    assert row.captured_ms == 1763615640000  # 14:14 in Seoul
    assert row.result.claimed["ainame"] == "WeatherAI"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"class_prob": 1.7}, "0019"),
        ({"class_prob": "much"}, "0010"),
        ({"sid": None}, "0015"),
        ({"ainame": ""}, "0015"),
        ({"version": "v" * 129}, "0016"),
        ({"class": 1.5}, "0010"),
        ({"time": "someday"}, None),
        ({"class": "맑음"}, None),
    ],
)
async def test_historic_result_rules(site: Site, change: dict[str, Any], code: str | None) -> None:
    status, answer, _ = await site.call("POST", "/add_newAiResult", {**RESULT, **change})
    assert status == 200
    assert answer["code"] == (code or 200)


async def test_historic_bodies(site: Site) -> None:
    deep = b"[" * 100_000
    for body, code in (
        (b"", "0021"),
        (b"[1]", "0021"),
        (b"{", "0021"),
        (deep, "0021"),
        (b'"{"', "0010"),
        (b'"' + deep + b'"', "0010"),
    ):
        assert (await site.call("POST", "/usage", body))[1]["code"] == code
    nan = json.dumps(RESULT).replace('"0.7"', "NaN").encode()
    assert (await site.call("POST", "/add_newAiResult", nan))[1]["code"] == "0010"
    assert (await site.call("GET", "/usage"))[1]["code"] == "0013"
    assert (await site.call("POST", "/usage", {}, token="wrong"))[1]["code"] == "0004"


async def test_usage_plain_and_encoded_twice(site: Site) -> None:
    plain = {
        "code": "0000",
        "message": "처리성공",
        "did": "dx01",
        "nid": "dev-mine",
        "cpu": 12.5,
        "memory": 41.0,
    }
    assert (await site.call("POST", "/usage", plain))[1]["code"] == "0000"
    inner = json.dumps({"username": "root", "cpu": "12.5", "memory": 41, "ai_class": "눈"})
    status, answer, response = await site.call("POST", "/usage", inner)
    assert (status, answer) == (200, "usage")
    assert response.content_type.startswith("text/plain")
    first, second = await site.stored()
    assert first.result.claimed == {"did": "dx01"}
    assert second.result.attributes == {
        "kind": "usage",
        "cpu": 12.5,
        "memory": 41.0,
        "ai_class": "눈",
        "username": "root",
    }
    for told, class_ in (
        ({"func": "RAINY02"}, "02"),
        ({"func": "SNOWY"}, None),
        ({"ai_class": 1}, "01"),
    ):
        await site.call("POST", "/usage", {"cpu": 1, "memory": 2, **told})
        assert (await site.stored())[-1].result.attributes.get("ai_class") == class_
    assert (await site.call("POST", "/usage", {"cpu": -1, "memory": 1}))[1]["code"] == "0019"
    assert (await site.call("POST", "/usage", {"cpu": 1}))[1]["code"] == "0015"


async def test_weather_is_stored_and_nothing_is_switched(site: Site) -> None:
    body = {"created_at": "2025-11-20 14:14:05", "res_class": "02", "res_confidence": "0.8"}
    for path in ("/optimize_by_weather", "/save_edgeData"):
        _status, answer, _ = await site.call("POST", path, body)
        assert answer == {"code": "0000", "message": "처리 성공", "action": "none"}
        row = (await site.stored())[-1]
        assert (row.result.class_, row.result.class_prob) == ("02", 0.8)
    assert len(await site.stored()) == 2
    for change, code in (
        ({"res_class": "07"}, "0019"),
        ({"res_confidence": 2}, "0019"),
    ):
        assert (await site.call("POST", "/optimize_by_weather", {**body, **change}))[1][
            "code"
        ] == code


@pytest.mark.parametrize("when", ["soon", "0001-01-01T00:00:00", "9999-12-31T23:59:59-14:00"])
async def test_through_an_agent_nothing_is_refused_for_its_date(site: Site, when: str) -> None:
    reading = {"created_at": when, "res_class": "02", "res_confidence": "0.8"}
    for path, body, name in (
        ("/optimize_by_weather", reading, "created_at"),
        ("/add_newAiResult", {**RESULT, "time": when}, "time"),
    ):
        _status, answer, _ = await site.call("POST", path, body)
        assert answer["code"] in {"0000", 200}
        row = (await site.stored())[-1]
        assert row.result.captured_at is None
        assert row.result.claimed[name] == when


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_NAMES = (
    *("eid", "sid", "time", "version", "ainame", "class", "class_prob"),
    *("created_at", "res_class", "res_confidence", "nid", "did", "cpu", "memory", "ai_class"),
)


@hypothesis.settings(
    max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    path=st.sampled_from(["/add_newAiResult", "/usage", "/optimize_by_weather", "/v1/results"]),
    odd=st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4),
    twice=st.booleans(),
)
async def test_whatever_an_old_program_sends_it_gets_an_answer(
    site: Site, path: str, odd: dict, twice: bool
) -> None:
    good = {**RESULT, "created_at": "202511201414", "res_class": "02", "res_confidence": 0.8}
    text = json.dumps({**good, "cpu": 1, "memory": 2, **odd})
    body = json.dumps(text) if twice else text
    status, answer, _ = await site.call("POST", path, body.encode())
    assert status in ({200, 422, 400} if path == "/v1/results" else {200}), (status, answer)
