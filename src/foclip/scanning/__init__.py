"""Scan whole data sets: every row gets a score and a verdict, or an error that says why not."""

from foclip.scanning.mapper import detector_of
from foclip.scanning.output import Folder
from foclip.scanning.scanner import Settings, scan

__all__ = ["Folder", "Settings", "detector_of", "scan"]
