"""Calibration in a minute: clean pictures alone, of which the universal statistic makes a reference.

No picture is fooled. Every picture is measured as it is, and in one of the other states that clean pictures come in.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from foclip.calibration.calibrating import check_enough, half_own, of_kinds, read_clean
from foclip.calibration.examples import Bench, Example
from foclip.data.samples import PromptsOf
from foclip.detection.conformal import pictures_needed
from foclip.detection.detector import ReferenceDetector, hardened_scores
from foclip.detection.probes import NO_HARDENED, require_embedding
from foclip.detection.universal import Reference, Universal, universal
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.registry import DEFAULT, resolve
from foclip.models.scorer import Scorer
from foclip.outcome import Failure, Progress, no_progress

#: Bound on false alarms unless another one is asked for, or there are too few pictures for it.
FPR = 0.01


@dataclass(frozen=True)
class CleanCalibration:
    """A detector, every clean picture that was measured for it, and what was left out."""

    detector: ReferenceDetector
    examples: list[Example]
    passes: int  # through the image tower, for each picture
    failures: list[Failure]
    duplicates: int  # clean pictures that are others' copies
    gray: int  # clean pictures without colour


def calibrate_on_clean(
    clean: Sequence[str | Path],
    prompts: PromptsOf = None,
    *,
    model: str | Encoder | Scorer = "mini",
    score: str = DEFAULT,
    fpr: float | None = None,
    captions: str | Path | None = None,
    background: Sequence[str | Path] = (),
    hardened: Sequence[str | Encoder] = (),
    name: str = "detector",
    progress: Progress = no_progress,
    log: Callable[[str], None] = lambda line: None,
) -> CleanCalibration:
    """Make a detector of clean pictures for any encoder, without fooling one.

    Args:
        clean: Files of clean pictures, or folders of them; those without colour are left out.
        prompts: What they are scored with, as for `calibrate`; every other picture with its own caption.
        model: A scorer, an encoder, or the name of one.
        score: Name of the score, unless `model` is a scorer.
        fpr: Bound on false alarms; None for 1 %, or the least that so few pictures can promise.
        captions: As for `foclip.score`.
        background: Further clean pictures, those of a folder being of one kind: the bound holds for each kind.
        hardened: Hardened versions of the encoder, or names of them, which become probes of the detector.
        name: The detector's name.
        progress: Progress.
        log: Gets a line that says what can be promised, before all pictures are read.

    Raises:
        UsageError: Too few pictures, or too few to promise `fpr`; the score has no embedding, or a hardened encoder is
            none of its encoder.
        FoclipError: Prompts, model or score are unusable.
    """
    if fpr is not None and not 0 < fpr < 1:
        raise UsageError(f"fpr: {fpr} is not in (0, 1)")
    scorer, weights = require_embedding(resolve(model, score)), universal()
    further = hardened_scores(scorer, hardened) if hardened else NO_HARDENED
    with_prompts = weights.with_prompts.with_hardened([*further], True)
    without_prompts = weights.without_prompts.with_hardened([*further], False)
    probes = list(dict.fromkeys([*with_prompts.probes, *without_prompts.probes]))
    read = read_clean(
        scorer, clean, background, prompts, captions, fpr, progress, spent=1, told=lambda n: log(promise(n))
    )
    bench = Bench(scorer, further, read.failures, probes)
    caption = {e.name: e.prompts[0] for e in read.samples} if captions else bench.captions(read.samples)
    seen = bench.clean(half_own(read.samples, caption), progress("measuring clean pictures", len(read.samples)))
    check_enough(len(seen), fpr, read.duplicates, spent=1, what="colour pictures")
    seen = of_kinds(seen, background)
    own = [e for e in seen if not e.background]
    states = bench.states_in_turn(own, progress("measuring them in other states", len(own)))

    def reference(statistic: Universal) -> Reference:
        def rows(examples: Sequence[Example]) -> list[list[float]]:
            told = (e.sensitivity if statistic is with_prompts else e.sensitivity.without_prompts() for e in examples)
            return [statistic.features(each) for each in told]

        kinds = {kind: [e for e in seen if e.background == kind] for kind in {e.background for e in seen} - {""}}
        return Reference(statistic, rows(own), rows(states), {kind: rows(each) for kind, each in sorted(kinds.items())})

    detector = ReferenceDetector(
        name=name,
        score=scorer.info.name,
        model=scorer.encoder.name,
        fingerprint=scorer.encoder.fingerprint,
        fpr=least(len(seen)) if fpr is None else fpr,
        hardened={probe: own.encoder.fingerprint for probe, own in further.items()},
        with_prompts=reference(with_prompts),
        without_prompts=reference(without_prompts),
        provenance={
            "clean": len(seen),
            "fooled": 0,
            "versions": {package: version(package) for package in ("foclip", "torch", "open_clip_torch")},
        },
    )
    passes = 2 * (1 + len(probes)) + (not captions)
    return CleanCalibration(
        detector, seen + states, passes, read.failures, read.duplicates, len(read.samples) - len(seen)
    )


def least(pictures: int) -> float:
    """The bound that so many clean pictures are asked to keep, unless told otherwise: 1 %, or what they can promise."""
    return max(FPR, math.ceil(1e4 / (pictures + 1)) / 1e4)


def promise(pictures: int) -> str:
    """What so many clean pictures can promise, in words."""
    more = "" if least(pictures) == FPR else f"; {pictures_needed(FPR)} pictures can promise {FPR:.0%}"
    return (
        f"{pictures} clean pictures can promise at most {100 * least(pictures):.3g} % false alarms, or down to "
        f"{100 / (pictures + 1):.2g} % with --fpr{more}"
    )
