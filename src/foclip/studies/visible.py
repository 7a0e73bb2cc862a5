"""Visible: how far can a score be pushed before anybody sees it?

PSNR weighs all pixels alike, but people see a change on a plain wall sooner than one in grass. The same attack runs
without a mask, and with a mask that moves pixels where a change is least visible, within budgets of PSNR, SSIM,
CIEDE2000, FLIP and contrast. How high does the score get within each budget? Which budget keeps the most visible place
inconspicuous? Are pictures that nobody can tell from their originals easier or harder to detect?

FLIP and CIEDE2000 are means over pixels; "worst" is the 99th percentile. FLIP models a viewer who switches between the
two pictures, at 67 pixels per degree. Contrast says how far the change is above the eye's threshold, at all scales
together.
"""

import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import AttackPlan
from foclip.reports import drawing
from foclip.reports.fooled import most_changed
from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness.detectors import METHODS, caught, detector, judged
from foclip.studies.harness.statistics import groups, means, percent

#: Budgets, in a quick run and in full; those of one figure go from loose to tight.
QUICK = ("psnr:35", "psnr:38", "ssim:0.98", "delta_e99:5", "flip:0.05", "flip99:0.2", "contrast:0.425")
FULL = (
    *("psnr:35", "psnr:38", "psnr:41"),
    *("ssim:0.97", "ssim:0.98", "ssim:0.99"),
    *("delta_e99:8", "delta_e99:5"),
    *("flip:0.07", "flip:0.05", "flip:0.035"),
    *("flip99:0.3", "flip99:0.2", "flip99:0.1"),
    *("contrast:0.7", "contrast:0.425", "contrast:0.3"),
)
#: What changes are called at which all pixels move alike, and with the mask; what is not changed, and its budget.
PLAIN, MASKED, UNTOUCHED, NO_BUDGET = "plain", "masked", "original", "none needed"
#: Budgets of PSNR at which the attack runs without the mask too.
BESIDE = ("psnr:35", "psnr:38", "psnr:41")
#: Pictures that are shown, and the side of the part of each that is shown, in pixels.
SHOWN, PART = 6, 128
#: What the gallery shows: without a mask, with it, and the budgets that have a name.
GALLERY = ((PLAIN, "psnr:35"), (MASKED, "psnr:35"), (MASKED, "flip99:0.2"), (MASKED, "contrast:0.425"))


def attack(context: StudyContext, mask: str, budget: str) -> AttackPlan:
    """The attack within a budget."""
    mask = "visible" if mask == MASKED else "none"
    return context.default_attack().replace(budgets=budget, mask=mask, steps=context.settings.brief_steps)


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × masks × budgets; and the originals."""
    judge, pictures = detector(context, context.score), context.pictures
    budgets = QUICK if context.settings.quick else FULL
    plan = [(UNTOUCHED, NO_BUDGET)] + [(PLAIN, budget) for budget in budgets if budget in BESIDE]
    rows = []
    for mask, budget in context.with_progress(plan + [(MASKED, budget) for budget in budgets]):
        current = pictures if mask == UNTOUCHED else context.fool(attack(context, mask, budget), pictures)
        found = judged(context, judge, current, mask=mask, budget=budget)
        rows += [row | {"detector": judge.name} for row in found]
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Score and every metric per budget; where it is seen most; who is caught."""
    found = groups(table, "mask", "budget").items()
    parts = {f"{mask} {budget}".removesuffix(f" {NO_BUDGET}"): part for (mask, budget), part in found}
    columns = ("score", "lowest", "psnr", "ssim", "delta_e", "delta_e99", "flip", "flip99", "contrast")
    summary = [{"": name} | means(part, *columns) | caught(part, "caught by") for name, part in parts.items()]
    fooled = {name: part for name, part in parts.items() if name != UNTOUCHED}
    findings = []
    for budget in (budget for budget in BESIDE if f"{PLAIN} {budget}" in parts):
        plain, masked = parts[f"{PLAIN} {budget}"], parts[f"{MASKED} {budget}"]
        structure = (1 - masked.ssim.mean()) / (1 - plain.ssim.mean())
        findings.append(
            f"Within {budget} the mask takes the score from {plain.score.mean():.3f} to {masked.score.mean():.3f}, "
            f"1 − SSIM to {structure:.2f} times, mean FLIP to {masked.flip.mean() / plain.flip.mean():.2f} times and "
            f"its worst places to {masked.flip99.mean() / plain.flip99.mean():.2f} times."
        )
    findings += [_worst(fooled), *_caught(parts), f"Judged by the detector {table.detector.iloc[0]!r}."]
    return StudyReport(pd.DataFrame(summary), {"score-against-what-is-seen": _scatter(fooled)}, findings)


