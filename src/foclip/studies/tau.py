"""Two thresholds: how accurate is the paper's rule over τ₁ and τ₂?

The rule calls a picture tampered if its drop in gray is at least τ₁ and its drift at least τ₂. The surface shows the
accuracy of every pair of thresholds on all pictures. The reported accuracy is cross-validated: each photo is judged by
thresholds that were chosen on the other photos. The pictures are crops of the photos, and the same crops fooled.
"""

import pandas as pd

from foclip.detection import Sweep, sweep
from foclip.detection.rule import GRID
from foclip.reports import drawing
from foclip.studies.harness import PaperComparison, Study, StudyContext, StudyReport
from foclip.studies.harness.statistics import Floats, estimate, groups, means, percent


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: crops of the photos, clean and fooled. Crops without colour are left out."""
    rows = []
    for fooled in context.with_progress([False, True]):
        current = context.fool(context.default_attack(), context.examples) if fooled else context.examples
        for row, found in zip(context.rows(current, fooled=fooled), context.sensitivities(current), strict=True):
            row |= {"gray_already": found.gray_already}
            rows.append(row | {"drop": found.drops["gray"], "drift": found.drifts["gray"]})
    both = pd.DataFrame(rows)
    gray = both.picture[~both.fooled & both.gray_already]
    return both[~both.picture.isin(gray)].drop(columns="gray_already").reset_index(drop=True)


def report(table: pd.DataFrame) -> StudyReport:
    """The accuracy surface, and the accuracy on photos that had no part in choosing the thresholds."""
    surface = _fit(table)
    chosen, at_best = surface.best(), surface.accuracy.max()
    table = table.assign(tampered=_judged_by_others(table))

    def balanced(fooled: Floats, tampered: Floats) -> float:
        return float((tampered[fooled > 0].mean() + 1 - tampered[fooled == 0].mean()) / 2)

    accuracy = estimate(balanced, table.fooled, table.tampered, photos=table.photo)
    summary = []
    for fooled, part in groups(table, "fooled").items():
        row = {"": "fooled" if fooled else "originals", "pictures": len(part), "photos": part.photo.nunique()}
        summary.append(row | means(part, "drop", "drift", "tampered"))
    by_drop, by_drift = surface.accuracy[:, 0].max(), surface.accuracy[0].max()
    findings = [
        f"Judged by thresholds chosen on the other photos, the rule is right about {accuracy:.1%} of the pictures "
        "(balanced accuracy).",
        f"On all pictures at once the best pair is τ₁ = {chosen.tau1:g}, τ₂ = {chosen.tau2:g} with "
        f"{percent(at_best, '.1f')}: choosing and judging on the same photos flatters it by "
        f"{percent(at_best - accuracy.value, '.1f')}.",
        f"Of the two thresholds alone, τ₁ on the drop reaches {percent(by_drop, '.1f')} and τ₂ on the drift "
        f"{percent(by_drift, '.1f')}, with the other at its least ({GRID[0]:g}).",
    ]
    comparisons = [PaperComparison("detection accuracy of the rule, on photos left out", 0.91, accuracy)]
    return StudyReport(pd.DataFrame(summary), {"accuracy": drawing.surface(surface, chosen)}, findings, comparisons)


def _fit(table: pd.DataFrame) -> Sweep:
    return sweep(*(table.loc[table.fooled == fooled, ["drop", "drift"]].to_numpy() for fooled in (False, True)))


def _judged_by_others(table: pd.DataFrame) -> pd.Series:
    """Whether each picture is called tampered by the thresholds chosen without its photo."""
    tampered = pd.Series(False, index=table.index)
    for photo, part in groups(table, "photo").items():
        others = table[table.photo != photo]
        if len(others):
            rule = _fit(others).best()
            tampered[part.index] = [rule.ratio(*pair) >= 1 for pair in part[["drop", "drift"]].to_numpy()]
    return tampered


study = Study(__name__, __doc__, table, report, judged=False)
