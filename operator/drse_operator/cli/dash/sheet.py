"""A text over the page: help, or why a job waits."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class Sheet(ModalScreen[None]):
    """A titled text that scrolls, until Esc, q, Enter or ? takes it away."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark", "close", "Back"),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, title: str, text: Text | str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """The frame and the text."""
        with VerticalScroll(id="frame") as frame:
            frame.border_title = self._title
            frame.border_subtitle = "Esc"
            yield Static(self._text, id="text", markup=False)

    def show(self, text: Text | str) -> None:
        """Put another text in its place; nothing where it has been taken away meanwhile."""
        for shown in self.query("#text").results(Static):
            shown.update(text)

    def action_close(self) -> None:
        """Take it away."""
        self.dismiss()

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one("#frame", VerticalScroll).scroll_relative(y=lines, animate=False)
