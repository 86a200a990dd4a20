"""What the AIs and devices say: results, samples, stills and the figures for Prometheus."""

from haechi.app.automating import Automating
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.core.telemetry import Telemetry
from haechi.domains.metrics import Metrics, figures
from haechi.domains.metrics.exposition import Exposition
from haechi.domains.metrics.schema import SCHEMA as METRICS_SCHEMA
from haechi.domains.results import Results
from haechi.domains.results.neighbours import DeploymentSources
from haechi.domains.results.schema import SCHEMA as RESULTS_SCHEMA
from haechi.domains.video import Video
from haechi.domains.video.agent_stills import AgentStills
from haechi.settings import Loaded


class Observing(Automating):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        s = self.settings
        self.telemetry = Telemetry(
            s.server.data_dir / "telemetry.db",
            schemas=[RESULTS_SCHEMA, METRICS_SCHEMA],
            max_queue_rows=s.results.max_queue_rows,
        )
        self.results = Results(
            telemetry=self.telemetry,
            bus=self.bus,
            clock=self.clock,
            sources=DeploymentSources(self.deployments.book),
            stamps=self.agents.stamp,
            only_camera=self.assignments.only_camera,
            authority=self.assignments.authoritative,
            heard=self.deployments.heard_results,
            retention_days=s.results.retention_days,
        )
        self.agents.on_results(self.results.ingest_from_agent)
        self.metrics = Metrics(
            telemetry=self.telemetry,
            bus=self.bus,
            clock=self.clock,
            stamps=self.agents.stamp,
            raw_hours=s.metrics.raw_hours,
            minute_days=s.metrics.minute_days,
            hour_days=s.metrics.hour_days,
        )
        self.agents.on_samples(self.metrics.ingest)
        self.exposition = Exposition()
        figures.register(
            self.exposition, metrics=self.metrics, telemetry=self.telemetry, clock=self.clock
        )
        self.exposition.counter(
            "haechi_results_stored",
            "Results stored since the start.",
            ("device_id", "package"),
            lambda: list(self.results.accepted.items()),
        )
        self.video = Video(
            cameras=self.inventory.cameras, stills=AgentStills(self.agents), clock=self.clock
        )
