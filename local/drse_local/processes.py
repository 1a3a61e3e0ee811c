"""Starts, watches and stops the programs that make up the embedded cluster.

Each program gets a process group of its own (so that Ctrl-C in the terminal reaches only the supervisor,
which then stops everything in order), a log file of its own, and a tie to the supervisor that the kernel
enforces: when the supervisor dies, even by SIGKILL, its programs are killed. The kernel's tie is to the
*thread* that started the program, so a `Supervisor` must be used from a thread that lives as long as the
programs should.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drse_local.errors import LocalClusterError

ReadinessProbe = Callable[[], Awaitable[bool]]

_SHIM = Path(__file__).with_name("_exec_shim.py")
_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.5
_LOG_TAIL_LINES = 15
_LOG_TAIL_BYTES = 16_384


class ProcessFailedError(LocalClusterError):
    """A program ended, or did not become ready in time. The message carries the tail of its log."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run.

    name: unique within one supervisor; names the log file.
    argv: program (absolute path) and arguments.
    env: added to the supervisor's own environment.
    ready: answers whether the program serves; None means that running is enough.
    ready_timeout, stop_timeout: seconds; after `stop_timeout` SIGTERM is followed by SIGKILL.
    essential: its end is the end of all, rather than somebody's else business to start it again.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: ReadinessProbe | None = None
    ready_timeout: float = 60.0
    stop_timeout: float = 10.0
    essential: bool = True


@dataclass(slots=True)
class ManagedProcess:
    """A program that was started."""

    spec: ProcessSpec
    log_path: Path
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Process id; also the id of its process group."""
        return self.popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self.popen.poll()

    def log_tail(self, lines: int = _LOG_TAIL_LINES) -> str:
        """The last lines of its log."""
        return tail(self.log_path, lines)


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, at most 16 KiB of them; empty when there is no such file."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _LOG_TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class Supervisor:
    """Owns a set of programs and ends them, newest first."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._processes: dict[str, ManagedProcess] = {}

    @property
    def processes(self) -> Mapping[str, ManagedProcess]:
        """Everything started and not yet stopped, by name, in order of start."""
        return dict(self._processes)

    async def start(self, spec: ProcessSpec) -> ManagedProcess:
        """Start a program and wait until it is ready.

        Raises ProcessFailedError when it ends first or is not ready within its time-out; it is then no longer
        running.
        """
        running = self._processes.get(spec.name)
        if running is not None and running.returncode is None:
            raise LocalClusterError(
                f"{spec.name} is already running (pid {running.pid}); stop it before starting it."
            )
        self._log_dir.mkdir(parents=True, exist_ok=True)
        log_path = self._log_dir / f"{spec.name}.log"
        with log_path.open("ab") as log:
            popen = subprocess.Popen(  # noqa: ASYNC220 - returns as soon as the child has been forked
                [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid()), *spec.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **spec.env},
                process_group=0,
            )
        process = ManagedProcess(spec, log_path, popen)
        self._processes[spec.name] = process
        try:
            await self._wait_ready(process)
        except BaseException:
            await self.stop(spec.name, grace=0)
            raise
        return process

    async def _wait_ready(self, process: ManagedProcess) -> None:
        spec = process.spec
        deadline = time.monotonic() + spec.ready_timeout
        while True:
            if process.returncode is not None:
                raise ProcessFailedError(_failure(process, f"ended with {describe_exit(process.returncode)}"))
            if spec.ready is None or await spec.ready():
                return
            if time.monotonic() > deadline:
                raise ProcessFailedError(_failure(process, f"was not ready after {spec.ready_timeout:g} s"))
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self, name: str, grace: float | None = None) -> None:
        """Send SIGTERM, wait `grace` seconds (default: the program's own), then send SIGKILL to its group."""
        process = self._processes.get(name)
        if process is None:
            return
        limit = process.spec.stop_timeout if grace is None else grace
        if limit > 0:
            _signal_group(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.popen.wait, limit)
        _signal_group(process, signal.SIGKILL)
        await asyncio.to_thread(process.popen.wait)
        self._processes.pop(name, None)

    async def stop_all(self) -> None:
        """Stop everything, newest first."""
        for name in reversed(list(self._processes)):
            await self.stop(name)

    async def restart(self, name: str) -> ManagedProcess:
        """Stop a program and start it again with the same arguments; it keeps its place in the stop order."""
        order = list(self._processes)
        spec = self._processes[name].spec
        await self.stop(name)
        process = await self.start(spec)
        known = {each: self._processes[each] for each in order if each in self._processes}
        self._processes = known | self._processes
        return process

    def kill(self, name: str) -> None:
        """Send SIGKILL, as a crash would; the program stays listed, with its return code."""
        _signal_group(self._processes[name], signal.SIGKILL)

    def failed(self) -> ManagedProcess | None:
        """An essential program that ended without being asked to, if there is one."""
        ended = (p for p in self._processes.values() if p.spec.essential and p.returncode is not None)
        return next(ended, None)

    async def wait_for_failure(self) -> ManagedProcess:
        """Wait until an essential program ends without having been asked to."""
        while True:
            process = self.failed()
            if process is not None:
                return process
            await asyncio.sleep(_WATCH_SECONDS)

    def describe_failure(self, process: ManagedProcess) -> str:
        """One sentence on how a program ended, and the tail of its log."""
        return _failure(process, f"ended with {describe_exit(process.returncode)}")


def describe_exit(returncode: int | None) -> str:
    """A return code in words: 'status 1', 'signal SIGKILL'."""
    if returncode is not None and returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"status {returncode}"


def _failure(process: ManagedProcess, what: str) -> str:
    log = process.log_tail() or "(empty)"
    return f"{process.spec.name} {what}. The end of {process.log_path}:\n{log}"


def _signal_group(process: ManagedProcess, signum: signal.Signals) -> None:
    """Signal the group, unless its leader has been reaped: the id could then belong to somebody else."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
