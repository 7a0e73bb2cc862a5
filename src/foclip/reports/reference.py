"""The report of `foclip calibrate` without `--full`: what clean pictures promise, and which of them look odd."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foclip.calibration import CleanCalibration
from foclip.calibration.examples import AS_IT_IS, Example
from foclip.data import images
from foclip.detection.universal import Reference
from foclip.errors import ImageError
from foclip.reports import html
from foclip.reports.calibration import expected_rate

#: Clean pictures on the page that look most suspicious.
SHOWN = 8
#: Methods by what a verdict calls them, and the attribute of the detector.
METHODS = {"combined": "with_prompts", "combined without prompts": "without_prompts"}


def summary(calibration: CleanCalibration) -> list[dict[str, Any]]:
    """A row for each method, as `foclip.reports.calibration.summary`; what takes fooled pictures is None.

    `false_alarms` is the share of clean pictures, as they are, that would be called tampered if they were judged among
    the others.
    """
    detector, rows = calibration.detector, []
    for method, name in METHODS.items():
        alarms = alarm_rates(calibration, name)[AS_IT_IS]
        rows.append(
            {
                "method": f"{method}, at most {100 * detector.fpr:g} % false alarms",
                **dict.fromkeys(("auc", "threshold", "caught", "caught_interval", "balanced_accuracy")),
                "false_alarms": alarms,
                "expected_false_alarms": expected_rate(getattr(detector, name), detector.fpr),
                "clean": len(getattr(detector, name).clean),
                "fooled": 0,
            }
        )
    return rows


def table(calibration: CleanCalibration) -> list[tuple[str, ...]]:
    """Of each state and kind of clean pictures: their number, and false alarms with prompts and without, as text."""
    counts: dict[str, int] = {}
    for example in calibration.examples:
        counts[example.kind] = counts.get(example.kind, 0) + 1
    both = [alarm_rates(calibration, name) for name in METHODS.values()]
    return [(kind, str(count), *(f"{100 * rates[kind]:.1f} %" for rates in both)) for kind, count in counts.items()]


def alarm_rates(calibration: CleanCalibration, name: str) -> dict[str, float]:
    """By kind the share of clean pictures that are called tampered among the others that are as they were."""
    alarms: dict[str, list[bool]] = {}
    for example, p in zip(calibration.examples, p_values(calibration, name), strict=True):
        alarms.setdefault(example.kind, []).append(p <= calibration.detector.fpr)
    return {kind: sum(each) / len(each) for kind, each in alarms.items()}


def p_values(calibration: CleanCalibration, name: str) -> list[float]:
    """The rank of each example among the other clean pictures as they are."""
    part: Reference = getattr(calibration.detector, name)
    alone = replace(part, states=[], background={})
    found, place = [], 0
    for example in calibration.examples:
        if example.kind == AS_IT_IS:
            others = replace(alone, clean=[*part.clean[:place], *part.clean[place + 1 :]])
            place += 1
        else:
            others = alone
        told = example.sensitivity if name == "with_prompts" else example.sensitivity.without_prompts()
        found.append(others.ranked(told).p_value)
    return found


def write(path: Path, calibration: CleanCalibration) -> None:
    """Write the report as one HTML file."""
    ranks = zip(calibration.examples, p_values(calibration, "with_prompts"), strict=True)
    odd = sorted(((e, p) for e, p in ranks if e.kind == AS_IT_IS), key=lambda pair: pair[1])[:SHOWN]
    html.write(
        path,
        "reference.html",
        calibration=calibration,
        detector=calibration.detector,
        rows=summary(calibration),
        kinds=table(calibration),
        odd=list(_shown(odd)),
    )


def _shown(odd: Sequence[tuple[Example, float]]) -> list[dict[str, Any]]:
    items = []
    for example, p in odd:
        try:
            items.append({"image": html.picture(images.read(example.path)), "name": example.path.name, "p": p})
        except ImageError:  # gone since
            continue
    return items
