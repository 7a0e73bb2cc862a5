"""What the command line shows: bars, tables, one line per failure, and its exit codes."""

import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from foclip.outcome import Advance, Failure, Outcome, Progress

if TYPE_CHECKING:
    from foclip.models.scores import EmbeddingScore

Result = TypeVar("Result")

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


@contextmanager
def bars() -> Iterator[Progress]:
    """One progress bar per stage of a work, on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    shown = rich_progress.Progress(*columns, console=stderr, disable=not stderr.is_terminal)

    def progress(text: str, total: int) -> Advance:
        shown.start()  # with the first stage: a wrong call shows no bar
        task = shown.add_task(text, total=total, note="")
        return lambda done, note="": shown.update(task, completed=done, note=note)

    try:
        yield progress
    finally:
        if shown.tasks:
            shown.stop()


@contextmanager
def resumable(message: str) -> Iterator[Progress]:
    """`bars` around work that goes on when the same command is given again; Ctrl-C says so and exits with 130."""
    try:
        with bars() as progress:
            yield progress
    except KeyboardInterrupt:
        say(f"interrupted; {message}")
        raise typer.Exit(130) from None


def load(model: str, score: str, device: str) -> "EmbeddingScore":
    """A score over an encoder by their names."""
    with stderr.status(Text(f"loading {model}")):
        from foclip.models.scores import resolve

        return resolve(model, score, device)


def table(first: str, *columns: str) -> Table:
    """A table whose first column names things and whose others hold figures."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    found.add_column(first, overflow="fold")
    for column in columns:
        found.add_column(column, justify="right")
    return found


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
    """Results as one JSON list or as a table; in JSON an input that failed is a row too, at the end."""
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
    """One line on stderr, never wrapped, never interpreted."""
    print(printable(" ".join(message.split())), file=sys.stderr)


def where(**files: object) -> None:
    """Where the files are that a command wrote, a line each."""
    stdout.print()
    for name, path in files.items():
        stdout.print(cell(f"{name}: {path}"), soft_wrap=True)


def printable(text: str) -> str:
    """Text in which nothing commands a terminal: control characters stand as their numbers."""
    return "".join(
        mark.encode("unicode_escape").decode() if unicodedata.category(mark) in ("Cc", "Cs") else mark for mark in text
    )


def cell(text: str, style: str = "") -> Text:
    """Text of a table, shown as it is."""
    return Text(printable(text), style=style)
