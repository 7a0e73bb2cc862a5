"""Detection of fooled pictures: sensitivities → rule (τ₁, τ₂) or combined statistic → calibrated detector."""

from foclip.detection.cascade import Cascade, Logistic
from foclip.detection.conformal import Calibrated, Statistic, conformal_threshold, p_value
from foclip.detection.detector import (
    Detection,
    Detector,
    FullDetector,
    Method,
    ReferenceDetector,
    Verdict,
    hardened_of,
    hardened_scores,
)
from foclip.detection.features import Sensitivity, drift, drop
from foclip.detection.probes import HardenedScores, Prober, ProbeSession, measure
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.transformations import TRANSFORMATIONS, Transformation, View, transformation

__all__ = [
    "TRANSFORMATIONS",
    "Calibrated",
    "Cascade",
    "Detection",
    "Detector",
    "FullDetector",
    "HardenedScores",
    "Logistic",
    "Method",
    "ProbeSession",
    "Prober",
    "ReferenceDetector",
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
