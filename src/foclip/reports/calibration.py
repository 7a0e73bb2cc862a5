"""The report of `foclip calibrate`: ROC, histograms, the τ₁ × τ₂ surface, and the worst misses."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import beta, binomtest

from foclip import __version__, files
from foclip.calibration import Calibration
from foclip.calibration.examples import AS_IT_IS, Example
from foclip.data import images
from foclip.detection.conformal import Calibrated
from foclip.detection.rule import TwoThresholds, in_gray
from foclip.reports.html import figure, picture, render

#: Pictures on the sheet of misses, of each kind.
MISSES = 8
#: Alert budgets: shares of clean pictures that may be called tampered.
BUDGETS = (0.001, 0.002, 0.004, 0.01)
#: Lower ends of the ranges of the rise, in units of the score's floor.
RISES = (0.2, 0.4, 0.8, 1.6, 3.2)
CLEAN, FOOLED = "#555555", "#b3261e"


def summary(calibration: Calibration) -> list[dict[str, Any]]:
    """What each method does on the half that had no part in making it.

    Returns:
        Per method: `method`, `auc`, `threshold` of its statistic, `caught` and `false_alarms` (shares) at that
        threshold with their 95 % intervals (exact binomial), `expected_false_alarms` (95 % interval of the rate that
        one calibration of this size has; None where no bound sets the threshold), `balanced_accuracy`, `clean` and
        `fooled` (counts).
    """
    rows, rule = [], calibration.detector.rule
    for method, part, threshold in _methods(calibration):
        clean, fooled = _statistics(calibration, part)
        caught, alarms = float(np.mean(fooled >= threshold)), float(np.mean(clean >= threshold))
        rows.append(
            {
                "method": method,
                "auc": part.auc,
                "threshold": threshold,
                "caught": caught,
                "caught_interval": _interval(fooled >= threshold),
                "false_alarms": alarms,
                "false_alarms_interval": _interval(clean >= threshold),
                "expected_false_alarms": None if part is rule else expected_rate(part, calibration.detector.fpr),
                "balanced_accuracy": (caught + 1 - alarms) / 2,
                "clean": len(clean),
                "fooled": len(fooled),
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


def _interval(flags: np.ndarray) -> tuple[float, float]:
    found = binomtest(int(flags.sum()), len(flags)).proportion_ci()
    return float(found.low), float(found.high)


def _methods(calibration: Calibration) -> list[tuple[str, Calibrated[Any], float]]:
    """Name, method, and the threshold from which it says tampered."""
    detector = calibration.detector
    bound = f"at most {100 * detector.fpr:g} % false alarms"
    return [
        ("paper's rule, τ₁ and τ₂", detector.rule, 1.0),
        (f"drift alone without prompts, {bound}", detector.drift, _above(detector.drift, detector.fpr)),
        (f"combined, {bound}", detector.combined, _above(detector.combined, detector.fpr)),
        (f"combined without prompts, {bound}", detector.no_prompt, _above(detector.no_prompt, detector.fpr)),
    ]


def _above(part: Calibrated[Any], fpr: float) -> float:
    """The smallest statistic that is tampered: just above the clean one that may not be."""
    return float(np.nextafter(part.threshold(fpr), np.inf))


def _statistics(calibration: Calibration, part: Calibrated[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the held-out clean and fooled pictures."""
    held = [e for e in calibration.examples if e.held_out and e.counts]
    clean, fooled = (np.array([_value(calibration, part, e) for e in held if e.fooled == f]) for f in (False, True))
    return clean, fooled


def _value(calibration: Calibration, part: Calibrated[Any], example: Example) -> float:
    """The statistic of a picture; parts that know no prompts see it without."""
    detector, found = calibration.detector, example.sensitivity
    bare = part is detector.drift or part is detector.no_prompt
    return float(part.statistic.value(found.without_prompts() if bare else found))


def kinds(calibration: Calibration) -> list[dict[str, Any]]:
    """What is caught of each attack scenario, as it is and saved again, on the half that only measures.

    Returns:
        Per kind: `kind`, `pictures`, `rise` (mean, in units of the score's `floor`), `caught` and
        `caught_without_prompts` (shares at the detector's bound).
    """
    fooled = [e for e in calibration.examples if e.fooled and e.held_out and e.counts]
    return [
        _caught(calibration, kind, [e for e in fooled if e.kind == kind])
        for kind in dict.fromkeys(e.kind for e in fooled)
    ]


