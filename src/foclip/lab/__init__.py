"""What the studies are made of: a lab whose work is done once, and what a study is."""

from foclip.lab.lab import BUDGET, FooledPicture, Lab
from foclip.lab.material import Settings
from foclip.lab.study import Beside, Finished, Page, Study, kept, read, reproduce

__all__ = [
    "BUDGET",
    "Beside",
    "Finished",
    "FooledPicture",
    "Lab",
    "Page",
    "Settings",
    "Study",
    "kept",
    "read",
    "reproduce",
]
