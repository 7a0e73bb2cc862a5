"""A hardened encoder: how far can attackers raise the score of an encoder, its hardened version, or both?

Four scores are attacked: that of the encoder, that of a version that was made hard to fool (`foclip harden`), their
mean and their minimum. The attackers know the score. They attack for a photo's best caption, for the titles of ten
artworks and for a hundred captions, within ever larger budgets. Against the hardened encoder they try harder: with
more steps, from other starting points, with Auto-PGD, and with CMA-ES, which needs scores only. What does hardening
cost on clean photos? What do smaller and larger radii gain and cost? The encoders of that frontier are hardened in
this study, for a few steps, on crops of every other photo; they are measured on the other photos.

A defence can appear to hold because the attack cannot find a direction (Athalye et al. 2018, arXiv 1802.00420; Croce
et al. 2022, arXiv 2202.13711). So the study checks that gradients exist, that more steps do not gain less, that a large
budget fools every photo, that without a bound the hardened encoder reaches about the score of the original, and that
no black-box attack beats the gradient.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from foclip.attacks import CMAES, AttackPlan, AutoPGD, Restart, make_plan
from foclip.data import prompts
from foclip.data.prompts import Prompts
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.models.scores import MeanEnsemble, MinEnsemble
from foclip.objective import FeatureAlignment
from foclip.perceptual.budget import Budget
from foclip.studies._robust_report import (
    ANY,
    ARTWORKS,
    CHECK,
    CLEAN,
    CURVE,
    FRONTIER,
    HARDENED,
    HARDER,
    HUNDRED,
    LENGTHS,
    LOWER,
    MEAN,
    OWN,
    PLAIN,
    VISIBLE,
    WAY,
    report,
)
from foclip.studies.harness import BUDGET, Study, StudyContext
from foclip.studies.harness.best_caption import best_captions, candidates
from foclip.studies.harness.context import PromptsOf
from foclip.studies.harness.gradient_path import gradients_along
from foclip.studies.harness.hardening import hardened_score, held_out
from foclip.studies.harness.pictures import Picture

#: Budgets of the curves in dB, of a quick run and of a full run.
QUICK, FULL = (28.0, BUDGET, 45.0), (28.0, 32.0, BUDGET, 40.0, 45.0, 50.0)
#: Number of starting points of which the best counts, and queries of CMA-ES for each step of the other attacks.
STARTS, QUERIES = 5, 10
#: Radii of the frontier, dB.
RADII = (32.0, 38.0, 44.0)
#: Photos of a curve, and photos of what takes long.
PHOTOS, FEW = 8, 4
#: Points between the photo (0) and the fooled picture (1) where gradients are computed.
ALONG = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Cell:
    """A set of pictures that are fooled in one way.

    Attributes:
        part: The part of the study.
        attacked: Name of what is attacked.
        score: What is attacked.
        aim: Name of the prompts.
        attacker: Name of the attack.
        attack: The attack.
        count: Number of pictures, counted from the first.
    """

    part: str
    attacked: str
    score: Scorer
    aim: str
    attacker: str
    attack: AttackPlan
    count: int


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × scores attacked × prompts × attackers × budgets; clean pictures; points on the way."""
    hardened = context.hardened[0] if context.hardened else hardened_score(context, RADII[len(RADII) // 2])
    own = best_captions(context, [context.score, hardened])
    rows = []
    for cell in context.with_progress(list(_plan(context, hardened))):
        rows += _fooled(context, hardened, cell, context.pictures[: cell.count], own)
    few = context.pictures[:FEW]
    fooled = context.fool(context.default_attack(), few, prompts.ARTWORKS, hardened)
    found = gradients_along(context, hardened, prompts.ARTWORKS, few, fooled, ALONG)
    rows += [row | {"part": WAY, "attacked": HARDENED, "aim": ARTWORKS} for row in found]
    # The encoders hardened here were trained on every other photo, so the frontier is measured on the rest.
    apart = held_out(context)[:PHOTOS]
    named = {PLAIN: context.score} | {
        HARDENED if each is hardened else each.model: each for each in (context.hardened or (hardened,))
    }
    for name, radius in context.with_progress([*((name, None) for name in named), *((_hardened(r), r) for r in RADII)]):
        score = named[name] if radius is None else hardened_score(context, radius)
        cell = Cell(FRONTIER, name, score, OWN, "FoCLIP", context.default_attack(), len(apart))
        rows += _fooled(context, hardened, cell, apart, own)
        rows += _clean(context, name, score, apart, own)
    return pd.DataFrame(rows)


def _hardened(radius: float) -> str:
    return f"hardened at {radius:g} dB"


def _plan(context: StudyContext, hardened: EmbeddingScorer) -> Iterator[Cell]:
    """What is fooled, except for the frontier."""
    foclip, steps, seed = context.default_attack(), context.settings.steps, context.settings.seed
    both = (context.score, hardened)
    defences: dict[str, Scorer] = {
        PLAIN: context.score,
        HARDENED: hardened,
        MEAN: MeanEnsemble(both),
        LOWER: MinEnsemble(both),
    }
    for aim in (OWN, ARTWORKS, HUNDRED):
        for name, score in defences.items():
            two = name in (MEAN, LOWER)
            if two and aim != OWN and context.settings.quick:
                continue
            for budget in QUICK if context.settings.quick else FULL:
                attack = foclip.replace(budgets=Budget("psnr", budget))
                yield Cell(CURVE, name, score, aim, "FoCLIP", attack, FEW if two or context.settings.quick else PHOTOS)
    attackers: dict[str, AttackPlan] = {}
    for share in LENGTHS:
        length = max(1, round(share * steps))
        attackers[f"FoCLIP, {length:,} steps"] = foclip.replace(steps=length)
    attackers["Auto-PGD"] = make_plan(AutoPGD, steps=steps, budgets=Budget("psnr", BUDGET), seed=seed)
    for start in range(1, STARTS):
        attackers[f"start {start}"] = make_plan(
            Restart,
            objective=foclip.method.objective,
            steps=steps,
            budgets=Budget("psnr", BUDGET),
            seed=seed,
            start=start,
        )
    if importlib.util.find_spec("cma"):
        attackers["CMA-ES"] = make_plan(
            CMAES, objective=FeatureAlignment(), steps=QUERIES * steps, budgets=Budget("psnr", BUDGET), seed=seed
        )
    for name, harder in attackers.items():
        yield Cell(HARDER, HARDENED, hardened, ARTWORKS, name, harder, FEW)
    yield Cell(CHECK, HARDENED, hardened, OWN, "FoCLIP", foclip.replace(budgets=Budget("psnr", VISIBLE)), FEW)
    for name in (PLAIN, HARDENED):
        yield Cell(CHECK, name, defences[name], OWN, "FoCLIP", foclip.replace(budgets=Budget("psnr", ANY)), FEW)


def _fooled(
    context: StudyContext, hardened: EmbeddingScorer, cell: Cell, pictures: Sequence[Picture], own: dict[str, Prompts]
) -> list[dict[str, Any]]:
    """Scores before and after the attack: of the attacked score, the encoder and the hardened encoder."""
    wanted: PromptsOf = {ARTWORKS: prompts.ARTWORKS, HUNDRED: prompts.imagenet(100)}.get(cell.aim) or [
        own[picture.name] for picture in pictures
    ]
    fooled = context.fool(cell.attack, pictures, wanted, cell.score)
    same = {
        "part": cell.part,
        "attacked": cell.attacked,
        "aim": cell.aim,
        "attacker": cell.attacker,
        "budget": cell.attack.constraint.psnr,
    }
    rows = context.rows(fooled, wanted, cell.score, **same)
    for column, score in (("before", cell.score), ("plain_before", context.score), ("hardened_before", hardened)):
        for row, values in zip(rows, context.scores(pictures, wanted, score), strict=True):
            row[column] = values.mean()
    for column, score in (("plain", context.score), ("hardened", hardened)):
        for row, values in zip(rows, context.scores(fooled, wanted, score), strict=True):
            row[column] = values.mean()
    return rows


def _clean(
    context: StudyContext, name: str, score: EmbeddingScorer, pictures: Sequence[Picture], own: dict[str, Prompts]
) -> list[dict[str, Any]]:
    """Clean photos: score of the best caption, drop in gray, rank correlation of all captions' scores."""
    wanted = candidates()
    ours, theirs = (pd.DataFrame(context.scores(pictures, wanted, each).T) for each in (score, context.score))
    ranks = ours.corrwith(theirs, method="spearman")
    rows = context.rows(pictures, [own[p.name] for p in pictures], score, part=CLEAN, attacked=name, aim=OWN)
    for row, picture, correlation in zip(rows, pictures, ranks, strict=True):
        (seen,) = context.sensitivities([picture], own[picture.name], score)
        row |= {"ranks": float(correlation), "drop": seen.drops["gray"]}
    return rows


study = Study(__name__, __doc__, table, report)
