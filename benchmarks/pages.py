"""Pages with the figures of records: tables by their layouts, and figures in sentences (`benchmarks.docs` says how)."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from benchmarks import record
from benchmarks.formats import STUDY_FORMATS
from benchmarks.layout import Layout, Printed
from benchmarks.layouts import PRINTED, TABLES
from benchmarks.record import FIGURES, ROOT, Record
from foclip.errors import UsageError
from foclip.runs import provenance

BLOCK = re.compile(r"<!-- figures: ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)
INLINE = re.compile(r"<!--=([^\s>]+?)(?::([^\s>/]+))?-->(.*?)<!--/-->", re.DOTALL)
#: Studies whose summaries are too long for the page of results, and where they are.
OWN_PAGE = {"study-detectors": "other-detectors.md"}
#: The block that says where the figures of a page come from.
SOURCES = "sources"


def pages(root: Path = ROOT) -> dict[str, str]:
    """README and the pages of docs, by their paths. Decisions are of their day, and stay as they were written."""
    found = [path for path in sorted((root / "docs").rglob("*.md")) if "decisions" not in path.parts]
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in (root / "README.md", *found)
    }


@dataclass(frozen=True)
class Figures:
    """All records, by name, and what figures of this tree rest on."""

    records: dict[str, Record]
    now: dict[str, str]

    @classmethod
    def read(cls, folder: Path = FIGURES) -> "Figures":
        """Those of a folder."""
        names = (path.stem for path in sorted(folder.glob("*.json")))
        return cls({name: record.read(name, folder) for name in names}, provenance.parts())

    def rows(self, source: str) -> list[dict[str, Any]]:
        """Rows of a table, RECORD/TABLE."""
        name, _, table = source.partition("/")
        if table not in self.of(name).tables:
            raise UsageError(f"docs/figures/{name}.json has no table {table}")
        return self.of(name).tables[table]

    def of(self, name: str) -> Record:
        """A record."""
        if name not in self.records:
            raise UsageError(f"there is no docs/figures/{name}.json")
        return self.records[name]

    def figure(self, reference: str, spec: str) -> str:
        """What RECORD/TABLE/WORD…/COLUMN is, as a page shows it."""
        name, table, *words, column = reference.split("/")
        rows = self.rows(f"{name}/{table}")
        fitting = [row for row in rows if set(words) <= _told(row)]
        cells = [row[key] for row in fitting for key in row if slug(key) == column]
        if len(cells) != 1:
            raise UsageError(f"{reference} names {len(fitting)} rows and {len(cells)} figures instead of one")
        return shown(cells[0], spec)

    def age(self, name: str) -> str:
        """That figures are of older code, and what may differ today; empty if they are not."""
        changed = self.of(name).outdated(self.now)
        return f"Made with older code ({origin(self.of(name))}): {_listed(changed)} may differ today" if changed else ""


def _told(row: Mapping[str, Any]) -> set[str]:
    """What words may name a row by: each cell, and each as COLUMN=CELL."""
    return {told for key, value in row.items() for told in (slug(value), f"{slug(key)}={slug(value)}")}


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def slug(value: object) -> str:
    """A word of a reference: `own caption, 45 dB` becomes `own-caption-45-db`."""
    return re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-")


def shown(value: Any, spec: str) -> str:
    """A cell as pages show it; its interval only with a format that begins with `i`, or none at all."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    numbers = [value] if not isinstance(value, dict) else [value["value"], value["low"], value["high"]]
    interval = spec.startswith("i") or not spec
    middle, *ends = (format(number, spec.removeprefix("i")).replace("%", " %") for number in numbers)
    return f"{middle} [{', '.join(ends)}]" if ends and interval else middle


def origin(of: Record) -> str:
    """Version, commit and date."""
    commit = of.made["commit"] or "unknown"
    return f"FoCLIP {of.made['foclip']}, commit {commit}, {of.made['date']}"


