"""What tables of a page look like, and what commands print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layout:
    """A table of a page."""

    sources: Sequence[str]  #: Tables whose rows it shows, each RECORD/TABLE.
    columns: Mapping[str, str]  #: By its heading, a cell: `{column:format}` is a figure, `i` its interval too.
    where: Mapping[str, Sequence[Any]] = field(
        default_factory=dict
    )  #: Values of a column whose rows are shown, in order.
    by: Sequence[str] = ()  #: With `over`: columns whose every combination has one row.
    over: Sequence[str] = ()  #: Columns whose values begin the names of others: `{40 dB rise:.2f}`.


@dataclass(frozen=True)
class Printed:
    """A command of a page and what it prints (`benchmarks.printed`)."""

    command: str
    lines: int | None = None  #: So many lines are shown, and … for the rest; None shows all.
