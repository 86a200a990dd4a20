"""Ids: `<kind>-<base32 of 80 random bits>`, lower case and DNS-label safe (CONTRACTS 1)."""

import base64
import re
import secrets
from typing import Final

KINDS: Final = {
    "server": "srv",
    "site": "sit",
    "device": "dev",
    "camera": "cam",
    "link": "lnk",
    "group": "grp",
    "cluster": "clu",
    "backup": "bkp",
    "package": "pkg",
    "version": "ver",
    "build": "bld",
    "deployment": "dep",
    "assignment": "asg",
    "event": "evt",
    "decision": "dec",
    "operation": "op",
    "user": "usr",
    "token": "tok",
    "schedule": "sch",
    "schedule_run": "run",
    "audit": "aud",
    "request": "req",
}
_PATTERN: Final = re.compile(r"^[a-z]{2,3}-[a-z2-7]{16}$")


def new_id(kind: str) -> str:
    """A fresh id; `kind` is a key of KINDS."""
    random = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return f"{KINDS[kind]}-{random}"


def is_id(text: str, kind: str | None = None) -> bool:
    if not _PATTERN.match(text):
        return False
    return kind is None or text.startswith(KINDS[kind] + "-")


def new_secret() -> str:
    """An opaque token of 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)
