"""Ablation: what does each term of the objective contribute?

Feature alignment alone, with either balance, with either guard, and all together, each within the fidelity budget and
without one. Within the budget a projection already keeps the picture close to its original, so the effect of the guards
shows only without a budget.
"""

import pandas as pd

from foclip.objective import FeatureAlignment, Objective, PixelGuard, ScoreBalance
from foclip.perceptual.budget import Budget
from foclip.studies.harness import BUDGET, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.statistics import Estimate, groups, mean

#: Written so that "all" is the objective of `default_attack`, whose pictures other studies use too.
OBJECTIVES: dict[str, Objective] = {
    "alignment": FeatureAlignment(),
    "alignment, balance (variance)": FeatureAlignment() + 1.0 * ScoreBalance("variance"),
    "alignment, balance (KL)": FeatureAlignment() + 1.0 * ScoreBalance("kl"),
    "alignment, guard (range)": FeatureAlignment() + 1.0 * PixelGuard("range"),
    "alignment, guard (l2)": FeatureAlignment() + 1.0 * PixelGuard("l2"),
    "all (variance, range)": FeatureAlignment() + 1.0 * ScoreBalance("variance") + 1.0 * PixelGuard("range"),
    "all (KL, l2)": FeatureAlignment() + 1.0 * ScoreBalance("kl") + 1.0 * PixelGuard("l2"),
}
FREE = "none"


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × objectives × with and without the budget."""
    plan = [(budget, *entry) for budget in (BUDGET, None) for entry in OBJECTIVES.items()]
    rows = []
    for budget, name, objective in context.with_progress(plan):
        attack = context.default_attack().replace(
            objective=objective, budgets=() if budget is None else Budget("psnr", budget)
        )
        shown = FREE if budget is None else f"{budget:g} dB"
        rows += context.rows(context.fool(attack, context.pictures), objective=name, budget=shown)
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Score, lowest prompt, spread and fidelity per objective, and the differences to alignment alone."""
    summary, scores = [], {}
    for (budget, name), part in groups(table, "budget", "objective").items():
        scores[f"{name}, budget {budget}"] = mean(part.score, part.photo)
        summary.append(
            {
                "budget": budget,
                "objective": name,
                "pictures": len(part),
                "score": f"{mean(part.score, part.photo):.3f}",
                "lowest prompt": f"{mean(part.lowest, part.photo):.3f}",
                "spread over prompts": f"{mean(part.spread, part.photo):.3f}",
                "PSNR / dB": f"{mean(part.psnr, part.photo):.1f}",
                "SSIM": f"{mean(part.ssim, part.photo):.3f}",
            }
        )
    findings = []
    for budget, part in groups(table, "budget").items():
        for name in OBJECTIVES:
            if name != "alignment":
                findings.append(_sentence(name, budget, part))
    return StudyReport(pd.DataFrame(summary), {"mean-score": plots.bars(scores, "mean CLIPScore")}, findings)


def _sentence(name: str, budget: str, part: pd.DataFrame) -> str:
    """What an objective changes against alignment alone, and whether the intervals leave 0 out."""
    pair = part[part.objective == name].merge(
        part[part.objective == "alignment"], on=["picture", "photo"], suffixes=("", "_alone")
    )
    changes = {
        words: mean(pair[column] - pair[f"{column}_alone"], pair.photo)
        for column, words in (
            ("score", "mean score"),
            ("lowest", "lowest prompt"),
            ("spread", "spread"),
            ("psnr", "PSNR / dB"),
        )
    }
    said = [f"{words} {change:+.3f}" for words, change in changes.items() if _clear(change)]
    return f"Budget {budget}, {name} against alignment alone: {'; '.join(said) or 'no change beyond chance'}."


def _clear(change: Estimate) -> bool:
    return change.low > 0 or change.high < 0


study = Study(__name__, __doc__, table, report)
