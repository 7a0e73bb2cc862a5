"""Pushed: how far does a change of 30 to 50 dB push each score?

A rise of 0.2 is much for one score and nothing for another. So it is given in standard deviations of the score among
clean photographs: up to 200 of the user's folder, or crops of those that come with dependencies. 16 others are fooled
for each score that the encoder can give, within each budget, and their written files are read again: scores that need a
caption are asked with "a photo of a cat.".

A score that ends cannot rise without end. CLIP-IQA is a probability, and if clean photographs fill its range, the most
that any attack can reach is few standard deviations. The share of clean photographs that a fooled one leaves behind has
no such bound.
"""

import numpy as np
import pandas as pd

from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness.several import CAPTION, asked, split
from foclip.studies.harness.statistics import Estimate, groups, mean, percent

#: Budgets in dB.
BUDGETS = (30.0, 35.0, 40.0, 45.0, 50.0)


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: scores × budgets × pictures."""
    pictures, clean = split(context)
    scores, missing = asked(context, clean)
    rows = []
    for name, budget in context.with_progress([(name, budget) for name in scores for budget in BUDGETS]):
        by = scores[name]
        attack = context.default_attack(by.scorer).replace(budgets=f"psnr:{budget:g}")
        fooled = context.fool(attack, pictures, [by.prompts] * len(pictures), by.scorer)
        before, after = by.figures(context, pictures), by.figures(context, fooled)
        same = {"scored_by": name, "budget": budget, "clean_mean": by.mean, "clean_deviation": by.deviation}
        rise, most = ((to - before) / by.deviation for to in (after, by.most))
        for picture, *found in zip(fooled, before, after, rise, most, by.above(after), strict=True):
            row = dict(zip(("before", "score", "rise", "most", "above"), found, strict=True))
            rows.append(same | {"picture": picture.name, "photo": picture.photo} | row | picture.figures)
    return pd.DataFrame(rows).assign(clean=len(clean), left_out=", ".join(missing))


def report(table: pd.DataFrame) -> StudyReport:
    """Rise by score and budget, against PSNR and against FLIP."""
    summary, rises = [], dict[str, list[Estimate]]()
    places = {"PSNR / dB": dict[str, list[float]](), "FLIP": dict[str, list[float]]()}
    for (name, budget), part in groups(table, "scored_by", "budget").items():
        rise = mean(part.rise, part.photo)
        rises.setdefault(name, []).append(rise)
        psnr = part.psnr.replace(np.inf, np.nan).mean()  # infinite where nothing was gained
        for across, place in zip(places.values(), (psnr, part.flip.mean()), strict=True):
            across.setdefault(name, []).append(place)
        first = part.iloc[0]
        row = {"score": name, "budget / dB": f"{budget:g}", "pictures": len(part)}
        row |= {"clean photographs": f"{first.clean_mean:.3g} ± {first.clean_deviation:.2g}"}
        row |= {"before": f"{part.before.mean():.3g}", "after": f"{part.score.mean():.3g}"}
        row |= {"rise / standard deviations": f"{rise:.1f}", "least": f"{part.rise.min():.1f}"}
        row |= {"most possible": f"{part.most.mean():.1f}" if np.isfinite(part.most).all() else "–"}
        row |= {"above of the clean": percent(part.above.mean()), "FLIP": f"{part.flip.mean():.3f}"}
        summary.append(row)
    labels = ("rise / standard deviations", "")  # the two panels have one axis
    panels = {
        label: {name: (across[name], found) for name, found in rises.items()}
        for label, across in zip(labels, places.values(), strict=True)
    }
    figures = {"rise": plots.lines([*places], panels, plots.WIDE, sharey=True)}
    findings = []
    for name, part in groups(table[table.budget == 40], "scored_by").items():
        most = f", of the {part.most.mean():.1f} that are possible" if np.isfinite(part.most).all() else ""
        findings.append(
            f"Within 40 dB, {name} rises by {mean(part.rise, part.photo):.1f} standard deviations{most}, and leaves "
            f"{percent(part.above.mean())} of {int(part.clean.iloc[0])} clean photographs behind."
        )
    findings.append(f'Scores that need prompts were asked with "{CAPTION}".')
    if left_out := table.left_out.iloc[0]:
        findings.append(f"Left out, since they need a model of their own (`foclip scores`): {left_out}.")
    return StudyReport(pd.DataFrame(summary), figures, findings)


study = Study(__name__, __doc__, table, report, embeddings=False)
