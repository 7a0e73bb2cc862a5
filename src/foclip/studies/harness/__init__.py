"""What every study uses: its context (scores, pictures, cached results), and what a study is."""

from foclip.studies.harness.context import BUDGET, CACHE, FooledPicture, StudyContext
from foclip.studies.harness.inputs import StudySettings
from foclip.studies.harness.study import PaperComparison, Study, StudyReport, StudyResult, kept, read, reproduce

__all__ = [
    "BUDGET",
    "CACHE",
    "FooledPicture",
    "PaperComparison",
    "Study",
    "StudyContext",
    "StudyReport",
    "StudyResult",
    "StudySettings",
    "kept",
    "read",
    "reproduce",
]
