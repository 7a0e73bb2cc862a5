"""What every study uses: what a study is, how it is run, and the report of `foclip reproduce`."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from foclip import files
from foclip.outcome import Failure
from foclip.reports import drawing, html
from foclip.studies.harness.context import BUDGET as BUDGET
from foclip.studies.harness.context import CACHE as CACHE
from foclip.studies.harness.context import StudyContext as StudyContext
from foclip.studies.harness.pictures import StudySettings as StudySettings
from foclip.studies.harness.statistics import Estimate
from foclip.studies.harness.statistics import Rows as Rows

#: Dots per inch of figures as PNG.
DPI = 200
#: Files of a study that are read again.
TABLE, SECONDS = "table.parquet", "seconds.csv"


@dataclass(frozen=True)
class PaperComparison:
    """A share that the paper gives (0.427 for 42.7 %), and ours; `quantity` says what it is, and of which pictures."""

    quantity: str
    paper: float
    ours: Estimate


@dataclass(frozen=True)
class StudyReport:
    """What the HTML report shows of a study."""

    summary: pd.DataFrame  # a small table; estimates in it have intervals
    figures: dict[str, Figure]  # by file name, which is also the caption
    findings: list[str]  # sentences that state what the numbers show
    comparisons: list[PaperComparison] = field(default_factory=list)  # numbers of the paper with ours


@dataclass(frozen=True)
class Study:
    """An experiment. The docstring of its module has the title in its first line; the rest is the question."""

    module: str  # `__name__` of its module; the last part names the study and its folder
    doc: str
    table: Callable[[StudyContext], pd.DataFrame]  # does the work; tidy, one row per picture and condition
    report: Callable[[pd.DataFrame], StudyReport]  # made from the table, and nothing else
    gallery: Callable[[StudyContext], dict[str, Figure]] | None = None  # draws pictures as further figures
    judged: bool = True  # whether its figures rest on detectors, beside scores and attacks
    embeddings: bool = True  # whether it compares embeddings, which some scores have not

    @property
    def name(self) -> str:
        """The name on the command line."""
        return self.module.rpartition(".")[2]


@dataclass(frozen=True)
class StudyResult:
    """A finished study."""

    name: str  # its folder's, too
    title: str
    question: list[str]
    rows: int  # of its table
    report: StudyReport
    drawings: dict[str, Markup]  # its figures as SVG, drawn once and reused by all later reports


def reproduce(study: Study, context: StudyContext, out: Path) -> StudyResult:
    """Run a study and write its tables and figures to `out`/<study>.

    `table.csv` and `table.parquet` hold the same numbers. An interrupted run that is resumed ends with the same
    bytes. Times differ from run to run, so they have a file of their own, `seconds.csv`, with the same rows.
    """
    context.study = study.name
    table = study.table(context)
    finished = _finish(study, table, study.gallery(context) if study.gallery else {})
    folder = files.output_folder(out / study.name)
    timed = table.columns.intersection(["seconds"])
    untimed = table.drop(columns=timed)
    files.write_text(folder / "table.csv", untimed.to_csv(index=False))
    files.write_bytes(folder / TABLE, untimed.to_parquet(index=False))
    if len(timed):
        files.write_text(folder / SECONDS, table[timed].to_csv(index=False))
    for name, plot in finished.report.figures.items():
        files.write_text(folder / f"{name}.svg", finished.drawings[name])
        files.write_bytes(folder / f"{name}.png", png(plot, DPI))
    return finished


def read(study: Study, out: Path) -> StudyResult:
    """A study that an earlier run in `out` has finished, its report made again from its table, without the gallery.

    An `OSError` if the run has no table of this study.
    """
    table = pd.read_parquet(out / study.name / TABLE)
    if (out / study.name / SECONDS).is_file():
        table["seconds"] = pd.read_csv(out / study.name / SECONDS).seconds
    return _finish(study, table, {})


def kept(study: Study, out: Path) -> StudyResult | None:
    """As `read`, but None if the run has no table of this study, or one that this version cannot read."""
    try:
        return read(study, out)
    except Exception:  # a table of another version may lack any column
        return None


def _finish(study: Study, table: pd.DataFrame, gallery: dict[str, Figure]) -> StudyResult:
    report = study.report(table)
    report = replace(report, figures=report.figures | gallery)
    title, *question = (" ".join(part.split()) for part in study.doc.strip().split("\n\n"))
    drawings = {caption: drawing.svg(plot) for caption, plot in report.figures.items()}
    return StudyResult(study.name, title, question, len(table), report, drawings)


def png(plot: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


def write_html(path: Path, studies: Sequence[StudyResult], run: dict[str, Any], failures: Sequence[Failure]) -> None:
    """Write the report: the paper's numbers with ours, and a section per study; `run` is what `run.json` says."""
    html.write(path, "studies.html", studies=studies, run=run, failures=failures)
