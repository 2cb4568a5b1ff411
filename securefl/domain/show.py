"""Tables that read well in a notebook and in a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from securefl.plain_text import plain

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """Rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """For a terminal, as wide as it is."""
        # Late: `securefl --help` needs no tables.
        from rich.console import Console
        from rich.table import Table as RichTable

        shown = RichTable(title=self.title, title_justify="left")
        for number, name in enumerate(self.columns):
            # A name in the first column is typed again by people: it stays whole.
            shown.add_column(name, no_wrap=number == 0, overflow="fold")
        for row in self.rows:
            shown.add_row(*map(escape_markup, row))
        out = io.StringIO()
        Console(file=out, width=max(80, Console().width)).print(shown)
        return out.getvalue().rstrip("\n")

    def html(self) -> str:
        """For a notebook; every text is escaped, since others wrote some of it."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table><caption>{escape(self.title)}</caption><tr>{head}</tr>{body}</table>"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of whatever can be written as text."""
    return Table(title, columns, [[plain(str(cell)) for cell in row] for row in rows])


def escape_markup(text: str) -> str:
    """Text that rich prints as it stands."""
    from rich.markup import escape as escape_rich

    return escape_rich(text)


class Listing(list[T]):
    """A list that shows itself as a table."""

    def __init__(
        self, title: str, columns: Sequence[str], items: Iterable[T], row: Callable[[T], Sequence[object]]
    ) -> None:
        super().__init__(items)
        self._title, self._columns, self._row = title, columns, row

    def table(self) -> Table:
        """A row an item."""
        return table(self._title, self._columns, [self._row(item) for item in self])

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()
