"""What a study is, and how it is run.

A study has two functions:

- ``table(lab)`` does the work and returns a tidy table, one row per picture and condition;
- ``page(table)`` makes of nothing but that table what the report shows: a summary,
  figures, findings, and figures of the paper with ours beside them.

Where one would rather look at the pictures themselves, ``gallery(lab)`` may draw them as further figures.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from foclip import files
from foclip.reports.html import figure
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.statistics import Estimate

#: Files of a study that are read again.
TABLE, SECONDS = "table.parquet", "seconds.csv"


@dataclass(frozen=True)
class PaperComparison:
    """A figure of the paper, and ours.

    Attributes:
        quantity: What it is, and of what ours is measured.
        paper: The paper's, as a share (0.427 for 42.7 %).
        ours: Ours, as a share.
    """

    quantity: str
    paper: float
    ours: Estimate


@dataclass(frozen=True)
class Page:
    """What the report shows of a study.

    Attributes:
        summary: Small table; estimates in it come with intervals.
        figures: Figures by file name; the name is the caption too.
        findings: Sentences drawn from the numbers.
        beside: Figures of the paper with ours.
    """

    summary: pd.DataFrame
    figures: dict[str, Figure]
    findings: list[str]
    beside: list[PaperComparison] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """An experiment.

    Attributes:
        module: `__name__` of the module that holds it; its last part is the study's name and that of its folder.
        doc: That module's docstring: its first line is the title in the report, the rest says what is asked.
        table: The study's numbers, one row per picture and condition.
        page: What the report shows, made from the table alone.
        gallery: Pictures to look at, as further figures; None for none.
    """

    module: str
    doc: str
    table: Callable[[StudyContext], pd.DataFrame]
    page: Callable[[pd.DataFrame], Page]
    gallery: Callable[[StudyContext], dict[str, Figure]] | None = None

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return self.module.rpartition(".")[2]


@dataclass(frozen=True)
class StudyResult:
    """A study that is done.

    Attributes:
        name: Its name, and that of its folder.
        title: First line of its docstring.
        question: The other paragraphs of it.
        rows: Rows of its table.
        page: What the report shows.
        drawings: Its figures as SVG, drawn once for all reports to come.
    """

    name: str
    title: str
    question: list[str]
    rows: int
    page: Page
    drawings: dict[str, Markup]


def reproduce(study: Study, lab: StudyContext, out: Path) -> StudyResult:
    """Run a study and write its tables and figures to `out`/<study>.

    `table.csv` and `table.parquet` hold the same numbers, and the same ones
    however often the run was cut off. What depends on the machine's mood is
    apart: `seconds.csv`, row by row.

    Args:
        study: The study.
        lab: What it works with.
        out: Folder of the run.
    """
    lab.begin(study.name)
    table = study.table(lab)
    finished = _finish(study, table, study.gallery(lab) if study.gallery else {})
    _write(files.output_folder(out / study.name), table, finished)
    return finished


def read(study: Study, out: Path) -> StudyResult:
    """A study that an earlier run has finished, its page made anew from its tables; without its gallery.

    Args:
        study: The study.
        out: Folder of that run.

    Raises:
        OSError: The run has no tables of this study.
    """
    table = pd.read_parquet(out / study.name / TABLE)
    if (out / study.name / SECONDS).is_file():
        table["seconds"] = pd.read_csv(out / study.name / SECONDS).seconds
    return _finish(study, table, {})


def kept(study: Study, out: Path) -> StudyResult | None:
    """As `read`; None where an earlier run has no tables of this study, or none that this version reads."""
    if not files.is_file(out / study.name / TABLE):
        return None
    try:
        return read(study, out)
    except Exception:  # another version's table may lack anything
        return None


def _finish(study: Study, table: pd.DataFrame, gallery: dict[str, Figure]) -> StudyResult:
    page = study.page(table)
    page = replace(page, figures=page.figures | gallery)
    title, *question = (" ".join(part.split()) for part in study.doc.strip().split("\n\n"))
    drawings = {caption: figure(plot) for caption, plot in page.figures.items()}
    return StudyResult(study.name, title, question, len(table), page, drawings)


def _write(folder: Path, table: pd.DataFrame, finished: StudyResult) -> None:
    timed = [column for column in table.columns if column == "seconds"]
    kept = table.drop(columns=timed)
    files.write_text(folder / "table.csv", kept.to_csv(index=False))
    buffer = io.BytesIO()
    kept.to_parquet(buffer, index=False)
    files.write_bytes(folder / TABLE, buffer.getvalue())
    if timed:
        files.write_text(folder / SECONDS, table[timed].to_csv(index=False))
    for name, plot in finished.page.figures.items():
        files.write_text(folder / f"{name}.svg", finished.drawings[name])
        files.write_bytes(folder / f"{name}.png", png(plot, 200))


def png(plot: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()
