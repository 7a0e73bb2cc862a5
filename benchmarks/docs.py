"""Put the figures of records into README and docs, or check that they are there.

    python -m benchmarks.docs                          write every page anew
    python -m benchmarks.docs --check                  a line for each figure that differs; exit code 1 if there is one
    python -m benchmarks.docs --from DIR… [--commit C] first make records of finished runs of `foclip reproduce`

Records are the files of `docs/figures` (`benchmarks.record`); nothing is measured here. A page names what it shows in
comments that readers do not see:

    <!-- figures: NAME --> … <!-- end -->              a table by its layout, or `studies`, `comparisons`, `sources`
    <!--=RECORD/TABLE/WORD…/COLUMN:FORMAT-->0.43<!--/-->   a figure in a sentence

WORDs are cells of the row, enough of them to tell it from all others, or COLUMN=CELL; all are written in small letters,
digits and hyphens. FORMAT is Python's; `:.0%` prints 43 %, `:i.0%` the interval too. How tables look is in
`benchmarks.layouts`. Figures in sentences that are none of these are refused, unless `benchmarks/allowed.txt` has them.

`--from` takes of every study and encoder the first DIR that has its table, with the drawings. Runs of code that did not
record what they rest on need `--commit`, that of their code; they are taken to be made on this machine.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

from benchmarks import prose
from benchmarks.older import OLDER
from benchmarks.pages import SOURCES, Figures, pages, pieces, rendered, used
from benchmarks.record import ROOT
from foclip import files
from foclip.errors import FoclipError, UsageError

#: Where older records are listed.
LISTED = "OLDER (benchmarks/older.py)"


def differences(figures: Figures, pages: Mapping[str, str]) -> Iterator[str]:
    """A line for every figure of a page that is another one in its record, or that comes from none."""
    for page, text in pages.items():
        for piece in pieces(text):
            number, there = text.count("\n", 0, piece.start) + 1, text[piece.start : piece.end]
            try:
                wanted = piece.content(figures, page, text)
            except UsageError as error:
                yield f"{page}:{number}: {piece.name}: {error}"
                continue
            lines = list(zip_longest(there.splitlines(), wanted.splitlines(), fillvalue=""))
            yield from (
                f"{page}:{number + place}: {piece.name} is {right!r} in its record, not {wrong!r}"
                for place, (wrong, right) in enumerate(lines)
                if wrong != right
            )
        if used(text) and SOURCES not in {piece.name for piece in pieces(text)}:
            yield f"{page}: shows figures of {', '.join(used(text))}, but has no block `{SOURCES}`"
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(r"\s*(?:[-*>] |\d+\. )?\s*<!--[=/]", line):  # CommonMark takes it for a block of HTML
                yield f"{page}:{number}: begins with a comment, and would be no Markdown; move a word"
    yield from prose.uncited(pages)
    yield from older(figures)


def older(figures: Figures) -> Iterator[str]:
    """A line for each record of older code that is not listed, and for each that is listed and is not older."""
    outdated = {name for name, each in figures.records.items() if each.outdated(figures.now)}
    for name in sorted(outdated - set(OLDER)):
        changed = ", ".join(figures.of(name).outdated(figures.now))
        yield f"docs/figures/{name}.json: other than in this tree: {changed}; run it again, or list it in {LISTED}"
    for name in sorted(set(OLDER) - outdated):
        yield f"docs/figures/{name}.json is of this tree, or not there; strike it out in {LISTED}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page differs")
    parser.add_argument("--from", nargs="+", type=Path, default=[], metavar="DIR", dest="runs", help="finished runs")
    parser.add_argument("--commit", help="of the code of runs that do not tell it")
    choice = parser.parse_args()
    try:
        if choice.runs:
            from benchmarks.taken import take  # studies import much

            take(choice.runs, choice.commit)
        figures = Figures.read()
        if not choice.check:
            for page, text in pages().items():
                files.write_text(ROOT / page, rendered(text, page, figures))
        found = list(differences(figures, pages()))
    except (FoclipError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(found) or f"README and docs show the figures of {len(figures.records)} records")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