def rises(calibration: Calibration) -> list[dict[str, Any]]:
    """The same by what the score gained: the rows are ranges of the rise."""
    fooled = [e for e in calibration.examples if e.fooled and e.held_out and e.counts]
    ranges = zip(RISES, (*RISES[1:], np.inf), strict=True)
    rows = [(f"{low:g} to {high:g}", [e for e in fooled if low <= e.rise < high]) for low, high in ranges]
    return [_caught(calibration, name, part) for name, part in rows if part]


def _caught(calibration: Calibration, kind: str, part: Sequence[Example]) -> dict[str, Any]:
    detector = calibration.detector
    shares = [
        float(np.mean([_value(calibration, method, e) >= _above(method, detector.fpr) for e in part]))
        for method in (detector.combined, detector.no_prompt)
    ]
    rise = float(np.mean([e.rise for e in part]))
    caught = {"caught": shares[0], "caught_without_prompts": shares[1]}
    return {"kind": kind, "pictures": len(part), "rise": rise} | caught


def conditions(calibration: Calibration) -> list[dict[str, Any]]:
    """False alarms on clean pictures in each state they come in, on the half that only measures.

    Returns:
        Per state: `state`, `pictures`, `alarms` and `alarms_without_prompts` (shares at the detector's bound).
    """
    clean = [e for e in calibration.examples if not e.fooled and e.held_out]
    rows = []
    for state in dict.fromkeys(e.state for e in clean):
        found = _caught(calibration, state, [e for e in clean if e.state == state])
        alarms = {"alarms": found["caught"], "alarms_without_prompts": found["caught_without_prompts"]}
        rows.append({"state": state, "pictures": found["pictures"]} | alarms)
    return rows


def budgets(calibration: Calibration) -> list[dict[str, Any]]:
    """Caught shares at alert budgets, as far as the number of clean pictures can promise them.

    Returns:
        Per budget: `fpr`, `caught` and its exact 95 % interval, `caught_without_prompts` and its interval.
    """
    detector, rows = calibration.detector, []
    for fpr in BUDGETS:
        if fpr * (detector.combined.distinct + 1) < 1 - 1e-9:
            continue
        row: dict[str, Any] = {"fpr": fpr}
        for name, part in (("caught", detector.combined), ("caught_without_prompts", detector.no_prompt)):
            flags = _statistics(calibration, part)[1] >= _above(part, fpr)
            row |= {name: float(np.mean(flags)), f"{name}_interval": _interval(flags)}
        rows.append(row)
    return rows


def write(path: Path, calibration: Calibration) -> None:
    """Write the report of a calibration as one HTML file."""
    detector = calibration.detector
    rule = detector.rule.statistic
    method, part, threshold = _methods(calibration)[2]
    counted = [e for e in calibration.examples if e.counts and e.state == AS_IT_IS]
    html = render(
        "calibration.html",
        detector=detector,
        rule=rule,
        rows=summary(calibration),
        means=_means(counted),
        kinds=kinds(calibration),
        rises=rises(calibration),
        conditions=conditions(calibration),
        budgets=budgets(calibration),
        roc=figure(_roc(calibration)),
        histograms=figure(_histograms(counted, rule)),
        surface=figure(_surface(calibration, rule)),
        weights=[
            (name, p.statistic.steps[-1].inputs, p.statistic.steps[-1].weight)
            for name, p in (("with prompts", detector.combined), ("without prompts", detector.no_prompt))
        ],
        probes=_probes(calibration),
        misses=_misses(calibration, part, threshold),
        judged_by=method,
        failures=calibration.failures,
        duplicates=calibration.duplicates,
        gray=calibration.gray,
        version=__version__,
    )
    files.write_text(path, html)


