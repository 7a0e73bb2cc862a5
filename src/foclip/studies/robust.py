"""A hardened twin: how far can scores be raised that an encoder, its twin, or both give?

The score of the encoder, that of a twin that was made hard to fool (`foclip harden`), the mean and the lower of the two
are attacked within ever larger budgets, each by an attacker who knows it, for a photo's own caption,
for ten artworks' titles and for a hundred captions. On the twin the attacker tries harder: more steps, other
starts, Auto-PGD, and CMA-ES, which asks for scores alone. What does the twin cost on photos that nobody touched, and
what do smaller and larger radii buy and cost? The twins of that frontier are hardened here, for a few steps, on crops
of every other photo, and are measured on the remaining ones.

A defence may seem to hold because the attack cannot see where to go (Athalye et al. 2018, arXiv 1802.00420; Croce et
al. 2022, arXiv 2202.13711). So there are checks: gradients are there, more steps do not gain less, a large budget fools
every photo, one without bounds takes the twin about as high as the encoder, and no black box beats the gradient.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import CMAES, Attack, AutoPGD, Restart
from foclip.data import prompts
from foclip.models.scores import EmbeddingScore, MeanEnsemble, MinEnsemble, Prompts, Score
from foclip.objective import Alignment
from foclip.studies.harness import BUDGET, Page, Study, StudyContext, plots
from foclip.studies.harness.context import PromptsOf
from foclip.studies.harness.gradients import gradients
from foclip.studies.harness.own import candidates, own_captions
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate, groups, mean, percent
from foclip.studies.harness.twins import hardened, held_out

PLAIN, TWIN, MEAN, LOWER = "the encoder", "its twin", "mean of both", "lower of both"
OWN, ARTWORKS, HUNDRED = "own caption", "ten artworks", "100 captions"
#: Budgets of the curves, dB.
QUICK, FULL = (28.0, BUDGET, 45.0), (28.0, 32.0, BUDGET, 40.0, 45.0, 50.0)
#: Shares of a run's steps that FoCLIP takes on the twin; 1 is what all others take.
LENGTHS = (0.1, 1, 10)
#: Starts of which the best counts, and CMA-ES' queries for every step of the others.
STARTS, QUERIES = 5, 10
#: Radii of the frontier, dB.
RADII = (32.0, 38.0, 44.0)
#: A change that nobody overlooks, and one that leaves nothing of a photo, dB.
VISIBLE, ANY = 20.0, 6.0
#: Photos of a curve, and of what takes long.
PHOTOS, FEW = 8, 4
#: Where gradients are looked at, from the photo (0) to the fooled picture (1).
ALONG = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Least share of the gradient at the photo that must be left on the way; scores closer than this are equal; and the
#: share of the encoder's ceiling that counts as reaching it.
GRADIENT, NOISE, CEILING = 0.01, 0.01, 0.9
#: Part, what is attacked, for what, by whom, within how many dB.
Key = tuple[str, str, str, str, float]
CURVE, HARDER, CLEAN, FRONTIER, CHECK, WAY = "curve", "attackers", "clean", "frontier", "check", "way"


@dataclass(frozen=True)
class Cell:
    """Pictures fooled in one way.

    Attributes:
        part: The part of the study.
        attacked: Name of what is attacked.
        score: What is attacked.
        aim: Name of the prompts.
        attacker: Name of the attack.
        attack: The attack.
        count: Pictures, from the first.
    """

    part: str
    attacked: str
    score: Score
    aim: str
    attacker: str
    attack: Attack
    count: int


def table(lab: StudyContext) -> pd.DataFrame:
    """Rows: pictures × what is attacked × aims × attackers × budgets; clean pictures; and points on the way."""
    twin = lab.twins[0] if lab.twins else hardened(lab, RADII[len(RADII) // 2])
    own = own_captions(lab, [lab.score, twin])
    rows = []
    for cell in lab.each(list(_plan(lab, twin))):
        rows += _fooled(lab, twin, cell, lab.pictures[: cell.count], own)
    few = lab.pictures[:FEW]
    fooled = lab.fool(lab.default_attack(), few, prompts.ARTWORKS, twin)
    found = gradients(lab, twin, prompts.ARTWORKS, few, fooled, ALONG)
    rows += [row | {"part": WAY, "attacked": TWIN, "aim": ARTWORKS} for row in found]
    # Whatever is hardened here saw every other photo, so all points of the frontier are measured on the remaining ones.
    apart = held_out(lab)[:PHOTOS]
    named = {PLAIN: lab.score} | {TWIN if each is twin else each.model: each for each in (lab.twins or (twin,))}
    for name, radius in lab.each([*((name, None) for name in named), *((_hardened(r), r) for r in RADII)]):
        score = named[name] if radius is None else hardened(lab, radius)
        cell = Cell(FRONTIER, name, score, OWN, "FoCLIP", lab.default_attack(), len(apart))
        rows += _fooled(lab, twin, cell, apart, own)
        rows += _clean(lab, name, score, apart, own)
    return pd.DataFrame(rows)


def _hardened(radius: float) -> str:
    return f"hardened at {radius:g} dB"


def _plan(lab: StudyContext, twin: EmbeddingScore) -> Iterator[Cell]:
    """What is fooled, but for the frontier."""
    foclip, steps, seed = lab.default_attack(), lab.settings.steps, lab.settings.seed
    both = (lab.score, twin)
    defences: dict[str, Score] = {PLAIN: lab.score, TWIN: twin, MEAN: MeanEnsemble(both), LOWER: MinEnsemble(both)}
    for aim in (OWN, ARTWORKS, HUNDRED):
        for name, score in defences.items():
            two = name in (MEAN, LOWER)
            if two and aim != OWN and lab.settings.quick:
                continue
            for budget in QUICK if lab.settings.quick else FULL:
                attack = replace(foclip, min_psnr=budget)
                yield Cell(CURVE, name, score, aim, "FoCLIP", attack, FEW if two or lab.settings.quick else PHOTOS)
    attackers: dict[str, Attack] = {}
    for share in LENGTHS:
        length = max(1, round(share * steps))
        attackers[f"FoCLIP, {length:,} steps"] = replace(foclip, steps=length)
    attackers["Auto-PGD"] = AutoPGD(steps=steps, min_psnr=BUDGET, seed=seed)
    for start in range(1, STARTS):
        attackers[f"start {start}"] = Restart(
            objective=foclip.objective, steps=steps, min_psnr=BUDGET, seed=seed, start=start
        )
    if importlib.util.find_spec("cma"):
        attackers["CMA-ES"] = CMAES(objective=Alignment(), steps=QUERIES * steps, min_psnr=BUDGET, seed=seed)
    for name, harder in attackers.items():
        yield Cell(HARDER, TWIN, twin, ARTWORKS, name, harder, FEW)
    yield Cell(CHECK, TWIN, twin, OWN, "FoCLIP", replace(foclip, min_psnr=VISIBLE), FEW)
    for name in (PLAIN, TWIN):
        yield Cell(CHECK, name, defences[name], OWN, "FoCLIP", replace(foclip, min_psnr=ANY), FEW)


def _fooled(
    lab: StudyContext, twin: EmbeddingScore, cell: Cell, pictures: Sequence[Picture], own: dict[str, Prompts]
) -> list[dict[str, Any]]:
    """Scores before and after, where they were attacked as well as on the encoder and its twin."""
    wanted: PromptsOf = {ARTWORKS: prompts.ARTWORKS, HUNDRED: prompts.imagenet(100)}.get(cell.aim) or [
        own[picture.name] for picture in pictures
    ]
    fooled = lab.fool(cell.attack, pictures, wanted, cell.score)
    same = {
        "part": cell.part,
        "attacked": cell.attacked,
        "aim": cell.aim,
        "attacker": cell.attacker,
        "budget": cell.attack.min_psnr,
    }
    rows = lab.rows(fooled, wanted, cell.score, **same)
    for column, score in (("before", cell.score), ("plain_before", lab.score), ("twin_before", twin)):
        for row, values in zip(rows, lab.scores(pictures, wanted, score), strict=True):
            row[column] = values.mean()
    for column, score in (("plain", lab.score), ("twin", twin)):
        for row, values in zip(rows, lab.scores(fooled, wanted, score), strict=True):
            row[column] = values.mean()
    return rows


def _clean(
    lab: StudyContext, name: str, score: EmbeddingScore, pictures: Sequence[Picture], own: dict[str, Prompts]
) -> list[dict[str, Any]]:
    """Photos as they are: score for the own caption, drop in gray, and rank correlation of all captions' scores."""
    wanted = candidates()
    ours, theirs = (pd.DataFrame(lab.scores(pictures, wanted, each).T) for each in (score, lab.score))
    ranks = ours.corrwith(theirs, method="spearman")
    rows = lab.rows(pictures, [own[p.name] for p in pictures], score, part=CLEAN, attacked=name, aim=OWN)
    for row, picture, correlation in zip(rows, pictures, ranks, strict=True):
        (seen,) = lab.sensitivities([picture], own[picture.name], score)
        row |= {"ranks": float(correlation), "drop": seen.drops["gray"]}
    return rows


