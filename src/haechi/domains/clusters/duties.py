"""What is done for every cluster without anybody asking: daily backups, certificates renewed in
time.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from haechi.core.access import SYSTEM, Principal
from haechi.core.operations import Operation
from haechi.core.tasks import Tasks
from haechi.domains.clusters import certificates, store
from haechi.domains.clusters.backups import store as backups_store
from haechi.domains.clusters.backups.model import Occasion
from haechi.domains.clusters.certificates import NodeCertificate
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.model import ClusterState
from haechi.errors import AppError, Busy
from haechi.settings import ClustersSettings

log = logging.getLogger(__name__)

FIRST_S: Final = 300.0
"""After the server's start: whoever restarts it repeatedly must not start work each time."""
EVERY_S: Final = 3600.0
LOOK_EVERY: Final = timedelta(hours=24)


class Caretaker(Protocol):
    async def certificates(
        self, cluster_id: str
    ) -> tuple[list[NodeCertificate], dict[str, AppError]]: ...

    async def renew_certificates(
        self, cluster_id: str, *, by: Principal, every: bool = True
    ) -> Operation: ...

    async def back_up_cluster(
        self, cluster_id: str, *, by: Principal, occasion: Occasion = "asked"
    ) -> Operation: ...


class Duties:
    def __init__(
        self, context: Context, caretaker: Caretaker, settings: Callable[[], ClustersSettings]
    ) -> None:
        self._c = context
        self._caretaker = caretaker
        self._settings = settings
        self._looked: dict[str, datetime] = {}
        self._tasks = Tasks("cluster-duties")

    def start(self) -> None:
        self._tasks.forever("daily", self._forever)

    async def close(self) -> None:
        await self._tasks.close()

    async def _forever(self) -> None:
        await self._c.clock.sleep(FIRST_S)
        while True:
            await self.attend()
            await self._c.clock.sleep(EVERY_S)

    async def attend(self) -> None:
        """All that is due now; what one cluster refuses does not keep the others."""
        async with self._c.db.read() as tx:
            clusters = await store.in_states(tx, [ClusterState.READY])
        for cluster in clusters:
            for duty in (self._see_to_certificates, self._see_to_backup):
                try:
                    await duty(cluster.id)
                except Busy as error:
                    log.info("cluster %s: later, since %s", cluster.id, error)
                except AppError as error:
                    log.warning("cluster %s: %s", cluster.id, error)

    async def _see_to_certificates(self, cluster_id: str) -> None:
        now = self._c.clock.now()
        looked = self._looked.get(cluster_id)
        if looked is not None and now - looked < LOOK_EVERY:
            return
        found, failures = await self._caretaker.certificates(cluster_id)
        due = certificates.due(found, now, self._settings().renew_before_days)
        if due:
            names = ", ".join(f"{one.node_name}/{one.name}" for one in due[:5])
            log.info("cluster %s: certificates end soon: %s", cluster_id, names)
            _ = await self._caretaker.renew_certificates(cluster_id, by=SYSTEM, every=False)
        if not failures:
            self._looked[cluster_id] = now

    async def _see_to_backup(self, cluster_id: str) -> None:
        every_h = self._settings().backup_every_hours
        if every_h <= 0:
            return
        async with self._c.db.read() as tx:
            newest = await backups_store.newest(tx, cluster_id)
        if newest is None or self._c.clock.now() - newest.created_at >= timedelta(hours=every_h):
            _ = await self._caretaker.back_up_cluster(cluster_id, by=SYSTEM, occasion="daily")
