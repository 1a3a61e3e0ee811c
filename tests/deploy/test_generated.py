"""What is made from code is what is committed: CRDs, reference pages, rules, boards, the chart's schema."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from deploy.__main__ import files, main, stale


def test_what_is_committed_is_what_the_code_makes() -> None:
    assert list(stale()) == [], "run `make crds` and commit"


def test_what_is_stale_is_named_and_mended_and_what_nothing_makes_goes(tmp_path: Path) -> None:
    for path, text in files():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert not stale(tmp_path)
    changed, missing = Path("docs/reference/api.md"), Path("helm/drse/files/crds/drse.dev_gpuqueues.yaml")
    extra = (Path("crds/drse.dev_other.yaml"), Path("manifests/grafana/drse-old.json"))
    (tmp_path / missing).unlink()
    for path in (changed, *extra):
        (tmp_path / path).write_text("{}", encoding="utf-8")
    assert set(stale(tmp_path)) == {changed, missing, *extra}

    check = ["--check", "--root", str(tmp_path)]
    refused = CliRunner().invoke(main, check)
    assert refused.exit_code == 1 and "make crds" in refused.stderr
    assert all(str(path) in refused.stderr for path in (changed, missing, *extra))
    assert (tmp_path / changed).read_text() == "{}", "asking changes nothing"

    assert set(CliRunner().invoke(main, check[1:]).stdout.splitlines()) == {
        *(f"wrote {path}" for path in (changed, missing)),
        *(f"removed {path}" for path in extra),
    }
    assert not stale(tmp_path)
    assert CliRunner().invoke(main, check).exit_code == 0
