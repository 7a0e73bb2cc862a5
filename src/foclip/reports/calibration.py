"""The report of `foclip calibrate`: ROC, histograms, the τ₁ × τ₂ surface, and the worst misses."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from scipy.stats import beta, binomtest

from foclip.calibration import Calibration
from foclip.calibration.examples import AS_IT_IS, Example
from foclip.data import images
from foclip.detection import FullDetector
from foclip.detection.conformal import Calibrated
from foclip.detection.rule import TwoThresholds, in_gray
from foclip.reports import drawing, html

#: Pictures on the sheet of misses, of each kind.
MISSES = 8
#: Alert budgets: shares of clean pictures that may be called tampered.
BUDGETS = (0.001, 0.002, 0.004, 0.01)
#: Ends of the ranges of the rise, in units of the score's floor.
RISES = (0.2, 0.4, 0.8, 1.6, 3.2, math.inf)
#: The combined methods, and what the report calls their shares.
COMBINED = {"combined": "caught", "no_prompt": "caught_without_prompts"}


def summary(calibration: Calibration) -> list[dict[str, Any]]:
    """What each method does on the half that had no part in making it.

    A row has `method`, `auc`, `threshold` of its statistic, `caught` and `false_alarms` (shares) at that threshold with
    their 95 % intervals (exact binomial), `expected_false_alarms` (95 % interval of the rate that one calibration of
    this size has; None where no bound sets the threshold), `balanced_accuracy`, `clean` and `fooled` (counts).
    """
    rows, detector, measured = [], calibration.detector, _measured(calibration)
    counted = measured[measured.counts]
    for name, (words, threshold) in _methods(detector).items():
        caught, alarms = ((counted[name] >= threshold)[counted.fooled == fooled] for fooled in (True, False))
        part = getattr(detector, name)
        rows.append(
            {
                "method": words,
                "auc": part.auc,
                "threshold": threshold,
                "caught": float(caught.mean()),
                "caught_interval": _interval(caught),
                "false_alarms": float(alarms.mean()),
                "false_alarms_interval": _interval(alarms),
                "expected_false_alarms": None if name == "rule" else expected_rate(part, detector.fpr),
                "balanced_accuracy": (float(caught.mean()) + 1 - float(alarms.mean())) / 2,
                "clean": len(alarms),
                "fooled": len(caught),
            }
        )
    return rows


def expected_rate(part: Calibrated[Any], fpr: float) -> tuple[float, float]:
    """The false-alarm rate to expect at a bound: 95 % interval over all pictures that might have been drawn as clean.

    The bound holds on average over calibrations. One calibration has n clean pictures, of which the k = ⌊α (n + 1)⌋
    most suspicious set the threshold, and a rate that is Beta(k, n + 1 - k) distributed (Angelopoulos and Bates,
    arXiv 2107.07511, section 3.2), or lower where another kind of pictures sets the threshold.
    """
    promised = fpr * (len(part.clean) + 1) >= 1 - 1e-9
    count = len(part.clean) if promised else part.distinct
    k = math.floor(fpr * (count + 1) + 1e-9)
    low, high = beta.ppf([0.025, 0.975], k, count + 1 - k)
    return float(low), float(high)


def _interval(flags: pd.Series) -> tuple[float, float]:
    found = binomtest(int(flags.sum()), len(flags)).proportion_ci()
    return float(found.low), float(found.high)


def _methods(detector: FullDetector) -> dict[str, tuple[str, float]]:
    """By the method's attribute of the detector: what it is called, and the threshold from which it says tampered."""
    bound = f"at most {100 * detector.fpr:g} % false alarms"
    return {
        "rule": ("paper's rule, τ₁ and τ₂", 1.0),
        "drift": (f"drift alone without prompts, {bound}", _above(detector.drift, detector.fpr)),
        "combined": (f"combined, {bound}", _above(detector.combined, detector.fpr)),
        "no_prompt": (f"combined without prompts, {bound}", _above(detector.no_prompt, detector.fpr)),
    }


def _above(part: Calibrated[Any], fpr: float) -> float:
    """The smallest statistic that is tampered: just above the clean one that may not be."""
    return float(np.nextafter(part.threshold(fpr), np.inf))


def _measured(calibration: Calibration) -> pd.DataFrame:
    """Pictures of the half that only measures: what they are, whether they count, their statistics and verdicts."""
    detector, rows = calibration.detector, []
    for e in calibration.examples:
        if e.held_out:
            whole, bare = e.sensitivity, e.sensitivity.without_prompts()
            row = {"example": e} | {name: getattr(e, name) for name in ("kind", "state", "rise", "fooled", "counts")}
            row |= {name: getattr(detector, name).statistic.value(whole) for name in ("rule", "combined")}
            rows.append(row | {name: getattr(detector, name).statistic.value(bare) for name in ("drift", "no_prompt")})
    found, methods = pd.DataFrame(rows), _methods(detector)
    return found.assign(**{words: found[name] >= methods[name][1] for name, words in COMBINED.items()})


def _shares(kinds: Any) -> list[dict[str, Any]]:
    """Per group of pictures: their number, mean rise in units of the score's floor, and shares called tampered."""
    found = kinds[["rise", *COMBINED.values()]].mean().assign(pictures=kinds.size())
    rows: list[dict[str, Any]] = found.rename_axis("kind").reset_index().to_dict("records")
    return rows


