"""Calibration: from a folder of clean pictures to a detector with a bound on false alarms.

The pictures are split at random. One half makes the statistics: it is fooled by every attack scenario of the threat
model (`foclip.detection.scenarios`), and τ₁, τ₂ and the cascade are fitted to it (`foclip.calibration.fitting`). The
other half only measures: its clean pictures give the p-values, and with its fooled ones the ROC.
"""

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from foclip.calibration.examples import AS_IT_IS, Bench, Example, fool
from foclip.calibration.fitting import make_detector
from foclip.core.scoring import samples_for
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.data.samples import PromptsOf, Sample, prepare
from foclip.detection.conformal import pictures_needed
from foclip.detection.detector import FullDetector, hardened_scores
from foclip.detection.probes import require_embedding
from foclip.detection.rule import Sweep
from foclip.detection.scenarios import CONDITIONS
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.registry import DEFAULT, resolve
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.outcome import Advance, Failure, Progress, no_progress

#: Least pictures that are worth fitting anything on.
LEAST = 20
#: Side of the thumbnails by which duplicates are found, and their root mean squared difference, out of 255.
THUMBNAIL, SAME_PICTURE = 16, 2.0


@dataclass(frozen=True)
class Calibration:
    """A detector and every picture that was measured for it."""

    detector: FullDetector
    examples: list[Example]
    sweep: Sweep  # accuracy over τ₁ × τ₂ on the half that made the rule
    failures: list[Failure]
    duplicates: int = 0  # clean pictures left out, since they are others' copies
    gray: int = 0  # clean pictures left out, since they have no colour


def calibrate(
    clean: Sequence[str | Path],
    prompts: PromptsOf = None,
    work: str | Path = "calibration",
    *,
    model: str | Encoder | Scorer = "mini",
    score: str = DEFAULT,
    steps: int = 20,
    fpr: float = 0.01,
    captions: str | Path | None = None,
    own: Sequence[str] | None = None,
    fooled: int = 240,
    background: Sequence[str | Path] = (),
    hardened: Sequence[str | Encoder] = (),
    name: str = "detector",
    progress: Progress = no_progress,
) -> Calibration:
    """Calibrate a detector on clean pictures, fooling them in every attack scenario of the threat model in turn.

    Args:
        clean: Files of clean pictures, or folders of them; those without colour are left out.
        prompts: What they are scored with, as for `foclip.score`; None for the score's own, or the ten artworks.
        work: Folder for the fooled pictures; called again, it goes on there, or fools nothing again.
        model: A scorer, an encoder, or the name of one.
        score: Name of the score, unless `model` is a scorer.
        steps: Updates per fooled picture; in all `fooled` · `steps` steps of the attack.
        fpr: Bound on false alarms.
        captions: As for `foclip.score`.
        own: The own caption of each of `clean` and `background`, beside `prompts`; None for `captions`, or else for
            the one that fits best of a thousand.
        fooled: How many fooled pictures to make; with more than there are clean ones, these are fooled again otherwise.
        background: Further clean pictures, measured but not fooled, those of a folder being of one kind: for each kind
            the bound holds, too, and with more of them a lower `fpr` can be promised.
        hardened: Hardened encoders, or their names, as further probes; by default those that come with the encoder.
        name: The detector's name.
        progress: Progress.

    Raises:
        UsageError: Too few pictures, or too few to promise `fpr`, or the score has no embedding.
        FoclipError: Prompts, model or score are unusable.
    """
    if not 0 < fpr < 1:
        raise UsageError(f"fpr: {fpr} is not in (0, 1)")
    scorer = require_embedding(resolve(model, score))
    through = hardened_scores(scorer, hardened)
    read = read_clean(scorer, clean, background, prompts, captions, fpr, progress, exclude=Path(work))
    found, failures = read.samples, read.failures
    known = dict(zip(map(str, [*clean, *background]), own, strict=True)) if own else {}
    bench = Bench(scorer, through, failures)
    caption = known or ({each.name: each.prompts[0] for each in found} if captions else bench.captions(found))
    seen = bench.clean(half_own(found, caption), progress("measuring clean pictures", len(found)))
    check_enough(len(seen), fpr, read.duplicates, what="colour pictures")
    seen = of_kinds(seen, background)
    victims = [e for e in seen if not e.background]
    seen += bench.conditions(victims, progress("measuring them in other states", len(victims) * len(CONDITIONS)))
    attacked = fool(victims, caption, work, scorer, steps, fooled, progress)
    tampered = bench.fooled(attacked, progress("measuring fooled pictures", 2 * len(attacked)))
    provenance = {"steps": steps, "scenarios": list(dict.fromkeys(e.scenario for e in tampered))}
    detector, surface = make_detector(seen + tampered, scorer, fpr, name, bench.probes, through, provenance)
    gray = len(found) - sum(e.state == AS_IT_IS for e in seen)
    return Calibration(detector, seen + tampered, surface, failures, read.duplicates, gray)


