"""The historic interface and the policies that it calls, over the services beneath."""

from typing import Any

from pydantic import ValidationError

from haechi.app.observing import Observing
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.auth.model import Peer
from haechi.domains.clusters.model import FormOptions
from haechi.domains.clusters.shapes import FormOptionsIn
from haechi.domains.collaboration import SwitchByVersion, SwitchByWeather
from haechi.domains.collaboration.neighbours import DeploymentsDeployer, PackagedAis
from haechi.interop import FormedClusters, RecordedClusters, Vms, create_interop
from haechi.interop import Services as InteropServices
from haechi.settings import BadSettings, Loaded


class OldInterface(Observing):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        s = self.settings
        ais = PackagedAis(self.packages, self.deployments)
        deployer = DeploymentsDeployer(self.deployments, self.operations)
        self.weather = SwitchByWeather(
            db=self.db,
            clock=self.clock,
            operations=self.operations,
            ais=ais,
            deployer=deployer,
            settings=s.collaboration,
        )
        authenticator = self.auth.authenticator
        services = InteropServices(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            audit=self.audit,
            operations=self.operations,
            inventory=self.inventory,
            packages=self.packages,
            builds=self.builds,
            registry=self.registry,
            deployments=self.deployments,
            results=self.results,
            agents=self.agents,
            samples=self.metrics.newest,
            authenticate=lambda token, address: authenticator.by_token(
                token, Peer(address=address)
            ),
            weather=self.weather,
            versions=SwitchByVersion(db=self.db, clock=self.clock, ais=ais, deployer=deployer),
            clusters=FormedClusters(
                db=self.db,
                clusters=self.clusters,
                operations=self.operations,
                recorded=RecordedClusters(
                    db=self.db, clock=self.clock, inventory=self.inventory, audit=self.audit
                ),
                options=_form_options(s.interop.form_options),
            ),
            vms=Vms(s.interop.vms_url) if s.interop.vms_url else None,
            settings=lambda: s.interop,
            inbox=s.interop.inbox or s.server.data_dir / "inbox",
        )
        self.interop = create_interop(services)


def _form_options(given: dict[str, Any]) -> FormOptions:
    """Raises BadSettings."""
    try:
        return FormOptionsIn.model_validate(given).options()
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BadSettings(reason=f"interop.form_options: {where}") from error
