"""Named instances: what `drse-local up` leaves on disk so that other commands find it.

Each instance has a folder under `$XDG_STATE_HOME/drse/local/` with a record and a lock. The running instance
holds the lock, so whether it is alive is a question to the kernel and not to a pid file that may have gone
stale.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from drse_local.errors import LocalClusterError

if TYPE_CHECKING:
    # Not at run time: it brings the Kubernetes client, which the quick commands would wait half a second for.
    from drse_local.cluster import LocalCluster

DEFAULT_NAME = "default"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_POLL_SECONDS = 0.1


class Component(BaseModel):
    """One program of a running instance."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    log: Path


class InstanceRecord(BaseModel):
    """What a person or a command needs to know of an instance. started_at: seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started_at: float
    folder: Path
    kubeconfig: Path
    server: str
    prometheus: str | None
    nodes: int
    gpus: int
    ports: dict[str, int]
    components: tuple[Component, ...]
    #: URLs of the programs of releases that have been installed.
    programs: dict[str, str] = {}
    #: Generation of the Deployments that these run, by namespace/name.
    deployments: dict[str, int] = {}

    @classmethod
    def of(cls, cluster: LocalCluster) -> InstanceRecord:
        """The record of a cluster that this process has started."""
        return cls(
            pid=os.getpid(),
            started_at=time.time(),
            folder=cluster.folder,
            kubeconfig=cluster.kubeconfig,
            server=cluster.server,
            prometheus=cluster.monitoring.prometheus.url if cluster.has_monitoring else None,
            nodes=len(cluster.fleet.nodes),
            gpus=len(cluster.fleet.gpus),
            ports=cluster.ports,
            components=components_of(cluster),
        )

    def exports(self) -> dict[str, str]:
        """Environment in which kubectl, helm and drse reach the cluster, and drse what is beside it."""
        found = {"KUBECONFIG": str(self.kubeconfig), "PATH": f"{self.folder / 'bin'}:$PATH"}
        if self.prometheus is not None:
            found["DRSE_PROMETHEUS"] = self.prometheus
        forecaster = next((url for name, url in self.programs.items() if "forecaster" in name), None)
        return found | ({} if forecaster is None else {"DRSE_FORECASTER": forecaster})


def components_of(cluster: LocalCluster) -> tuple[Component, ...]:
    """The programs that run for a cluster now."""
    processes = cluster.supervisor.processes.values()
    return tuple(Component(name=each.spec.name, pid=each.pid, log=each.log_path) for each in processes)


def state_root() -> Path:
    """Where instances are kept: $XDG_STATE_HOME/drse/local, else ~/.local/state/drse/local."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "drse" / "local"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance by name, running or not."""

    name: str

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise LocalClusterError(
                f"{self.name!r} cannot name an instance; use up to 40 lower-case letters, digits and '-'."
            )

    @property
    def folder(self) -> Path:
        """Its state folder."""
        return state_root() / self.name

    @property
    def data(self) -> Path:
        """Where a persistent instance keeps its data."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """Output of a detached instance."""
        return self.folder / "up.log"

    @property
    def _record_path(self) -> Path:
        return self.folder / "instance.json"

    @property
    def _lock_path(self) -> Path:
        return self.folder / "lock"

    def save(self, record: InstanceRecord) -> None:
        """Publish the record; from now on the instance counts as up."""
        staged = self._record_path.with_suffix(".partial")
        staged.write_text(record.model_dump_json(indent=2), encoding="utf-8")
        staged.replace(self._record_path)

    def last_record(self) -> InstanceRecord | None:
        """The record of the last run that came up, whether or not it still runs."""
        try:
            return InstanceRecord.model_validate_json(self._record_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError):
            return None

    def running(self) -> InstanceRecord:
        """The record of the running instance; raises LocalClusterError when it is not (or not yet) up."""
        holder = self.holder()
        if holder is None:
            raise LocalClusterError(f"Instance {self.name} is not running; start it with: {self.up_command}")
        record = self.last_record()
        if record is None or record.pid != holder:
            raise LocalClusterError(f"Instance {self.name} is still starting; try again in a few seconds.")
        return record

    @property
    def up_command(self) -> str:
        """The command that starts it."""
        return "drse-local up" + ("" if self.name == DEFAULT_NAME else f" --name {self.name}")

    def holder(self) -> int | None:
        """Id of the process that runs (or starts) it now; None when there is none."""
        try:
            with self._lock_path.open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return int(self._lock_path.read_text(encoding="ascii") or 0) or None
        return None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the process that runs it; raises LocalClusterError when another one is."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock_path.open("a", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self.already_running() from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def already_running(self) -> LocalClusterError:
        """The error for a second start."""
        return LocalClusterError(
            f"Instance {self.name} is already running; stop it (drse-local down) or choose another --name."
        )

    def stop(self, timeout: float) -> bool:
        """Ask the instance to stop and wait until it has. False when it was not running.

        Raises LocalClusterError when `timeout` seconds were not enough.
        """
        holder = self.holder()
        if holder is None:
            return False
        os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self.holder() == holder:
            if time.monotonic() > deadline:
                raise LocalClusterError(
                    f"Instance {self.name} (pid {holder}) has not stopped after {timeout:g} s."
                )
            time.sleep(_POLL_SECONDS)
        return True
