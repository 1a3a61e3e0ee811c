"""``docs/reference/metrics.md``: every metric of the programs, and the recording rules made of
them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import Metric

from deploy.rules.recording import RECORDINGS
from drse_forecaster.metrics import Metrics, Shown
from drse_operator.api.reference import table
from drse_operator.observe.console.figures import Figures
from drse_operator.observe.metrics.catalogue import families

_HEAD = """# Metrics

Written from the code by `python -m deploy`. Labels that name a job are `deepseekjob` and
`deepseekjob_namespace`: scrape configurations write `namespace` and `pod` themselves. `model` is the product
name of a GPU as its node publishes it, `type` a task type.

All programs serve `/metrics` and add the usual `process_*` series.
"""
_OPERATOR = """## Operator

What is about the cluster comes from the leader alone, so sums count once. Counters and histograms stay with
the instance that counted: add up `rate()` or `increase()` over all of them. Series of single jobs exist for
jobs that hold GPUs and for the 50 first of each queue.
"""
_RULES = """## Recording rules

From `manifests/alerts/drse.rules.yaml`; the chart installs them with `prometheusRule.enabled`.
"""


def metrics_page() -> str:
    """The whole page, in Markdown."""
    operator = [(f.exported, f.kind.value, f.labels, f.scope.value, f.text) for f in families()]
    recorded = [(f"`{rule.record}`", f"`{rule.expr}`") for rule in RECORDINGS]
    parts = (
        _HEAD,
        _OPERATOR,
        table(("Metric", "Kind", "Labels", "From", "What it says"), (_cells(row) for row in operator)),
        "## Forecaster\n",
        table(("Metric", "Kind", "Labels", "What it says"), (_cells(row) for row in _forecaster())),
        "## Console\n",
        table(("Metric", "Kind", "Labels", "What it says"), (_cells(row) for row in _console())),
        _RULES,
        table(("Series", "Expression"), recorded),
    )
    return "\n".join(parts)


def forecaster_metrics() -> dict[str, Metric]:
    """The forecaster's families by name, as they are when nothing has been forecast yet."""
    registry = Metrics(lambda: Shown(now=0.0)).registry
    return {family.name: family for family in registry.collect() if family.name.startswith("drse_")}


_Row = tuple[str, str, tuple[str, ...], str]


def _forecaster() -> Iterator[_Row]:
    return _rows(Metrics(lambda: Shown(now=0.0)))


def _console() -> Iterator[_Row]:
    return _rows(Figures("0"))


def _rows(metrics: Metrics | Figures) -> Iterator[_Row]:
    """Its own families; labels are those of the metrics that it sets by hand, or of what it collects."""
    by_hand = {_name(metric): metric for metric in vars(metrics).values()}
    for family in metrics.registry.collect():
        if family.name.startswith("drse_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, family.type, _labels(by_hand.get(family.name, family)), family.documentation


def _name(metric: object) -> str:
    return str(getattr(metric, "_name", ""))


def _labels(metric: Any) -> tuple[str, ...]:
    """Names of the labels; the client library keeps them to itself, or only the samples have them."""
    known = getattr(metric, "_labelnames", None)
    return tuple(known if known is not None else dict.fromkeys(k for s in metric.samples for k in s.labels))


def _cells(row: tuple[Any, ...]) -> tuple[str, ...]:
    name, *rest = row
    return (f"`{name}`", *(_listed(cell) if isinstance(cell, tuple) else cell for cell in rest))


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels)
