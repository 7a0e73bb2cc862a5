"""Detection of fooled pictures: sensitivities → rule (τ₁, τ₂) or combined statistic → calibrated detector."""

from foclip.detection.calibrate import Calibration, calibrate
from foclip.detection.combined import Logistic
from foclip.detection.detect import Detection, detect
from foclip.detection.detector import By, Calibrated, Detector, Verdict, conformal_threshold, p_value
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.sensitivity import Sensitivity, drift, drop, measure
from foclip.detection.transformations import TRANSFORMATIONS, Transformation, View

__all__ = [
    "TRANSFORMATIONS",
    "By",
    "Calibrated",
    "Calibration",
    "Detection",
    "Detector",
    "Logistic",
    "Sensitivity",
    "Sweep",
    "Transformation",
    "TwoThresholds",
    "Verdict",
    "View",
    "calibrate",
    "conformal_threshold",
    "detect",
    "drift",
    "drop",
    "measure",
    "p_value",
    "sweep",
]
