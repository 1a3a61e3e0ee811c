"""What the documentation tells people to type, and what it shows them in answer.

A block of ``console`` has a marker in the line above it::

    <!-- run -->               it is run, and ends with status 0
    <!-- run 3 -->             its last command ends with status 3
    <!-- not run: REASON -->   it cannot be run where the documentation is tested

In it, lines that begin with ``$`` are commands (a backslash at the end goes on in the next line); the others
are what the command before them prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from drse_operator.cli.main import cli

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"<!-- (?:(?P<run>run)(?: (?P<status>\d+))?|not run: (?P<reason>.+?)) -->")
#: Languages of blocks that people would copy into a shell.
_SHELLS = frozenset({"bash", "sh", "shell", "shell-session", "zsh"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page, the status it ends with, and the lines that it is said to print."""

    page: str
    text: str
    status: int = 0
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``status`` is None when it is not run; then ``reason`` says why, or is empty when that
    is not said. ``heading`` is the last heading of the second level before it."""

    page: str
    heading: str
    language: str
    text: str
    status: int | None
    reason: str

    @property
    def marked(self) -> bool:
        """Whether it is said that it is run, or why not."""
        return self.status is not None or bool(self.reason)

    @property
    def for_a_shell(self) -> bool:
        """Whether people would copy it into a shell."""
        return self.language == "console" or self.language in _SHELLS or "\n$ " in f"\n{self.text}"

    def commands(self) -> list[Command]:
        """Its commands, if it is run."""
        if self.status is None:
            return []
        found: list[Command] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(Command(self.page, line[2:]))
                continue
            assert found, f"{self.page}: a block begins with its command: {line}"
            last = found[-1]
            if last.text.endswith("\\"):
                found[-1] = replace(last, text=f"{last.text}\n{line}")
            else:
                found[-1] = replace(last, shown=(*last.shown, line))
        found[-1] = replace(found[-1], status=self.status)
        return found


def pages() -> list[str]:
    """All pages, as paths from the root of the repository."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "helm").glob("*/README.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str, text: str | None = None) -> list[Block]:
    """The fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    found = []
    for block in _BLOCK.finditer(f"\n{text}"):
        marker = _MARKER.fullmatch(block["before"].strip())
        headings = re.findall(r"^## (.+)$", f"\n{text}"[: block.start()], re.MULTILINE)
        found.append(
            Block(
                page=page,
                heading=headings[-1] if headings else "",
                language=block["language"],
                text=block["text"],
                status=int(marker["status"] or 0) if marker and marker["run"] else None,
                reason=(marker["reason"] or "") if marker else "",
            )
        )
    return found


def commands(page: str, *, headings: frozenset[str] | None = None) -> list[Command]:
    """The commands of a page that are run; only those below some headings."""
    return [
        command
        for block in blocks(page)
        if headings is None or block.heading in headings
        for command in block.commands()
    ]


def table_commands(page: str) -> list[Command]:
    """What stands as code in the tables of a page and begins with ``drse``."""
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [Command(page, code) for row in rows for code in re.findall(r"`(drse [^`]+)`", row)]


def help_commands() -> list[Command]:
    """The examples in the help of the commands."""
    found = []
    for path, command in _walk("drse", cli, None):
        lines = (command.help or "").splitlines()
        found += [
            Command(f"{path} --help", line.strip()) for line in lines if line.strip().startswith("drse ")
        ]
    return [command for command in found if not command.text.endswith(".")]


def _walk(
    path: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(command, parent=parent, info_name=command.name)
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _walk(f"{path} {name}", inner, context)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of an output is the same in every run: the headers of a table, or else the labels of its lines."""

    headers: tuple[str, ...] = ()
    labels: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, lines: tuple[str, ...]) -> Shape:
        """The shape of lines."""
        if not lines:
            return cls()
        headers = tuple(re.split(r"\s{2,}", lines[0].strip()))
        if len(headers) > 1 and all(header == header.upper() for header in headers):
            return cls(headers=headers)
        labelled = [found for line in lines if (found := re.match(r"(\S(?:\S| (?! ))*)\s{2,}\S", line))]
        if labelled:
            return cls(labels=frozenset(found.group(1) for found in labelled))
        return cls(labels=frozenset(re.sub(r"\d+", "0", line) for line in lines))

    def is_that_of(self, printed: str) -> bool:
        """Whether an output has these headers, or all of these labels."""
        lines = tuple(line for line in printed.splitlines() if line.strip())
        there = Shape.of(lines)
        if self.headers:
            return self.headers == there.headers
        plain = {re.sub(r"\d+", "0", line) for line in lines}
        return self.labels <= there.labels | plain
