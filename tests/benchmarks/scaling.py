"""Closed loop: DRSE's scaling against others on recorded loads, at equal GPU-hours.

    python -m tests.benchmarks.scaling [--traces FOLDER] [--only NAME] [--write]

Each series drives replicas of one GPU that take three minutes to start, scaled to ten GPUs on average; its
first two weeks are taken. Forecasts are those that the forecaster would have served, refitted as there. The
HPA is run at the target that takes DRSE's GPU-hours, and at three common ones. Prints JSON, then Markdown;
``--write`` puts both into docs/.
"""

from __future__ import annotations

import drse_forecaster  # noqa: F401  it limits BLAS threads, which works only before numpy is loaded

# isort: split

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np

from drse_forecaster.recorded import Recorded, SeriesError, read
from drse_forecaster.rehearsal import rehearse, textbook_prophet
from drse_operator.simulator.scaling import Between, Outcome, Service
from drse_operator.simulator.scaling_command import MEAN_GPUS, prepare
from drse_operator.simulator.scaling_contest import DRSE, HPA_EQUAL, POLICIES, Contest
from tests.benchmarks import scaling_tables
from tests.benchmarks.forecast import SOURCES, columns_of

DOCS = Path(__file__).parents[2] / "docs"
DAYS = 14
_HORIZON = 600


@dataclass(frozen=True, slots=True)
class Row:
    """One series under every policy; ``line`` are the two that matter with straight lines between samples,
    where these are minutes apart."""

    series: str
    kind: str
    step_seconds: int
    outcomes: dict[str, Outcome]
    line: dict[str, Outcome]


@click.command()
@click.option(
    "--traces",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("DRSE_TRACES", "local/drse_local/series"),
    help="Folder of recorded series; by default $DRSE_TRACES, else those that ship.",
)
@click.option("--only", default="", help="Only files whose name holds this.")
@click.option("--write", is_flag=True, help="Write docs/scaling.json and the tables of docs/scaling.md.")
def main(traces: Path, only: str, write: bool) -> None:
    """Run the closed loop on every series."""
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    rows = list(measure(traces, only))
    document = {
        "summary": scaling_tables.summary(rows),
        "series": [
            {"kind": row.kind, **{name: _rounded(row.outcomes[name]) for name in (DRSE, HPA_EQUAL)}}
            for row in rows
        ],
        "seconds": round(time.perf_counter() - began, 1),
    }
    click.echo(json.dumps(document))
    tables = scaling_tables.markdown(rows)
    click.echo(tables)
    if write:
        (DOCS / "scaling.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
        scaling_tables.insert(DOCS / "scaling.md", tables)


def measure(traces: Path, only: str = "") -> Iterator[Row]:
    """The row of each series in the folder, as it is done."""
    for kind, name, columns in SOURCES:
        path = traces / f"{name}.csv.gz"
        if only in name and path.exists():
            by_step: dict[int, list[Recorded]] = defaultdict(list)
            for column in columns or columns_of(path):
                if (recorded := _read(path, column)) is not None:
                    by_step[recorded.step_seconds].append(recorded)
            for group in by_step.values():
                yield from _group(kind, group)


def _group(kind: str, group: list[Recorded]) -> Iterator[Row]:
    """Series of one step are rehearsed together, which costs little more than one."""
    service = Service()
    for recorded, answers in zip(group, rehearse(group), strict=True):
        factor = MEAN_GPUS / float(np.nanmean(recorded.values))
        expected = textbook_prophet(recorded, _HORIZON)
        case = prepare(recorded, answers, expected, service, factor)
        contest = Contest(case)
        contest.run(POLICIES)
        straight = Contest(replace(case, demand=replace(case.demand, between=Between.LINE)))
        if recorded.step_seconds > 60:
            straight.run((DRSE, HPA_EQUAL))
        yield Row(recorded.name, kind, recorded.step_seconds, contest.outcomes, straight.outcomes)


def _rounded(outcome: Outcome) -> dict[str, object]:
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(outcome).items()}


def _read(path: Path, column: str) -> Recorded | None:
    """The first days of a column, None for one that nothing is known of or that is always zero."""
    try:
        recorded = read(path, column, step_seconds=60)
    except SeriesError:
        return None
    values = recorded.values[: DAYS * 86400 // recorded.step_seconds]
    return replace(recorded, values=values) if np.nanmax(values) > 0 else None


if __name__ == "__main__":
    main()
