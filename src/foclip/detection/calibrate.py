"""Calibration: from a folder of clean pictures to a detector with a bound on false alarms.

The pictures are split at random. One half makes the statistics: it is fooled, τ₁, τ₂
and the logistic regression are chosen on it. The other half only measures: its
clean pictures give the p-values, and with its fooled ones the ROC.
"""

import hashlib
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from foclip import fooling, images
from foclip.attacks import Attack, FoCLIP, objective
from foclip.captions import PromptsOf, pair
from foclip.detection import combined
from foclip.detection.combined import Logistic
from foclip.detection.detector import Calibrated, Detector
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.sensitivity import Sensitivity, feature_names, measure
from foclip.encoders import Encoder
from foclip.errors import UsageError
from foclip.outcome import Advance, Failure, Track, silent
from foclip.prompts import ARTWORKS
from foclip.scores import DEFAULT, EncoderScore, Prompts, resolve

#: Transformations the combined detector looks at.
LOOKS = ("gray", "blur", "jpeg")
#: Least pictures that are worth fitting anything on.
LEAST = 20
#: Side of the thumbnails by which duplicates are told, and their root mean squared difference in 8-bit levels.
THUMBNAIL, SAME_PICTURE = 16, 2.0
#: Pictures measured at a time.
CHUNK = 32


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
        duplicates: Clean pictures left out, since they are others' copies.
        gray: Clean pictures left out, since they have no colour.
    """

    detector: Detector
    examples: list[Example]
    sweep: Sweep
    failures: list[Failure]
    duplicates: int = 0
    gray: int = 0


def calibrate(
    clean: Sequence[str | Path],
    prompts: PromptsOf = None,
    work: str | Path = "calibration",
    *,
    model: str | Encoder | EncoderScore = "mini",
    score: str = DEFAULT,
    attack: Attack | None = None,
    fpr: float = 0.01,
    captions: str | Path | None = None,
    fooled: int = 120,
    name: str = "detector",
    track: Track = silent,
) -> Calibration:
    """Calibrate a detector on clean pictures, fooling some of them.

    Args:
        clean: Files of clean pictures, or folders of them; those without colour are left out.
        prompts: What they are measured and fooled with: for all, a list of prompts or the name of a set, or one list
            per picture; None for the score's own, or the ten artworks.
        work: Folder for the fooled pictures; called again, it goes on there, or fools nothing again.
        model: An encoder, its name, or a score over one.
        score: Name of the score, unless `model` is one.
        attack: The attack to be caught; None for FoCLIP, 300 steps within 35 dB.
        fpr: Bound on false alarms.
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.captions`).
        fooled: How many pictures to fool at most.
        name: The detector's name.
        track: Progress.

    Raises:
        UsageError: Too few pictures, or too few to promise `fpr`.
        FoclipError: Prompts, model or score are unusable.
    """
    if not 0 < fpr < 1:
        raise UsageError(f"fpr: {fpr} is not in (0, 1)")
    chosen = resolve(model, score)
    attack = attack or FoCLIP(objective=objective(temperature=chosen.temperature), steps=300, min_psnr=fooling.MIN_PSNR)
    for path in map(Path, clean):
        if not os.path.lexists(path):
            raise UsageError(f"clean: {path}: no such file or folder")
    failures: list[Failure] = []
    sources, own = pair(clean, prompts, captions, chosen.prompts or ARTWORKS, failures, besides=Path(work))
    entries = [(Path(str(path)), asked) for path, asked in zip(sources, own, strict=True)]
    random.Random(0).shuffle(entries)  # noqa: S311 (a choice, not a secret)
    captionless = len(failures)
    found = _distinct(entries, failures, track("reading clean pictures", len(entries)))
    duplicates = len(entries) - len(found) - (len(failures) - captionless)
    _check_enough(len(found), fpr, duplicates)
    untouched = _measure(found, False, chosen, failures, track("measuring clean pictures", len(found)))
    _check_enough(len(untouched), fpr, duplicates)
    victims = untouched[:fooled]
    results = fooling.fool(
        [example.path for example in victims],
        [example.prompts for example in victims],
        work,
        model=chosen,
        attack=attack,
        track=track,
    )
    outputs = [(Path(result.output), tuple(result.prompts)) for result in results]
    tampered = _measure(outputs, True, chosen, failures, track("measuring fooled pictures", len(outputs)))

    detector, surface = make(untouched + tampered, chosen, attack, fpr, name)
    gray = len(found) - len(untouched)
    return Calibration(detector, untouched + tampered, surface, failures, duplicates, gray)


def make(
    examples: Sequence[Example], score: EncoderScore, attack: Attack, fpr: float, name: str
) -> tuple[Detector, Sweep]:
    """A detector from measured pictures, and the accuracy over τ₁ × τ₂ that its rule was chosen by.

    Args:
        examples: Clean and fooled pictures, measured with `LOOKS`; those held out calibrate, the others fit.
        score: The score they were measured with.
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
    combined_with, combined_without = (
        combined.fit(fit_clean, fit_fooled, feature_names(LOOKS, with_prompts)) for with_prompts in (True, False)
    )
    rule = _calibrated(surface.best(), held_clean, held_fooled)
    drift = _calibrated(surface.best(), *(([replace(s, drops={}) for s in part]) for part in (held_clean, held_fooled)))
    with_prompts = _calibrated(combined_with, held_clean, held_fooled)
    without = _calibrated(combined_without, held_clean, held_fooled)
    provenance = {
        "clean": sum(not example.fooled for example in examples),
        "fooled": sum(example.fooled for example in examples),
        "prompts": _describe({example.prompts for example in examples if not example.fooled}),
        "attack": attack.config(),
        "versions": {package: version(package) for package in ("foclip", "torch", "open_clip_torch", "scikit-learn")},
    }
    encoder = score.encoder
    detector = Detector(
        name, score.name, encoder.name, encoder.fingerprint, fpr, rule, drift, with_prompts, without, provenance
    )
    return detector, surface


def _describe(prompt_sets: set[tuple[str, ...]]) -> list[str] | dict[str, Any]:
    """One prompt set as it is; of several, how many there were and a digest of them."""
    if len(prompt_sets) == 1:
        return list(next(iter(prompt_sets)))
    sizes = [len(prompts) for prompts in prompt_sets]
    digest = hashlib.sha256(repr(sorted(prompt_sets)).encode()).hexdigest()
    return {"sets": len(prompt_sets), "fewest": min(sizes), "most": max(sizes), "sha256": digest}


def _check_enough(pictures: int, fpr: float, duplicates: int = 0) -> None:
    """Enough to fit on, and enough in the other half to promise `fpr`."""
    besides = f"; {duplicates} duplicates of others do not count" if duplicates else ""
    if pictures < LEAST:
        raise UsageError(f"clean: {pictures} colour pictures are too few, give at least {LEAST}{besides}")
    needed = math.ceil(1 / fpr - 1e-9) - 1
    if pictures // 2 < needed:
        raise UsageError(
            f"fpr: {pictures} clean pictures, half of which measure, cannot promise {fpr:g}; that takes {2 * needed} "
            f"(the least they can promise is {1 / (pictures // 2 + 1):.3g}){besides}"
        )


def _distinct(
    entries: Sequence[tuple[Path, Prompts]], failures: list[Failure], report: Advance
) -> list[tuple[Path, Prompts]]:
    """The files that can be read, without those of a picture seen before: encoded anew or resized, it counts once.

    Copies would stand on both sides of the split, and void the bound: a copy of a clean picture is not
    exchangeable with others.
    """
    kept: list[tuple[Path, Prompts]] = []
    seen = np.empty((len(entries), 3 * THUMBNAIL**2), dtype=np.float32)
    for place, picture in images.readable([path for path, _ in entries], failures):
        small = np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float32).ravel()
        if not np.any(np.square(seen[: len(kept)] - small).mean(axis=1) < SAME_PICTURE**2):
            seen[len(kept)] = small
            kept.append(entries[place])
        report(place + 1)
    return kept


def _measure(
    entries: Sequence[tuple[Path, Prompts]],
    fooled: bool,
    score: EncoderScore,
    failures: list[Failure],
    report: Advance,
) -> list[Example]:
    """Pictures of files, measured, gray ones among the clean left out; every other one is held out."""
    examples: list[Example] = []
    for first in range(0, len(entries), CHUNK):
        chunk = entries[first : first + CHUNK]
        readable = [(*chunk[place], picture) for place, picture in images.readable([p for p, _ in chunk], failures)]
        found = measure(score, [picture for *_, picture in readable], [own for _, own, _ in readable], LOOKS)
        for (path, own, _), sensitivity in zip(readable, found, strict=True):
            if fooled or not sensitivity.gray_already:
                examples.append(Example(path, own, fooled, len(examples) % 2 == 1, sensitivity))
        report(first + len(chunk))
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
