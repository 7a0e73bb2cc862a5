"""Calibration: from a folder of clean pictures to a detector with a bound on false alarms.

The pictures are split at random. One half makes the statistics: it is fooled by every cheat of the threat model
(`foclip.detection.scenarios`), and τ₁, τ₂ and the cascade are chosen on it. The other half only measures: its
clean pictures give the p-values, and with its fooled ones the ROC.
"""

import hashlib
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from foclip.calibration.examples import AS_IT_IS, Bench, Example, fool
from foclip.data import images
from foclip.data.captions import PromptsOf, pair
from foclip.data.prompts import ARTWORKS
from foclip.detection.cascade import Cascade, fit
from foclip.detection.detector import Calibrated, Detector
from foclip.detection.hardened import hardened_scores
from foclip.detection.probes import NO_HARDENED, HardenedScores, feature_names
from foclip.detection.rule import Sweep, TwoThresholds, sweep
from foclip.detection.scenarios import BLATANT, CONDITIONS, CROPPED
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.scores import DEFAULT, EmbeddingScore, Prompts, resolve
from foclip.outcome import Advance, Failure, Progress, no_progress

#: Share of each kind of fooled pictures that a probe of the cascade keeps in doubt, …
KEEP = 0.98
#: … as long as no more clean pictures than this stay in doubt after the first probe, the second, and all others. Less
#: would cost less, and would let out early who knows the detector, before probes whose amounts are drawn.
IN_DOUBT = (0.4, 0.25, 0.2)
#: Level of the score below which nothing can have been gained that is worth a probe, at most.
WORTH = 0.8
#: Rise in units of `floor` (CLIPScore: 0.2) that a cheat saved again must still have for the cascade to care.
STILL_PAYS = 0.8
#: Least pictures that are worth fitting anything on.
LEAST = 20
#: Side of the thumbnails by which duplicates are told, and their root mean squared difference in 8-bit levels.
THUMBNAIL, SAME_PICTURE = 16, 2.0


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
    model: str | Encoder | EmbeddingScore = "mini",
    score: str = DEFAULT,
    steps: int = 60,
    fpr: float = 0.01,
    captions: str | Path | None = None,
    own: Sequence[str] | None = None,
    fooled: int = 240,
    background: Sequence[str | Path] = (),
    twins: Sequence[str | Encoder] = (),
    name: str = "detector",
    progress: Progress = no_progress,
) -> Calibration:
    """Calibrate a detector on clean pictures, fooling them by every cheat of the threat model in turn.

    Args:
        clean: Files of clean pictures, or folders of them; those without colour are left out.
        prompts: What they are scored with: for all, a list of prompts or the name of a set, or one list
            per picture; None for the score's own, or the ten artworks.
        work: Folder for the fooled pictures; called again, it goes on there, or fools nothing again.
        model: An encoder, its name, or a score over one.
        score: Name of the score, unless `model` is one.
        steps: Updates per fooled picture; in all `fooled` · `steps` steps of the attack.
        fpr: Bound on false alarms.
        captions: Instead of prompts, a file of captions, or "sidecar" (`foclip.data.captions`).
        own: The own caption of each of `clean` and `background`, beside `prompts`; None for `captions`, or else for
            the one that fits best of a thousand.
        fooled: How many fooled pictures to make; with more than there are clean ones, these are fooled again otherwise.
        background: Further clean pictures, measured but not fooled, those of a folder being of one kind: for each kind
            the bound holds, too, and with more of them a lower `fpr` can be promised.
        twins: The hardened twins of the encoder, or their names, as further probes; by default those that come with it.
        name: The detector's name.
        progress: Progress.

    Raises:
        UsageError: Too few pictures, or too few to promise `fpr`.
        FoclipError: Prompts, model or score are unusable.
    """
    if not 0 < fpr < 1:
        raise UsageError(f"fpr: {fpr} is not in (0, 1)")
    chosen = resolve(model, score)
    through = hardened_scores(chosen, twins)
    for path in map(Path, [*clean, *background]):
        if not os.path.lexists(path):
            raise UsageError(f"clean: {path}: no such file or folder")
    failures: list[Failure] = []
    everything, defaults = [*clean, *background], chosen.prompts or ARTWORKS
    sources, given = pair(everything, prompts, captions, defaults, failures, besides=Path(work))
    known = dict(zip(map(str, everything), own, strict=True)) if own else {}
    entries = [(Path(str(path)), asked) for path, asked in zip(sources, given, strict=True)]
    random.Random(0).shuffle(entries)  # noqa: S311 (a choice, not a secret)
    captionless = len(failures)
    found = _distinct(entries, failures, progress("reading clean pictures", len(entries)))
    duplicates = len(entries) - len(found) - (len(failures) - captionless)
    _check_enough(len(found), fpr, duplicates)
    bench = Bench(chosen, through, failures)
    caption = known if known else {str(path): asked[0] for path, asked in found} if captions else bench.guesses(found)
    # Every other picture of either half is scored with its own caption: that is the score that it pays to cheat.
    asked = [(path, (caption[str(path)],) if i // 2 % 2 else given) for i, (path, given) in enumerate(found)]
    seen = bench.clean(asked, progress("measuring clean pictures", len(asked)))
    _check_enough(len(seen), fpr, duplicates)
    gray = len(found) - len(seen)
    kinds = _kinds(images.find(list(background)))
    seen = [replace(e, background=kinds.get(e.path, "")) for e in seen]
    victims = [e for e in seen if not e.background]
    seen += bench.conditions(victims, progress("measuring them in other states", len(victims) * len(CONDITIONS)))
    cheated = fool(victims, caption, work, chosen, steps, fooled, progress)
    tampered = bench.fooled(cheated, progress("measuring fooled pictures", 2 * len(cheated)))
    provenance = {"steps": steps, "scenarios": list(dict.fromkeys(e.cheat for e in tampered))}
    detector, surface = make(seen + tampered, chosen, fpr, name, bench.probes, through, provenance)
    return Calibration(detector, seen + tampered, surface, failures, duplicates, gray)


def make(
    examples: Sequence[Example],
    score: EmbeddingScore,
    fpr: float,
    name: str,
    probes: Sequence[str],
    twins: HardenedScores = NO_HARDENED,
    provenance: dict[str, Any] | None = None,
) -> tuple[Detector, Sweep]:
    """A detector from measured pictures, and the accuracy over τ₁ × τ₂ that its rule was chosen by.

    Args:
        examples: Clean and fooled pictures, measured with `probes`; those held out calibrate, the others fit.
        score: The score they were measured with.
        fpr: Bound on false alarms.
        name: The detector's name.
        probes: The probes of the cascade in their order.
        twins: What looks through hardened twins.
        provenance: What else there is to say of where it comes from.

    Raises:
        UsageError: In one of the halves no cheat gained anything, so that there is nothing to catch.
    """
    fit, held = ([e for e in examples if e.held_out == h and (e.counts or not e.fooled)] for h in (False, True))
    # The rule is the paper's, for pictures as blatant as the paper's; where there are none, for what there is.
    fooled_fit = [e for e in fit if e.fooled]
    if not fooled_fit or not any(e.fooled for e in held):
        raise UsageError(
            f"fooled: too few of the {sum(e.fooled for e in examples)} fooled pictures gained anything to learn from "
            "or to measure on; fool more of them, in more steps"
        )
    blatant = [e for e in fooled_fit if e.cheat in BLATANT and e.state == AS_IT_IS] or fooled_fit
    plain = [e.sensitivity for e in fit if not e.fooled and e.state == AS_IT_IS]
    surface = sweep(plain, [e.sensitivity for e in blatant])
    rule = surface.best()
    told = {
        "clean": sum(not e.fooled and e.counts for e in examples),
        "fooled": sum(e.fooled and e.state == AS_IT_IS for e in examples),
        "prompts": _describe({e.prompts for e in examples if not e.fooled}),
        "versions": {package: version(package) for package in ("foclip", "torch", "open_clip_torch", "scikit-learn")},
    }
    detector = Detector(
        name=name,
        score=score.name,
        model=score.encoder.name,
        fingerprint=score.encoder.fingerprint,
        fpr=fpr,
        rule=_calibrated(rule, held, with_prompts=True),
        drift=_calibrated(rule, held, with_prompts=False),
        combined=_calibrated(cascade(fit, probes, with_prompts=True), held, with_prompts=True),
        promptless=_calibrated(cascade(fit, probes, with_prompts=False), held, with_prompts=False),
        twins={probe: twin.encoder.fingerprint for probe, twin in twins.items()},
        provenance=told | (provenance or {}),
    )
    return detector, surface


def cascade(examples: Sequence[Example], probes: Sequence[str], with_prompts: bool) -> Cascade:
    """The cascade over these probes that keeps most fooled pictures in doubt and few clean ones.

    Args:
        examples: Pictures to fit on, clean ones in every state.
        probes: The probes in their order.
        with_prompts: Whether it may know the prompts.
    """
    seen = {id(e): e.sensitivity if with_prompts else e.sensitivity.without_prompts() for e in examples}
    clean, fooled = ([e for e in examples if e.fooled == f] for f in (False, True))
    paying = [e for e in fooled if e.state == AS_IT_IS or e.rise >= STILL_PAYS]
    usual = [seen[id(e)] for e in clean if e.counts and not e.background]
    negatives, positives = ([seen[id(e)] for e in part] for part in (clean, fooled))
    kinds = ([e.kind for e in clean], [_stratum(e, with_prompts) for e in fooled])
    steps = [
        fit(negatives, positives, feature_names(probes[:count], with_prompts), kinds)
        for count in range(1, len(probes) + 1)
    ]
    levels = [seen[id(e)].level for e in fooled if e.state == AS_IT_IS]
    worth = min(WORTH, float(np.quantile(levels, 1 - KEEP))) if levels else 0.0
    doubts = []
    for step, most in zip(steps[:-1], chain(IN_DOUBT, repeat(IN_DOUBT[-1])), strict=False):
        values: dict[str, list[float]] = {}
        for example in paying:
            values.setdefault(_stratum(example, with_prompts), []).append(step.statistic(seen[id(example)]))
        kept = min((float(np.quantile(each, 1 - KEEP)) for each in values.values()), default=-math.inf)
        most_clean = float(np.quantile([step.statistic(s) for s in usual], 1 - most))
        doubts.append(max(kept, most_clean))
    return Cascade(worth, steps, doubts)


def _stratum(example: Example, with_prompts: bool) -> str:
    """What a fooled picture is weighed with: among files that were saved again, crops are a seventh and are forgotten.

    Without prompts hardly any crop is told, whatever it weighs.
    """
    return f"{example.cheat}, cropped" if with_prompts and example.state == CROPPED else example.kind


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


def _kinds(background: Sequence[Path]) -> dict[Path, str]:
    """The kind of each picture of the background: its folder's name, numbered where another folder has it too."""
    names: dict[Path, str] = {}
    for folder in dict.fromkeys(path.resolve().parent for path in background):
        before = sum(other.name == folder.name for other in names)
        names[folder] = f"{folder.name or 'background'}{f' {before + 1}' if before else ''}"
    return {path: names[path.resolve().parent] for path in background}


def _calibrated(statistic: TwoThresholds | Cascade, held: Sequence[Example], with_prompts: bool) -> Calibrated:
    """The statistic with what it says of the half that only measures."""
    clean: list[float] = []
    fooled: list[float] = []
    states: dict[str, list[float]] = {}
    background: dict[str, list[float]] = {}
    for example in held:
        seen = example.sensitivity if with_prompts else example.sensitivity.without_prompts()
        if example.fooled:
            kind = fooled
        elif example.state != AS_IT_IS:
            kind = states.setdefault(example.state, [])
        else:
            kind = background.setdefault(example.background, []) if example.background else clean
        kind.append(statistic.statistic(seen))
    truth = np.arange(len(clean) + len(fooled)) >= len(clean)
    values = np.array(clean + fooled)
    alarms, caught, _ = roc_curve(truth, values)
    points = np.stack([alarms, caught], axis=1).round(5).tolist()
    for kind in (clean, *states.values(), *background.values()):
        kind.sort()
    return Calibrated(statistic, clean, float(roc_auc_score(truth, values)), points, states, background)
