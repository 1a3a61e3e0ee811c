"""From families of the catalogue to what prometheus_client exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from drse_operator.observe.metrics.catalogue import Family, Kind

#: Adds one series: its labels' values in the catalogue's order, and its value.
Add = Callable[[tuple[str, ...], float], None]


class Exposition:
    """Families that are filled while being scraped. One without series is not exported."""

    def __init__(self) -> None:
        self._made: dict[str, Metric] = {}

    def new(self, family: Family) -> Add:
        """Begin a family; returns what adds a series to it."""
        made = GaugeMetricFamily if family.kind is Kind.GAUGE else CounterMetricFamily
        metric = made(family.name, family.text, labels=family.labels)
        self._made[family.name] = metric
        return metric.add_metric

    def set(self, family: Family, values: Mapping[tuple[str, ...], float]) -> None:
        """A whole family at once."""
        add = self.new(family)
        for labels, value in values.items():
            add(labels, value)

    def metrics(self) -> Iterator[Metric]:
        """What has been made, in order."""
        return (metric for metric in self._made.values() if metric.samples)


def gauge(family: Family, registry: CollectorRegistry) -> Gauge:
    """A gauge that is set by hand."""
    return Gauge(family.name, family.text, family.labels, registry=registry)


def counter(family: Family, registry: CollectorRegistry, known: Iterable[str] = ()) -> Counter:
    """A counter; with ``known`` values of its one label it begins at 0, so that the first count is seen."""
    made = Counter(family.name, family.text, family.labels, registry=registry)
    for value in known:
        made.labels(value)
    return made


def histogram(family: Family, registry: CollectorRegistry) -> Histogram:
    """A histogram with the catalogue's buckets."""
    return Histogram(family.name, family.text, family.labels, buckets=family.buckets, registry=registry)
