"""Where a name leads, as this server sees it: whoever is told may know no name service."""

import asyncio
import ipaddress
import socket
from typing import Final

from haechi.errors import Text, Upstream

LOOK_UP_S: Final = 10.0


class NameUnknown(Upstream):
    code = "core.name_unknown"
    detail = Text(
        "이 서버에서 이름 '{name}'의 주소를 찾을 수 없습니다: {reason}",
        "This server cannot find the address of '{name}': {reason}",
    )
    remedy = Text(
        "서버의 DNS와 /etc/hosts를 확인하거나, 설정에 이름 대신 IP 주소를 쓰세요.",
        "Check the server's DNS and /etc/hosts, or write an IP address instead of the name into "
        "the settings.",
    )


async def address_of(
    name: str, *, family: int = socket.AF_UNSPEC, timeout_s: float = LOOK_UP_S
) -> str:
    """An IP address is its own. Raises NameUnknown."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            found = await loop.getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise NameUnknown(name=name, reason=f"no answer within {timeout_s:g} s") from error
    except (OSError, UnicodeError) as error:
        raise NameUnknown(name=name, reason=str(error)) from error
    return str(found[0][4][0])
