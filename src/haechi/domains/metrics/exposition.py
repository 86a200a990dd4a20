"""`GET /metrics` for Prometheus: every part of the server adds its own figures here.

Knows the names of no domain but its own: others hand in functions that are asked when somebody
scrapes. Figures are per process start; nothing is kept for them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Rows = Iterable[tuple[Sequence[str], float]]
"""(label values, value)."""


@dataclass(frozen=True)
class _Family:
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Rows]


class Exposition:
    def __init__(self) -> None:
        self._families: list[_Family] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def gauge(
        self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Rows]
    ) -> None:
        """A value that goes up and down; `read` is asked at every scrape and must be quick."""
        self._families.append(_Family(GaugeMetricFamily, name, help_text, tuple(labels), read))

    def counter(
        self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Rows]
    ) -> None:
        """A value that only rises while the server runs; `_total` is added to its name."""
        self._families.append(_Family(CounterMetricFamily, name, help_text, tuple(labels), read))

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client."""
        for family in self._families:
            metric = family.kind(family.name, family.help, labels=family.labels)
            for values, value in family.read():
                metric.add_metric(list(values), value)
            yield metric

    def describe(self) -> list[Metric]:
        """For prometheus-client: names are not known before they are asked for."""
        return []

    def render(self) -> bytes:
        return generate_latest(self._registry)
