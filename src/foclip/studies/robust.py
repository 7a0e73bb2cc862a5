"""A hardened encoder: how far can attackers raise the score of an encoder, its hardened version, or both?

Four scores are attacked: that of the encoder, that of a version that was made hard to fool (`foclip harden`), their
mean and their minimum. The attackers know the score. They attack for a photo's best caption, for the titles of ten
artworks and for a hundred captions, within ever larger budgets. Against the hardened encoder they try harder: with
more steps, from other starting points, with Auto-PGD, and with CMA-ES, which needs scores only. What does hardening
cost on clean photos? What do smaller and larger radii gain and cost? The encoders of that frontier are hardened in
this study, for a few steps, on crops of every other photo; they are measured on the other photos.

A defence can appear to hold because the attack cannot find a direction (Athalye et al. 2018, arXiv 1802.00420; Croce
et al. 2022, arXiv 2202.13711). So the study checks that gradients exist, that more steps do not gain less, that a large
budget fools every photo, that without a bound the hardened encoder reaches about the score of the original, that its
search ends there at about the same score from every start, and that no black-box attack beats the gradient.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import CMAES, AttackPlan, AutoPGD, Restart
from foclip.data import prompts
from foclip.data.prompts import Prompts
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.models.scores import MeanEnsemble, MinEnsemble
from foclip.objective import FeatureAlignment
from foclip.perceptual.budget import Budget
from foclip.reports import drawing
from foclip.studies.harness import BUDGET, Rows, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.context import PromptsOf, candidates
from foclip.studies.harness.hardening import gradients_along, hardened_score, held_out
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate, groups, mean, percent

#: What is attacked.
PLAIN, HARDENED, MEAN, LOWER = "the encoder", "the hardened encoder", "mean of both", "minimum of both"
#: The prompts that pictures are fooled for.
OWN, ARTWORKS, HUNDRED = "best caption", "ten artworks", "100 captions"
#: Parts of the table.
CURVE, HARDER, CLEAN, FRONTIER, CHECK, WAY = "curve", "attackers", "clean", "frontier", "check", "way"
#: Budgets of the curves in dB.
BUDGETS = (28.0, BUDGET, 45.0)
#: Budgets in dB of a change that everybody sees, and of one that leaves nothing of a photo.
VISIBLE, ANY = 20.0, 6.0
#: Shares of `brief_steps` that FoCLIP takes on the hardened encoder. All other attacks take the share 1.
LENGTHS = (0.1, 1, 10)
#: Number of starting points of which the best counts, and queries of CMA-ES for each step of the other attacks.
STARTS, QUERIES = 5, 10
#: Radii of the frontier, dB. Photos of what takes long, and of the curves of a quick run.
RADII, FEW = (32.0, 38.0, 44.0), 4
#: Points between the photo (0) and the fooled picture (1) where gradients are computed.
ALONG = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Least share of the photo's gradient that must remain on the way; difference below which two scores are equal; share
#: of the encoder's highest score that counts as reaching it; share by which highest scores from several starts
#: may differ.
GRADIENT, NOISE, CEILING, SPREAD = 0.01, 0.01, 0.9, 0.05


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × scores attacked × prompts × attackers × budgets; clean pictures; points on the way."""
    hardened = context.hardened[0] if context.hardened else hardened_score(context, RADII[len(RADII) // 2])
    own = context.best_captions([context.score, hardened])
    rows = []
    for labels, scorer, plan, count in context.with_progress(list(_plan(context, hardened))):
        rows += _fooled(context, hardened, own, context.pictures[:count], plan, scorer, labels)
    attack, few = context.default_attack().replace(steps=context.settings.brief_steps), context.pictures[:FEW]
    fooled = context.fool(attack, few, prompts.ARTWORKS, hardened)
    found = gradients_along(context, hardened, prompts.ARTWORKS, few, fooled, ALONG)
    rows += [row | {"part": WAY, "attacked": HARDENED, "aim": ARTWORKS} for row in found]
    # The encoders hardened here were trained on every other photo, so the frontier is measured on the rest.
    apart = held_out(context)
    every = context.hardened or (hardened,)
    named = {PLAIN: context.score} | {HARDENED if each is hardened else each.model: each for each in every}
    radii = {f"hardened at {radius:g} dB": radius for radius in RADII}
    for name in context.with_progress([*named, *radii]):
        score = named[name] if name in named else hardened_score(context, radii[name])
        rows += _fooled(context, hardened, own, apart, attack, score, _labels(FRONTIER, name, OWN))
        rows += _clean(context, own, apart, score, name)
    return pd.DataFrame(rows)


def _labels(part: str, attacked: str, aim: str, attacker: str = "FoCLIP") -> dict[str, str]:
    return {"part": part, "attacked": attacked, "aim": aim, "attacker": attacker}


def _plan(context: StudyContext, hardened: EmbeddingScorer) -> Iterator[tuple[dict[str, str], Scorer, AttackPlan, int]]:
    """What is fooled, except for the frontier: labels, score, attack, and the number of pictures."""
    steps, quick = context.settings.brief_steps, context.settings.quick
    foclip = context.default_attack().replace(steps=steps)
    both = (context.score, hardened)
    ensembles: dict[str, Scorer] = {MEAN: MeanEnsemble(both), LOWER: MinEnsemble(both)}
    defences: dict[str, Scorer] = {PLAIN: context.score, HARDENED: hardened} | ensembles
    within = {budget: foclip.replace(budgets=Budget("psnr", budget)) for budget in (*BUDGETS, VISIBLE, ANY)}
    for aim in (OWN, ARTWORKS, HUNDRED):
        for name, score in defences.items():
            if name in ensembles and aim != OWN:
                continue
            for budget in BUDGETS:
                yield _labels(CURVE, name, aim), score, within[budget], FEW if quick else context.settings.count
    lengths = [max(1, round(share * steps)) for share in LENGTHS]
    attackers = {f"FoCLIP, {length:,} steps": foclip.replace(steps=length) for length in lengths}
    attackers["Auto-PGD"] = context.attack(AutoPGD, steps=steps)
    for start in range(1, STARTS):
        attackers[f"start {start}"] = context.attack(
            Restart, objective=foclip.method.objective, start=start, steps=steps
        )
    if importlib.util.find_spec("cma"):
        attackers["CMA-ES"] = context.attack(CMAES, objective=FeatureAlignment(), steps=QUERIES * steps)
    for name, harder in attackers.items():
        yield _labels(HARDER, HARDENED, ARTWORKS, name), hardened, harder, FEW
    for name, budget in ((HARDENED, VISIBLE), (PLAIN, ANY), (HARDENED, ANY)):
        # Whether an attack reaches what it could is asked of as many steps as the run has.
        yield _labels(CHECK, name, OWN), defences[name], within[budget].replace(steps=context.settings.steps), FEW
    for start in range(1, STARTS):
        restart = context.attack(Restart, objective=foclip.method.objective, start=start, budgets=Budget("psnr", ANY))
        yield _labels(CHECK, HARDENED, OWN, f"start {start}"), hardened, restart, FEW


def _fooled(
    context: StudyContext,
    hardened: EmbeddingScorer,
    own: dict[str, Prompts],
    pictures: Sequence[Picture],
    attack: AttackPlan,
    score: Scorer,
    labels: dict[str, str],
) -> Rows:
    """Scores before and after the attack: of the attacked score, the encoder and the hardened encoder."""
    given: dict[str, PromptsOf] = {ARTWORKS: prompts.ARTWORKS, HUNDRED: prompts.imagenet(100)}
    wanted = given.get(labels["aim"], own)
    fooled = context.fool(attack, pictures, wanted, score)
    rows = context.rows(fooled, wanted, score, **labels, budget=attack.constraint.psnr)
    by = {"before": score, "plain_before": context.score, "hardened_before": hardened}
    for column, each in (by | {"plain": context.score, "hardened": hardened}).items():
        current = pictures if column in by else fooled
        for row, values in zip(rows, context.scores(current, wanted, each), strict=True):
            row[column] = values.mean()
    return rows


def _clean(
    context: StudyContext, own: dict[str, Prompts], pictures: Sequence[Picture], score: EmbeddingScorer, name: str
) -> Rows:
    """Clean photos: score of the best caption, drop in gray, rank correlation of all captions' scores."""
    ours, theirs = (pd.DataFrame(context.scores(pictures, candidates(), each).T) for each in (score, context.score))
    ranks = ours.corrwith(theirs, method="spearman")
    rows = context.rows(pictures, own, score, part=CLEAN, attacked=name, aim=OWN)
    for row, seen, correlation in zip(rows, context.sensitivities(pictures, own, score), ranks, strict=True):
        row |= {"ranks": float(correlation), "drop": seen.drops["gray"]}
    return rows


def report(table: pd.DataFrame) -> StudyReport:
    """Score gains by budget and by attacker, the cost of hardening, and whether the checks hold."""
    table = table.assign(
        rise=table.score - table.before,
        plain_rise=table.plain - table.plain_before,
        hardened_rise=table.hardened - table.hardened_before,
    )
    parts = groups(table[table.before.notna()], "part", "attacked", "aim", "attacker", "budget")
    clean = groups(table[table.part == CLEAN], "attacked")
    rises = {key: mean(rows.rise, rows.photo) for key, rows in parts.items()}
    harder = {name: mean(rows.rise, rows.photo) for name, rows in _harder(table).items()}
    frontier = {name: (clean[name], rises[FRONTIER, name, OWN, "FoCLIP", BUDGET]) for name in clean}
    gains = {"score gain": "rise", "on the encoder": "plain_rise", "on the hardened encoder": "hardened_rise"}
    summary = []
    for (part, attacked, aim, attacker, budget), rows in parts.items():
        row = {"part": part, "attacked": attacked, "for": aim, "attacker": attacker, "budget / dB": f"{budget:g}"}
        row |= {"pictures": len(rows), "before": f"{rows.before.mean():.3f}", "after": f"{rows.score.mean():.3f}"}
        summary.append(row | {name: f"{mean(rows[column], rows.photo):+.3f}" for name, column in gains.items()})
    curves: dict[str, dict[str, dict[float, Estimate]]] = {}
    for (part, attacked, aim, _, budget), rise in rises.items():
        if part == CURVE:
            curves.setdefault(aim, {}).setdefault(attacked, {})[budget] = rise
    strongest = max(harder, key=lambda name: harder[name].value)
    missing = "" if "CMA-ES" in harder else " CMA-ES was left out: it needs the package cma (pip install cma)."
    findings = [
        f"For {aim} within {BUDGET:g} dB, attackers who know the score gain: "
        f"{_listed({name: line[BUDGET] for name, line in lines.items()})}."
        for aim, lines in curves.items()
    ]
    for attacked, other, column in ((PLAIN, HARDENED, "hardened_rise"), (HARDENED, PLAIN, "plain_rise")):
        rows = parts[CURVE, attacked, OWN, "FoCLIP", BUDGET]
        findings.append(
            f"Pictures fooled on {attacked} for their best caption within {BUDGET:g} dB gain "
            f"{mean(rows.rise, rows.photo):+.3f} there and {mean(rows[column], rows.photo):+.3f} on {other}."
        )
    findings += [
        f"Against the hardened encoder, for ten artworks within {BUDGET:g} dB: {_listed(harder)}. {strongest} gains "
        f"most.{missing}",
        *_price(frontier),
        *(f"Check: {claim}: {'holds' if holds else 'DOES NOT HOLD'} ({said})." for claim, holds, said in checks(table)),
    ]
    panels = {
        f"score gain for {aim}": {name: (list(line), list(line.values())) for name, line in lines.items()}
        for aim, lines in curves.items()
    }
    figures = {
        "score-gain-over-fidelity": plots.lines("fidelity budget, dB", panels, (11, 3.2), sharey=True),
        "score-gain-by-attacker": plots.bars(harder, f"score gain for ten artworks at {BUDGET:g} dB, hardened encoder"),
        "frontier": _frontier(frontier),
    }
    return StudyReport(pd.DataFrame(summary), figures, findings)


def _listed(gains: dict[str, Estimate]) -> str:
    return ", ".join(f"{name} {gain:+.3f}" for name, gain in gains.items())


def _harder(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Stronger attacks. Of several starting points, the photo itself among them, the best of each photo counts."""
    parts = groups(table[table.part == HARDER], "attacker")
    starts = {name: parts.pop(name) for name in [*parts] if name.startswith("start ")}
    lengths = [name for name in parts if name.startswith("FoCLIP")]
    several = pd.concat([parts[lengths[LENGTHS.index(1)]], *starts.values()])
    best = several.loc[several.groupby("picture").rise.idxmax()]
    return parts | {f"best of {len(starts) + 1} starts": best}


def _price(frontier: dict[str, tuple[pd.DataFrame, Estimate]]) -> list[str]:
    """What hardening changes on clean photos, and what it gains."""
    plain, before = frontier[PLAIN]
    return [
        f"{name[0].upper()}{name[1:]}: the score gain for the best caption falls from {before:+.3f} to "
        f"{rise:+.3f}; on clean photos that caption scores "
        f"{percent(part.score.mean() / plain.score.mean())} of the encoder's, "
        f"the rank correlation of ImageNet's captions with the encoder's is {mean(part.ranks, part.photo):.2f}, "
        f"and the drop in gray {percent(part['drop'].mean())} instead of {percent(plain['drop'].mean())}."
        for name, (part, rise) in frontier.items()
        if name != PLAIN
    ]


def checks(table: pd.DataFrame) -> list[tuple[str, bool, str]]:
    """Checks that fail if a defence only appears to hold: the claim, whether it holds, and the numbers."""
    table = table.assign(rise=table.score - table.before)
    way, check = table[table.part == WAY], groups(table[table.part == CHECK], "attacked", "budget", "attacker")
    first = way[way.along == 0].set_index("picture").gradient
    left = float((way.gradient / way.picture.map(first)).min())
    finite = bool(np.isfinite(way.gradient).all() and np.isfinite(table.score).all())
    harder = {name: float(part.rise.mean()) for name, part in _harder(table).items()}
    longer = [rise for name, rise in harder.items() if name.startswith("FoCLIP")]
    curve = table[(table.part == CURVE) & (table.attacked == HARDENED)].groupby(["aim", "budget"]).rise.mean()
    curves = {aim: curve[aim] for aim in curve.index.unique("aim")}
    best = float(table[(table.part == CLEAN) & (table.attacked == HARDENED)].score.max())
    keys = ((HARDENED, VISIBLE, "FoCLIP"), (HARDENED, ANY, "FoCLIP"), (PLAIN, ANY, "FoCLIP"))
    visible, free, ceiling = (check[key].score for key in keys)
    ends = [part.score.mean() for (attacked, budget, _), part in check.items() if (attacked, budget) == keys[1][:2]]
    above = visible > best
    known = "scores and gradients are finite, and the gradient does not vanish on the way to a fooled picture"
    seen = f"at {VISIBLE:g} dB every photo scores more for its caption than any clean photo"
    reached = f"at {ANY:g} dB, which bounds nothing, the hardened encoder scores {percent(CEILING)} of the encoder's"
    same = f"at {ANY:g} dB the search ends within {percent(SPREAD)} of the same score from every start"
    rising = all(each.is_monotonic_decreasing for each in curves.values())
    said = "; ".join(f"{aim}: {', '.join(_digits(each))}" for aim, each in curves.items())
    found = [
        (known, finite and left > GRADIENT, f"at least {percent(left)} of the gradient at the photo is left"),
        ("more steps do not gain less", all(b > a - NOISE for a, b in pairwise(longer)), " → ".join(_digits(longer))),
        ("a larger budget gains more", rising, said),
        (seen, bool(above.all()), f"{int(above.sum())} of {len(visible)} above {best:.3f}"),
        (reached, bool(free.mean() >= CEILING * ceiling.mean()), f"{free.mean():.3f} against {ceiling.mean():.3f}"),
        (same, bool(np.ptp(ends) <= SPREAD * max(ends)), ", ".join(_digits(ends))),
    ]
    if black_box := harder.get("CMA-ES"):
        both = [black_box, longer[LENGTHS.index(1)]]
        found.append(("no black-box attack beats the gradient", both[0] <= both[1], " against ".join(_digits(both))))
    return found


def _digits(rises: Iterable[float]) -> list[str]:
    return [f"{rise:.3f}" for rise in rises]


def _frontier(frontier: dict[str, tuple[pd.DataFrame, Estimate]]) -> Figure:
    y = f"score gain for the best caption at {BUDGET:g} dB"
    plot, axes = drawing.axes_of(5.6, 3.6, "rank correlation with the encoder, clean photos", y)
    for name, (part, rise) in frontier.items():
        ranks = mean(part.ranks, part.photo)
        axes.errorbar(ranks.value, rise.value, xerr=plots.arms([ranks]), yerr=plots.arms([rise]), fmt="o", label=name)
    axes.legend(frameon=False, fontsize=8)
    return plot


study = Study(__name__, __doc__, table, report, judged=False)
