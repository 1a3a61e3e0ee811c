"""Write what is made from code, or say what is stale.

Usage::

    python -m deploy [--check]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from deploy.boards.all import BOARDS
from deploy.boards.build import encode
from deploy.chart.schema import schema
from deploy.chart.table import readme, values_page
from deploy.reference import metrics_page
from deploy.rules.render import for_chart, plain

ROOT = Path(__file__).parents[1]
CHART = Path("helm/drse")


def files() -> Iterator[tuple[Path, str]]:
    """Every file with its content, as a path from the repository's root."""
    yield Path("manifests/alerts/drse.rules.yaml"), plain()
    yield CHART / "files/rules.yaml", for_chart()
    for board in BOARDS:
        text = encode(board)
        yield Path(f"manifests/grafana/{board.uid}.json"), text
        yield CHART / f"files/dashboards/{board.uid}.json", text
    values = (ROOT / CHART / "values.yaml").read_text(encoding="utf-8")
    chart = yaml.safe_load((ROOT / CHART / "Chart.yaml").read_text(encoding="utf-8"))
    yield CHART / "values.schema.json", schema()
    yield CHART / "README.md", readme(values, chart["description"])
    yield Path("docs/reference/values.md"), values_page(values)
    yield Path("docs/reference/metrics.md"), metrics_page()


def stale(root: Path = ROOT) -> list[Path]:
    """Files that are missing or differ, and boards that no code makes any more."""
    made = dict(files())
    differing = [path for path, text in made.items() if _read(root / path) != text]
    folders = ("manifests/grafana", str(CHART / "files/dashboards"))
    found = (path.relative_to(root) for folder in folders for path in (root / folder).glob("*.json"))
    return [*differing, *(path for path in found if path not in made)]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is not up to date.")
def main(check: bool) -> None:
    found = stale()
    if check:
        if found:
            names = ", ".join(map(str, found))
            raise click.ClickException(f"run `make crds` and commit: {names} are not up to date")
        return
    made = dict(files())
    for path in found:
        if path not in made:
            (ROOT / path).unlink()
            click.echo(f"removed {path}")
            continue
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(made[path], encoding="utf-8")
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
