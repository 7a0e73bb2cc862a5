"""The report of `foclip reproduce`: the paper's figures with ours, and a section per study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foclip import __version__, files
from foclip.lab.study import Finished
from foclip.outcome import Failure
from foclip.report.html import render


def write(path: Path, studies: Sequence[Finished], run: dict[str, Any], failures: Sequence[Failure]) -> None:
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
            "columns": list(study.page.summary.columns),
            "rows": study.page.summary.astype(str).to_numpy().tolist(),
            "figures": [(name.replace("-", " "), name, drawing) for name, drawing in study.drawings.items()],
        }
        for study in studies
    ]
    html = render("studies.html", sections=sections, run=run, failures=failures, version=__version__)
    files.write_text(path, html)
