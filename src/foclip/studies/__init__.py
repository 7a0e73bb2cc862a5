"""Studies: one file per experiment of the paper and per question it leaves open; `base` says what a study is."""

from foclip.studies.base import Beside, Finished, Lab, Page, Settings, Study, names, reproduce

__all__ = ["Beside", "Finished", "Lab", "Page", "Settings", "Study", "names", "reproduce"]