@dataclass(frozen=True)
class Clean:
    """Clean pictures that can be read, in random order and without copies, and what was left out."""

    samples: list[Sample]
    failures: list[Failure]
    duplicates: int


def read_clean(
    scorer: EmbeddingScorer,
    clean: Sequence[str | Path],
    background: Sequence[str | Path],
    prompts: PromptsOf,
    captions: str | Path | None,
    fpr: float | None,
    progress: Progress,
    spent: int = 2,
    exclude: Path | None = None,
    told: Callable[[int], None] = lambda count: None,
) -> Clean:
    """Clean pictures of files and folders, each with its prompts; the arguments of `calibrate`.

    `spent` and `fpr` are as for `check_enough`. Pictures in the folder `exclude` are left out. `told` gets their number
    before they are read.
    """
    everything = [*clean, *background]
    for path in map(Path, everything):
        if not os.path.lexists(path):
            raise UsageError(f"clean: {path}: no such file or folder")
    if prompts is None and captions is None:
        prompts = scorer.info.default_prompts or ARTWORKS
    collected = samples_for(scorer, everything, prompts, captions, exclude=exclude)
    samples, failures = collected.results, list(collected.failures)
    check_enough(len(samples), fpr, spent=spent)
    told(len(samples))
    random.Random(0).shuffle(samples)  # noqa: S311 (a choice, not a secret)
    found = _distinct(samples, failures, progress("reading clean pictures", len(samples)))
    duplicates = len(samples) - len(found) - (len(failures) - len(collected.failures))
    check_enough(len(found), fpr, duplicates, spent)
    return Clean(found, failures, duplicates)


def half_own(samples: Sequence[Sample], caption: Mapping[str, str]) -> list[Sample]:
    """Every other picture of either half with its own caption, by its name: that is the score that it pays to raise."""
    return [replace(each, prompts=(caption[each.name],)) if i // 2 % 2 else each for i, each in enumerate(samples)]


def of_kinds(examples: Sequence[Example], background: Sequence[str | Path]) -> list[Example]:
    """The examples, those of the background with their kind."""
    kinds = _kinds(images.find(list(background)))
    return [replace(e, background=kinds.get(e.path, "")) for e in examples]


def check_enough(pictures: int, fpr: float | None, duplicates: int = 0, spent: int = 2, what: str = "pictures") -> None:
    """Raise a `UsageError` unless one in `spent` of the pictures can promise `fpr` (None: any), and there are any.

    `what` says in the error which pictures were counted.
    """
    besides = f"; {duplicates} duplicates of others do not count" if duplicates else ""
    if pictures < LEAST:
        raise UsageError(f"clean: too few {what} ({pictures}), give at least {LEAST} in colour{besides}")
    if fpr is not None and pictures // spent < (needed := pictures_needed(fpr)):
        halves = ", half of which measure," if spent == 2 else ""
        raise UsageError(
            f"fpr: {pictures} clean pictures{halves} cannot promise {fpr:g}; that takes {spent * needed}. "
            f"They can promise {math.ceil(1e4 / (pictures // spent + 1)) / 1e4:g}: give that, or more pictures{besides}"
        )


def _distinct(samples: Sequence[Sample], failures: list[Failure], report: Advance) -> list[Sample]:
    """The pictures that can be read, without copies of a picture seen before: encoded anew or resized, it counts once.

    Copies would stand on both sides of the split, and a copy of a clean picture is not exchangeable with others.
    """

    def thumbnail(picture: Image.Image) -> np.ndarray:
        return np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float32).ravel()

    kept: list[Sample] = []
    seen = np.empty((len(samples), 3 * THUMBNAIL**2), dtype=np.float32)
    for place, found in enumerate(prepare(samples, thumbnail)):
        if isinstance(found, Failure):
            failures.append(found)
        elif not np.any(np.square(seen[: len(kept)] - found[1]).mean(axis=1) < SAME_PICTURE**2):
            seen[len(kept)] = found[1]
            kept.append(found[0])
        report(place + 1)
    return kept


def _kinds(background: Sequence[Path]) -> dict[Path, str]:
    """The kind of each picture of the background: its folder's name, numbered where another folder has it too."""
    names: dict[Path, str] = {}
    for folder in dict.fromkeys(path.resolve().parent for path in background):
        before = sum(other.name == folder.name for other in names)
        names[folder] = f"{folder.name or 'background'}{f' {before + 1}' if before else ''}"
    return {path: names[path.resolve().parent] for path in background}
