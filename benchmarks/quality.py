"""Time to quality: seconds per photo until the mean score is 95 % of what a very long attack reaches at 35 dB.

The demo's four photos (or those of --photos), as they are and enlarged to 3 megapixels, what an old phone makes; ten
artworks, `mini`, one thread. Every attack minimises the same objective and is run with more and more steps, its
schedule stretched over them; the first run whose written pictures reach the score counts, and none is given more than
ten times what FoCLIP took. CLIPMasterPrints' optimiser is Adam; PGD, Auto-PGD and MI-FGSM keep their authors' settings
otherwise. The quick one is FoCLIP with `--precision auto`. The last rows are what 60 and 150 steps make, the latter
`fool`'s default.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common import mean_score, of_size
from benchmarks.timing import Section, now
from foclip.attacks import (
    MIFGSM,
    PGD,
    Adam,
    AttackPlan,
    AttackTask,
    AutoPGD,
    FoCLIP,
    fastest_precision,
    make_plan,
    objective,
    run,
)
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.demo import photos
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore
from foclip.outcome import mean
from foclip.perceptual.budget import Budget

SHARE = 0.95
BUDGET = 35.0
STEPS = (*range(8, 21), 25, 30, 45, 60, 100, 150, 250, 400, 700)
#: Pixels of the photos; None for their own.
SIZES = (None, 3_145_728)
#: An attack that has taken so many times what FoCLIP took is not given more steps.
GIVEN_UP = 10.0
#: Steps of the last rows.
TOLD = (60, 150)


def reached(attack: AttackPlan, score: Scorer, pictures: list[torch.Tensor]) -> tuple[float, float]:
    """Mean score of what an attack makes of pictures, read through the model's own preprocessing; seconds for one."""
    start = now()
    found = list(run([AttackTask(picture, ARTWORKS) for picture in pictures], score, attack, workers=1))
    spent = (now() - start) / len(pictures)
    return mean([mean_score(score, fooled.pixels, ARTWORKS) for fooled in found]), spent


def table(model: str, reference: int, device: str, files: Sequence[Path] = ()) -> Section:
    """One row per size and attack."""
    from benchmarks.steps import encoder_of

    score = CLIPScore(encoder_of(model, device))
    section = Section(f"Time until a good result; the very long attack has {reference:,} steps")
    for pixels in SIZES:
        _compare(
            section,
            score,
            [images.to_tensor(of_size(images.read(path), pixels)) for path in files or photos()],
            reference,
        )
    return section


def _compare(section: Section, score: CLIPScore, pictures: list[torch.Tensor], reference: int) -> None:
    """The rows of one size."""
    aim = objective()
    ours = make_plan(FoCLIP, objective=aim, budgets=Budget("psnr", BUDGET))
    longest, _ = reached(ours.replace(steps=reference), score, pictures)
    attacks: dict[str, AttackPlan] = {
        "FoCLIP": ours,
        "FoCLIP, quick": ours.replace(precision=fastest_precision(ours.execution, score)[0]),
        "Auto-PGD": make_plan(AutoPGD, objective=aim, budgets=Budget("psnr", BUDGET)),
        "Adam (CLIPMasterPrints)": make_plan(Adam, objective=aim, init="image", budgets=Budget("psnr", BUDGET)),
        "PGD": make_plan(PGD, objective=aim, budgets=Budget("psnr", BUDGET)),
        "MI-FGSM": make_plan(MIFGSM, objective=aim, budgets=Budget("psnr", BUDGET)),
    }
    megapixels = sum(picture[0].numel() for picture in pictures) / len(pictures) / 1e6
    first = None

    def row(name: str, steps: int | str, found: float, spent: float, more: str = "") -> None:
        section.add(
            megapixels=f"{megapixels:.1f}",
            attack=name,
            steps=steps,
            score=found,
            **{"of the very long one's": found / longest, "seconds per photo": spent},
            **{"times ours": f"{more}{spent / (first or spent):.1f}"},
        )

    for name, attack in attacks.items():
        for steps in STEPS:
            found, spent = reached(attack.replace(steps=steps), score, pictures)
            if (done := found >= SHARE * longest) or (first and spent > GIVEN_UP * first):
                break
        first = first or spent
        row(name, steps if done else f"more than {steps}", found, spent, "" if done else "> ")
    for steps in TOLD:
        row("FoCLIP", steps, *reached(ours.replace(steps=steps), score, pictures))
