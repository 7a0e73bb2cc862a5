"""From clean pictures to a detector with a bound on false alarms."""

from foclip.calibration.calibrating import Calibration, calibrate

__all__ = ["Calibration", "calibrate"]
