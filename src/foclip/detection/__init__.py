"""Detection of fooled pictures: sensitivities → rule (τ₁, τ₂) or combined statistic → calibrated detector."""

from foclip.detection.cascade import Cascade, Logistic
from foclip.detection.conformal import Calibrated, conformal_threshold, p_value
from foclip.detection.detector import Detector, Method
from foclip.detection.features import Sensitivity, drift, drop
from foclip.detection.hardened import hardened_of, hardened_scores
from foclip.detection.probes import HardenedScores, Prober, ProbeSession, measure
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.statistic import Statistic
from foclip.detection.transformations import TRANSFORMATIONS, Transformation, View, transformation
from foclip.detection.verdict import Detection, Verdict

__all__ = [
    "TRANSFORMATIONS",
    "Calibrated",
    "Cascade",
    "Detection",
    "Detector",
    "HardenedScores",
    "Logistic",
    "Method",
    "ProbeSession",
    "Prober",
    "Sensitivity",
    "Statistic",
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
    "sweep",
    "transformation",
]