def _worst(parts: dict[str, pd.DataFrame]) -> str:
    """Which kind of budget keeps the worst place lowest for the score that it leaves."""
    scores, flips = ({name: part[c].mean() for name, part in parts.items()} for c in ("score", "flip99"))
    ratios = {name: scores[name] / max(flips[name], 1e-9) for name in parts}
    best, worst = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
    return (
        f"Most score for the FLIP of the worst places: {best} (score {scores[best]:.3f}, worst {flips[best]:.3f}); "
        f"least: {worst} ({scores[worst]:.3f}, {flips[worst]:.3f})."
    )


def _caught(parts: dict[str, pd.DataFrame]) -> list[str]:
    """Whether what is seen less is caught less."""
    sentences, compared = [], (f"{PLAIN} psnr:35", f"{MASKED} flip99:0.2", UNTOUCHED)
    for method, words in METHODS.items():
        before, after, alarms = (float(parts[name][method].mean()) for name in compared)
        change = "as many as" if before == after else "more than" if after > before else "fewer than"
        sentences.append(
            f"{words[0].upper()}{words[1:]} catches {percent(after)} within flip99:0.2, {change} the plain attack's at "
            f"35 dB ({percent(before)}); it calls {percent(alarms)} of the originals tampered."
        )
    return sentences


def _scatter(parts: dict[str, pd.DataFrame]) -> Figure:
    """Mean score against each metric, a line per mask and kind of budget."""
    plot = Figure(figsize=(11, 3.2), layout="constrained")
    metrics = {"1 − SSIM": "lost", "FLIP": "flip", "FLIP, worst": "flip99"}
    kinds: dict[str, list[pd.DataFrame]] = {}
    for name, part in parts.items():
        kinds.setdefault(name.partition(":")[0], []).append(part.assign(lost=1 - part.ssim))
    for axes, (words, metric) in zip(plot.subplots(1, len(metrics)), metrics.items(), strict=True):
        for number, (kind, members) in enumerate(kinds.items()):
            places, scores = ([float(part[column].mean()) for part in members] for column in (metric, "score"))
            axes.plot(places, scores, "o-", color=plots.COLORS[number], markersize=3.5, label=kind)
        drawing.tidy(axes, words, "mean CLIPScore")
    axes.legend(frameon=False, fontsize=7)
    return plot


def gallery(context: StudyContext) -> dict[str, Figure]:
    """Where the plain attack changes most, at full size, and the same place after the others."""
    pictures = context.pictures
    columns = {UNTOUCHED: pictures[:SHOWN]}
    for mask, budget in GALLERY:
        columns[f"{mask} {budget}"] = context.fool(attack(context, mask, budget), pictures)[:SHOWN]
    plain = columns[f"{PLAIN} {GALLERY[0][1]}"]
    boxes = [most_changed(a.image, b.image, PART) for a, b in zip(columns[UNTOUCHED], plain, strict=True)]
    return {"part-that-plain-changes-most": plots.gallery(context, columns, boxes)}


study = Study(__name__, __doc__, table, report, gallery)
