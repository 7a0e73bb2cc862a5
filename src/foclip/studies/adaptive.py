"""Adaptive attackers: does the defence hold against one who knows it?

The attacker adds to the objective what the detector looks at: the gray picture, or the picture under
every transformation whose sensitivity the detector uses, and asks for a high score of all of
them. What does that cost in score and fidelity, what does each detector still catch, and which
sensitivities still tell fooled pictures from originals?

What has no useful gradient (JPEG's rounding) is passed straight through, and the forward pass is the
detector's own transformation, to the last bit (backward pass differentiable approximation:
Athalye et al. 2018, arXiv 1802.00420).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from foclip.detection import TRANSFORMATIONS, Detector, View
from foclip.lab import BUDGET, Lab, Page, Study, plots
from foclip.lab.detectors import METHODS, detector, verdicts
from foclip.lab.pictures import Picture
from foclip.lab.statistics import Estimate, area, auc, groups, mean, percent, share

PLAIN, GRAY, ALL = "knows nothing", "knows gray", "knows all"
#: Share caught minus false alarms, for the verdict on a detector.
HOLDS, FAILS = 0.9, 0.5
#: Fidelity budgets, dB: what an attacker who knows the defence has to pay with.
QUICK, FULL = (BUDGET, 30.0), (40.0, BUDGET, 30.0)


def table(lab: Lab) -> pd.DataFrame:
    """Rows: pictures × attackers × budgets; and the originals."""
    judge = detector(lab, lab.score)
    attackers = {PLAIN: (), GRAY: ("gray",), ALL: tuple(judge.transformations)}
    plan = [
        (name, known, budget) for budget in (QUICK if lab.settings.quick else FULL) for name, known in attackers.items()
    ]
    pictures = lab.pictures[:8]
    rows = _rows(lab, pictures, judge, attacker="original", budget=float("nan"))
    for name, known, budget in lab.each(plan):
        attack = replace(
            lab.default_attack(),
            min_psnr=budget,
            views=tuple(View(each, lab.score.encoder.preprocess) for each in known),
        )
        rows += _rows(lab, lab.fool(attack, pictures), judge, attacker=name, budget=budget)
    return pd.DataFrame(rows)


def _rows(
    lab: Lab, looked_at: Sequence[Picture], judge: Detector, attacker: str, budget: float
) -> list[dict[str, Any]]:
    rows = lab.rows(looked_at, attacker=attacker, budget=budget)
    found = lab.sensitivities(looked_at)
    for row, verdict, seen in zip(rows, verdicts(lab, judge, lab.score, looked_at), found, strict=True):
        row |= verdict | {"detector": judge.name}
        row |= {f"drop_{name}": value for name, value in seen.drops.items()}
        row |= {f"drift_{name}": value for name, value in seen.drifts.items()}
    return rows


def page(table: pd.DataFrame) -> Page:
    """What knowing costs the attacker, and what each detector still catches."""
    originals = table[table.attacker == "original"]
    parts = groups(table[table.budget.notna()], "attacker", "budget")
    caught = {
        (name, budget, method): share(part[method], part.photo)
        for (name, budget), part in parts.items()
        for method in METHODS
    }
    summary = [_row(originals, "original", "")]
    summary += [_row(part, name, f"{budget:g}") for (name, budget), part in parts.items()]
    findings = [*_costs(parts), *_verdicts(originals, caught), *_what_is_left(originals, parts)]
    findings.append(f"Judged by the detector {table.detector.iloc[0]!r}.")
    plot = Figure(figsize=(11, 3.6))
    left, right = plot.subplots(1, 2)
    scores = {f"{name}, {budget:g} dB": mean(part.score, part.photo) for (name, budget), part in parts.items()}
    plots.draw_bars(left, scores, "mean CLIPScore")
    shown = {f"{name}, {METHODS[m]}": caught[name, BUDGET, m] for name in (PLAIN, GRAY, ALL) for m in METHODS}
    plots.draw_bars(right, shown, f"share caught at {BUDGET:g} dB")
    plot.tight_layout()
    return Page(pd.DataFrame(summary), {"score-and-share-caught": plot}, findings)


def _row(part: pd.DataFrame, name: str, budget: str) -> dict[str, object]:
    return {
        "attacker": name,
        "budget / dB": budget,
        "pictures": len(part),
        "score": f"{mean(part.score, part.photo):.3f}",
        "PSNR / dB": f"{mean(part.psnr, part.photo):.1f}",
        "SSIM": f"{mean(part.ssim, part.photo):.3f}",
        "FLIP, worst": f"{mean(part.flip99, part.photo):.3f}",
        "drop in gray": f"{mean(part['drop'], part.photo):.1%}",
        "drift in gray": f"{mean(part.drift, part.photo):.3f}",
        **{f"called tampered by {words}": f"{share(part[m], part.photo):.0%}" for m, words in METHODS.items()},
    }


def _costs(parts: dict[tuple[str, float], pd.DataFrame]) -> list[str]:
    """Score given up at the same budget, and whether a looser budget buys it back."""
    plain, sentences = parts[PLAIN, BUDGET], []
    for name in (GRAY, ALL):
        pair = plain.merge(parts[name, BUDGET], on=["picture", "photo"], suffixes=("", "_knows"))
        change = mean(pair.score_knows - pair.score, pair.photo)
        loosest = min(budget for _, budget in parts)
        bought = parts[name, loosest].score.mean() >= plain.score.mean()
        sentences.append(
            f"At {BUDGET:g} dB the attacker who {name} gets {change:+.3f} of score against one who {PLAIN} "
            f"({percent(change.value / plain.score.mean(), '+.0f')}); with a budget of {loosest:g} dB it "
            f"{'gets' if bought else 'does not get'} the full score back ({parts[name, loosest].score.mean():.3f} "
            f"against {plain.score.mean():.3f})."
        )
    return sentences


def _verdicts(
    originals: pd.DataFrame,
    caught: dict[tuple[str, float, str], Estimate],
) -> list[str]:
    """Per detector: against whom does it hold, and against whom does it fail.

    What counts is the share it catches minus its false alarms, for a detector that calls everything tampered
    holds nothing: it holds from `HOLDS` up, and fails below `FAILS`.
    """
    sentences = []
    for method, words in METHODS.items():
        alarms = share(originals[method], originals.photo)
        found = {name: caught[name, BUDGET, method] for name in (PLAIN, GRAY, ALL)}
        judged: dict[str, list[str]] = {"holds": [], "weakens": [], "fails": []}
        for name, estimate in found.items():
            lead = estimate.value - alarms.value
            judged["holds" if lead >= HOLDS else "weakens" if lead >= FAILS else "fails"].append(name)
        said = ", ".join(
            f"{verdict} against the attacker who {' and the one who '.join(against)}"
            for verdict, against in judged.items()
            if against
        )
        shares = ", ".join(f"{name}: {estimate:.0%}" for name, estimate in found.items())
        sentences.append(f"{words[0].upper()}{words[1:]} {said} (caught: {shares}; false alarms: {alarms:.0%}).")
    return sentences


def _what_is_left(originals: pd.DataFrame, parts: dict[tuple[str, float], pd.DataFrame]) -> list[str]:
    """The sensitivity that still separates best, per attacker."""
    names = [f"{kind}_{name}" for kind in ("drop", "drift") for name in TRANSFORMATIONS]
    sentences = []
    for attacker in (GRAY, ALL):
        pair = originals.merge(parts[attacker, BUDGET], on=["picture", "photo"], suffixes=("", "_fooled"))
        found = {name: area(pair[name], pair[f"{name}_fooled"]) for name in names}
        best = max(names, key=lambda name: abs(found[name] - 0.5))
        interval = auc(pair[best], pair[f"{best}_fooled"], pair.photo)
        sentences.append(
            f"Of all {len(names)} sensitivities, {best.replace('_', ' under ')} still tells most about the attacker "
            f"who {attacker}: AUC {interval:.2f}. It was picked as the best of many, so expect less of it elsewhere."
        )
    return sentences


study = Study(__name__, __doc__, table, page)
