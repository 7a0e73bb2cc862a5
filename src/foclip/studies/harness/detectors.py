"""Which detector judges in a study, and what it says.

The detector that ships with an encoder judges if there is one for these very weights: it is what
`foclip detect` would use. For any other encoder one is calibrated here, on crops of the study's
own photos; half of the photos fit it and the other half calibrate it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foclip.calibration.calibrating import make
from foclip.calibration.examples import PROBES, Example
from foclip.data.captions import PromptsOf
from foclip.detection import Detector, hardened_scores
from foclip.detection.detector import shipped
from foclip.errors import UsageError
from foclip.models.scores import EmbeddingScore, Prompts
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture

#: Columns of verdicts, and what they stand for.
METHODS = {
    "rule": "the paper's rule",
    "combined": "the combined detector",
    "promptless": "the combined detector without prompts",
}
#: False alarms that a detector made here promises, if it has clean pictures enough.
FPR = 0.05


def detector(lab: StudyContext, score: EmbeddingScore) -> Detector:
    """The detector that ships with a score's encoder, or one calibrated on `lab.examples`."""
    try:
        found = shipped(score.encoder)
        found.check(score.encoder)
    except UsageError:
        return _calibrated(lab, score)
    return found if found.score == score.name else _calibrated(lab, score)


def _calibrated(lab: StudyContext, score: EmbeddingScore) -> Detector:
    attack = lab.default_attack()
    seen = lab.sensitivities(lab.examples, score=score)
    clean = [crop for crop, s in zip(lab.examples, seen, strict=True) if not s.gray_already]
    each = [lab.prompts] * len(clean)
    held_out = half(clean)
    examples = measured(lab, clean, each, held_out, score=score)
    fooled = lab.fool(attack, clean, score=score)
    return made(examples + measured(lab, clean, each, held_out, fooled, "FoCLIP", score), score)


def half(crops: Sequence[Picture]) -> set[str]:
    """Every other photo that crops are of: those that only calibrate."""
    return set(sorted({crop.photo for crop in crops})[1::2])


def measured(
    lab: StudyContext,
    crops: Sequence[Picture],
    prompts: Sequence[Prompts],
    held_out: set[str],
    fooled: Sequence[Picture] | None = None,
    cheat: str = "",
    score: EmbeddingScore | None = None,
) -> list[Example]:
    """What a detector is made of: crops as they are, or what a cheat made of them.

    Args:
        lab: Where measurements are kept.
        crops: The crops.
        prompts: The prompts of each.
        held_out: Photos whose crops only calibrate.
        fooled: What was made of each crop; None for the crops themselves.
        cheat: Name of the cheat.
        score: None for the lab's.
    """
    before = lab.sensitivities(crops, prompts, score)
    after = before if fooled is None else lab.sensitivities(fooled, prompts, score)
    return [
        Example(Path(crop.name), own, fooled is not None, crop.photo in held_out, s, cheat, rise=s.level - was.level)
        for crop, own, s, was in zip(crops, prompts, after, before, strict=True)
    ]


def made(examples: Sequence[Example], score: EmbeddingScore) -> Detector:
    """A detector of a study's own."""
    held_clean = sum(example.held_out and not example.fooled for example in examples)
    fpr = max(FPR, 1 / (held_clean + 1))
    twins = hardened_scores(score)
    return make(examples, score, fpr, "calibrated in this study", [*twins, *PROBES], twins)[0]


def verdicts(
    lab: StudyContext, judge: Detector, score: EmbeddingScore, looked_at: Sequence[Picture], prompts: PromptsOf = None
) -> list[dict[str, Any]]:
    """Columns for each picture: `drop` and `drift` in gray, and per method in `METHODS` whether it is caught."""
    rows = []
    for found in lab.sensitivities(looked_at, prompts, score):
        without = found.without_prompts()
        said = {
            "rule": judge.judge(found, "rule"),
            "combined": judge.judge(found),
            "promptless": judge.judge(without),
        }
        row: dict[str, Any] = {"drop": found.drops["gray"], "drift": found.drifts["gray"]}
        rows.append(row | {method: verdict.verdict == "tampered" for method, verdict in said.items()})
    return rows
