"""Scan whole data sets: every row gets a score and a verdict, or an error that says why not."""

from foclip.scan.parts import Folder
from foclip.scan.run import Settings, scan

__all__ = ["Folder", "Settings", "scan"]
