"""What every study uses: its context (scores, pictures, cached results), and what a study is."""

from foclip.studies.harness.context import BUDGET, CACHE, StudyContext
from foclip.studies.harness.pictures import StudySettings
from foclip.studies.harness.study import (
    PaperComparison,
    Study,
    StudyReport,
    StudyResult,
    kept,
    read,
    reproduce,
    write_html,
)

__all__ = [
    "BUDGET",
    "CACHE",
    "PaperComparison",
    "Study",
    "StudyContext",
    "StudyReport",
    "StudyResult",
    "StudySettings",
    "kept",
    "read",
    "reproduce",
    "write_html",
]
