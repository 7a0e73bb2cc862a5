"""Detection of fooled pictures: sensitivities → rule (τ₁, τ₂) or combined statistic → calibrated detector."""

from foclip.detection.calibrate import Calibration, calibrate
from foclip.detection.combined import Logistic
from foclip.detection.detector import Calibrated, Detector, Verdict, conformal_threshold, p_value
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.sensitivity import TRANSFORMATIONS, Sensitivity, drift, drop, measure

__all__ = [
    "TRANSFORMATIONS",
    "Calibrated",
    "Calibration",
    "Detector",
    "Logistic",
    "Sensitivity",
    "Sweep",
    "TwoThresholds",
    "Verdict",
    "calibrate",
    "conformal_threshold",
    "drift",
    "drop",
    "measure",
    "p_value",
    "sweep",
]
