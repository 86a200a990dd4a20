"""Which device speaks: its token, else an id in the body, else its address where that is one's own.

Never a user name: old programs send `root`. Who is nobody is refused and shown to the operator.
"""

import logging
from collections import OrderedDict
from typing import Final

from haechi.core.access import Principal
from haechi.domains.inventory.model import Device
from haechi.interop.codes import Refusal
from haechi.interop.endpoint import Call
from haechi.interop.lookups import Lookups
from haechi.interop.services import Services

log = logging.getLogger(__name__)

TELL_AGAIN_S: Final = 300.0
_REMEMBERED: Final = 1024


class Identity:
    def __init__(self, services: Services, lookups: Lookups) -> None:
        self._s = services
        self._lookups = lookups
        self._told_s: OrderedDict[str, float] = OrderedDict()

    async def device_of(self, call: Call, ref: str | None, *, strict: bool = False) -> Device:
        """`ref`: the id in the body; `strict`: one that nobody knows is refused at once.

        Raises Refusal 0004.
        """
        own = call.caller.by.device_id
        if own:
            return await self._s.inventory.devices.get(own)
        if ref:
            try:
                return await self._lookups.device(ref, patient=False)
            except Refusal as error:
                if strict or error.code != "0004":
                    await self._tell(call, ref)
                    raise
        found = await self._by_address(call.caller.address)
        if found is None:
            await self._tell(call, ref or "")
            raise Refusal(
                "0004",
                f"주소 {call.caller.address}에서 온 요청이 어느 장치의 것인지 알 수 없습니다.",
                f"Which device calls from {call.caller.address} is not known.",
            )
        return found

    async def _by_address(self, address: str) -> Device | None:
        page = await self._s.inventory.devices.find(address=address)
        enrolled = [one for one in page.items if one.enrolment == "enrolled"]
        return enrolled[0] if len(enrolled) == 1 else None

    async def _tell(self, call: Call, ref: str) -> None:
        """Show it to the operator: in the audit log, not every second."""
        key = f"{call.caller.address}/{ref}"
        now_s = self._s.clock.monotonic()
        if now_s - self._told_s.get(key, float("-inf")) < TELL_AGAIN_S:
            return
        self._told_s[key] = now_s
        while len(self._told_s) > _REMEMBERED:
            self._told_s.popitem(last=False)
        log.warning("a caller at %s is no known device (%r)", call.caller.address, ref[:64])
        async with self._s.db.write() as tx:
            await self._s.audit.record(
                tx, call.caller.by, "refuse_unknown_caller", call.caller.address, {"id": ref[:64]}
            )


def source_principal(device: Device, by: Principal, facts: dict[str, str]) -> Principal:
    """Who the results domain takes a row from."""
    return Principal(
        kind="device",
        id=device.id,
        name=by.name,
        device_id=device.id,
        deployment_id=by.deployment_id or facts.get("deployment_id"),
        facts={**facts, **by.facts},
    )