class _Cells(Formatter):
    """Fills the template of a cell from a row."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if field_name not in kwargs:
            raise UsageError(f"no column {field_name!r}; there are {', '.join(kwargs)}")
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        return shown(value, format_spec)


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]) -> str:
    """A Markdown table; columns of numbers to the right. Lines of a cell stand one below the other."""
    lines = [headings, ["---:" if each else "---" for each in numbers], *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in line) + " |" for line in lines
    )


def table(layout: Layout, figures: Figures) -> str:
    """A table by its layout, with a note of what is of older code."""
    rows = [{"record": source.partition("/")[0]} | row for source in layout.sources for row in figures.rows(source)]
    for column, values in layout.where.items():
        rows = [row for value in values for row in rows if row.get(column) == value]
    if layout.over:
        rows = spread(rows, layout.by, layout.over)
    fill = _Cells().vformat
    cells = [[fill(template, (), row) for template in layout.columns.values()] for row in rows]
    numbers = [":" in template for template in layout.columns.values()]
    names = dict.fromkeys(source.partition("/")[0] for source in layout.sources)
    notes = dict.fromkeys(f"*{figures.age(name)}.*" for name in names if figures.age(name))
    return "\n\n".join([grid(list(layout.columns), cells, numbers), *notes])


def printed(block: Printed, figures: Figures) -> str:
    """A command and what it prints."""
    text = next((row["printed"] for row in figures.rows("printed/commands") if row["command"] == block.command), None)
    if text is None:
        raise UsageError(f"docs/figures/printed.json has no command {block.command!r}")
    lines = text.splitlines()
    shown = lines if block.lines is None else [*lines[: block.lines], "…"]
    return "\n".join(["```", block.command, "", *shown, "```"])


def spread(rows: Sequence[Mapping[str, Any]], by: Sequence[str], over: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each combination of the columns `by`; names of other columns begin with the values of `over`.

    What was not measured in a combination is None.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[column] for column in by)
        start = " ".join(str(row[column]) for column in over)
        wide = found.setdefault(key, dict(zip(by, key, strict=True)))
        if any(f"{start} {column}" in wide for column in row.keys() - {*by, *over}):
            raise UsageError(f"two rows are one: {key}, {start}")
        wide |= {f"{start} {column}": value for column, value in row.items() if column not in (*by, *over)}
    columns = dict.fromkeys(column for each in found.values() for column in each)
    return [columns | each for each in found.values()]


def studies(figures: Figures) -> str:
    """A section for every record of a study, and a line for one that has a page of its own."""
    return "\n\n".join(
        f"## {each.title.rstrip('.')}\n\nThis study has [a page of its own]({OWN_PAGE[name]})."
        if name in OWN_PAGE
        else "\n\n".join(_section(name, each, figures))
        for name, each in figures.records.items()
        if name.startswith("study-")
    )


def _section(name: str, study: Record, figures: Figures) -> Iterator[str]:
    yield f"## {study.title.rstrip('.')}"
    yield f"```\n{study.command}\n```"
    length, made = "Quick run" if study.settings["quick"] else "Full run", study.made["machine"]
    photos = f"{length} with {study.settings['photos']} photos on `{study.settings['model']}`"
    age = figures.age(name)
    yield f"*{photos}, torch {made['torch']}. {age or f'Made with {origin(study)}'}.*"
    yield "\n".join(f"- {row['finding']}" for row in study.tables["findings"])
    summary = study.tables["summary"]
    headings = list(summary[0])
    formats = [study_format(name, heading) for heading in headings]
    cells = [[shown(row[heading], spec) for heading, spec in zip(headings, formats, strict=True)] for row in summary]
    yield grid(headings, cells, [False, *(True for _ in headings[1:])])
    known = name.removeprefix("study-")
    for row in study.tables["drawings"]:
        yield f"![{known}: {row['drawing'].replace('-', ' ')}](results/{known}-{row['drawing']}.png)"


def study_format(study: str, column: str) -> str:
    """The format of a column in the summary of a study."""
    chosen = "-".join(study.split("-")[1:2])
    found = [
        spec for (of, pattern), spec in STUDY_FORMATS.items() if of in ("", chosen) and re.fullmatch(pattern, column)
    ]
    return found[-1] if found else ""


def comparisons(figures: Figures) -> str:
    """The paper's figures beside those of the studies."""
    rows = [
        [
            f"`{name.removeprefix('study-')}`",
            row["figure"],
            f"{row['paper']:.1%}".replace("%", " %"),
            shown(row["ours"], "i.1%"),
            str(row["photos"]),
        ]
        for name, each in figures.records.items()
        for row in each.tables.get("comparisons", [])
    ]
    return grid(["study", "figure", "paper", "ours", "photos"], rows, [False, False, True, True, True])


#: Blocks of records that no layout describes.
BLOCKS = {"studies": studies, "comparisons": comparisons}


@dataclass(frozen=True)
class Piece:
    """A part of a page that comes from records."""

    name: str  #: Of a block, or the reference of a figure.
    spec: str | None  #: A figure's format; None for a block.
    start: int  #: Where its text begins and ends in the page.
    end: int

    @property
    def records(self) -> list[str]:
        """Names of the records that it shows, but for those of `BLOCKS`."""
        if self.spec is not None:
            return [self.name.partition("/")[0]]
        if self.name in PRINTED:
            return ["printed"]
        return [source.partition("/")[0] for source in TABLES[self.name].sources] if self.name in TABLES else []

    def content(self, figures: Figures, page: str, text: str) -> str:
        """What is to stand there; a `UsageError` if no record or layout tells."""
        if self.spec is not None:
            return figures.figure(self.name, self.spec)
        if self.name in TABLES:
            shown = table(TABLES[self.name], figures)
        elif self.name in PRINTED:
            shown = printed(PRINTED[self.name], figures)
        elif self.name == SOURCES:
            shown = sources(text, page, figures)
        elif self.name in BLOCKS:
            shown = BLOCKS[self.name](figures)
        else:
            raise UsageError(f"there is no layout {self.name} in benchmarks/layouts.py")
        return f"\n{shown}\n\n"


def pieces(text: str) -> list[Piece]:
    """The parts of a page that come from records, in order."""
    blocks = [Piece(found[1], None, *found.span(2)) for found in BLOCK.finditer(text)]
    inline = [Piece(found[1], found[2] or "", *found.span(3)) for found in INLINE.finditer(text)]
    return sorted([*blocks, *inline], key=lambda piece: piece.start)


def used(text: str) -> list[str]:
    """Names of the records that a page takes figures from."""
    return sorted({name for piece in pieces(text) for name in piece.records})


def sources(text: str, page: str, figures: Figures) -> str:
    """Where the figures of a page come from."""
    lines = []
    for name in used(text):
        each, age = figures.of(name), figures.age(name)
        link = posixpath.relpath(f"docs/figures/{name}.json", posixpath.dirname(page) or ".")
        machine = f"{each.made['machine']['processor']}, torch {each.made['machine']['torch']}"
        made = age or f"Made with {origin(each)}"
        lines.append(f"- [`{name}`]({link}): {each.title.rstrip('?')}. `{each.command}`. {made}; {machine}.")
    return "\n".join(lines)


def rendered(text: str, page: str, figures: Figures) -> str:
    """A page with today's figures; a `UsageError` says which cannot be shown."""
    for piece in reversed(pieces(text)):
        try:
            text = text[: piece.start] + piece.content(figures, page, text) + text[piece.end :]
        except UsageError as error:
            raise UsageError(f"{page}: {piece.name}: {error}") from error
    return text
