"""The way in: fast, lazy, under both names, and completed by shells and by kubectl."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from drse_operator.cli.main import COMMANDS, cli
from drse_operator.cli.reference import reference

ROOT = Path(__file__).parents[2]
#: What costs time to import, and is of no use to somebody who asks for help.
HEAVY = ("textual", "kubernetes", "aiohttp", "pydantic", "httpx", "rich", "yaml", "kopf", "prometheus_client")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    program = "from drse_operator.cli.main import main; import sys; sys.argv[0] = 'drse'; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_imports_nothing_that_is_slow(words: list[str]) -> None:
    program = (
        "import sys; from click.testing import CliRunner; from drse_operator.cli.main import cli\n"
        f"result = CliRunner().invoke(cli, {words!r})\n"
        f"print(result.exit_code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    code, _, imported = done.stdout.strip().partition(" ")
    assert code in ("0", "2") and imported == "[]"


def test_help_takes_little_longer_than_python_itself() -> None:
    """Click and argparse-like work is a few dozen milliseconds; a client library would be a second."""

    def best(argv: list[str]) -> float:
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run(argv, capture_output=True, check=True, timeout=60)
            taken.append(time.perf_counter() - started)
        return min(taken)

    bare = best([sys.executable, "-c", "import click"])
    program = "from drse_operator.cli.main import cli; cli(['--help'], prog_name='drse')"
    assert best([sys.executable, "-c", program]) < 2 * bare + 0.1


@pytest.mark.parametrize("name", [*COMMANDS])
def test_each_command_is_there_and_tells_what_the_list_says(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0 and command.help
    assert COMMANDS[name][1].endswith((".", "?", "do."))


def test_the_plugin_speaks_of_itself_as_kubectl_does() -> None:
    program = (
        "import sys; sys.argv = ['/usr/local/bin/kubectl-drse', '--help']\n"
        "from drse_operator.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("Usage: kubectl drse ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["quue"], "No such command"),
        (["why"], "Missing argument 'JOB'"),
        (["whatif"], "-f FILE"),
        (["report", "usage", "--by", "colour"], "choose from queue"),
        (["report", "usage", "--from", "yesterday"], "write 30m, 12h or 7d"),
        (["gpus", "-o", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_usage_is_status_2(words: list[str], says: str) -> None:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2 and says in result.stderr


def test_no_cluster_is_status_1_and_a_sentence(tmp_path: Path) -> None:
    environment = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    result = CliRunner(env=environment).invoke(cli, ["queue"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "KUBECONFIG" in result.stderr


def test_a_cluster_that_is_gone_is_status_1_and_a_sentence(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "gone",
                "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}],
                "clusters": [{"name": "gone", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "me", "user": {}}],
            }
        )
    )
    result = CliRunner().invoke(cli, ["share", "--kubeconfig", str(kubeconfig)])
    assert result.exit_code == 1 and "http://127.0.0.1:9 does not answer" in result.stderr
    wrong = CliRunner().invoke(cli, ["share", "--kubeconfig", str(kubeconfig), "--context", "other"])
    assert wrong.exit_code == 1 and "--context" in wrong.stderr


def test_kubectl_is_completed_in_cobras_protocol() -> None:
    done = run("__complete", "wh")
    lines = done.stdout.splitlines()
    assert [line.partition("\t")[0] for line in lines[:-1]] == ["why", "whatif"] and lines[-1] == ":4"
    options = run("__complete", "queue", "--so").stdout.splitlines()
    assert options[0].startswith("--sort-by")


def test_completion_writes_what_kubectl_looks_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["completion", "kubectl", "--directory", str(tmp_path)])
    script = tmp_path / "kubectl_complete-drse"
    assert result.exit_code == 0 and os.access(script, os.X_OK)
    assert 'kubectl drse __complete "$@"' in script.read_text()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("no bash here")
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0 and "_DRSE_COMPLETE" in result.stdout


def test_simulate_is_the_simulator() -> None:
    result = CliRunner().invoke(cli, ["simulate", "trace", "--help"])
    assert result.exit_code == 0 and "--policy" in result.stdout


def test_the_reference_follows_the_commands() -> None:
    written = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make crds`"


def test_what_k9s_is_given_names_commands_and_kinds_that_exist() -> None:
    plugins = yaml.safe_load((ROOT / "k9s/plugins.yaml").read_text())["plugins"]
    assert len({plugin["shortCut"] for plugin in plugins.values()}) == len(plugins)
    for plugin in plugins.values():
        line = " ".join([plugin["command"], *map(str, plugin["args"])])
        found = re.search(r"\bdrse ([a-z]+)", line)
        assert found is not None and found.group(1) in COMMANDS, line
        assert set(plugin["scopes"]) <= {"deepseekjobs", "gpuqueues", "nodes"}
    views = yaml.safe_load((ROOT / "k9s/views.yaml").read_text())["views"]
    assert set(views) == {"drse.dev/v1alpha1/deepseekjobs", "drse.dev/v1alpha1/gpuqueues"}
