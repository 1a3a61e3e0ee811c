"""Promises about the repository itself: what its folders may not shadow, and how large a file may grow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ("operator/drse_operator", "forecaster/drse_forecaster", "local/drse_local")
LONGEST_FILE = 400


@pytest.mark.parametrize("shadow", ["operator", "local", "forecaster"])
def test_a_top_level_folder_is_no_package(shadow: str) -> None:
    assert (ROOT / shadow).is_dir()
    assert not (ROOT / shadow / "__init__.py").exists()


def test_import_operator_from_the_root_is_the_standard_librarys() -> None:
    """The folder ``operator/`` comes first on the path here, yet a folder without __init__ never wins."""
    program = "import operator; print(operator.__file__, operator.add(1, 2))"
    # -S and no editable install: nothing but the root and the standard library is on the path, and nothing
    # has imported `operator` before.
    result = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found, total = result.stdout.split()
    assert total == "3"
    assert ROOT not in Path(found).resolve().parents
    assert Path(found).name == "operator.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_longer_than_one_can_take_in(package: str) -> None:
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources, f"{package} holds no source: has it moved?"
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in sources}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_import_contracts_hold() -> None:
    """The rooms import one way, and the pure ones see no clock and no network (.importlinter)."""
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stdout


def test_all_that_states_the_version_states_the_same() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    stated = {}
    for name in ("helm/drse/Chart.yaml", "helm/drse-crds/Chart.yaml"):
        chart = yaml.safe_load((ROOT / name).read_text("utf-8"))
        stated |= {f"{name} {key}": chart[key] for key in ("version", "appVersion")}
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    stated["CHANGELOG.md"] = changes[0]
    for name in ("Dockerfile", "docs/install.md"):
        for tag in re.findall(r"drse-(?:operator|forecaster):(\S+)", (ROOT / name).read_text("utf-8")):
            stated[f"{name} {tag}"] = tag
    assert {where: found for where, found in stated.items() if found != version} == {}
    (before,) = (ROOT / "tests" / "helm" / "released").glob("drse-*.tar.xz")
    assert before.name == f"drse-{changes[1]}.tar.xz", "upgrades are tested from the version before"
