"""Whose result counts: the epoch rule of CONTRACTS 6; pure and in memory.

Highest epoch wins from the moment it became effective; results captured before that moment still
belong to the epoch before. A trial is never authoritative. Equal epochs (two agents that decided
while cut off): the lower device id.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_KEPT: Final = 16


@dataclass(slots=True)
class Epoch:
    device_id: str
    effective_ms: int | None
    """None: on trial."""


class Epochs:
    def __init__(self) -> None:
        self._known: dict[tuple[str, str], OrderedDict[int, Epoch]] = {}

    def put(
        self, camera_id: str, package_id: str, epoch: int, device_id: str, effective_ms: int | None
    ) -> None:
        known = self._known.setdefault((camera_id, package_id), OrderedDict())
        known[epoch] = Epoch(device_id, effective_ms)
        while len(known) > _KEPT:
            del known[min(known)]

    def drop(self, camera_id: str, package_id: str, epoch: int) -> None:
        """A trial that came to nothing: what it said never counts."""
        known = self._known.get((camera_id, package_id))
        if known is not None and epoch in known:
            known[epoch].effective_ms = None

    def authoritative(
        self,
        camera_id: str,
        package_id: str,
        epoch: int | None,
        device_id: str,
        captured_ms: int | None = None,
    ) -> bool:
        known = self._known.get((camera_id, package_id))
        if not known:
            return True
        if epoch is None:
            epoch = max(
                (number for number, at in known.items() if at.device_id == device_id), default=0
            )
        own = known.get(epoch)
        if own is not None:
            if own.device_id != device_id:
                return device_id < own.device_id
            if own.effective_ms is None:
                return False
            if captured_ms is not None and captured_ms < own.effective_ms:
                return not any(number < epoch for number in known)
        return not any(
            number > epoch
            and other.effective_ms is not None
            and (captured_ms is None or other.effective_ms <= captured_ms)
            for number, other in known.items()
        )
