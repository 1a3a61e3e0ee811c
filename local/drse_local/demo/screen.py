"""Where the live view is drawn: a terminal, or a picture."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live

from drse_local.demo.scene import Scene
from drse_local.demo.view import view

_PICTURE_WIDTH, _PICTURE_HEIGHT = 132, 60


class Screen:
    """A terminal's alternate screen, redrawn when told; the terminal is as before at the end of the block."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, scene: Scene) -> None:
        """Draw a scene."""
        self._live.update(view(scene, self._console.width, self._console.height), refresh=True)


def save_picture(scene: Scene, path: Path) -> None:
    """Write a scene as SVG, as a terminal of 132 columns shows it."""
    console = Console(
        record=True, width=_PICTURE_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(view(scene, _PICTURE_WIDTH, _PICTURE_HEIGHT))
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title="drse-local demo")
