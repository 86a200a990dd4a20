"""The main job once more, by nothing but the historic calls: what an old program would do."""

import json
from typing import Any

import httpx2
from stage import DEVICES, Site

from haechi.testing.packages import posting


class Historic:
    """Counts its calls; `ok` is false once one answered otherwise than the old document says."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.calls = 0
        self.problems: list[str] = []

    @property
    def ok(self) -> bool:
        return self.calls > 0 and not self.problems

    async def run(self) -> None:
        base = f"http://127.0.0.1:{self._site.ports.interop}"
        device = self._site.devices[DEVICES[2].name]
        async with httpx2.AsyncClient(base_url=base, timeout=120, trust_env=False) as client:
            self._client = client
            hello = await client.get("/")
            self._note("GET /", hello.text == "접속 완료", hello.text)
            listed = await self._get("/get_edgeList")
            ids = [row["id"] for row in listed.get("list", [])]
            self._note("edge list names every device", device in ids, str(ids))
            await self._get("/get_deviceInfo", id=device)
            uploaded = await self._upload("old-poster.zip", "0.01v")
            sid = uploaded.get("id", "")
            await self._post("/deploy_aiToDevice", {"sid": sid, "did": device})
            await self._get("/get_selectedEdgeAiInfo", id=sid)
            await self._post(
                "/add_newAiResult",
                {
                    "eid": device,
                    "sid": sid,
                    "time": "202601020304",
                    "version": "0.01v",
                    "ainame": "WeatherAI",
                    "class": 3,
                    "class_prob": 0.7,
                },
                expect=200,
            )
            usage = json.dumps(json.dumps({"did": device, "cpu": 12.5, "memory": 41.0}))
            answer = await client.post("/usage", content=usage)
            self._note("POST /usage, encoded twice", answer.text == "usage", answer.text)
            await self._post("/remove_deploySwInfo", {"sid": sid, "did": device})
            await self._post("/remove_uploadedEdgeAi", {"id": sid})
            await self._get("/get_selectedEdgeAiInfo", expect="0004", id=sid)

    def _note(self, what: str, good: bool, seen: str) -> None:
        self.calls += 1
        if not good:
            self.problems.append(f"{what}: {seen[:300]}")

    async def _get(self, path: str, expect: object = "0000", **params: str) -> dict[str, Any]:
        answer = await self._client.get(path, params=params)
        return self._judge(f"GET {path}", answer, expect)

    async def _post(
        self, path: str, body: dict[str, Any], expect: object = "0000"
    ) -> dict[str, Any]:
        return self._judge(f"POST {path}", await self._client.post(path, json=body), expect)

    async def _upload(self, filename: str, version: str) -> dict[str, Any]:
        answer = await self._client.post(
            "/upload_edgeAi",
            data={"version": version, "filename": filename},
            files={"file": (filename, posting("old-poster"), "application/zip")},
        )
        return self._judge("POST /upload_edgeAi", answer, "0000")

    def _judge(self, what: str, answer: httpx2.Response, expect: object) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError:
            body = {}
        self._note(what, answer.status_code == 200 and body.get("code") == expect, answer.text)
        return body if isinstance(body, dict) else {}
