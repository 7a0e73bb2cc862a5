"""Ten artworks: how far does each attack raise the score?

Every picture is fooled for the titles of ten famous paintings, by FoCLIP and by the attacks it is compared with:
once within the same fidelity budget of 35 dB, and once with the settings of their authors (with the number of steps
of this run). How do they compare with the original photos and, if `--paintings` gives them, with the real paintings?

CMA-ES needs scores only and makes 3 queries for every step of the others. Its authors search the latent space of a
generator, so their settings cannot be repeated here.
"""

import importlib.util
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import CMAES, MIFGSM, PGD, Adam, AttackPlan, FoCLIP, SinglePrompt, make_plan
from foclip.attacks.foclip import objective
from foclip.perceptual.budget import Budget
from foclip.studies.harness import BUDGET, PaperComparison, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate, groups, mean, relative_gain

#: Queries of CMA-ES for every step of the others.
QUERIES = 3
#: Photos that the report shows after each attack.
SHOWN = 3
WITHIN, AUTHORS, UNTOUCHED = f"{BUDGET:g} dB", "authors'", "as it is"


def attacks(context: StudyContext) -> dict[str, AttackPlan]:
    """Every attack within the budget, with as many steps; CMA-ES if its package is installed."""
    steps, seed = context.settings.steps, context.settings.seed
    found: dict[str, AttackPlan] = {
        "FoCLIP": context.default_attack(),
        "PGD": make_plan(PGD, steps=steps, budgets=Budget("psnr", BUDGET), seed=seed),
        "MI-FGSM": make_plan(MIFGSM, steps=steps, budgets=Budget("psnr", BUDGET), seed=seed),
        "Adam": make_plan(Adam, steps=steps, budgets=Budget("psnr", BUDGET), init="image", seed=seed),
        "one prompt": make_plan(SinglePrompt, steps=steps, budgets=Budget("psnr", BUDGET), seed=seed),
    }
    if importlib.util.find_spec("cma"):
        found["CMA-ES"] = make_plan(CMAES, steps=QUERIES * steps, budgets=Budget("psnr", BUDGET), seed=seed)
    return found


def authors_settings(context: StudyContext) -> dict[str, AttackPlan]:
    """The attacks as published, but for the number of steps, which is this run's."""
    steps, seed = context.settings.steps, context.settings.seed
    return {
        "FoCLIP": make_plan(FoCLIP, objective=objective(), steps=steps, lr=7.0, seed=seed),
        "PGD": make_plan(PGD, steps=steps, seed=seed),
        "MI-FGSM": make_plan(MIFGSM, seed=seed),
        "Adam": make_plan(Adam, steps=steps, seed=seed),
    }


