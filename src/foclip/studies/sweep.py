"""Sweep: how much depends on the weights, the step size and the momentum?

The weight α of the balance, the step size and the momentum are varied within the fidelity budget. The weight β of the
guard is varied without a budget, because there it alone keeps a picture close to its original. One setting is changed
at a time; the others keep their defaults (α = β = 1, automatic step size and momentum). The step sizes lie around the
paper's 7. Gradients of another encoder have another size.
"""

import pandas as pd

from foclip.attacks import AttackPlan
from foclip.attacks.foclip import objective
from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness.statistics import groups, mean, means

#: Values of each parameter (quick run, full run).
WEIGHTS = ((0.01, 0.1, 1.0, 10.0), (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0))
STEPS = ((0.7, 7.0, 70.0, 700.0), (0.07, 0.7, 2.3, 7.0, 23.0, 70.0, 700.0))
MOMENTA = ((0.0, 0.5, 0.9), (0.0, 0.25, 0.5, 0.75, 0.9, 0.95))
ALPHA, RANGE, L2, STEP, MOMENTUM = "α", "β of the range guard", "β of the l2 guard", "step size", "momentum"


def attacks(context: StudyContext) -> list[tuple[str, float, AttackPlan]]:
    """Every setting: the parameter, its value, and the attack."""
    default, column = (
        context.default_attack().replace(steps=context.settings.brief_steps),
        0 if context.settings.quick else 1,
    )
    free = default.replace(budgets=())
    return [
        *((ALPHA, value, default.replace(objective=objective(alpha=value))) for value in WEIGHTS[column]),
        *((RANGE, value, free.replace(objective=objective(beta=value))) for value in WEIGHTS[column]),
        *((L2, value, free.replace(objective=objective(beta=value, guard="l2"))) for value in WEIGHTS[column]),
        *((STEP, value, default.replace(lr=value)) for value in STEPS[column]),
        *((MOMENTUM, value, default.replace(momentum=value)) for value in MOMENTA[column]),
    ]


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × settings."""
    pictures = context.pictures[: 4 if context.settings.quick else None]
    rows = []
    for parameter, value, attack in context.with_progress(attacks(context)):
        rows += context.rows(context.fool(attack, pictures), parameter=parameter, value=value)
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Score and fidelity over each parameter, and the loss with the worst value."""
    summary, figures, findings = [], {}, []
    for parameter, part in groups(table, "parameter").items():
        parts = dict(sorted(groups(part, "value").items()))
        summary += [
            {"parameter": parameter, "value": f"{value:g}"} | means(each, "score", "lowest", "psnr")
            for value, each in parts.items()
        ]
        values = list(parts)
        score, lowest, psnr = (
            [mean(each[column], each.photo) for each in parts.values()] for column in ("score", "lowest", "psnr")
        )
        scores = {"mean score": (values, score), "lowest prompt": (values, lowest)}
        panels = {"CLIPScore": scores, "PSNR / dB": {"": (values, psnr)}}
        file = parameter.replace(" ", "-").replace("α", "alpha").replace("β", "beta")
        figures[file] = plots.lines(parameter, panels, plots.WIDE, logarithmic=parameter != MOMENTUM)
        found = {value: estimate.value for value, estimate in zip(values, score, strict=True)}
        best, worst = max(found, key=found.__getitem__), min(found, key=found.__getitem__)
        findings.append(
            f"{parameter}: best at {best:g} (mean score {found[best]:.3f}), worst at {worst:g} ({found[worst]:.3f}); "
            f"PSNR from {min(e.value for e in psnr):.1f} to {max(e.value for e in psnr):.1f} dB."
        )
    return StudyReport(pd.DataFrame(summary), figures, findings)


study = Study(__name__, __doc__, table, report, judged=False)
