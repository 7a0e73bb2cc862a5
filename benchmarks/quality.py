"""Time to quality: seconds per photo until the mean score is 95 % of what a very long attack reaches at 35 dB.

Four photos, ten artworks, `mini`, one thread. Every attack minimises the same objective and is run with more and more
steps, its schedule stretched over them; the first run whose written pictures reach the score counts. CLIPMasterPrints'
optimiser is Adam; PGD, Auto-PGD and MI-FGSM keep their authors' settings otherwise.
"""

from dataclasses import replace

import torch

from benchmarks.timing import Section, now
from foclip import images
from foclip.attacks import MIFGSM, PGD, Adam, Attack, AutoPGD, FoCLIP, Job, objective, run
from foclip.demo import photos
from foclip.prompts import ARTWORKS
from foclip.scores import CLIPScore, Score
from foclip.scoring import mean

SHARE = 0.95
BUDGET = 35.0
STEPS = (10, 15, 20, 30, 45, 60, 100, 150, 250, 400, 700)


def reached(attack: Attack, score: Score, pictures: list[torch.Tensor]) -> tuple[float, float]:
    """Mean score of what an attack makes of pictures, read through the model's own preprocessing; seconds for one."""
    start = now()
    found = list(run(attack, score, [Job(picture, ARTWORKS) for picture in pictures], at_once=1))
    spent = (now() - start) / len(pictures)
    scores = [mean(score.read(images.to_image(fooled.pixels), ARTWORKS)) for fooled in found]
    return mean(scores), spent


def table(model: str, reference: int, device: str) -> Section:
    """One row per attack."""
    from benchmarks.steps import encoder_of

    score: Score = CLIPScore(encoder_of(model, device))
    pictures = [images.to_tensor(images.read(path)) for path in photos()]
    aim = objective()
    longest, _ = reached(FoCLIP(objective=aim, steps=reference, min_psnr=BUDGET), score, pictures)
    section = Section(
        "Time to quality", f"{__doc__ or ''}\nThe very long one: {reference:,} steps, score {longest:.3f}."
    )
    attacks: dict[str, Attack] = {
        "FoCLIP": FoCLIP(objective=aim, min_psnr=BUDGET),
        "Auto-PGD": AutoPGD(objective=aim, min_psnr=BUDGET),
        "Adam (CLIPMasterPrints)": Adam(objective=aim, init="image", min_psnr=BUDGET),
        "PGD": PGD(objective=aim, min_psnr=BUDGET),
        "MI-FGSM": MIFGSM(objective=aim, min_psnr=BUDGET),
    }
    ours = None
    for name, attack in attacks.items():
        for steps in STEPS:
            found, spent = reached(replace(attack, steps=steps), score, pictures)
            if found >= SHARE * longest:
                break
        done = found >= SHARE * longest
        ours = ours or spent
        section.add(
            attack=name,
            steps=steps if done else f"more than {steps}",
            score=found,
            **{"seconds per photo": spent, "times ours": f"{'' if done else '> '}{spent / ours:.1f}"},
        )
    return section
