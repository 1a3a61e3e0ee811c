"""`drse-local` as a person runs it: side by side, in the background, killed, failing to start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drse_local.binaries import ensure_binaries
from drse_local.tools import CLIENT_TOOLS, CONTROL_PLANE_TOOLS

pytestmark = pytest.mark.timeout(180)

COMMAND = (sys.executable, "-m", "drse_local")
UP = ("up", "--fleet", "small", "--no-prometheus", "--detach")


class Shell:
    """Runs drse-local with a state folder of its own."""

    def __init__(self, state: Path) -> None:
        self.env = os.environ | {"XDG_STATE_HOME": str(state)}

    def __call__(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *args], env=self.env | env, capture_output=True, text=True, check=False
        )

    def status(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self("status", "--name", name, "-o", "json").stdout)
        return document


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    run = Shell(tmp_path)
    yield run
    for instance in (tmp_path / "drse" / "local").glob("*"):
        run("down", "--name", instance.name)


def kubectl(kubeconfig: str, *args: str) -> str:
    program = ensure_binaries(["kubectl"])["kubectl"]
    done = subprocess.run(
        [program, *args, "--kubeconfig", kubeconfig], capture_output=True, text=True, check=True
    )
    return done.stdout


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_two_instances_run_side_by_side_and_a_named_one_keeps_its_data(shell: Shell) -> None:
    for name in ("one", "two"):
        up = shell(*UP, "--name", name)
        assert up.returncode == 0, up.stderr
        assert "export KUBECONFIG=" in up.stdout
    one, two = shell.status("one"), shell.status("two")
    assert not set(one["ports"].values()) & set(two["ports"].values())
    kubectl(one["kubeconfig"], "create", "configmap", "kept")
    with pytest.raises(subprocess.CalledProcessError):
        kubectl(two["kubeconfig"], "get", "configmap", "kept")

    again = shell(*UP, "--name", "one")
    assert again.returncode == 1
    assert "already running" in again.stderr

    assert shell("down", "--name", "one").returncode == 0
    assert not alive([each["pid"] for each in one["components"]])
    assert shell("status", "--name", "one").returncode == 1
    assert shell(*UP, "--name", "one").returncode == 0
    assert "kept" in kubectl(one["kubeconfig"], "get", "configmap", "kept"), "same address, same data"

    assert shell("down", "--name", "two", "--purge").returncode == 0
    assert not Path(two["kubeconfig"]).exists()


def test_sigkill_of_an_instance_leaves_no_program_behind(shell: Shell) -> None:
    assert shell(*UP, "--name", "doomed").returncode == 0
    record = shell.status("doomed")
    programs = [each["pid"] for each in record["components"]]
    assert len(alive(programs)) == 5
    os.kill(record["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(programs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(programs)
    assert "is not running" in shell("down", "--name", "doomed").stdout
    assert shell(*UP, "--name", "doomed").returncode == 0, "what it left does not stand in the way"


def test_down_while_it_is_still_starting_ends_the_start(shell: Shell) -> None:
    command = [*COMMAND, *UP[:-1], "--name", "early"]
    with subprocess.Popen(
        command, env=shell.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        logs = Path(shell.env["XDG_STATE_HOME"]) / "drse" / "local" / "early" / "data" / "logs"
        while not (logs / "etcd.log").exists():
            assert process.poll() is None
            time.sleep(0.02)
        assert "still starting" in shell("status", "--name", "early").stderr
        assert "is stopped" in shell("down", "--name", "early").stdout
        assert process.wait(10) == 0


def test_ctrl_c_in_the_foreground_stops_everything_and_removes_the_temporary_folder(shell: Shell) -> None:
    command = [*COMMAND, *UP[:-1]]
    with subprocess.Popen(command, env=shell.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        kubeconfig = next(line for line in lines if "KUBECONFIG=" in line).strip().partition("=")[2]
        assert "Ctrl-C" in next(line for line in lines if "Ctrl-C" in line)
        programs = [each["pid"] for each in shell.status("default")["components"]]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not alive(programs)
    assert not Path(kubeconfig).parent.exists()


def test_a_component_that_fails_to_start_is_reported_with_its_log(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    binaries = ensure_binaries((*CONTROL_PLANE_TOOLS, *CLIENT_TOOLS))
    for name in (*CONTROL_PLANE_TOOLS, *CLIENT_TOOLS):
        (folder / name).symlink_to(binaries[name])
    (folder / "kube-scheduler").unlink()
    (folder / "kube-scheduler").write_text(
        "#!/bin/sh\necho unknown flag: --config\nexit 1\n", encoding="utf-8"
    )
    (folder / "kube-scheduler").chmod(0o755)
    up = shell(*UP, "--name", "broken", DRSE_LOCAL_BIN=str(folder))
    assert up.returncode == 1
    assert "kube-scheduler ended with status 1" in up.stderr
    assert "unknown flag: --config" in up.stderr
    assert "Traceback" not in up.stderr


def test_a_component_that_dies_ends_the_instance_with_its_log(shell: Shell) -> None:
    assert shell(*UP, "--name", "fragile").returncode == 0
    record = shell.status("fragile")
    victim = next(each for each in record["components"] if each["name"] == "kube-scheduler")
    os.kill(victim["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while shell("status", "--name", "fragile").returncode == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive([each["pid"] for each in record["components"]])
    log = Path(shell.env["XDG_STATE_HOME"]) / "drse" / "local" / "fragile" / "up.log"
    assert "kube-scheduler ended with signal SIGKILL" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "args", [("--name", "Bad_Name"), ("--fleet", "nowhere"), ("--scenario", "nowhere.yaml")]
)
def test_bad_arguments_are_refused_with_one_sentence(shell: Shell, args: tuple[str, str]) -> None:
    up = shell("up", *args)
    assert up.returncode == 1
    assert up.stderr.startswith("Error: ")
    assert len(up.stderr.splitlines()) == 1


def test_a_folder_without_a_program_falls_through_to_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / "kwok"
    shutil.copy("/bin/true", mine)
    monkeypatch.setenv("DRSE_LOCAL_BIN", str(tmp_path))
    found = ensure_binaries(["kwok", "etcd"])
    assert found["kwok"] == str(mine)
    assert found["etcd"] != str(tmp_path / "etcd")


def test_kubebuilder_assets_of_another_version_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DRSE_LOCAL_BIN", raising=False)
    real = ensure_binaries(["kube-apiserver"])["kube-apiserver"]
    server = tmp_path / "kube-apiserver"
    for version, used in (("v1.36.2", False), ("v1.37.4", True)):
        server.write_text(f"#!/bin/sh\necho Kubernetes {version}\n", encoding="utf-8")
        server.chmod(0o755)
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
        assert ensure_binaries(["kube-apiserver"])["kube-apiserver"] == (str(server) if used else real)