def plan(context: StudyContext) -> list[tuple[str, str, AttackPlan]]:
    """Settings, name and attack, for everything that is compared."""
    found = [(WITHIN, *entry) for entry in attacks(context).items()]
    return found + [(AUTHORS, *entry) for entry in authors_settings(context).items()]


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × attacks × settings; and the originals and paintings as they are."""
    rows = context.rows(context.pictures, attack="original", settings=UNTOUCHED)
    rows += context.rows(context.paintings, attack="real painting", settings=UNTOUCHED)
    for settings, name, attack in context.with_progress(plan(context)):
        rows += context.rows(context.fool(attack, context.pictures), attack=name, settings=settings)
    found = pd.DataFrame(rows)
    before = found[found.attack == "original"].set_index("picture").score
    found["score_before"] = found.picture.map(before)
    return found


def report(table: pd.DataFrame) -> StudyReport:
    """Scores and fidelity per attack; FoCLIP against the best of the others within the budget."""
    parts = {
        name if settings == UNTOUCHED else f"{name} ({settings})": part
        for (settings, name), part in groups(table, "settings", "attack").items()
    }
    summary, scores = [], {}
    for name, part in parts.items():
        scores[name] = mean(part.score, part.photo)
        summary.append(
            {
                "": name,
                "pictures": len(part),
                "score": f"{scores[name]:.3f}",
                "lowest prompt": f"{mean(part.lowest, part.photo):.3f}",
                "spread over prompts": f"{mean(part.spread, part.photo):.3f}",
                "PSNR / dB": f"{mean(part.psnr, part.photo):.1f}",
                "SSIM": f"{mean(part.ssim, part.photo):.3f}",
                "FLIP, worst": f"{mean(part.flip99, part.photo):.3f}",
                "seconds": "–" if part.seconds.isna().all() else f"{part.seconds.mean():.1f}",
            }
        )
    ours = table[(table.attack == "FoCLIP") & (table.settings == WITHIN)]
    rise = relative_gain(ours.score_before, ours.score, ours.photo)
    before = mean(ours.score_before, ours.photo)
    findings = [
        f"Within {BUDGET:g} dB FoCLIP raises the mean score of {len(ours)} photos from {before:.3f} to "
        f"{mean(ours.score, ours.photo):.3f}, {rise.value + 1:.1f} times the originals'. A photo starts far below any "
        "painting, so the ratio says little; read the scores.",
        *_against_others(table, ours),
    ]
    if "CMA-ES" not in set(table.attack):
        findings.append("CMA-ES is missing: its package was not installed (pip install cma).")
    comparisons = [
        PaperComparison(f"rise of the mean CLIPScore over the original photos, within {BUDGET:g} dB", 0.427, rise)
    ]
    real = table[table.attack == "real painting"]
    if len(real):
        above = _ratio_to(real, ours)
        comparisons.append(PaperComparison("mean CLIPScore over that of the real paintings", 0.427, above))
        findings.append(
            f"The {len(real)} real paintings score {real.score.mean():.3f} over all ten titles, since each fits one; "
            f"fooled photos score {above:+.0%} compared with them."
        )
    else:
        findings.append("The row of real paintings is missing: no folder of them was given (--paintings DIR).")
    return StudyReport(
        pd.DataFrame(summary), {"mean-score": plots.bars(scores, "mean CLIPScore")}, findings, comparisons
    )


def gallery(context: StudyContext) -> dict[str, Figure]:
    """The first photos as each attack left them, with their mean scores."""
    figures = {}
    for settings, caption in ((WITHIN, f"pictures-within-{BUDGET:g}-dB"), (AUTHORS, "pictures-as-authors-set-them")):
        columns: dict[str, Sequence[Picture]] = {"original": context.pictures[:SHOWN]}
        for kind, name, attack in plan(context):
            if kind == settings:  # all pictures, as in the table, so that the cached ones are used
                columns[name] = context.fool(attack, context.pictures)[:SHOWN]
        figures[caption] = plots.gallery(
            {name: [picture.image for picture in shown] for name, shown in columns.items()},
            {name: [f"{score:.2f}" for score in context.scores(shown).mean(axis=1)] for name, shown in columns.items()},
        )
    return figures


def _against_others(table: pd.DataFrame, ours: pd.DataFrame) -> list[str]:
    """Whether FoCLIP is above every other attack within the budget, picture by picture."""
    sentences = []
    for measure, words in (("score", "mean score"), ("lowest", "lowest prompt")):
        behind: list[str] = []
        ahead: list[str] = []
        for name, part in groups(table[(table.settings == WITHIN) & (table.attack != "FoCLIP")], "attack").items():
            pair = ours.merge(part, on=["picture", "photo"], suffixes=("", "_other"))
            lead = mean(pair[measure] - pair[f"{measure}_other"], pair.photo)
            (ahead if lead.value > 0 else behind).append(f"{name} ({lead:+.3f})")
        said = f"On the {words}, at the same budget, FoCLIP is ahead of " + (", ".join(ahead) or "none")
        sentences.append(said + (f"; behind {', '.join(behind)}." if behind else "."))
    return sentences


def _ratio_to(real: pd.DataFrame, ours: pd.DataFrame) -> Estimate:
    """Mean score of the fooled pictures over that of the paintings, minus 1; the paintings are taken as given."""
    reference = float(real.score.mean())
    found = mean(ours.score, ours.photo)
    return Estimate(found.value / reference - 1, found.low / reference - 1, found.high / reference - 1, found.photos)


study = Study(__name__, __doc__, table, report, gallery)
