"""The detector of a study, and its verdicts.

It is the one that comes with the encoder, as for `foclip detect`. For any other encoder, or other weights, one is made
from crops of the study's photos: half of the photos fit it, the other half calibrate it.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from foclip.calibration.examples import PROBES, Example
from foclip.calibration.fitting import make_detector
from foclip.detection import FullDetector, hardened_scores
from foclip.detection.detector import shipped
from foclip.errors import UsageError
from foclip.models.scorer import EmbeddingScorer
from foclip.studies.harness.context import PromptsOf, StudyContext
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Rows, share

#: Columns of verdicts, and the words for them.
METHODS = {
    "rule": "the paper's rule",
    "combined": "the combined detector",
    "no_prompt": "the combined detector without prompts",
}
#: Bound on the false alarms of a detector made here, if there are enough clean pictures.
FPR = 0.05


def detector(context: StudyContext, score: EmbeddingScorer) -> FullDetector:
    """The detector that comes with the encoder of a score, or one made from `context.examples`."""
    try:
        found = shipped(score.encoder)
        found.check(score.encoder)
        if found.score == score.info.name:
            return found
    except UsageError:
        pass  # none comes with it, or one for other weights
    seen = context.sensitivities(context.examples, score=score)
    clean = [crop for crop, s in zip(context.examples, seen, strict=True) if not s.gray_already]
    fooled = context.fool(context.default_attack(), clean, score=score)
    return made(measured(context, score, clean) + measured(context, score, clean, None, fooled, "FoCLIP"), score)


def measured(
    context: StudyContext,
    score: EmbeddingScorer,
    crops: Sequence[Picture],
    prompts: PromptsOf = None,
    fooled: Sequence[Picture] | None = None,
    scenario: str = "",
) -> list[Example]:
    """Measurements of clean crops, or of what became of them in a scenario; every other photo only calibrates."""
    held_out = set(sorted({crop.photo for crop in crops})[1::2])
    probes = ["gray", *hardened_scores(score), *PROBES]  # no others: which caption loses most depends on all of them
    before = context.sensitivities(crops, prompts, score, probes)
    after = before if fooled is None else context.sensitivities(fooled, prompts, score, probes)
    found = []
    for crop, own, seen, was in zip(crops, context.prompts_of(crops, prompts), after, before, strict=True):
        rise, apart = seen.normalised_score - was.normalised_score, crop.photo in held_out
        found.append(Example(Path(crop.name), own, fooled is not None, apart, seen, scenario, rise=rise))
    return found


def made(examples: Sequence[Example], score: EmbeddingScorer) -> FullDetector:
    """Make a detector from a study's own measurements."""
    clean, hardened = sum(example.held_out and not example.fooled for example in examples), hardened_scores(score)
    fpr = max(FPR, 1 / (clean + 1))
    return make_detector(examples, score, fpr, "calibrated in this study", [*hardened, *PROBES], hardened)[0]


def judged(
    context: StudyContext,
    judge: FullDetector,
    pictures: Sequence[Picture],
    prompts: PromptsOf = None,
    score: EmbeddingScorer | None = None,
    **same: object,
) -> Rows:
    """`context.rows`, with `drop` and `drift` in gray, and for each of `METHODS` whether it says "tampered"."""
    rows = context.rows(pictures, prompts, score, **same)
    for row, found in zip(rows, context.sensitivities(pictures, prompts, score, judge.probes), strict=True):
        said = (judge.judge(found, "rule"), judge.judge(found), judge.judge(found.without_prompts()))
        row |= {"drop": found.drops["gray"], "drift": found.drifts["gray"]}
        row |= {method: verdict.verdict == "tampered" for method, verdict in zip(METHODS, said, strict=True)}
    return rows


def caught(part: pd.DataFrame, text: str, methods: dict[str, str] = METHODS) -> dict[str, object]:
    """Cells of a summary: the share that each method calls tampered, each after `text` and the method's words."""
    return {f"{text} {words}": f"{share(part[name], part.photo):.0%}" for name, words in methods.items()}
