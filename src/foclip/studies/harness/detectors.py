"""The detector of a study, and its verdicts.

If a detector comes with the encoder and was made for the same weights, the study uses it, as `foclip detect` does.
For any other encoder a detector is made here from crops of the study's photos: half of the photos fit it, the other
half calibrate it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foclip.calibration.examples import PROBES, Example
from foclip.calibration.fitting import make_detector
from foclip.data.prompts import Prompts
from foclip.detection import Detector, hardened_scores
from foclip.detection.detector import shipped
from foclip.errors import UsageError
from foclip.models.scorer import EmbeddingScorer
from foclip.studies.harness.context import PromptsOf, StudyContext
from foclip.studies.harness.pictures import Picture

#: Columns of verdicts, and the words for them.
METHODS = {
    "rule": "the paper's rule",
    "combined": "the combined detector",
    "no_prompt": "the combined detector without prompts",
}
#: Bound on the false alarms of a detector made here, if there are enough clean pictures.
FPR = 0.05


def detector(context: StudyContext, score: EmbeddingScorer) -> Detector:
    """The detector that comes with the encoder of a score, or one made from `context.examples`."""
    try:
        found = shipped(score.encoder)
        found.check(score.encoder)
    except UsageError:
        return _calibrated(context, score)
    return found if found.score == score.info.name else _calibrated(context, score)


def _calibrated(context: StudyContext, score: EmbeddingScorer) -> Detector:
    attack = context.default_attack()
    seen = context.sensitivities(context.examples, score=score)
    clean = [crop for crop, s in zip(context.examples, seen, strict=True) if not s.gray_already]
    each = [context.prompts] * len(clean)
    held_out = half(clean)
    examples = measured(context, clean, each, held_out, score=score)
    fooled = context.fool(attack, clean, score=score)
    return made(examples + measured(context, clean, each, held_out, fooled, "FoCLIP", score), score)


def half(crops: Sequence[Picture]) -> set[str]:
    """Every other photo of these crops. The photos returned are used for calibration only."""
    return set(sorted({crop.photo for crop in crops})[1::2])


def measured(
    context: StudyContext,
    crops: Sequence[Picture],
    prompts: Sequence[Prompts],
    held_out: set[str],
    fooled: Sequence[Picture] | None = None,
    cheat: str = "",
    score: EmbeddingScorer | None = None,
) -> list[Example]:
    """Measurements to make a detector from: of clean crops, or of crops that were fooled.

    Args:
        context: Caches the measurements.
        crops: The crops.
        prompts: The prompts of each.
        held_out: Photos whose crops are used for calibration only.
        fooled: The fooled picture of each crop; None to measure the crops themselves.
        cheat: Name of the attack scenario.
        score: The score; None for that of the context.
    """
    before = context.sensitivities(crops, prompts, score)
    after = before if fooled is None else context.sensitivities(fooled, prompts, score)
    return [
        Example(
            Path(crop.name),
            own,
            fooled is not None,
            crop.photo in held_out,
            s,
            cheat,
            rise=s.normalised_score - was.normalised_score,
        )
        for crop, own, s, was in zip(crops, prompts, after, before, strict=True)
    ]


def made(examples: Sequence[Example], score: EmbeddingScorer) -> Detector:
    """Make a detector from a study's own measurements."""
    held_clean = sum(example.held_out and not example.fooled for example in examples)
    fpr = max(FPR, 1 / (held_clean + 1))
    hardened = hardened_scores(score)
    return make_detector(examples, score, fpr, "calibrated in this study", [*hardened, *PROBES], hardened)[0]


def verdicts(
    context: StudyContext,
    judge: Detector,
    score: EmbeddingScorer,
    pictures: Sequence[Picture],
    prompts: PromptsOf = None,
) -> list[dict[str, Any]]:
    """Columns for each picture: `drop` and `drift` in gray, and for each of `METHODS` whether it says "tampered"."""
    rows = []
    for found in context.sensitivities(pictures, prompts, score):
        without = found.without_prompts()
        said = {
            "rule": judge.judge(found, "rule"),
            "combined": judge.judge(found),
            "no_prompt": judge.judge(without),
        }
        row: dict[str, Any] = {"drop": found.drops["gray"], "drift": found.drifts["gray"]}
        rows.append(row | {method: verdict.verdict == "tampered" for method, verdict in said.items()})
    return rows
