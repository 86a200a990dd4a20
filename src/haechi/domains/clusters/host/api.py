"""REST face of hosts: the key by which a device's host is known."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from haechi.core.access import Role, requires
from haechi.domains.clusters.host.ports import HostKey, Hosts
from haechi.rest import Caller, In, Out


class HostKeyOut(Out):
    fingerprint: str
    """`SHA256:…`, as `ssh-keygen -lf` shows it on the host."""
    public: str


class TrustIn(In):
    fingerprint: Annotated[str, Field(max_length=128)] = ""
    """Only where the host shows this one; absent: the one that it shows now, on your word."""
    replace: bool = False
    """The host was installed anew: its other key takes the place of the pinned one."""


def router(hosts: Hosts) -> APIRouter:
    api = APIRouter(tags=["devices"])

    @api.get("/devices/{device_id}/host-key")
    @requires(Role.OPERATOR)
    async def look_at_host_key(device_id: str) -> HostKeyOut:
        """The SSH key that the device's host shows now; nothing is pinned."""
        return _out(await hosts.look(device_id))

    @api.post("/devices/{device_id}/host-key")
    @requires(Role.OPERATOR)
    async def trust_host_key(device_id: str, body: TrustIn, by: Caller) -> HostKeyOut:
        """Pin it: from then on no other host is taken for this device."""
        key = await hosts.learn(
            device_id, by=by, fingerprint=body.fingerprint, replace=body.replace
        )
        return _out(key)

    return api


def _out(key: HostKey) -> HostKeyOut:
    return HostKeyOut(fingerprint=key.fingerprint, public=key.public)
