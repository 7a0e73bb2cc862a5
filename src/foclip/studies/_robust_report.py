"""The report of the study `robust`: score gains per budget and attacker, the cost of hardening, and the checks."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foclip.studies.harness import BUDGET, StudyReport, plots
from foclip.studies.harness.statistics import Estimate, groups, mean, percent

#: What is attacked.
PLAIN, HARDENED, MEAN, LOWER = "the encoder", "the hardened encoder", "mean of both", "minimum of both"
#: The prompts that pictures are fooled for.
OWN, ARTWORKS, HUNDRED = "best caption", "ten artworks", "100 captions"
#: Parts of the table.
CURVE, HARDER, CLEAN, FRONTIER, CHECK, WAY = "curve", "attackers", "clean", "frontier", "check", "way"
#: Shares of a run's steps that FoCLIP takes on the hardened encoder. All other attacks take the share 1.
LENGTHS = (0.1, 1, 10)
#: Budgets in dB of a change that everybody sees, and of one that leaves nothing of a photo.
VISIBLE, ANY = 20.0, 6.0
#: Least share of the photo's gradient that must remain on the way; difference below which two scores are equal; share
#: of the encoder's highest score that counts as reaching it.
GRADIENT, NOISE, CEILING = 0.01, 0.01, 0.9
#: Part, what is attacked, the prompts, the attack, the budget in dB.
Key = tuple[str, str, str, str, float]


def report(table: pd.DataFrame) -> StudyReport:
    """Score gains by budget and by attacker, the cost of hardening, and whether the checks hold."""
    table = table.assign(rise=table.score - table.before)
    parts = groups(table[table.before.notna()], "part", "attacked", "aim", "attacker", "budget")
    rises = {key: mean(part.rise, part.photo) for key, part in parts.items()}
    clean = groups(table[table.part == CLEAN], "attacked")
    summary = [
        {
            "part": part,
            "attacked": attacked,
            "for": aim,
            "attacker": attacker,
            "budget / dB": f"{budget:g}",
            "pictures": len(rows),
            "before": f"{rows.before.mean():.3f}",
            "after": f"{rows.score.mean():.3f}",
            "score gain": f"{rises[part, attacked, aim, attacker, budget]:+.3f}",
            "on the encoder": f"{mean(rows.plain - rows.plain_before, rows.photo):+.3f}",
            "on the hardened encoder": f"{mean(rows.hardened - rows.hardened_before, rows.photo):+.3f}",
        }
        for (part, attacked, aim, attacker, budget), rows in parts.items()
    ]
    findings = [*_rises(rises), *_crossed(parts), *_attackers(table), *_price(clean, rises)]
    findings += [
        f"Check: {claim}: {'holds' if holds else 'DOES NOT HOLD'} ({said})." for claim, holds, said in checks(table)
    ]
    harder = {name: mean(part.rise, part.photo) for name, part in _harder(table).items()}
    figures = {
        "score-gain-over-fidelity": _curves(rises),
        "score-gain-by-attacker": plots.bars(harder, f"score gain for ten artworks at {BUDGET:g} dB, hardened encoder"),
        "frontier": _frontier(clean, rises),
    }
    return StudyReport(pd.DataFrame(summary), figures, findings)


def _rises(rises: dict[Key, Estimate]) -> list[str]:
    """The score gain that each defence allows, at one budget."""
    sentences = []
    for aim in (OWN, ARTWORKS, HUNDRED):
        found = {name: rises.get((CURVE, name, aim, "FoCLIP", BUDGET)) for name in (PLAIN, HARDENED, MEAN, LOWER)}
        said = ", ".join(f"{name} {rise:+.3f}" for name, rise in found.items() if rise)
        sentences.append(f"For {aim} within {BUDGET:g} dB, attackers who know the score gain: {said}.")
    return sentences


def _crossed(parts: dict[Key, pd.DataFrame]) -> list[str]:
    """How pictures fooled on one encoder score on the other."""
    sentences = []
    for attacked, other, column in ((PLAIN, HARDENED, "hardened"), (HARDENED, PLAIN, "plain")):
        part = parts[CURVE, attacked, OWN, "FoCLIP", BUDGET]
        crossed = mean(part[column] - part[f"{column}_before"], part.photo)
        sentences.append(
            f"Pictures fooled on {attacked} for their best caption within {BUDGET:g} dB gain "
            f"{mean(part.rise, part.photo):+.3f} there and {crossed:+.3f} on {other}."
        )
    return sentences


def _harder(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Stronger attacks. Of several starting points, the photo itself among them, the best of each photo counts."""
    parts = groups(table[table.part == HARDER], "attacker")
    starts = [name for name in parts if name.startswith("start ")]
    lengths = [name for name in parts if name.startswith("FoCLIP")]
    several = pd.concat([parts[name] for name in (lengths[LENGTHS.index(1)], *starts)])
    best = several.loc[several.groupby("picture").rise.idxmax()]
    return {name: part for name, part in parts.items() if name not in starts} | {
        f"best of {len(starts) + 1} starts": best
    }