def _budgets(detector: FullDetector, fooled: pd.DataFrame) -> list[dict[str, Any]]:
    """Caught shares with exact 95 % intervals at alert budgets, as far as there are clean pictures to promise them."""
    rows = []
    for fpr in BUDGETS:
        if fpr * (detector.combined.distinct + 1) >= 1 - 1e-9:
            row: dict[str, Any] = {"fpr": fpr}
            for name, words in COMBINED.items():
                flags = fooled[name] >= _above(getattr(detector, name), fpr)
                row |= {words: flags.mean(), f"{words}_interval": _interval(flags)}
            rows.append(row)
    return rows


def write(path: Path, calibration: Calibration) -> None:
    """Write the report of a calibration as one HTML file."""
    detector, measured = calibration.detector, _measured(calibration)
    rule = detector.rule.statistic
    counted = [e for e in calibration.examples if e.counts and e.state == AS_IT_IS]
    fooled = measured[measured.fooled & measured.counts]
    ranges = [f"{low:g} to {high:g}" for low, high in pairwise(RISES)]
    rises = fooled.groupby(pd.cut(fooled.rise, RISES, right=False, labels=ranges), observed=True)
    combined = {"with prompts": detector.combined.statistic, "without prompts": detector.no_prompt.statistic}
    html.write(
        path,
        "calibration.html",
        detector=detector,
        rule=rule,
        rows=summary(calibration),
        means=_means(counted),
        kinds=_shares(fooled.groupby("kind", sort=False)),
        rises=_shares(rises),
        conditions=_shares(measured[~measured.fooled].groupby("state", sort=False)),
        budgets=_budgets(detector, fooled),
        roc=_roc(detector),
        histograms=_histograms(counted, rule),
        surface=drawing.svg(drawing.surface(calibration.sweep, rule)),
        weights=[(name, each.steps[-1].inputs, each.steps[-1].weight) for name, each in combined.items()],
        probes=_probes(detector, measured[measured.counts & ~measured.fooled].example),
        misses=_misses(measured[measured.counts & (measured.state == AS_IT_IS)]),
        judged_by=_methods(detector)["combined"][0],
        calibration=calibration,
    )


def _probes(detector: FullDetector, clean: Sequence[Example]) -> list[tuple[str, list[str], list[float]]]:
    """With prompts and without: the probes in their order, and the share of clean pictures that takes each."""
    rows = []
    for name, part, seen in (
        ("with prompts", detector.combined.statistic, [e.sensitivity for e in clean]),
        ("without prompts", detector.no_prompt.statistic, [e.sensitivity.without_prompts() for e in clean]),
    ):
        taken = np.array([part.taken(s) for s in seen])
        rows.append((name, part.probes, [float(np.mean(taken > place)) for place in range(len(part.probes))]))
    return rows


def _means(examples: Sequence[Example]) -> list[tuple[str, int, float, float, float]]:
    """Per kind of picture: count, mean score, mean drop, mean drift."""
    rows = []
    for kind, fooled in (("originals", False), ("fooled", True)):
        chosen = [e.sensitivity for e in examples if e.fooled == fooled]
        drop, drift = in_gray(chosen).mean(axis=0).tolist()
        rows.append((kind, len(chosen), float(np.mean([s.score or 0.0 for s in chosen])), drop, drift))
    return rows


def _roc(detector: FullDetector) -> Markup:
    plot, axes = drawing.axes_of(4.2, 3.6, "false alarms", "caught")
    colors = ("#6b6870", "#8f6a52", "#b3261e", "#1a5fb4")
    for (name, (words, _)), color in zip(_methods(detector).items(), colors, strict=True):
        part = getattr(detector, name)
        alarms, caught = zip(*part.roc, strict=True)
        label = f"{words.split(',')[0]} (AUC {part.auc:.3f})"
        axes.plot(alarms, caught, color=color, label=label, drawstyle="steps-post")
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return drawing.svg(plot)


def _histograms(examples: Sequence[Example], rule: TwoThresholds) -> Markup:
    plot = Figure(figsize=(8.4, 2.8))
    for column, (axes, kind) in enumerate(zip(plot.subplots(1, 2), ("drop", "drift"), strict=True)):
        for fooled, color, label in ((False, drawing.CLEAN, "originals"), (True, drawing.FOOLED, "fooled")):
            values = in_gray([e.sensitivity for e in examples if e.fooled == fooled])[:, column].tolist()
            axes.hist(values, bins=30, color=color, alpha=0.6, label=label, density=True)
        axes.axvline((rule.tau1, rule.tau2)[column], color="black", linewidth=1, linestyle="--")
        axes.set_yticks([])
        drawing.tidy(axes, f"{kind} in gray", legend=8)
    return drawing.svg(plot)


def _misses(measured: pd.DataFrame) -> list[dict[str, Any]]:
    """Of the wrong verdicts: fooled pictures that look cleanest, and clean pictures that look most fooled."""
    items = []
    for kind, fooled in (("fooled, not caught", True), ("clean, false alarm", False)):
        wrong = measured[(measured.fooled == fooled) & (measured.caught != fooled)]
        for example in wrong.sort_values("combined", ascending=fooled, kind="stable").example[:MISSES]:
            image = images.read(example.path)
            shown = {"image": html.picture(image), "gray": html.picture(images.to_gray(image))}
            items.append({"kind": kind, "example": example} | shown)
    return items
