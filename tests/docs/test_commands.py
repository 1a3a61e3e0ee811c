"""The commands of the documentation, run as they stand there on the embedded cluster.

A block is run when the line above it is ``<!-- run -->``, or ``<!-- run 3 -->`` when its last command ends
with status 3. What is not run needs something that is not there (a registry, a browser, an alert that fires).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.rules.alerts import ALERTS
from drse_local.binaries import ensure_binaries
from drse_local.cluster import LocalCluster
from drse_local.fleet import load_fleet
from drse_local.release import Release
from drse_local.threaded import ThreadedCluster
from drse_local.tools import CLIENT_TOOLS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
RUNBOOKS = tuple(f"runbooks/{alert.runbook}.md" for alert in ALERTS)
#: First steps that read logs of pods, or ask a Service in the cluster: the simulated pods have neither.
NOT_HERE = ("drseplanstale", "drsegpumetricsmissing", "drseforecaststale", "drseforecastunskilled")
_BLOCK = re.compile(r"<!-- run(?: (?P<status>\d+))? -->\n```console\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page; lines that end in a backslash go on in the next. ``status`` is how it ends."""

    page: str
    text: str
    status: int = 0


def commands(page: str) -> list[Command]:
    """The commands of a page that are meant to be run."""
    found: list[Command] = []
    for block in _BLOCK.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")):
        lines = block["text"].splitlines()
        assert lines[0].startswith("$ "), f"{page}: a block begins with its command: {lines[0]}"
        for line in lines:
            if line.startswith("$ "):
                found.append(Command(page, line[2:]))
            elif found[-1].text.endswith("\\"):
                found[-1] = replace(found[-1], text=f"{found[-1].text}\n{line}")
        found[-1] = replace(found[-1], status=int(block["status"] or 0))
    return found


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody with kubectl, helm and drse, the cluster's kubeconfig, and a folder like a checkout."""

    environment: Mapping[str, str]
    folder: Path

    def run(self, command: Command) -> None:
        """Run it; fails with what it printed."""
        result = subprocess.run(
            ("bash", "-eu", "-o", "pipefail", "-c", command.text),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        printed = result.stdout + result.stderr
        assert result.returncode == command.status, f"{command.page}: {command.text}\n{printed}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A cluster on which DRSE has been installed as the documentation says, and runs."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("helm", "manifests"):
        (folder / name).symlink_to(ROOT / name)
    tools = ensure_binaries(CLIENT_TOOLS)
    folders = [str(Path(sys.executable).parent), *(str(Path(tools[name]).parent) for name in CLIENT_TOOLS)]
    path = os.pathsep.join([*dict.fromkeys(folders), os.environ["PATH"]])
    with ThreadedCluster(LocalCluster(fleet=load_fleet("default"))) as cluster:
        environment = {**os.environ, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig)}
        reader = Reader(environment, folder)
        for command in commands("install.md"):
            reader.run(command)
        # kwok simulates the pods of the Deployments; the programs themselves run here.
        release = Release(cluster.cluster)
        cluster.run(release.start())
        try:
            yield reader
        finally:
            cluster.run(release.stop())


@pytest.mark.parametrize("page", ["first-job.md", "operations.md"])
def test_the_commands_of_a_page_work(reader: Reader, page: str) -> None:
    for command in commands(page):
        reader.run(command)


def test_the_first_steps_of_the_runbooks_work(reader: Reader) -> None:
    """For a service that runs: there is nothing to find, but every command must be answered."""
    for name in ("namespaces", "queues", "chat-service"):
        reader.run(Command("", f"kubectl apply -f manifests/examples/{name}.yaml"))
    reader.run(Command("", "kubectl wait dsj/chat -n serving --for=condition=Admitted --timeout=60s"))
    for page in RUNBOOKS:
        for command in commands(page):
            text = command.text.replace("NAMESPACE", "serving").replace("NAME", "chat")
            reader.run(replace(command, text=text))


def test_what_is_marked_is_run() -> None:
    marked = {page for page in _pages() if commands(page)}
    unrun = {f"runbooks/{name}.md" for name in NOT_HERE}
    assert marked == {"install.md", "first-job.md", "operations.md", *RUNBOOKS} - unrun
    assert unrun <= set(RUNBOOKS)


def _pages() -> list[str]:
    return sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
