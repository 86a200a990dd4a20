"""Routes and addresses of this machine's network, told to the kernel by rtnetlink (rtnetlink(7)).

By hand, for `ip` is no part of the agent's image, and a library for five messages would cost more
memory than they are worth. Needs CAP_NET_ADMIN. Every call raises OSError.
"""

import os
import socket
import struct
from collections.abc import Sequence
from typing import Final

TIMEOUT_S: Final = 10.0
_ADD_ADDRESS = 20
_ADD, _DELETE, _ERROR = 24, 25, 2
_REQUEST, _ACK, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_HOST_SCOPE = 254


def change_routes(remove: Sequence[str], add: Sequence[str], gateway: str) -> None:
    """Routes to single addresses, in the network that this thread is in."""
    with _link() as link:
        for address in remove:
            _ask(link, route_message(_DELETE, 0, address, None), missing_is_fine=True)
        for address in add:
            _ask(link, route_message(_ADD, _CREATE | _REPLACE, address, gateway))


def add_address(address: str, interface: str) -> None:
    """Give the interface that address, for itself alone; having it already is fine."""
    with _link() as link:
        _ask(link, address_message(address, socket.if_nametoindex(interface)))


def address_message(address: str, index: int) -> bytes:
    body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, _HOST_SCOPE, index)
    for kind in (1, 2):
        body += struct.pack("=HH4s", 8, kind, socket.inet_aton(address))
    return _message(_ADD_ADDRESS, _CREATE | _REPLACE, body)


def route_message(kind: int, flags: int, address: str, gateway: str | None) -> bytes:
    """An rtnetlink request about the route to one address."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 4 if gateway else 0, 0, 1, 0)
    body += struct.pack("=HH4s", 8, 1, socket.inet_aton(address))
    if gateway is not None:
        body += struct.pack("=HH4s", 8, 5, socket.inet_aton(gateway))
    return _message(kind, flags, body)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST | _ACK, 1, 0) + body


def _link() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    link.settimeout(TIMEOUT_S)
    return link


def _ask(link: socket.socket, message: bytes, *, missing_is_fine: bool = False) -> None:
    link.send(message)
    answer = link.recv(4096)
    (kind,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, 16)
    if kind == _ERROR and code != 0 and not missing_is_fine:
        raise OSError(-code, f"netlink: {os.strerror(-code)}")
