"""What a command prints, its exit codes, and what it writes of itself."""

import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from foclip.outcome import Failure, Outcome

if TYPE_CHECKING:
    from foclip.models.scorer import Scorer

Result = TypeVar("Result")

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


class Table:
    """Rows of text below their headings: aligned on a terminal, separated by tabs and never cut elsewhere.

    The first column names things; the others hold figures.
    """

    def __init__(self, *columns: str) -> None:
        """Begin with the headings."""
        self._columns = columns
        self._rows: list[tuple[tuple[str, ...], str]] = []

    def add(self, *cells: str, style: str = "") -> None:
        """Add a row; `style` is for its second cell, on a terminal."""
        self._rows.append((tuple(map(printable, cells)), style))

    def show(self) -> None:
        """Print the table, if it has rows."""
        if not self._rows:
            return
        if not stdout.is_terminal:
            for row in (self._columns, *(cells for cells, _ in self._rows)):
                sys.stdout.write("\t".join(row) + "\n")
            return
        from rich import table

        shown = table.Table(box=None, pad_edge=False, header_style="bold")
        shown.add_column(self._columns[0], overflow="fold")
        for number, column in enumerate(self._columns[1:], start=1):
            width = max(len(cells[number]) for cells, _ in self._rows)
            shown.add_column(column, justify="right", min_width=width)
        for (name, second, *others), style in self._rows:
            shown.add_row(Text(name), Text(second, style=style), *map(Text, others))
        stdout.print(shown)


def figure(value: float | None, digits: int = 3) -> str:
    """A figure as text; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def print_json(value: Any) -> None:
    """The one JSON document of `--json`."""
    from foclip import files

    sys.stdout.write(files.to_json(value) + "\n")


def show(outcome: Outcome[Result], as_json: bool, print_table: Callable[[Sequence[Result]], None]) -> None:
    """`list_results`, then `finish`."""
    list_results(outcome, as_json, print_table)
    finish(outcome.failures)


def list_results(outcome: Outcome[Result], as_json: bool, print_table: Callable[[Sequence[Result]], None]) -> None:
    """Print results as one JSON list or as a table; in JSON an input that failed is a row too, at the end."""
    if as_json:
        failed = [{"image": failure.source, "error": failure.reason} for failure in outcome.failures]
        print_json([*map(vars, outcome.results), *failed])
    elif outcome.results:
        print_table(outcome.results)


def finish(failures: Sequence[Failure]) -> None:
    """List what failed, and exit with 1 if anything did."""
    for failure in failures:
        say(f"failed: {failure.reason}")
    if failures:
        raise typer.Exit(1)


def say(message: str) -> None:
    """Print one line on stderr, never wrapped, never interpreted."""
    print(printable(" ".join(message.split())), file=sys.stderr, flush=True)


def line(text: str) -> None:
    """Print one line on stdout, never wrapped, never interpreted."""
    stdout.print(Text(printable(text)), soft_wrap=True)


def where(**files: object) -> None:
    """Print where the files are that a command wrote, a line each."""
    stdout.print()
    for name, path in files.items():
        line(f"{name}: {path}")


def printable(text: str) -> str:
    """Text in which nothing commands a terminal: control characters stand as their numbers."""
    return "".join(
        mark.encode("unicode_escape").decode() if unicodedata.category(mark) in ("Cc", "Cs") else mark for mark in text
    )


def record(
    out: Path, scorer: "Scorer", failures: Sequence[Failure], facts: dict[str, Any], packages: Sequence[str] = ()
) -> None:
    """Write what is needed to give the command again to the `run.json` of its folder."""
    from foclip.runs.folder import Run

    run = {
        "model": scorer.model,
        "score": scorer.info.name,
        "fingerprint": scorer.fingerprint,
        "device": str(scorer.device),
        **facts,
        "failures": [vars(failure) for failure in failures],
    }
    Run(out).record(sys.argv[1:], run, packages)
