"""Scan whole data sets: every row gets a score and a verdict, or an error that says why not."""

from foclip.scanning.parts import Folder
from foclip.scanning.scanner import Settings, scan

__all__ = ["Folder", "Settings", "scan"]
