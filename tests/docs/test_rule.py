"""Every command of the documentation is run by a test, or it is said why it cannot be."""

from __future__ import annotations

import pytest

from tests.docs.pages import Block, Command, Shape, blocks, commands, help_commands, pages, table_commands

RUN = "<!-- run -->\n```console\n$ drse queue\nPOS  JOB\n  1  big\n$ drse why \\\n    big\n```\n"


@pytest.mark.parametrize("page", pages())
def test_every_block_for_a_shell_says_whether_it_is_run(page: str) -> None:
    for block in blocks(page):
        if block.for_a_shell:
            assert block.language == "console", f"{page}: write ```console for\n{block.text}"
            assert block.marked, f"{page}: say <!-- run --> or <!-- not run: REASON --> above\n{block.text}"
            block.commands()


def test_few_blocks_are_not_run() -> None:
    unrun = [block for page in pages() for block in blocks(page) if block.reason]
    assert len(unrun) <= 8, [f"{block.page}: {block.reason}" for block in unrun]


def test_there_are_commands_to_run() -> None:
    """Were the patterns to match nothing, all other tests here would pass."""
    assert len(commands("docs/tour.md")) > 15 and len(commands("docs/first-job.md")) > 15
    assert Command("README.md", "drse doctor") in table_commands("README.md")
    assert any(command.text == "drse whatif -f job.yaml" for command in help_commands())


def test_what_a_block_says() -> None:
    (block,) = blocks("a.md", f"## One\ntext\n\n{RUN}")
    assert block == Block("a.md", "One", "console", block.text, 0, "")
    assert block.commands() == [
        Command("a.md", "drse queue", 0, ("POS  JOB", "  1  big")),
        Command("a.md", "drse why \\\n    big"),
    ]
    (refused,) = blocks("a.md", RUN.replace("run", "run 3"))
    assert [command.status for command in refused.commands()] == [0, 3]
    (unrun,) = blocks("a.md", RUN.replace("run", "not run: it needs a registry"))
    assert unrun.marked and unrun.reason == "it needs a registry" and not unrun.commands()


@pytest.mark.parametrize("marker", ["", "<!-- run it -->", "<!-- not run: -->", "<!-- not run -->"])
def test_a_block_without_a_marker_is_seen(marker: str) -> None:
    (block,) = blocks("a.md", RUN.replace("<!-- run -->", marker))
    assert block.for_a_shell and not block.marked
    (other,) = blocks("a.md", "```bash\nmake\n```\n")
    assert other.for_a_shell


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (("POS  JOB", "1    a"), "POS  JOB\n7    other\n8    b\n", True),
        (("POS  JOB", "1    a"), "POS  JOB  ETA\n7    other  -\n", False),
        (("reason  Reserved: 4 free", "start   13:05"), "job     x\nreason  Other\nstart   9:00\n", True),
        (("reason  Reserved: 4 free", "do      less"), "job     x\nreason  Other\nstart   9:00\n", False),
        (("thing/a created in 3 s",), "thing/a created in 14 s\n", True),
        (("thing/a created",), "thing/a configured\n", False),
        ((), "anything\n", True),
    ],
)
def test_what_is_shown_must_be_what_is_printed(shown: tuple[str, ...], printed: str, same: bool) -> None:
    assert Shape.of(shown).is_that_of(printed) is same
