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
from foclip.studies.harness.statistics import groups, mean, percent, relative_gain

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
    chosen = [
        entry
        for entry in attacks(context, context.settings.brief_steps).items()
        if not (context.settings.quick and entry[0] == "CMA-ES")
    ]
    plan = [(*part, count, *entry) for part in enumerate(draws) for count in COUNTS for entry in chosen]
    rows = []
    for number, pictures, count, name, attack in context.with_progress(plan):
        optimised, unseen = draw(context.settings.seed, number)
        optimised = optimised[:count]
        fooled = context.fool(attack, pictures, optimised)
        further = {
            "score_before": context.scores(pictures, optimised),
            "unseen_before": context.scores(pictures, unseen),
            "unseen": context.scores(fooled, unseen),
        }
        for place, row in enumerate(context.rows(fooled, optimised, attack=name, captions=count, draw=number)):
            rows.append(row | {column: scores[place].mean() for column, scores in further.items()})
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Scores over the number of captions, per attack, on captions optimised and not."""
    table = table.assign(gain=table.score - table.score_before, carried=table.unseen - table.unseen_before)
    parts = groups(table, "attack", "captions")
    scores = {key: mean(part.score, part.photo) for key, part in parts.items()}
    unseen = {key: mean(part.carried, part.photo) for key, part in parts.items()}
    summary = [
        {
            "attack": name,
            "captions": count,
            "before": f"{part.score_before.mean():.3f}",
            "after": f"{scores[name, count]:.3f}",
            "rise": f"{relative_gain(part.score_before, part.score, part.photo):+.1%}",
            "lowest caption": f"{part.lowest.mean():.3f}",
            "unseen before": f"{part.unseen_before.mean():.3f}",
            "unseen after": f"{part.unseen.mean():.3f}",
            "PSNR / dB": f"{part.psnr.mean():.1f}",
        }
        for (name, count), part in parts.items()
    ]
    least, most, ours = min(COUNTS), max(COUNTS), table[table.attack == "FoCLIP"]
    whole = relative_gain(ours.score_before, ours.score, ours.photo)
    rivals = {name: score for (name, count), score in scores.items() if name != "FoCLIP" and count == most}
    best = max(rivals, key=lambda name: rivals[name].value)
    place = "above" if scores["FoCLIP", most].value > rivals[best].value else "not above"
    carried, earned = mean(ours.carried, ours.photo), mean(ours.gain, ours.photo)
    findings = [
        f"Over all numbers of captions FoCLIP raises the mean score from {ours.score_before.mean():.3f} to "
        f"{ours.score.mean():.3f} ({whole:+.1%}), within {BUDGET:g} dB, over {ours.draw.nunique()} draws.",
        f"From {least} to {most} captions its score goes from {scores['FoCLIP', least]:.3f} to "
        f"{scores['FoCLIP', most]:.3f}.",
        f"At {most} captions it is {place} every other attack; the best of them is {best} with {rivals[best]:.3f}.",
        f"Captions that were not optimised rise by {carried:+.3f}, {percent(carried.value / earned.value)} of what the "
        "optimised ones gain.",
    ]
    figures = {}
    for file, found, y in (
        ("score-over-captions", scores, "mean CLIPScore"),
        ("rise-of-unseen-captions", unseen, "rise of unseen captions"),
    ):
        series = {name: (COUNTS, [found[name, count] for count in COUNTS]) for name in table.attack.unique()}
        figures[file] = plots.lines("captions optimised", {y: series})
    quantity = f"rise of the mean CLIPScore over the originals, {least} to {most} captions, within {BUDGET:g} dB"
    return StudyReport(pd.DataFrame(summary), figures, findings, [PaperComparison(quantity, 0.273, whole)])


study = Study(__name__, __doc__, table, report, judged=False)
