"""The HTML report of `foclip reproduce`: the paper's numbers with ours, and one section per study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foclip import __version__, files
from foclip.outcome import Failure
from foclip.reports.html import render
from foclip.studies.harness.study import StudyResult


def write_html(path: Path, studies: Sequence[StudyResult], run: dict[str, Any], failures: Sequence[Failure]) -> None:
    """Write the report of finished studies as one HTML file.

    Args:
        path: The file.
        studies: Finished studies, in the order of their sections.
        run: What `run.json` says.
        failures: Pictures that could not be read.
    """
    sections = [
        {
            "study": study,
            "columns": list(study.report.summary.columns),
            "rows": study.report.summary.astype(str).to_numpy().tolist(),
            "figures": [(name.replace("-", " "), name, drawing) for name, drawing in study.drawings.items()],
        }
        for study in studies
    ]
    html = render("studies.html", sections=sections, run=run, failures=failures, version=__version__)
    files.write_text(path, html)
