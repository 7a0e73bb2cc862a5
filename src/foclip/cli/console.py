"""What a command prints, its exit codes, and what it writes of itself."""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from foclip import files
from foclip.outcome import Failure, Outcome

if TYPE_CHECKING:
    from foclip.models.scorer import Scorer

Result = TypeVar("Result")

#: What errors of standard output name.
STDOUT = "standard output"

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


class Stdout:
    """Standard output, whose errors name it, so that they can be told from those of files."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> Any:
        return self._named(self._stream.write, text)

    def flush(self) -> None:
        self._named(self._stream.flush)

    def _named(self, call: Callable[..., Any], *arguments: str) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            error.filename = STDOUT
            raise


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print rows of text below headings, if there are any; the first column names things, the others hold figures.

    They are aligned on a terminal, where `styles` are for the second cells; elsewhere tabs separate them, never cut.
    """
    cells = [tuple(map(printable, row)) for row in rows]
    if not cells:
        return
    if not stdout.is_terminal:
        for row in (headings, *cells):
            sys.stdout.write("\t".join(row) + "\n")
        return
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column(headings[0], overflow="fold")
    for heading, *column in list(zip(headings, *cells, strict=True))[1:]:
        shown.add_column(heading, justify="right", min_width=max(map(len, column)))
    for (name, second, *others), style in zip(cells, styles or [""] * len(cells), strict=True):
        shown.add_row(Text(name), Text(second, style=style), *map(Text, others))
    stdout.print(shown)


def figure(value: float | None, digits: int = 3) -> str:
    """A figure as text; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def print_json(value: Any) -> None:
    """The one JSON document of `--json`."""
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


def where(**written: object) -> None:
    """Print where the files are that a command wrote, a line each."""
    stdout.print()
    for name, path in written.items():
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
