"""Ablation: what does each term of the objective contribute?

Feature alignment alone, with either balance, with either guard, and all together, each within the fidelity budget and
without one. Within the budget a projection already keeps the picture close to its original, so the effect of the guards
shows only without a budget.
"""

import pandas as pd

from foclip.objective import FeatureAlignment, Objective, PixelGuard, ScoreBalance
from foclip.perceptual.budget import Budget
from foclip.studies.harness import BUDGET, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.statistics import groups, lead, mean, means

ALONE = "alignment"
#: Written so that "all" is the objective of `default_attack`, whose pictures other studies use too.
OBJECTIVES: dict[str, Objective] = {
    ALONE: FeatureAlignment(),
    "alignment, balance (variance)": FeatureAlignment() + 1.0 * ScoreBalance("variance"),
    "alignment, balance (KL)": FeatureAlignment() + 1.0 * ScoreBalance("kl"),
    "alignment, guard (range)": FeatureAlignment() + 1.0 * PixelGuard("range"),
    "alignment, guard (l2)": FeatureAlignment() + 1.0 * PixelGuard("l2"),
    "all (variance, range)": FeatureAlignment() + 1.0 * ScoreBalance("variance") + 1.0 * PixelGuard("range"),
    "all (KL, l2)": FeatureAlignment() + 1.0 * ScoreBalance("kl") + 1.0 * PixelGuard("l2"),
}


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × objectives × with and without the budget."""
    budgets = {f"{BUDGET:g} dB": Budget("psnr", BUDGET), "none": ()}
    plan = [(budget, *entry) for budget in budgets for entry in OBJECTIVES.items()]
    rows = []
    for budget, name, objective in context.with_progress(plan):
        attack = context.default_attack().replace(
            objective=objective, budgets=budgets[budget], steps=context.settings.brief_steps
        )
        rows += context.rows(context.fool(attack, context.pictures), objective=name, budget=budget)
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Score, lowest prompt, spread and fidelity per objective, and the differences to alignment alone."""
    parts = groups(table, "budget", "objective")
    summary = [
        {"budget": budget, "objective": name} | means(part, "score", "lowest", "spread", "psnr", "ssim")
        for (budget, name), part in parts.items()
    ]
    scores = {f"{name}, budget {budget}": mean(part.score, part.photo) for (budget, name), part in parts.items()}
    names = {"score": "mean score", "lowest": "lowest prompt", "spread": "spread", "psnr": "PSNR / dB"}
    findings = []
    for (budget, name), part in parts.items():
        if name != ALONE:  # where the interval leaves 0 out
            changes = {words: lead(part, parts[budget, ALONE], column) for column, words in names.items()}
            clear = [f"{words} {change:+.3f}" for words, change in changes.items() if change.low > 0 or change.high < 0]
            said = "; ".join(clear) or "no change beyond chance"
            findings.append(f"Budget {budget}, {name} against alignment alone: {said}.")
    return StudyReport(pd.DataFrame(summary), {"mean-score": plots.bars(scores, "mean CLIPScore")}, findings)


study = Study(__name__, __doc__, table, report, judged=False)
