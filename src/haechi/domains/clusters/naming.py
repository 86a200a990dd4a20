"""Names of nodes: from the device's host name, made valid for Kubernetes and unique."""

import re
from collections.abc import Collection
from typing import Final

MAX_LENGTH: Final = 63
_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9-]+")


def node_name(wanted: str | None, device_id: str, taken: Collection[str]) -> str:
    """A DNS label. Where nothing of `wanted` can be used, the device's id; where it is taken, with
    the first free number behind it.
    """
    base = _NOT_ALLOWED.sub("-", (wanted or "").strip().lower())[:MAX_LENGTH].strip("-")
    base = base or device_id
    name, number = base, 2
    while name in taken:
        ending = f"-{number}"
        name = base[: MAX_LENGTH - len(ending)].rstrip("-") + ending
        number += 1
    return name
