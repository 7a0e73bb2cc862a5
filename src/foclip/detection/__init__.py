"""Detection of fooled pictures: sensitivities → rule (τ₁, τ₂) or combined statistic → calibrated detector."""

from foclip.detection.cascade import Cascade, Logistic
from foclip.detection.detector import By, Calibrated, Detector, conformal_threshold, p_value
from foclip.detection.hardened import hardened_of, hardened_scores
from foclip.detection.probes import HardenedScores, ProbeSession, Sensitivity, drift, drop, measure
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.scenarios import AFTERWARDS, CONDITIONS, Scenario, scenarios
from foclip.detection.transformations import TRANSFORMATIONS, Transformation, View, transformation
from foclip.detection.verdict import Detection, Verdict

__all__ = [
    "AFTERWARDS",
    "CONDITIONS",
    "TRANSFORMATIONS",
    "By",
    "Calibrated",
    "Cascade",
    "Detection",
    "Detector",
    "HardenedScores",
    "Logistic",
    "ProbeSession",
    "Scenario",
    "Sensitivity",
    "Sweep",
    "Transformation",
    "TwoThresholds",
    "Verdict",
    "View",
    "conformal_threshold",
    "drift",
    "drop",
    "hardened_of",
    "hardened_scores",
    "measure",
    "p_value",
    "scenarios",
    "sweep",
    "transformation",
]
