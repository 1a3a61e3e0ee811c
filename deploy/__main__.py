"""Write all that is made from code, or say what of it is stale.

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
from drse_operator.api import crd
from drse_operator.api import reference as api
from drse_operator.cli import reference as cli

ROOT = Path(__file__).parents[1]
CHART = Path("helm/drse")


def files() -> Iterator[tuple[Path, str]]:
    """Every file with its content, as a path from the repository's root."""
    for name, text in crd.documents():
        yield Path("crds") / name, text
        yield CHART / "files/crds" / name, text
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
    yield Path("docs/reference/api.md"), api.reference()
    yield Path("docs/reference/cli.md"), cli.reference()


#: Folders whose files are all made: what no code makes any more goes.
_WHOLE = (
    "crds/*.yaml",
    f"{CHART}/files/crds/*.yaml",
    "manifests/grafana/*.json",
    f"{CHART}/files/dashboards/*.json",
)


def stale(root: Path = ROOT) -> dict[Path, str | None]:
    """Files that are missing or differ, with what belongs into them; nothing where no code makes them."""
    made = dict(files())
    found = (path.relative_to(root) for pattern in _WHOLE for path in sorted(root.glob(pattern)))
    differing: dict[Path, str | None] = {p: text for p, text in made.items() if _read(root / p) != text}
    return differing | {path: None for path in found if path not in made}


def mend(root: Path = ROOT) -> Iterator[str]:
    """Write or remove what is stale; tells of each."""
    for path, text in stale(root).items():
        if text is None:
            (root / path).unlink()
            yield f"removed {path}"
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
        yield f"wrote {path}"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is not up to date.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT,
    help="Checkout to write to, instead of this one.",
)
def main(check: bool, root: Path) -> None:
    if not check:
        for line in mend(root):
            click.echo(line)
    elif found := stale(root):
        names = ", ".join(map(str, found))
        raise click.ClickException(f"run `make crds` and commit: {names} are not up to date")


if __name__ == "__main__":
    main()
