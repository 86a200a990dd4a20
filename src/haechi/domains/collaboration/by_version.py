"""SwitchByVersion: a newer version takes the place of older ones wherever those run.

The deployments domain does it as it does every deploy: new beside old, proven, then the old one
goes, rolled back on failure. The old version stays stored.
"""

from dataclasses import dataclass
from typing import Final

from haechi.core.access import SYSTEM, Principal
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.core.operations import Operation
from haechi.domains.collaboration import store
from haechi.domains.collaboration.model import Decision, RunningAi, is_older
from haechi.domains.collaboration.ports import Ais, Deployer

POLICY: Final = "switch_by_version"


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the version goes, and the operations that bring it there."""

    device_ids: list[str]
    operations: list[Operation]


class SwitchByVersion:
    def __init__(self, *, db: Database, clock: Clock, ais: Ais, deployer: Deployer) -> None:
        self._db = db
        self._clock = clock
        self._ais = ais
        self._deployer = deployer

    async def outdated(self, version_id: str) -> list[RunningAi]:
        """Where an older version of the same family and class runs. Raises NotFound."""
        version = await self._ais.version(version_id)
        running = await self._ais.running_of(version.package_id)
        return [
            ai
            for ai in running
            if ai.version.version_id != version_id and is_older(ai.version, version)
        ]

    async def spread(self, version_id: str, *, by: Principal = SYSTEM) -> Spread:
        """Begin to replace; nothing to do, a first upload included, is fine."""
        running = await self.outdated(version_id)
        devices = list(dict.fromkeys(ai.device_id for ai in running))
        if not running:
            return Spread([], [])
        operations = await self._deployer.replace(version_id, running, by)
        version = await self._ais.version(version_id)
        async with self._db.write() as tx:
            for ai in running:
                decision = Decision(
                    id=new_id("decision"),
                    at=self._clock.now(),
                    policy=POLICY,
                    device_id=ai.device_id,
                    family=version.variant.family,
                    action="started",
                    reason="newer_version",
                    values={"running": ai.version.version, "new": version.version},
                    candidates=[version_id],
                    operation_id=operations[0].id if len(operations) == 1 else None,
                )
                store.add(tx, decision)
        return Spread(devices, operations)
