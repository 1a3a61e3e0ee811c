"""The documentation: it builds without a broken link, whole, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a copy of the documentation, as `make docs` does."""
    program = Path(sys.executable).with_name("zensical")
    argv = (program, "build", "--strict", "--clean")
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def copy(folder: Path) -> Path:
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(tmp_path_factory.mktemp("docs"))
    result = build(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "site"


def pages(entry: Any) -> list[str]:
    """Files that the navigation names."""
    if isinstance(entry, str):
        return [entry]
    if isinstance(entry, dict):
        return [page for value in entry.values() for page in pages(value)]
    return [page for value in entry for page in pages(value)]


def test_every_page_is_in_the_navigation_and_is_built(site: Path) -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = pages(config["nav"])
    assert len(named) == len(set(named))
    assert set(named) == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    for page in named:
        stem = page.removesuffix(".md").removesuffix("index")
        assert (site / stem / "index.html").is_file(), page


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    loads = re.compile(
        r"""(?:src|srcset)="(https?:)?//|<link[^>]+rel="(?:stylesheet|preload)"[^>]+href="https?:"""
    )
    found = [p for p in site.rglob("*.html") if loads.search(p.read_text(encoding="utf-8"))]
    assert not found


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    with (folder / "docs" / "install.md").open("a", encoding="utf-8") as page:
        page.write("\n[nowhere](no-such-page.md)\n")
    assert build(folder).returncode != 0
