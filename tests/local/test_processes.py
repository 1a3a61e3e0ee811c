"""Supervision: readiness, failure reports, order of stop, and no orphan however the parent ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drse_local.processes import ProcessFailedError, ProcessSpec, ReadinessProbe, Supervisor, tail

PYTHON = sys.executable
pytestmark = pytest.mark.timeout(60)


def spec(name: str, code: str, **options: object) -> ProcessSpec:
    return ProcessSpec(name, (PYTHON, "-c", code), **options)  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_gone(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def test_a_program_that_ends_at_once_is_reported_with_the_tail_of_its_log(tmp_path: Path) -> None:
    code = "import sys; print('bad flag --nope'); sys.exit(3)"
    with pytest.raises(ProcessFailedError, match=r"(?s)broken ended with status 3.*bad flag --nope"):
        asyncio.run(Supervisor(tmp_path).start(spec("broken", code, ready=_never)))


def test_a_program_that_does_not_become_ready_is_stopped_and_reported(tmp_path: Path) -> None:
    async def scenario() -> tuple[str, int]:
        supervisor = Supervisor(tmp_path)
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        with pytest.raises(ProcessFailedError) as failure:
            await supervisor.start(spec("slow", code, ready=_never, ready_timeout=1.0))
        assert not supervisor.processes
        return str(failure.value), int((tmp_path / "slow.log").read_text(encoding="utf-8"))

    message, pid = asyncio.run(scenario())
    assert "slow was not ready after 1 s" in message
    assert not is_alive(pid)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    missing = ProcessSpec("ghost", ("/nonexistent/program",), ready=_never)
    with pytest.raises(ProcessFailedError, match="cannot run /nonexistent/program: No such file"):
        asyncio.run(Supervisor(tmp_path).start(missing))


def test_programs_are_stopped_newest_first_and_restart_keeps_their_place(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open({path!r}, 'a').write({name!r} + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )

    async def scenario() -> None:
        supervisor = Supervisor(tmp_path / "logs")
        for name in ("first", "second", "third"):
            log = tmp_path / "logs" / f"{name}.log"
            body = code.format(path=str(journal), name=name)
            await supervisor.start(spec(name, body, ready=_says_ready(log)))
        before = supervisor.processes["first"].pid
        await supervisor.restart("first")
        assert supervisor.processes["first"].pid != before
        # Its log is appended to, so the probe has read "ready" of the first run; let the second one set up.
        await asyncio.sleep(0.5)
        await supervisor.stop_all()

    asyncio.run(scenario())
    assert journal.read_text(encoding="utf-8").split() == ["first", "third", "second", "first"]


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    async def scenario() -> tuple[int, float]:
        supervisor = Supervisor(tmp_path)
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True)"
        code += "; time.sleep(60)"
        ready = _says_ready(tmp_path / "stubborn.log")
        process = await supervisor.start(spec("stubborn", code, ready=ready, stop_timeout=0.5))
        started = time.monotonic()
        await supervisor.stop_all()
        assert process.returncode == -signal.SIGKILL
        return process.pid, time.monotonic() - started

    pid, seconds = asyncio.run(scenario())
    assert not is_alive(pid)
    assert seconds >= 0.5


def test_an_unexpected_end_is_noticed(tmp_path: Path) -> None:
    async def scenario() -> str:
        supervisor = Supervisor(tmp_path)
        await supervisor.start(spec("victim", "import time; time.sleep(60)"))
        supervisor.kill("victim")
        process = await asyncio.wait_for(supervisor.wait_for_failure(), 10)
        return supervisor.describe_failure(process)

    assert asyncio.run(scenario()).startswith("victim ended with signal SIGKILL")


PARENT = """
import asyncio, os, sys, time
from pathlib import Path
from drse_local.processes import ProcessSpec, Supervisor

async def main():
    supervisor = Supervisor(Path(sys.argv[1]))
    sleeper = (sys.executable, "-c", "import time; time.sleep(300)")
    for name in ("a", "b"):
        process = await supervisor.start(ProcessSpec(name, sleeper))
        print(process.pid, flush=True)
    time.sleep(300)

asyncio.run(main())
"""


def test_sigkill_of_the_parent_leaves_no_orphan(tmp_path: Path) -> None:
    command = [PYTHON, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(is_alive, children))
        parent.kill()
        parent.wait()
        assert all(map(wait_gone, children))


def test_a_program_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    shim = Path(sys.modules[Supervisor.__module__].__file__ or "").with_name("_exec_shim.py")
    marker = tmp_path / "ran"
    not_its_parent = str(os.getppid())
    command = [PYTHON, "-I", "-S", str(shim), not_its_parent, "/bin/sh", "-c", f"touch {marker}"]
    assert subprocess.run(command, check=False).returncode == 1
    assert not marker.exists()


async def _never() -> bool:
    return False


def _says_ready(log: Path) -> ReadinessProbe:
    async def probe() -> bool:
        return "ready" in tail(log, 5)

    return probe
