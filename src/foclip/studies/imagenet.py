"""ImageNet captions: how many prompts can one picture match?

Pictures are fooled for 25, 50, 75 and 100 class captions, chosen at random for every four pictures. How high do the
scores of all these captions get? Do the scores of a hundred captions of other classes, which the attack never saw, rise
as well?
"""

import random

import pandas as pd

from foclip.data.prompts import imagenet
from foclip.studies.artworks import attacks
from foclip.studies.harness import BUDGET, PaperComparison, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.statistics import Estimate, groups, mean, percent, relative_gain

COUNTS = (25, 50, 75, 100)
#: Number of pictures that share a random choice of captions.
SHARING = 4
#: Number of captions that no attack sees.
UNSEEN = 100


def draw(seed: int, number: int) -> tuple[list[str], list[str]]:
    """100 captions to optimise, of which smaller sets take the first, and 100 others."""
    chosen = random.Random(f"{seed} {number}").sample(imagenet(1000), max(COUNTS) + UNSEEN)  # noqa: S311
    return chosen[: max(COUNTS)], chosen[max(COUNTS) :]


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × draws × numbers of captions × attacks."""
    draws = [context.pictures[first : first + SHARING] for first in range(0, len(context.pictures), SHARING)]
    chosen = [entry for entry in attacks(context).items() if not (context.settings.quick and entry[0] == "CMA-ES")]
    plan = [(*part, count, *entry) for part in enumerate(draws) for count in COUNTS for entry in chosen]
    rows = []
    for number, pictures, count, name, attack in context.with_progress(plan):
        optimised, unseen = draw(context.settings.seed, number)
        fooled = context.fool(attack, pictures, optimised[:count])
        before, unseen_before, unseen_after = (
            context.scores(current, prompts).mean(axis=1)
            for current, prompts in ((pictures, optimised[:count]), (pictures, unseen), (fooled, unseen))
        )
        found = context.rows(fooled, optimised[:count], attack=name, captions=count, draw=number)
        for row, *scores in zip(found, before, unseen_before, unseen_after, strict=True):
            rows.append(row | dict(zip(("score_before", "unseen_before", "unseen"), scores, strict=True)))
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Scores over the number of captions, per attack, on captions optimised and not."""
    summary = []
    rises: dict[tuple[str, int], Estimate] = {}
    scores: dict[tuple[str, int], Estimate] = {}
    unseen: dict[tuple[str, int], Estimate] = {}
    for (name, count), part in groups(table, "attack", "captions").items():
        rises[name, count] = relative_gain(part.score_before, part.score, part.photo)
        scores[name, count] = mean(part.score, part.photo)
        unseen[name, count] = mean(part.unseen - part.unseen_before, part.photo)
        summary.append(
            {
                "attack": name,
                "captions": count,
                "before": f"{part.score_before.mean():.3f}",
                "after": f"{scores[name, count]:.3f}",
                "rise": f"{rises[name, count]:+.1%}",
                "lowest caption": f"{part.lowest.mean():.3f}",
                "unseen before": f"{part.unseen_before.mean():.3f}",
                "unseen after": f"{part.unseen.mean():.3f}",
                "PSNR / dB": f"{part.psnr.mean():.1f}",
            }
        )
    names = list(dict.fromkeys(table.attack))
    ours = table[table.attack == "FoCLIP"]
    whole, most = relative_gain(ours.score_before, ours.score, ours.photo), max(COUNTS)
    rivals = {name: scores[name, most] for name in names if name != "FoCLIP"}
    best = max(rivals, key=lambda name: rivals[name].value)
    place = "above" if scores["FoCLIP", most].value > rivals[best].value else "not above"
    carried = mean(ours.unseen - ours.unseen_before, ours.photo)
    earned = mean(ours.score - ours.score_before, ours.photo)
    findings = [
        f"Over all numbers of captions FoCLIP raises the mean score from {ours.score_before.mean():.3f} to "
        f"{ours.score.mean():.3f} ({whole:+.1%}), within {BUDGET:g} dB, over {ours.draw.nunique()} draws.",
        f"From {min(COUNTS)} to {most} captions its score goes from {scores['FoCLIP', min(COUNTS)]:.3f} to "
        f"{scores['FoCLIP', most]:.3f}.",
        f"At {most} captions it is {place} every other attack; the best of them is {best} with {rivals[best]:.3f}.",
        f"Captions that were not optimised rise by {carried:+.3f}, {percent(carried.value / earned.value)} of what the "
        "optimised ones gain.",
    ]
    figures = {
        "score-over-captions": plots.lines(_series(scores, names), "captions optimised", "mean CLIPScore"),
        "rise-of-unseen-captions": plots.lines(_series(unseen, names), "captions optimised", "rise of unseen captions"),
    }
    quantity = f"rise of the mean CLIPScore over the originals, {min(COUNTS)} to {most} captions, within {BUDGET:g} dB"
    return StudyReport(pd.DataFrame(summary), figures, findings, [PaperComparison(quantity, 0.273, whole)])


def _series(found: dict[tuple[str, int], Estimate], names: list[str]) -> dict[str, tuple[list[float], list[Estimate]]]:
    return {name: ([float(c) for c in COUNTS], [found[name, count] for count in COUNTS]) for name in names}


study = Study(__name__, __doc__, table, report)
