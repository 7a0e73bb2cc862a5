"""What the studies are made of: a lab whose work is done once, and what a study is."""

from foclip.studies.harness.context import BUDGET, FooledPicture, StudyContext
from foclip.studies.harness.material import Settings
from foclip.studies.harness.study import Page, PaperComparison, Study, StudyResult, kept, read, reproduce

__all__ = [
    "BUDGET",
    "FooledPicture",
    "Page",
    "PaperComparison",
    "Settings",
    "Study",
    "StudyContext",
    "StudyResult",
    "kept",
    "read",
    "reproduce",
]
