"""From clean pictures to a detector with a bound on false alarms."""

from foclip.calibration.calibrating import Calibration, calibrate
from foclip.calibration.referencing import CleanCalibration, calibrate_on_clean

__all__ = ["Calibration", "CleanCalibration", "calibrate", "calibrate_on_clean"]
