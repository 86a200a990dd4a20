"""The demo as a user of haechi: plain HTTP calls, nothing that a script could not do."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2


class CallFailed(Exception):
    """The server refused; its own words."""


class Api:
    def __init__(self, url: str) -> None:
        self._client = httpx2.AsyncClient(
            base_url=f"{url}/api/v1",
            headers={"Accept-Language": "en"},
            timeout=httpx2.Timeout(60, connect=5),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def log_in(self, name: str, password: str) -> None:
        await self.post("/session", {"name": name, "password": password})

    async def call(self, method: str, path: str, **kwargs: Any) -> Any:
        response = await self._client.request(method, path, **kwargs)
        if not response.is_success:
            text = response.text
            try:
                problem = response.json()
                text = f"{problem['code']}: {problem['detail']} {problem.get('data', '')}"
            except (ValueError, KeyError):
                pass
            raise CallFailed(f"{method} {path}: {response.status_code} {text}")
        kind = response.headers.get("content-type", "")
        if kind.startswith("application/json"):
            return response.json()
        return response.content

    async def get(self, path: str, **params: Any) -> Any:
        return await self.call("GET", path, params=params)

    async def post(self, path: str, body: Any = None, **params: Any) -> Any:
        return await self.call("POST", path, json=body, params=params)

    async def put(self, path: str, body: Any) -> Any:
        return await self.call("PUT", path, json=body)

    async def all(self, path: str, **params: Any) -> list[Any]:
        items: list[Any] = []
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = await self.get(path, limit=1000, **params, **more)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    async def upload(self, file: Path, version: str) -> Any:
        return await self.call(
            "POST",
            "/packages/upload",
            params={"filename": file.name, "version": version},
            content=await asyncio.to_thread(file.read_bytes),
            headers={"Content-Type": "application/zip"},
        )

    @asynccontextmanager
    async def stream(self, path: str, **params: Any) -> AsyncIterator[httpx2.Response]:
        """An answer that goes on."""
        limits = httpx2.Timeout(None, connect=5)
        async with self._client.stream("GET", path, params=params, timeout=limits) as response:
            if not response.is_success:
                raise CallFailed(f"GET {path}: {response.status_code}")
            yield response

    async def wait(self, operation_id: str, *, within_s: float, ok: bool = True) -> Any:
        """Until it has ended; raises CallFailed with the end of its log where it failed."""
        deadline = time.monotonic() + within_s
        while True:
            operation = await self.get(f"/operations/{operation_id}")
            if operation["state"] in {"succeeded", "failed", "cancelled"}:
                break
            if time.monotonic() > deadline:
                raise CallFailed(f"{operation['kind']} {operation_id} takes over {within_s:g} s")
            await asyncio.sleep(0.1)
        if ok and operation["state"] != "succeeded":
            log = (await self.call("GET", f"/operations/{operation_id}/log")).decode()
            tail = "\n".join(log.splitlines()[-30:])
            error = json.dumps(operation["error"], ensure_ascii=False)
            raise CallFailed(f"{operation['kind']} {operation['state']}: {error}\n{tail}")
        return operation
