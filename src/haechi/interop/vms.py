"""The external VMS that some sites have: asked for ids and zips, and never trusted to be there.

Every question has a time limit and two further tries. Only `code`, `ip`, `name`, `mid`, `wlist`,
`version` of its answers are relied on. What it says wrong is a Refusal with the reason.
"""

import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx2

from haechi.interop.codes import Refusal

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
TRIES: Final = 3
MAX_ANSWER_BYTES: Final = 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024


class Vms:
    """`base_url` as in the settings; nothing else is ever asked."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._client = httpx2.AsyncClient(
            base_url=self._base_url,
            timeout=timeout_s,
            trust_env=False,
            follow_redirects=False,
            transport=transport,
        )

    async def close(self) -> None:
        await self._client.aclose()

    def owns(self, url: str) -> bool:
        """Whether a `fileUrl` leads to this VMS."""
        return url.startswith(self._base_url + "/")

    async def look_up(self, path: str, **query: str) -> dict[str, Any]:
        """The answer's object. Raises Refusal 0004 (unknown there too) or 0014."""
        document = await self._get(path, query)
        code = document.get("code", "0000")
        if code == "0004":
            raise Refusal("0004", "VMS도 모르는 ID입니다.", "The VMS does not know the id either.")
        if code != "0000":
            shown = str(code)[:16]
            raise _failed(
                f"VMS가 코드 {shown}(으)로 답했습니다.", f"The VMS answered code {shown}."
            )
        return document

    async def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        reason = ""
        for _ in range(TRIES):
            try:
                response = await self._client.get(path, params=dict(query))
            except httpx2.TimeoutException:
                reason = f"{self._timeout_s:g} s"
                continue
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                reason = type(error).__name__
                continue
            if response.status_code >= 500:
                reason = f"HTTP {response.status_code}"
                continue
            return _object_of(response)
        raise _failed(
            f"VMS가 응답하지 않습니다 ({reason}).", f"The VMS does not answer ({reason})."
        )

    async def download(self, file_name: str) -> AsyncIterator[bytes] | None:
        """The zip in pieces; None where it has none. Raises Refusal 0014 also half-way."""
        request = self._client.build_request("GET", "/download", params={"filename": file_name})
        for attempt in range(TRIES):
            try:
                response = await self._client.send(request, stream=True)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                if attempt + 1 < TRIES:
                    continue
                reason = type(error).__name__
                raise _failed(
                    f"VMS에서 zip을 받을 수 없습니다 ({reason}).",
                    f"The zip cannot be had from the VMS ({reason}).",
                ) from error
            if response.status_code < 500 or attempt + 1 == TRIES:
                return await self._pieces(response)
            await response.aclose()
        return None

    async def _pieces(self, response: httpx2.Response) -> AsyncIterator[bytes] | None:
        """A JSON answer is a refusal in the old way, also with HTTP 200."""
        kind = response.headers.get("content-type", "")
        if response.status_code == 404 or "json" in kind:
            await response.aclose()
            return None
        if response.status_code != 200:
            await response.aclose()
            raise _failed(
                f"VMS가 HTTP {response.status_code}(으)로 답했습니다.",
                f"The VMS answered HTTP {response.status_code}.",
            )
        return _stream(response)


async def _stream(response: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_bytes(_PIECE_BYTES):
            yield piece
    except httpx2.HTTPError as error:
        raise _failed(
            "VMS에서 zip을 받다가 끊겼습니다.", "The VMS broke off while sending the zip."
        ) from error
    finally:
        await response.aclose()


def _object_of(response: httpx2.Response) -> dict[str, Any]:
    content = response.content
    if len(content) > MAX_ANSWER_BYTES:
        raise _failed("VMS의 응답이 너무 큽니다.", "The VMS's answer is too large.")
    if response.status_code == 404:
        raise Refusal("0004", "VMS도 모르는 ID입니다.", "The VMS does not know the id either.")
    if response.status_code != 200:
        raise _failed(
            f"VMS가 HTTP {response.status_code}(으)로 답했습니다.",
            f"The VMS answered HTTP {response.status_code}.",
        )
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _failed("VMS의 응답이 JSON이 아닙니다.", "The VMS's answer is not JSON.") from error
    if not isinstance(document, dict):
        raise _failed("VMS의 응답이 객체가 아닙니다.", "The VMS's answer is no object.")
    return document


def _failed(ko: str, en: str) -> Refusal:
    return Refusal("0014", f"{ko} VMS를 확인하세요.", f"{en} Check the VMS.")
