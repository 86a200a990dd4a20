"""Is a host there, and do its SSH and its kubelet answer? Asked once a second, so kept small.

SSH: the banner that every server sends first (RFC 4253, 4.2). Kubelet: any HTTP answer to
`GET /healthz` on its TLS port; 401 counts, for it is the program that says it. The kubelet's
connection is kept between questions, so that a healthy node costs no handshake.
"""

import asyncio
import contextlib
import errno
import ssl
from typing import Final

from haechi.domains.clusters.judging import Answer

KUBELET_PORT: Final = 10250
_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED})
_BANNER: Final = b"SSH-"
_REQUEST: Final = b"GET /healthz HTTP/1.1\r\nHost: kubelet\r\nUser-Agent: haechi\r\n\r\n"
_HEAD_LIMIT: Final = 16_384


class TcpProbe:
    """`timeout_s` is for each question as a whole."""

    def __init__(self, *, timeout_s: float = 1.0) -> None:
        self._timeout_s = timeout_s
        self._closed = False
        self._kept: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Nothing is sent or believed but that somebody answers; kubelets sign their own.
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def ssh(self, address: str, port: int) -> Answer:
        connected = False
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(address, port)
                connected = True
                try:
                    heard = await reader.readexactly(len(_BANNER))
                finally:
                    writer.transport.abort()
            return "answers" if heard == _BANNER else "mute"
        except TimeoutError:
            return "mute" if connected else "unreachable"
        except asyncio.IncompleteReadError:
            return "refused"
        except OSError as error:
            return _meant(error)

    async def kubelet(self, address: str, port: int = KUBELET_PORT) -> Answer:
        key = f"{address}:{port}"
        kept = self._kept.pop(key, None)
        if kept is not None:
            answer = await self._ask(key, *kept)
            if answer == "answers":
                return answer
        return await self._ask_anew(key, address, port)

    async def _ask_anew(self, key: str, address: str, port: int) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                _, plain = await asyncio.open_connection(address, port)
                plain.transport.abort()
        except TimeoutError:
            return "unreachable"
        except OSError as error:
            return _meant(error)
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(address, port, ssl=self._tls)
        except TimeoutError:
            return "mute"
        except OSError as error:  # ssl.SSLError is one
            return _meant(error) if not isinstance(error, ssl.SSLError) else "mute"
        return await self._ask(key, reader, writer)

    async def _ask(
        self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer:
        """One question over an open connection, which is kept where the answer was whole."""
        try:
            async with asyncio.timeout(self._timeout_s):
                writer.write(_REQUEST)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head))
        except TimeoutError:
            writer.transport.abort()
            return "mute"
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            writer.transport.abort()
            return "refused"
        except asyncio.CancelledError:  # whoever asked is gone, and nobody would close it
            writer.transport.abort()
            raise
        other = self._kept.pop(key, None)
        if other is not None:  # two asked at once
            other[1].transport.abort()
        if self._closed:
            writer.transport.abort()
        else:
            self._kept[key] = (reader, writer)
        return "answers"

    def forget(self, address: str) -> None:
        """Nobody asks for this host any more."""
        for key in [one for one in self._kept if one.rpartition(":")[0] == address]:
            # Held by a name: a writer that nothing holds is collected before it is told to close.
            _, writer = self._kept.pop(key)
            writer.transport.abort()

    async def close(self) -> None:
        """Without TLS's goodbye: a host that lost its power would never answer it."""
        self._closed = True
        writers = [writer for _, writer in self._kept.values()]
        self._kept.clear()
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _meant(error: OSError) -> Answer:
    return "refused" if error.errno in _REFUSED else "unreachable"


def _length(head: bytes) -> int:
    """Bytes of the body that follows. Raises ValueError where that is not said or is too much."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
            if 0 <= length <= _HEAD_LIMIT:
                return length
    raise ValueError("no length")
