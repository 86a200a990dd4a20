"""The services of haechi that the old interface calls, and what its handlers share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.operations import Operations
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.collaboration import SwitchByVersion, SwitchByWeather
from haechi.domains.deployments.service import Deployments
from haechi.domains.inventory import Inventory
from haechi.domains.packages.service import Packages
from haechi.interop.clusters import Clusters
from haechi.interop.ports import AgentLink, Authenticate, Builder, Collector, ResultSink
from haechi.interop.vms import Vms
from haechi.protocol.samples import Sample
from haechi.settings import InteropSettings


@dataclass(frozen=True, kw_only=True)
class Services:
    db: Database
    bus: Bus
    clock: Clock
    audit: AuditTrail
    operations: Operations
    inventory: Inventory
    packages: Packages
    builds: Builder
    registry: Collector
    deployments: Deployments
    results: ResultSink
    agents: AgentLink
    authenticate: Authenticate
    weather: SwitchByWeather
    versions: SwitchByVersion
    clusters: Clusters
    vms: Vms | None
    settings: Callable[[], InteropSettings]
    inbox: Path
    samples: Callable[[], Mapping[str, tuple[int, Sample]]] = dict
    """Device → (time, newest sample of its agent)."""
