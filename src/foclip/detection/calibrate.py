"""Calibration: from a folder of clean pictures to a detector with a bound on false alarms.

The pictures are split at random. One half makes the statistics: it is fooled, τ₁, τ₂
and the logistic regression are chosen on it. The other half only measures: its
clean pictures give the p-values, and with its fooled ones the ROC.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from foclip import fooling, images
from foclip.attacks import Attack
from foclip.detection import combined
from foclip.detection.combined import Logistic
from foclip.detection.detector import Calibrated, Detector, conformal_threshold
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.sensitivity import Sensitivity, feature_names, measure
from foclip.encoders import Encoder
from foclip.errors import ImageError, UsageError
from foclip.fooling import Failure

#: Transformations the combined detector looks at.
LOOKS = ("gray", "blur", "jpeg")
#: Least pictures that are worth fitting anything on.
LEAST = 20
#: Pictures measured at a time.
CHUNK = 32


#: Called with a text and a total, gives what to call with the number done so far.
Track = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Example:
    """One picture of the calibration.

    Attributes:
        path: Its file.
        prompts: The prompts it was measured with.
        fooled: Whether it was fooled.
        held_out: Whether it belongs to the half that only measures.
        sensitivity: What was measured.
    """

    path: Path
    prompts: tuple[str, ...]
    fooled: bool
    held_out: bool
    sensitivity: Sensitivity


@dataclass(frozen=True)
class Calibration:
    """A detector and what it was made from.

    Attributes:
        detector: The detector.
        examples: Every picture measured.
        sweep: Accuracy over τ₁ × τ₂ on the half that made the rule.
        failures: Pictures that could not be read.
    """

    detector: Detector
    examples: list[Example]
    sweep: Sweep
    failures: list[Failure]


def calibrate(
    clean: Sequence[Path],
    prompts: Sequence[Sequence[str]],
    encoder: Encoder,
    attack: Attack,
    fpr: float,
    work: Path,
    fooled: int = 120,
    name: str = "detector",
    track: Track = lambda text, total: lambda done: None,
) -> Calibration:
    """Calibrate a detector on clean pictures, fooling some of them.

    Args:
        clean: Files of clean pictures; those without colour are left out.
        prompts: Prompts of each; what it is measured and fooled with.
        encoder: The encoder.
        attack: The attack to be caught.
        fpr: Bound on false alarms.
        work: Folder for the fooled pictures; a run that was cut off goes on there.
        fooled: How many pictures to fool at most.
        name: The detector's name.
        track: Progress.

    Raises:
        UsageError: Too few pictures, or too few to promise `fpr`.
    """
    entries = [(path, tuple(own)) for path, own in zip(clean, prompts, strict=True)]
    random.Random(0).shuffle(entries)  # noqa: S311 (a choice, not a secret)
    _check_enough(len(entries), fpr)
    failures: list[Failure] = []
    untouched = _measure(entries, False, encoder, failures, track("measuring clean pictures", len(entries)))
    _check_enough(len(untouched), fpr)
    sources = untouched[:fooled]
    report, done = track("fooling pictures", len(sources)), count(1)
    results, _ = fooling.fool(
        [example.path for example in sources],
        work,
        encoder,
        [example.prompts for example in sources],
        attack,
        on_result=lambda _: report(next(done)),
    )
    outputs = [(Path(result.output), tuple(result.prompts)) for result in results]
    tampered = _measure(outputs, True, encoder, failures, track("measuring fooled pictures", len(outputs)))

    detector, surface = make(untouched + tampered, encoder, attack, fpr, name)
    return Calibration(detector, untouched + tampered, surface, failures)


def make(
    examples: Sequence[Example], encoder: Encoder, attack: Attack, fpr: float, name: str
) -> tuple[Detector, Sweep]:
    """A detector from measured pictures, and the accuracy over τ₁ × τ₂ that its rule was chosen by.

    Args:
        examples: Clean and fooled pictures, measured with `LOOKS`; those held out calibrate, the others fit.
        encoder: The encoder they were measured with.
        attack: The attack that fooled some of them.
        fpr: Bound on false alarms.
        name: The detector's name.
    """
    fit_clean, held_clean, fit_fooled, held_fooled = (
        [e.sensitivity for e in examples if e.fooled == fooled and e.held_out == held_out]
        for fooled in (False, True)
        for held_out in (False, True)
    )
    surface = sweep(fit_clean, fit_fooled)
    rule, with_prompts, without = (
        _calibrated(statistic, held_clean, held_fooled)
        for statistic in (
            surface.best(),
            combined.fit(fit_clean, fit_fooled, feature_names(LOOKS, with_prompts=True)),
            combined.fit(fit_clean, fit_fooled, feature_names(LOOKS, with_prompts=False)),
        )
    )
    provenance = {
        "clean": sum(not example.fooled for example in examples),
        "fooled": sum(example.fooled for example in examples),
        "prompts": _describe({example.prompts for example in examples if not example.fooled}),
        "attack": attack.config(),
        "versions": {package: version(package) for package in ("foclip", "torch", "open_clip_torch", "scikit-learn")},
    }
    return Detector(name, encoder.name, encoder.fingerprint, fpr, rule, with_prompts, without, provenance), surface


def _describe(prompt_sets: set[tuple[str, ...]]) -> list[str] | dict[str, Any]:
    """One prompt set as it is; of several, how many there were and a digest of them."""
    if len(prompt_sets) == 1:
        return list(next(iter(prompt_sets)))
    sizes = [len(prompts) for prompts in prompt_sets]
    digest = hashlib.sha256(repr(sorted(prompt_sets)).encode()).hexdigest()
    return {"sets": len(prompt_sets), "fewest": min(sizes), "most": max(sizes), "sha256": digest}


def _check_enough(pictures: int, fpr: float) -> None:
    """Enough to fit on, and enough in the other half to promise `fpr`."""
    if pictures < LEAST:
        raise UsageError(f"--clean: {pictures} colour pictures are too few to calibrate on; give at least {LEAST}")
    conformal_threshold([0.0] * (pictures // 2), fpr)


def _measure(
    entries: Sequence[tuple[Path, tuple[str, ...]]],
    fooled: bool,
    encoder: Encoder,
    failures: list[Failure],
    report: Callable[[int], None],
) -> list[Example]:
    """The colour pictures among files, measured; every other one is held out."""
    texts = {own: encoder.encode_texts(own) for own in dict.fromkeys(own for _, own in entries)}
    examples: list[Example] = []
    for first in range(0, len(entries), CHUNK):
        readable = []
        for path, own in entries[first : first + CHUNK]:
            try:
                readable.append((path, own, images.read(path)))
            except ImageError as error:
                failures.append(Failure(str(path), str(error)))
        found = measure(encoder, [picture for *_, picture in readable], [texts[own] for _, own, _ in readable], LOOKS)
        for (path, own, _), sensitivity in zip(readable, found, strict=True):
            if fooled or not sensitivity.gray_already:
                examples.append(Example(path, own, fooled, len(examples) % 2 == 1, sensitivity))
        report(min(first + CHUNK, len(entries)))
    return examples


def _calibrated(
    statistic: TwoThresholds | Logistic, clean: Sequence[Sensitivity], fooled: Sequence[Sensitivity]
) -> Calibrated:
    negatives, positives = ([statistic.statistic(s) for s in part] for part in (clean, fooled))
    truth = np.arange(len(negatives) + len(positives)) >= len(negatives)
    values = np.array(negatives + positives)
    alarms, caught, _ = roc_curve(truth, values)
    points = np.stack([alarms, caught], axis=1).round(5).tolist()
    return Calibrated(statistic, sorted(negatives), float(roc_auc_score(truth, values)), points)
