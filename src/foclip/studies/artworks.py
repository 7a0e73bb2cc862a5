"""Ten artworks: how far does each attack raise the score?

Every picture is fooled for the titles of ten famous paintings, by FoCLIP and by the attacks it is compared with:
once within the same fidelity budget of 35 dB, and once with the settings of their authors (with the number of steps
of this run). How do they compare with the original photos and, if `--paintings` gives them, with the real paintings?

CMA-ES needs scores only and makes 3 queries for every step of the others. Its authors search the latent space of a
generator, so their settings cannot be repeated here.
"""

import importlib.util

import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import CMAES, MIFGSM, PGD, Adam, AttackPlan, FoCLIP, SinglePrompt, make_plan
from foclip.attacks.foclip import objective
from foclip.studies.harness import BUDGET, PaperComparison, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.statistics import groups, lead, mean, means, relative_gain

#: Queries of CMA-ES for every step of the others.
QUERIES = 3
#: Photos that the report shows after each attack.
SHOWN = 3
WITHIN, AUTHORS, UNTOUCHED = f"{BUDGET:g} dB", "authors'", "as it is"


def attacks(context: StudyContext, steps: int) -> dict[str, AttackPlan]:
    """Every attack within the budget, with as many steps; CMA-ES if its package is installed."""
    found = {
        "FoCLIP": context.default_attack().replace(steps=steps),
        "PGD": context.attack(PGD, steps=steps),
        "MI-FGSM": context.attack(MIFGSM, steps=steps),
        "Adam": context.attack(Adam, init="image", steps=steps),
        "one prompt": context.attack(SinglePrompt, steps=steps),
    }
    if importlib.util.find_spec("cma"):
        found["CMA-ES"] = context.attack(CMAES, steps=QUERIES * steps)
    return found


def plan(context: StudyContext) -> dict[str, dict[str, AttackPlan]]:
    """Attacks by settings and name: those within the budget, or those of the authors but for the number of steps."""
    steps, seed = context.settings.steps, context.settings.seed
    authors = {
        "FoCLIP": make_plan(FoCLIP, objective=objective(), steps=steps, lr=7.0, seed=seed),
        "PGD": make_plan(PGD, steps=steps, seed=seed),
        "MI-FGSM": make_plan(MIFGSM, seed=seed),
        "Adam": make_plan(Adam, steps=steps, seed=seed),
    }
    return {WITHIN: attacks(context, steps), AUTHORS: authors}


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × attacks × settings; and the originals and paintings as they are."""
    rows = context.rows(context.pictures, attack="original", settings=UNTOUCHED)
    rows += context.rows(context.paintings, attack="real painting", settings=UNTOUCHED)
    compared = [(settings, *entry) for settings, found in plan(context).items() for entry in found.items()]
    for settings, name, attack in context.with_progress(compared):
        rows += context.rows(context.fool(attack, context.pictures), attack=name, settings=settings)
    found = pd.DataFrame(rows)
    before = found[found.attack == "original"].set_index("picture").score
    return found.assign(score_before=found.picture.map(before))


def report(table: pd.DataFrame) -> StudyReport:
    """Scores and fidelity per attack; FoCLIP against the best of the others within the budget."""
    parts = {
        name if settings == UNTOUCHED else f"{name} ({settings})": part
        for (settings, name), part in groups(table, "settings", "attack").items()
    }
    columns = ("score", "lowest", "spread", "psnr", "ssim", "flip99")
    seconds = {name: "–" if part.seconds.isna().all() else f"{part.seconds.mean():.1f}" for name, part in parts.items()}
    summary = [{"": name} | means(part, *columns) | {"seconds": seconds[name]} for name, part in parts.items()]
    scores = {name: mean(part.score, part.photo) for name, part in parts.items()}
    ours = table[(table.attack == "FoCLIP") & (table.settings == WITHIN)]
    rise = relative_gain(ours.score_before, ours.score, ours.photo)
    before, after = mean(ours.score_before, ours.photo), mean(ours.score, ours.photo)
    findings = [
        f"Within {BUDGET:g} dB FoCLIP raises the mean score of {len(ours)} photos from {before:.3f} to {after:.3f}, "
        f"{rise.value + 1:.1f} times the originals'. A photo starts far below any painting, so the ratio says little; "
        "read the scores.",
        *_against_others(table, ours),
    ]
    if "CMA-ES" not in set(table.attack):
        findings.append("CMA-ES is missing: its package was not installed (pip install cma).")
    quantity = f"rise of the mean CLIPScore over the original photos, within {BUDGET:g} dB"
    comparisons = [PaperComparison(quantity, 0.427, rise)]
    real = table[table.attack == "real painting"].score
    if len(real):
        above = after.changed(lambda value: value / float(real.mean()) - 1)  # the paintings are taken as given
        comparisons.append(PaperComparison("mean CLIPScore over that of the real paintings", 0.427, above))
        findings.append(
            f"The {len(real)} real paintings score {real.mean():.3f} over all ten titles, since each fits one; "
            f"fooled photos score {above:+.0%} compared with them."
        )
    else:
        findings.append("The row of real paintings is missing: no folder of them was given (--paintings DIR).")
    bars = plots.bars(scores, "mean CLIPScore")
    return StudyReport(pd.DataFrame(summary), {"mean-score": bars}, findings, comparisons)


def gallery(context: StudyContext) -> dict[str, Figure]:
    """The first photos as each attack left them, with their mean scores."""
    figures = {}
    for settings, caption in ((WITHIN, f"pictures-within-{BUDGET:g}-dB"), (AUTHORS, "pictures-as-authors-set-them")):
        columns = {"original": context.pictures[:SHOWN]}
        for name, attack in plan(context)[settings].items():  # all pictures, so that the table's cached ones are used
            columns[name] = context.fool(attack, context.pictures)[:SHOWN]
        figures[caption] = plots.gallery(context, columns)
    return figures


def _against_others(table: pd.DataFrame, ours: pd.DataFrame) -> list[str]:
    """Whether FoCLIP is above every other attack within the budget, picture by picture."""
    sentences = []
    others = groups(table[(table.settings == WITHIN) & (table.attack != "FoCLIP")], "attack")
    for measure, words in (("score", "mean score"), ("lowest", "lowest prompt")):
        leads = {name: lead(ours, part, measure) for name, part in others.items()}
        ahead, behind = (
            ", ".join(f"{name} ({by:+.3f})" for name, by in leads.items() if (by.value > 0) == above)
            for above in (True, False)
        )
        said = f"On the {words}, at the same budget, FoCLIP is ahead of {ahead or 'none'}"
        sentences.append(said + (f"; behind {behind}." if behind else "."))
    return sentences


study = Study(__name__, __doc__, table, report, gallery, judged=False)
