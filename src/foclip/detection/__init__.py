"""Detection of fooled pictures: sensitivities → rule (τ₁, τ₂) or combined statistic → calibrated detector."""

from foclip.detection.calibrate import Calibration, calibrate
from foclip.detection.combined import Cascade, Logistic
from foclip.detection.detect import Detection, detect
from foclip.detection.detector import By, Calibrated, Detector, Verdict, conformal_threshold, p_value
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.sensitivity import Examination, Sensitivity, Twins, drift, drop, measure
from foclip.detection.threat import AFTERWARDS, CONDITIONS, Cheat, cheats
from foclip.detection.transformations import TRANSFORMATIONS, Transformation, View, transformation
from foclip.detection.twins import twin_scores, twins_of

__all__ = [
    "AFTERWARDS",
    "CONDITIONS",
    "TRANSFORMATIONS",
    "By",
    "Calibrated",
    "Calibration",
    "Cascade",
    "Cheat",
    "Detection",
    "Detector",
    "Examination",
    "Logistic",
    "Sensitivity",
    "Sweep",
    "Transformation",
    "Twins",
    "TwoThresholds",
    "Verdict",
    "View",
    "calibrate",
    "cheats",
    "conformal_threshold",
    "detect",
    "drift",
    "drop",
    "measure",
    "p_value",
    "sweep",
    "transformation",
    "twin_scores",
    "twins_of",
]