def page(table: pd.DataFrame) -> Page:
    """Rises by budget and by attacker, what a twin costs, and whether the checks hold."""
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
            "rise": f"{rises[part, attacked, aim, attacker, budget]:+.3f}",
            "on the encoder": f"{mean(rows.plain - rows.plain_before, rows.photo):+.3f}",
            "on its twin": f"{mean(rows.twin - rows.twin_before, rows.photo):+.3f}",
        }
        for (part, attacked, aim, attacker, budget), rows in parts.items()
    ]
    findings = [*_rises(rises), *_crossed(parts), *_attackers(table), *_price(clean, rises)]
    findings += [
        f"Check: {claim}: {'holds' if holds else 'DOES NOT HOLD'} ({said})." for claim, holds, said in checks(table)
    ]
    harder = {name: mean(part.rise, part.photo) for name, part in _harder(table).items()}
    figures = {
        "rise-over-fidelity": _curves(rises),
        "rise-by-attacker": plots.bars(harder, f"rise for ten artworks at {BUDGET:g} dB, on the twin"),
        "frontier": _frontier(clean, rises),
    }
    return Page(pd.DataFrame(summary), figures, findings)


def _rises(rises: dict[Key, Estimate]) -> list[str]:
    """What each defence leaves of the rise, at one budget."""
    sentences = []
    for aim in (OWN, ARTWORKS, HUNDRED):
        found = {name: rises.get((CURVE, name, aim, "FoCLIP", BUDGET)) for name in (PLAIN, TWIN, MEAN, LOWER)}
        said = ", ".join(f"{name} {rise:+.3f}" for name, rise in found.items() if rise)
        sentences.append(f"For {aim} within {BUDGET:g} dB, an attacker who knows what scores gains: {said}.")
    return sentences


