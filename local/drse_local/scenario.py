"""The scenario file: which load each job has, now and in the past week.

    historyDays: 7
    jobs:
      default/chat:
        gpusPerReplica: 4
        targetConcurrency: 16
        load:
          file: servegen_m_small_clients_10min.csv.gz
          column: client_31
          scale: 0.00076923             # GPU-equivalents per unit of the column
          recordedAt: 2025-01-13T07:55:00   # this recorded instant ...
          offsetSeconds: 240                # ... happens 240 s after the cluster's start

Jobs are named `namespace/name`. A job that is not listed is taken for training: its GPUs are nearly busy all
the time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from drse_local.errors import LocalClusterError
from drse_local.series import FloatArray, RecordedSeries, read_series, series_path


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class LoadSpec(_Model):
    """A recorded series as the load of a job: value(t) x scale GPU-equivalents, where the recorded instant
    `recorded_at` falls on the scenario's anchor + `offset_seconds`."""

    file: str
    column: str = "value"
    scale: Annotated[float, Field(gt=0)] = 1.0
    recorded_at: datetime
    offset_seconds: float = 0.0

    @cached_property
    def recorded(self) -> RecordedSeries:
        """The series itself, read once."""
        return read_series(Path(self.file), self.column)

    def at(self, when: FloatArray, anchor: float) -> FloatArray:
        """Load in GPU-equivalents at wall-clock instants; seconds since the epoch, as is the anchor."""
        pinned = self.recorded_at if self.recorded_at.tzinfo else self.recorded_at.replace(tzinfo=UTC)
        recorded = when - (anchor + self.offset_seconds) + pinned.timestamp()
        return np.maximum(self.recorded.at(recorded), 0.0) * self.scale


class ServingJob(_Model):
    """An inference job: its load, and what turns load into requests.

    target_concurrency: requests that one replica serves at once. queue: label of the history's assignments.
    history_gpus: GPUs the job held in the past; by default the fewest whole replicas that never saturated.
    """

    load: LoadSpec
    gpus_per_replica: Annotated[int, Field(ge=1)] = 1
    target_concurrency: Annotated[float, Field(gt=0)] = 16.0
    model_name: str = "deepseek"
    queue: str = "default"
    history_gpus: Annotated[int, Field(ge=1)] | None = None

    @property
    def past_gpus(self) -> int:
        """GPUs held in the recorded past."""
        if self.history_gpus is not None:
            return self.history_gpus
        peak = self.load.recorded.peak * self.load.scale
        return self.gpus_per_replica * max(1, int(np.ceil(peak / self.gpus_per_replica)))


JobKey = Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9.-]+$")]


class Scenario(_Model):
    """The whole scenario file. history_days: how far back the recorded past goes; 0 means none."""

    history_days: Annotated[float, Field(ge=0, le=28)] = 7.0
    jobs: dict[JobKey, ServingJob] = Field(default_factory=dict)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file; series files are looked for beside it, then among those that ship with DRSE."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        scenario = Scenario.model_validate(document)
    except OSError as error:
        raise LocalClusterError(f"The scenario {path} cannot be read: {error.strerror or error}.") from error
    except (ValidationError, yaml.YAMLError) as error:
        raise LocalClusterError(f"The scenario {path} is not valid: {error}") from error
    return resolve_files(scenario, path.parent)


def resolve_files(scenario: Scenario, beside: Path) -> Scenario:
    """The same scenario with absolute series files."""
    jobs = {
        key: job.model_copy(update={"load": _resolved(job.load, beside)})
        for key, job in scenario.jobs.items()
    }
    return scenario.model_copy(update={"jobs": jobs})


def _resolved(load: LoadSpec, beside: Path) -> LoadSpec:
    return LoadSpec(**(load.model_dump() | {"file": str(series_path(load.file, beside))}))
