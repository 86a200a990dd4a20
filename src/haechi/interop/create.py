"""Puts the parts of the old interface together: `create_interop(services)` → an ASGI app."""

import shutil

from haechi.interop import deploys, inventory, packages, reports, status, year3
from haechi.interop.app import InteropApp
from haechi.interop.deploys import DeployCalls
from haechi.interop.endpoint import Endpoint
from haechi.interop.held import HeldCalls
from haechi.interop.identity import Identity
from haechi.interop.inventory import InventoryCalls
from haechi.interop.lookups import Lookups
from haechi.interop.packages import PackageCalls
from haechi.interop.redirects import Redirects
from haechi.interop.reports import ReportCalls
from haechi.interop.services import Services
from haechi.interop.status import StatusCalls
from haechi.interop.uploads import Uploads
from haechi.interop.year3 import Year3Calls


class Interop:
    """`app` serves every path; mount it on each extra listener. `close` before the services."""

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings()
        self._lookups = Lookups(services)
        self._held = HeldCalls(lambda: services.settings().wait_s)
        identity = Identity(services, self._lookups)
        uploads = Uploads(services, self._lookups)
        things = InventoryCalls(services, self._lookups)
        moves = DeployCalls(services, self._lookups, self._held, uploads)
        Redirects(inventory=services.inventory, agents=services.agents, bus=services.bus)
        self._reports = ReportCalls(services, self._lookups, identity)
        self.endpoints: list[Endpoint] = [
            *inventory.endpoints(things),
            *year3.endpoints(
                Year3Calls(services, self._lookups, self._held, uploads), moves, things
            ),
            *packages.endpoints(PackageCalls(services, self._lookups, self._held, uploads)),
            *deploys.endpoints(moves),
            *reports.endpoints(self._reports),
            *status.endpoints(StatusCalls(services, self._lookups)),
        ]
        self.app = InteropApp(
            endpoints=self.endpoints,
            allow=settings.allow,
            identify=services.authenticate,
            clock=services.clock,
            strict=lambda: services.settings().strict,
            require_token=settings.require_token,
            rate_per_s=settings.rate_per_s,
        )

    def start(self) -> None:
        """Make the folder where zips may be laid; sweep what a crash left of sent ones."""
        inbox = self._services.inbox
        inbox.mkdir(parents=True, exist_ok=True)
        for left in inbox.glob(f"{packages.SENT_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    async def close(self) -> None:
        await self._held.close()
        await self._reports.close()
        await self._lookups.close()
        if self._services.vms is not None:
            await self._services.vms.close()


def create_interop(services: Services) -> Interop:
    return Interop(services)
