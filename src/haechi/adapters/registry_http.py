"""The `Registry` port: the distribution API of the site registry, on httpx2.

Only what the site needs: what is there, how big it is, tagging an index, deleting. Layers are moved
by Docker engines, never through this.
"""

import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2

from haechi.domains.builds.model import RegistryDown, RegistryFailed
from haechi.domains.builds.ports import Child, Login, Manifest

TIMEOUT_S: Final = 30.0
PAGE: Final = 1000
_DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
_INDEXES: Final = frozenset({_DOCKER_INDEX, "application/vnd.oci.image.index.v1+json"})
_ACCEPT: Final = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        *sorted(_INDEXES),
    ]
)


class HttpRegistry:
    """`server_name` is the name in the registry's certificate, whatever `address` is dialled."""

    def __init__(
        self,
        *,
        address: str,
        server_name: str,
        ca_pem: str,
        login: Callable[[], Login],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._login = login
        self._address = address
        self._server_name = server_name
        self._client = httpx2.AsyncClient(
            base_url=f"https://{address}/v2/",
            verify=ssl.create_default_context(cadata=ca_pem),
            timeout=httpx2.Timeout(timeout_s, connect=5),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ping(self) -> None:
        await self._call("GET", "")

    async def repositories(self) -> list[str]:
        return [
            name async for page in self._pages("_catalog") for name in page["repositories"] or []
        ]

    async def tags(self, repository: str) -> list[str]:
        return [
            tag
            async for page in self._pages(f"{repository}/tags/list")
            for tag in page["tags"] or []
        ]

    async def manifest(self, repository: str, reference: str) -> Manifest | None:
        path = f"{repository}/manifests/{reference}"
        response = await self._call("GET", path, headers={"Accept": _ACCEPT}, missing_ok=True)
        if response.status_code == 404:
            return None
        digest = response.headers.get("docker-content-digest") or _digest(response.content)
        document = _document(response)
        media_type = str(document.get("mediaType") or response.headers.get("content-type", ""))
        if media_type in _INDEXES or "manifests" in document:
            children = tuple(_child(entry) for entry in document.get("manifests", []))
            return Manifest(digest, media_type, len(response.content), {}, children)
        parts = [document.get("config"), *document.get("layers", [])]
        blobs = {part["digest"]: int(part["size"]) for part in parts if isinstance(part, dict)}
        return Manifest(digest, media_type, len(response.content), blobs)

    async def put_index(self, repository: str, tag: str, children: list[Child]) -> str:
        manifests = []
        for child in children:
            os_name, architecture, *variant = child.platform.split("/")
            platform = {"os": os_name, "architecture": architecture}
            if variant:
                platform["variant"] = variant[0]
            manifests.append(
                {
                    "mediaType": child.media_type,
                    "digest": child.digest,
                    "size": child.size_bytes,
                    "platform": platform,
                }
            )
        index = {"schemaVersion": 2, "mediaType": _DOCKER_INDEX, "manifests": manifests}
        content = json.dumps(index, indent=1).encode()
        await self._call(
            "PUT",
            f"{repository}/manifests/{tag}",
            content=content,
            headers={"Content-Type": _DOCKER_INDEX},
        )
        return _digest(content)

    async def delete_manifest(self, repository: str, digest: str) -> None:
        await self._call("DELETE", f"{repository}/manifests/{digest}", missing_ok=True)

    async def _pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        target: str | None = f"{path}?n={PAGE}"
        while target is not None:
            response = await self._call("GET", target, missing_ok=True)
            if response.status_code == 404:
                return
            yield _document(response)
            following = response.links.get("next", {}).get("url")
            target = str(following).removeprefix("/v2/") if following else None

    async def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        missing_ok: bool = False,
    ) -> httpx2.Response:
        login = self._login()
        async with _translated():
            response = await self._client.request(
                method,
                path,
                content=content,
                headers={"Host": self._address, **(headers or {})},
                auth=(login.name, login.password.reveal()),
                extensions={"sni_hostname": self._server_name},
            )
        if response.is_success or (missing_ok and response.status_code == 404):
            return response
        if response.status_code >= 500:
            raise RegistryDown(reason=f"HTTP {response.status_code}")
        raise RegistryFailed(reason=f"{method} {path}: HTTP {response.status_code}")


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (TimeoutError, httpx2.TransportError, ssl.SSLError, OSError) as error:
        raise RegistryDown(reason=str(error)[:200] or type(error).__name__) from error


def _document(response: httpx2.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError as error:
        raise RegistryFailed(reason="the answer is not JSON") from error
    if not isinstance(document, dict):
        raise RegistryFailed(reason="the answer is not an object")
    return document


def _child(entry: dict[str, Any]) -> Child:
    platform = entry.get("platform") or {}
    words = [platform.get("os"), platform.get("architecture"), platform.get("variant")]
    return Child(
        digest=str(entry["digest"]),
        platform="/".join(word for word in words if word),
        size_bytes=int(entry.get("size", 0)),
        media_type=str(entry.get("mediaType", "")),
    )


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
