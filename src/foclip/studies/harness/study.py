"""What a study is, how it is run, and the report of `foclip reproduce`."""

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
from foclip.reports import html
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.statistics import Estimate

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
    """What the HTML report shows of a study.

    Attributes:
        summary: A small table. Estimates in it have intervals.
        figures: Figures by file name. The name is also the caption.
        findings: Sentences that state what the numbers show.
        comparisons: Numbers of the paper with ours.
    """

    summary: pd.DataFrame
    figures: dict[str, Figure]
    findings: list[str]
    comparisons: list[PaperComparison] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """An experiment.

    Attributes:
        module: `__name__` of the module that defines it. Its last part names the study and its folder.
        doc: The docstring of that module. Its first line is the title in the report, the rest is the question.
        table: Does the work; gives the study's numbers, tidy, one row per picture and condition.
        report: Makes what the HTML report shows from the table, and nothing else.
        gallery: Draws pictures as further figures; None for none.
    """

    module: str
    doc: str
    table: Callable[[StudyContext], pd.DataFrame]
    report: Callable[[pd.DataFrame], StudyReport]
    gallery: Callable[[StudyContext], dict[str, Figure]] | None = None

    @property
    def name(self) -> str:
        """The name on the command line."""
        return self.module.rpartition(".")[2]


@dataclass(frozen=True)
class StudyResult:
    """A finished study: its name, which its folder has too, title and question from its docstring, rows of its table.

    `drawings` are its figures as SVG. They are drawn once and reused by all later reports.
    """

    name: str
    title: str
    question: list[str]
    rows: int
    report: StudyReport
    drawings: dict[str, Markup]


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
        files.write_bytes(folder / f"{name}.png", png(plot, 200))
    return finished


def read(study: Study, out: Path) -> StudyResult:
    """A study that an earlier run in `out` has finished, its report made again from its table, without the gallery.

    Raises:
        OSError: The run has no table of this study.
    """
    table = pd.read_parquet(out / study.name / TABLE)
    if (out / study.name / SECONDS).is_file():
        table["seconds"] = pd.read_csv(out / study.name / SECONDS).seconds
    return _finish(study, table, {})


def kept(study: Study, out: Path) -> StudyResult | None:
    """As `read`, but None if the run has no table of this study, or one that this version cannot read."""
    if not files.is_file(out / study.name / TABLE):
        return None
    try:
        return read(study, out)
    except Exception:  # a table of another version may lack any column
        return None


def _finish(study: Study, table: pd.DataFrame, gallery: dict[str, Figure]) -> StudyResult:
    report = study.report(table)
    report = replace(report, figures=report.figures | gallery)
    title, *question = (" ".join(part.split()) for part in study.doc.strip().split("\n\n"))
    drawings = {caption: html.figure(plot) for caption, plot in report.figures.items()}
    return StudyResult(study.name, title, question, len(table), report, drawings)


def png(plot: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


def write_html(path: Path, studies: Sequence[StudyResult], run: dict[str, Any], failures: Sequence[Failure]) -> None:
    """Write the report: the paper's numbers with ours, and a section per study; `run` is what `run.json` says."""
    html.write(path, "studies.html", studies=studies, run=run, failures=failures)