def _crossed(parts: dict[Key, pd.DataFrame]) -> list[str]:
    """What pictures fooled on one of the two score on the other."""
    sentences = []
    for attacked, other, column in ((PLAIN, TWIN, "twin"), (TWIN, PLAIN, "plain")):
        part = parts[CURVE, attacked, OWN, "FoCLIP", BUDGET]
        crossed = mean(part[column] - part[f"{column}_before"], part.photo)
        sentences.append(
            f"Pictures fooled on {attacked} for their own caption within {BUDGET:g} dB rise by "
            f"{mean(part.rise, part.photo):+.3f} there and by {crossed:+.3f} on {other}."
        )
    return sentences


def _harder(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Attackers who try harder; of several starts, that of the photo among them, the best of each photo counts."""
    parts = groups(table[table.part == HARDER], "attacker")
    starts = [name for name in parts if name.startswith("start ")]
    lengths = [name for name in parts if name.startswith("FoCLIP")]
    several = pd.concat([parts[name] for name in (lengths[LENGTHS.index(1)], *starts)])
    best = several.loc[several.groupby("picture").rise.idxmax()]
    return {name: part for name, part in parts.items() if name not in starts} | {f"best of {STARTS} starts": best}


def _attackers(table: pd.DataFrame) -> list[str]:
    """Who gains most on the twin."""
    found = {name: mean(part.rise, part.photo) for name, part in _harder(table).items()}
    said = ", ".join(f"{name} {rise:+.3f}" for name, rise in found.items())
    strongest = max(found, key=lambda name: found[name].value)
    missing = "" if "CMA-ES" in found else " CMA-ES was left out: it needs the package cma (pip install cma)."
    return [f"Against the twin, for ten artworks within {BUDGET:g} dB: {said}. {strongest} gains most.{missing}"]


def _price(clean: dict[str, pd.DataFrame], rises: dict[Key, Estimate]) -> list[str]:
    """What a twin changes on photos that nobody touched, beside what it buys."""
    plain, sentences = clean[PLAIN], []
    before = rises[FRONTIER, PLAIN, OWN, "FoCLIP", BUDGET]
    for name, part in clean.items():
        if name == PLAIN:
            continue
        rise = rises[FRONTIER, name, OWN, "FoCLIP", BUDGET]
        sentences.append(
            f"{name[0].upper()}{name[1:]}: the rise for the own caption falls from {before:+.3f} to {rise:+.3f}; on "
            f"clean photos that caption scores {percent(part.score.mean() / plain.score.mean())} of the encoder's, "
            f"the rank correlation of ImageNet's captions with the encoder's is {mean(part.ranks, part.photo):.2f}, "
            f"and the drop in gray {percent(part['drop'].mean())} instead of {percent(plain['drop'].mean())}."
        )
    return sentences


def checks(table: pd.DataFrame) -> list[tuple[str, bool, str]]:
    """What must be so unless a defence only looks like one: what is claimed, whether it holds, and the figures."""
    table = table.assign(rise=table.score - table.before)
    way, check = table[table.part == WAY], groups(table[table.part == CHECK], "attacked", "budget")
    first = way[way.along == 0].set_index("picture").gradient
    left = float((way.gradient / way.picture.map(first)).min())
    finite = bool(np.isfinite(way.gradient).all() and np.isfinite(table.score).all())
    harder = {name: float(part.rise.mean()) for name, part in _harder(table).items()}
    longer = [rise for name, rise in harder.items() if name.startswith("FoCLIP")]
    curve = table[(table.part == CURVE) & (table.attacked == TWIN)].groupby(["aim", "budget"]).rise.mean()
    grows = all(curve[aim].is_monotonic_decreasing for aim in curve.index.unique("aim"))
    best = float(table[(table.part == CLEAN) & (table.attacked == TWIN)].score.max())
    visible, free, ceiling = (check[key].score for key in ((TWIN, VISIBLE), (TWIN, ANY), (PLAIN, ANY)))
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
            f"at {VISIBLE:g} dB every photo scores more for its caption than any clean one",
            bool((visible > best).all()),
            f"{int((visible > best).sum())} of {len(visible)} above {best:.3f}",
        ),
        (
            f"at {ANY:g} dB, where nothing holds it back, the twin reaches {percent(CEILING)} of the encoder's ceiling",
            bool(free.mean() >= CEILING * ceiling.mean()),
            f"{free.mean():.3f} against {ceiling.mean():.3f}",
        ),
    ]
    if black_box := harder.get("CMA-ES"):
        same = longer[LENGTHS.index(1)]
        said = f"{black_box:.3f} against {same:.3f}"
        found.append(("a black box does not beat the gradient", black_box <= same, said))
    return found


def _curves(rises: dict[Key, Estimate]) -> Figure:
    plot = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, aim in zip(plot.subplots(1, 3, sharey=True), (OWN, ARTWORKS, HUNDRED), strict=True):
        series = {}
        for name in (PLAIN, TWIN, MEAN, LOWER):
            found = {key[4]: rise for key, rise in rises.items() if key[:3] == (CURVE, name, aim)}
            if found:
                series[name] = (list(found), list(found.values()))
        plots.draw_lines(axes, series, "fidelity budget, dB", f"rise for {aim}")
    return plot


def _frontier(clean: dict[str, pd.DataFrame], rises: dict[Key, Estimate]) -> Figure:
    """What is left of the rise over what is left of the ranks."""
    plot = Figure(figsize=(5.6, 3.6))
    axes = plot.subplots()
    for name, part in clean.items():
        ranks, rise = mean(part.ranks, part.photo), rises[FRONTIER, name, OWN, "FoCLIP", BUDGET]
        axes.errorbar(ranks.value, rise.value, xerr=plots.arms([ranks]), yerr=plots.arms([rise]), fmt="o", label=name)
    axes.set_xlabel("rank correlation with the encoder, clean photos")
    axes.set_ylabel(f"rise for the own caption at {BUDGET:g} dB")
    axes.legend(frameon=False, fontsize=8)
    plots.tidy(axes)
    return plot


study = Study(__name__, __doc__, table, page)