def _probes(calibration: Calibration) -> list[tuple[str, list[str], list[float]]]:
    """With prompts and without: the probes in their order, and the share of clean pictures that takes each."""
    detector, rows = calibration.detector, []
    clean = [e.sensitivity for e in calibration.examples if e.held_out and e.counts and not e.fooled]
    for name, part, seen in (
        ("with prompts", detector.combined, clean),
        ("without prompts", detector.no_prompt, [s.without_prompts() for s in clean]),
    ):
        taken, probes = np.array([part.statistic.taken(s) for s in seen]), part.statistic.probes
        rows.append((name, probes, [float(np.mean(taken > place)) for place in range(len(probes))]))
    return rows


def _means(examples: Sequence[Example]) -> list[tuple[str, int, float, float, float]]:
    """Per kind of picture: count, mean score, mean drop, mean drift."""
    rows = []
    for kind, fooled in (("originals", False), ("fooled", True)):
        chosen = [e.sensitivity for e in examples if e.fooled == fooled]
        drops, drifts = in_gray(chosen).T
        score = float(np.mean([s.score or 0.0 for s in chosen]))
        rows.append((kind, len(chosen), score, float(np.mean(drops)), float(np.mean(drifts))))
    return rows


def _roc(calibration: Calibration) -> Figure:
    plot = Figure(figsize=(4.2, 3.6))
    axes = plot.subplots()
    for (name, part, _), color in zip(_methods(calibration), ("#6b6870", "#8f6a52", "#b3261e", "#1a5fb4"), strict=True):
        alarms, caught = zip(*part.roc, strict=True)
        label = f"{name.split(',')[0]} (AUC {part.auc:.3f})"
        axes.plot(alarms, caught, color=color, label=label, drawstyle="steps-post")
    axes.set_xlabel("false alarms")
    axes.set_ylabel("caught")
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return plot


def _histograms(examples: Sequence[Example], rule: TwoThresholds) -> Figure:
    plot = Figure(figsize=(8.4, 2.8))
    for column, (axes, kind) in enumerate(zip(plot.subplots(1, 2), ("drop", "drift"), strict=True)):
        for fooled, color, label in ((False, CLEAN, "originals"), (True, FOOLED, "fooled")):
            values = in_gray([e.sensitivity for e in examples if e.fooled == fooled])[:, column].tolist()
            axes.hist(values, bins=30, color=color, alpha=0.6, label=label, density=True)
        axes.axvline((rule.tau1, rule.tau2)[column], color="black", linewidth=1, linestyle="--")
        axes.set_xlabel(f"{kind} in gray")
        axes.set_yticks([])
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return plot


def _surface(calibration: Calibration, rule: TwoThresholds) -> Figure:
    surface = calibration.sweep
    plot = Figure(figsize=(4.6, 3.6))
    axes = plot.subplots()
    colours: dict[str, Any] = {"cmap": "viridis", "vmin": 0.5, "vmax": 1, "rasterized": True}
    mesh = axes.pcolormesh(surface.tau2, surface.tau1, surface.accuracy, **colours)
    axes.plot(rule.tau2, rule.tau1, "o", color="#b3261e", markeredgecolor="white")
    axes.set_xlabel("τ₂ on drift")
    axes.set_ylabel("τ₁ on drop")
    plot.colorbar(mesh, ax=axes, label="balanced accuracy")
    return plot


def _misses(calibration: Calibration, part: Calibrated[Any], threshold: float) -> list[dict[str, Any]]:
    """Of the wrong verdicts: fooled pictures that look cleanest, and clean pictures that look most fooled."""
    items = []
    for kind, fooled in (("fooled, not caught", True), ("clean, false alarm", False)):
        wrong = []
        for example in calibration.examples:
            value = part.statistic.value(example.sensitivity)
            shown = example.counts and example.held_out and example.state == AS_IT_IS
            if shown and example.fooled == fooled and (value >= threshold) != fooled:
                wrong.append((value, example))
        wrong.sort(key=lambda pair: pair[0], reverse=not fooled)
        for _, example in wrong[:MISSES]:
            found = example.sensitivity
            items.append(
                {
                    "kind": kind,
                    "name": example.path.name,
                    "image": picture(images.read(example.path)),
                    "gray": picture(images.to_gray(images.read(example.path))),
                    "score": found.score,
                    "drop": found.drops["gray"],
                    "drift": found.drifts["gray"],
                }
            )
    return items
