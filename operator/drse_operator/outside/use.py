"""How busy each GPU is: one expression, of the exporters' metrics that the forecaster goes by, too."""

from __future__ import annotations

from drse_forecaster.queries import DEFAULT_UTILIZATION, Utilization

__all__ = ["DEFAULT_UTILIZATION", "Utilization", "busy", "busy_of_jobs", "unmeasured"]

Exporters = tuple[Utilization, ...]


def busy(exporters: Exporters) -> str:
    """PromQL: use of each GPU (0 to 1), labelled UUID."""
    return " or ".join(one.expression() for one in exporters)


def busy_of_jobs(exporters: Exporters) -> str:
    """PromQL: GPUs in use, summed over those that jobs hold."""
    return f"sum(({busy(exporters)}) * on (UUID) group_left () max by (UUID) (drse_gpu_assigned))"


def unmeasured(exporters: Exporters) -> str:
    """PromQL: how many GPUs jobs hold that no exporter measures."""
    return f"count(drse_gpu_assigned unless on (UUID) ({busy(exporters)})) or vector(0)"
