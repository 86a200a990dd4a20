"""The whole way by the public API and the CLI of a real server."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from haechi.testing.packages import zip_of

HAECHI = Path(sys.executable).with_name("haechi")
PASSWORD = "builds-admin-password"
SCRATCH = {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "x"}


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            HAECHI,
            "serve",
            f"--data-dir={self.folder}",
            *(f"--{name}=127.0.0.1:0" for name in ("listen", "agents-listen", "registry-listen")),
            env={**os.environ, "HAECHI_ADMIN_PASSWORD": PASSWORD},
            stderr=asyncio.subprocess.PIPE,
        )
        seen = b""
        async with asyncio.timeout(60):
            while not self.url:
                line = await self.process.stderr.readline()
                seen += line
                assert line, seen.decode()
                found = re.search(rb"haechi is ready: (http://\S+)", line)
                self.url = found[1].decode() if found else ""
        self.reader = asyncio.get_running_loop().create_task(self.process.stderr.read())

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await self.process.wait()
        await self.reader


@pytest.fixture
async def server(tmp_path):
    running = Server(tmp_path / "data")
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def api(server):
    headers = {"Origin": server.url, "Accept-Language": "ko"}
    async with httpx2.AsyncClient(
        base_url=f"{server.url}/api/v1", headers=headers, timeout=60, trust_env=False
    ) as client:
        answer = await client.post("/session", json={"name": "admin", "password": PASSWORD})
        assert answer.is_success, answer.text
        yield client


async def upload(api, name: str, files: dict) -> dict:
    answer = await api.post(
        "/packages/upload",
        params={"filename": f"{name}.zip", "version": "1.0", "name": name},
        content=zip_of(files),
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def ended(api, operation_id: str) -> dict:
    async with asyncio.timeout(60):
        while True:
            operation = (await api.get(f"/operations/{operation_id}")).json()
            if operation["state"] in {"succeeded", "failed", "cancelled"}:
                return operation
            await asyncio.sleep(0.05)


async def test_upload_build_look_delete_collect(api):
    version = await upload(api, "t-http", SCRATCH)
    answer = await api.post("/packages/t-http/versions/1.0/build")
    assert answer.status_code == 202
    operation_id = answer.json()["operation_id"]
    assert answer.headers["location"] == f"/api/v1/operations/{operation_id}"
    operation = await ended(api, operation_id)
    assert operation["state"] == "succeeded", operation
    (build,) = (await api.get("/builds", params={"version_id": version["id"]})).json()["items"]
    assert build["state"] == "succeeded"
    assert build["image"].endswith(build["digest"])
    assert (await api.get(f"/builds/{build['id']}")).json() == build
    log = await api.get(f"/builds/{build['id']}/log")
    assert "pushed t-http@sha256:" in log.text
    followed = await api.get(f"/builds/{build['id']}/log", params={"follow": "true"})
    assert followed.text == log.text
    shown = (await api.get("/packages/t-http/versions/1.0")).json()
    assert (shown["build_state"], shown["image_digest"]) == ("built", build["digest"])
    registry = (await api.get("/registry")).json()
    assert registry["running"]
    assert [entry["name"] for entry in registry["repositories"]] == ["t-http"]
    assert (await api.delete("/packages/t-http")).status_code == 204
    collect = await api.post("/registry/collect")
    assert (await ended(api, collect.json()["operation_id"]))["result"]["freed_bytes"] > 0
    assert (await api.get("/registry")).json()["repositories"] == []


async def test_problems_are_in_the_callers_language(api):
    await upload(api, "t-ko", {"Dockerfile": "FROM nowhere.invalid/x:1\n"})
    started = await api.post("/packages/t-ko/versions/1.0/build")
    operation = await ended(api, started.json()["operation_id"])
    assert operation["error"]["code"] == "builds.base_image_missing"
    assert "haechi baseimage map nowhere.invalid/x:1" in operation["error"]["remedy"]
    assert "기본 이미지" in operation["error"]["detail"]
    (build,) = (await api.get("/builds")).json()["items"]
    assert build["error"]["detail"] == operation["error"]["detail"]


async def test_refusals(api):
    for method, path, body, status, code in (
        ("GET", "/builds/bld-aaaaaaaaaaaaaaaa", None, 404, "builds.not_found"),
        ("POST", "/packages/none/versions/1/build", None, 404, "core.not_found"),
        ("PUT", "/base-images", {"source": "a b", "target": "x"}, 422, "builds.bad_base_image"),
        ("PUT", "/base-images", {"source": "a", "to": "x"}, 422, "core.bad_request"),
        ("DELETE", "/base-images?source=none", None, 404, "builds.base_image_not_mapped"),
    ):
        answer = await api.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
    await upload(api, "t-arm", SCRATCH)
    body = {"platforms": ["linux/arm64"]}
    answer = await api.post("/packages/t-arm/versions/1.0/build", json=body)
    assert answer.status_code == 409
    assert answer.json()["code"] == "builds.no_builder_for_platform"


async def test_the_cli_does_the_same(api, server, tmp_path):
    token = (await api.post("/tokens", json={"name": "cli", "role": "operator"})).json()
    environment = {
        **os.environ,
        "HAECHI_URL": server.url,
        "HAECHI_TOKEN": token.get("secret") or token["token"],
        "HAECHI_LANGUAGE": "en",
    }

    async def cli(*words: str, code: int = 0) -> str:
        made = await asyncio.to_thread(
            subprocess.run,
            [HAECHI, *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert made.returncode == code, made.stdout + made.stderr
        return made.stdout + made.stderr

    await upload(api, "t-cli", SCRATCH)
    assert "succeeded" in await cli("build", "start", "t-cli", "1.0")
    (build,) = json.loads(await cli("--json", "build", "list"))["items"]
    assert "t-cli@sha256" in await cli("build", "show", build["id"])
    assert "== succeeded" in await cli("build", "log", build["id"], "--follow")
    await cli("baseimage", "map", "a:1", "t-nowhere.invalid/b:1", code=5)
    assert "t-nowhere.invalid/b:1" in await cli("baseimage", "list")
    await cli("baseimage", "unmap", "a:1")
    await cli("baseimage", "unmap", "a:1", code=3)
    assert "t-cli" in await cli("registry", "show")
    assert "freed_bytes" in await cli("registry", "collect")
    await upload(api, "t-cli-fails", {"Dockerfile": "FROM scratch\nCOPY a /\n", "a": ""})
    said = await cli("build", "start", "t-cli-fails", "1.0", "--platform", "linux/arm64", code=4)
    assert "builds.no_builder_for_platform" in said