def _attackers(table: pd.DataFrame) -> list[str]:
    """Which attack gains most on the hardened encoder."""
    found = {name: mean(part.rise, part.photo) for name, part in _harder(table).items()}
    said = ", ".join(f"{name} {rise:+.3f}" for name, rise in found.items())
    strongest = max(found, key=lambda name: found[name].value)
    missing = "" if "CMA-ES" in found else " CMA-ES was left out: it needs the package cma (pip install cma)."
    return [
        f"Against the hardened encoder, for ten artworks within {BUDGET:g} dB: {said}. {strongest} gains most.{missing}"
    ]


def _price(clean: dict[str, pd.DataFrame], rises: dict[Key, Estimate]) -> list[str]:
    """What hardening changes on clean photos, and what it gains."""
    plain, sentences = clean[PLAIN], []
    before = rises[FRONTIER, PLAIN, OWN, "FoCLIP", BUDGET]
    for name, part in clean.items():
        if name == PLAIN:
            continue
        rise = rises[FRONTIER, name, OWN, "FoCLIP", BUDGET]
        sentences.append(
            f"{name[0].upper()}{name[1:]}: the score gain for the best caption falls from {before:+.3f} to "
            f"{rise:+.3f}; on clean photos that caption scores "
            f"{percent(part.score.mean() / plain.score.mean())} of the encoder's, "
            f"the rank correlation of ImageNet's captions with the encoder's is {mean(part.ranks, part.photo):.2f}, "
            f"and the drop in gray {percent(part['drop'].mean())} instead of {percent(plain['drop'].mean())}."
        )
    return sentences


def checks(table: pd.DataFrame) -> list[tuple[str, bool, str]]:
    """Checks that fail if a defence only appears to hold: the claim, whether it holds, and the numbers."""
    table = table.assign(rise=table.score - table.before)
    way, check = table[table.part == WAY], groups(table[table.part == CHECK], "attacked", "budget")
    first = way[way.along == 0].set_index("picture").gradient
    left = float((way.gradient / way.picture.map(first)).min())
    finite = bool(np.isfinite(way.gradient).all() and np.isfinite(table.score).all())
    harder = {name: float(part.rise.mean()) for name, part in _harder(table).items()}
    longer = [rise for name, rise in harder.items() if name.startswith("FoCLIP")]
    curve = table[(table.part == CURVE) & (table.attacked == HARDENED)].groupby(["aim", "budget"]).rise.mean()
    grows = all(curve[aim].is_monotonic_decreasing for aim in curve.index.unique("aim"))
    best = float(table[(table.part == CLEAN) & (table.attacked == HARDENED)].score.max())
    visible, free, ceiling = (check[key].score for key in ((HARDENED, VISIBLE), (HARDENED, ANY), (PLAIN, ANY)))
    found = [
        (
            "scores and gradients are finite, and the gradient does not vanish on the way to a fooled picture",
            finite and left > GRADIENT,
            f"at least {percent(left)} of the gradient at the photo is left",
        ),
        (
            "more steps do not gain less",
            all(b > a - NOISE for a, b in pairwise(longer)),
            " → ".join(f"{rise:.3f}" for rise in longer),
        ),
        (
            "a larger budget gains more",
            grows,
            "; ".join(f"{aim}: {', '.join(f'{rise:.3f}' for rise in curve[aim])}" for aim in curve.index.unique("aim")),
        ),
        (
            f"at {VISIBLE:g} dB every photo scores more for its caption than any clean photo",
            bool((visible > best).all()),
            f"{int((visible > best).sum())} of {len(visible)} above {best:.3f}",
        ),
        (
            f"at {ANY:g} dB, which bounds nothing, the hardened encoder scores {percent(CEILING)} of the encoder's",
            bool(free.mean() >= CEILING * ceiling.mean()),
            f"{free.mean():.3f} against {ceiling.mean():.3f}",
        ),
    ]
    if black_box := harder.get("CMA-ES"):
        same = longer[LENGTHS.index(1)]
        said = f"{black_box:.3f} against {same:.3f}"
        found.append(("no black-box attack beats the gradient", black_box <= same, said))
    return found


def _curves(rises: dict[Key, Estimate]) -> Figure:
    plot = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, aim in zip(plot.subplots(1, 3, sharey=True), (OWN, ARTWORKS, HUNDRED), strict=True):
        series = {}
        for name in (PLAIN, HARDENED, MEAN, LOWER):
            found = {key[4]: rise for key, rise in rises.items() if key[:3] == (CURVE, name, aim)}
            if found:
                series[name] = (list(found), list(found.values()))
        plots.draw_lines(axes, series, "fidelity budget, dB", f"score gain for {aim}")
    return plot


def _frontier(clean: dict[str, pd.DataFrame], rises: dict[Key, Estimate]) -> Figure:
    """Score gain over rank correlation."""
    plot = Figure(figsize=(5.6, 3.6))
    axes = plot.subplots()
    for name, part in clean.items():
        ranks, rise = mean(part.ranks, part.photo), rises[FRONTIER, name, OWN, "FoCLIP", BUDGET]
        axes.errorbar(ranks.value, rise.value, xerr=plots.arms([ranks]), yerr=plots.arms([rise]), fmt="o", label=name)
    axes.set_xlabel("rank correlation with the encoder, clean photos")
    axes.set_ylabel(f"score gain for the best caption at {BUDGET:g} dB")
    axes.legend(frameon=False, fontsize=8)
    plots.tidy(axes)
    return plot
