"""Capacity against load, one panel a policy, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from drse_operator.simulator.scaling import Moment

#: More would be a solid block: the newest so many days are drawn.
DAYS_DRAWN = 3.0


def draw(moments: Mapping[str, Sequence[Moment]], title: str, path: Path) -> None:
    """Draw demand, capacity of ready replicas and GPUs held over time. Raises ImportError without
    matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(
        len(moments), 1, figsize=(10, 2.4 * len(moments)), sharex=True, squeeze=False, layout="constrained"
    )
    top = 1.8 * max(one.demand for one in next(iter(moments.values())))
    for axes, (name, all_of_it) in zip(rows[:, 0], moments.items(), strict=True):
        since = all_of_it[-1].time - DAYS_DRAWN * 86400
        shown = [one for one in all_of_it if one.time >= since]
        hours = [(one.time - shown[0].time) / 3600 for one in shown]
        demand, capacity = [one.demand for one in shown], [one.capacity for one in shown]
        axes.fill_between(hours, demand, color="tab:blue", alpha=0.25, linewidth=0, label="load")
        axes.step(
            hours, [one.held for one in shown], where="post", color="grey", linewidth=0.6, label="GPUs held"
        )
        axes.step(hours, capacity, where="post", color="tab:green", linewidth=1.0, label="capacity")
        short = [d > c for d, c in zip(demand, capacity, strict=True)]
        axes.fill_between(
            hours, capacity, demand, where=short, step="post", color="tab:red", linewidth=1.2, label="short"
        )
        under = sum(short) / len(short)
        axes.set(ylabel="GPUs", title=f"{name}: {under:.2%} of the time shown under capacity", ylim=(0, top))
        axes.title.set_fontsize(9)
    rows[0, 0].legend(fontsize=7, ncols=4, loc="upper left")
    rows[-1, 0].set(xlabel="hours")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
