"""Adaptive attackers: what do those gain who know the detector?

The attackers want a high score for a photo's best caption, as those do who cheat on a leaderboard or on the filter of a
data set. They know more and more about the detector: nothing; that each picture is also scored in gray; all probes of
the detector; further probes besides, so that the gain survives small changes of any kind (expectation over
transformations, Athalye et al. 2018, arXiv 1707.07397); or the hardened encoders as well, whose scores they raise too.
They ask for a high score under all that they know. Or they know the detector itself, with its weights and threshold,
and minimise its suspicion (`foclip.detection.adaptive`). The measure is the *undetected score gain*: how far the score
rose where no alarm is raised, and 0 elsewhere. A defence is as good as its result against the strongest attackers.

Two defences against attackers who know the detector itself are tried. First, probes with random amounts (of a shift, a
crop, a quality): the attackers draw some, the detector draws others, and the worst of five draws counts. A fooled
picture is caught if all five draws catch it, and an original is a false alarm if one draw does. Second, a detector that
is made in the study, fitted again on pictures of attackers who know it, and then attacked again.

An operation without a useful gradient (JPEG's rounding) is passed straight through in the backward pass. The forward
pass is the detector's own transformation, to the last bit (backward pass differentiable approximation: Athalye et al.
2018, arXiv 1802.00420).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import AttackPlan
from foclip.calibration.examples import PROBES
from foclip.data.prompts import Prompts
from foclip.detection import FullDetector, View, hardened_of, hardened_scores
from foclip.detection.adaptive import DetectorAwareScore
from foclip.models.scorer import Scorer
from foclip.models.scores import MeanEnsemble
from foclip.perceptual.budget import Budget
from foclip.studies.harness import BUDGET, Rows, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.detectors import METHODS as JUDGES
from foclip.studies.harness.detectors import caught, detector, judged, made, measured
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate, area, auc, groups, lead, mean, means, pairs, percent, share

NOTHING, GRAY, ALL = "know nothing", "know gray", "know every probe"
BEYOND, TOO = "know every probe and more", "know the hardened encoders too"
ITSELF, DRAWS = "know the detector itself", "know it, and randomise probes"
#: Attackers of a detector that is made in the study, and of that one after it was fitted again on their pictures.
ROUNDS = ("know a detector of this study", "know it, fitted again")
#: Seeds of randomised probes: those of the attackers and those of the detector.
ATTACKER_SEEDS, DETECTOR_SEEDS = range(4), range(1000, 1005)
METHODS = JUDGES | {"randomised": "the combined detector with random probes, worst of five draws"}
#: Their budget in dB, and the steps of the attack.
ROUND_BUDGET, ROUND_STEPS = 40.0, 60
#: Probes that the detector does not have, for attackers who want to survive any small change.
MORE = ("mirror", "rotate", "mirror+jpeg", "blur")
#: Fidelity budgets, dB.
BUDGETS = (45.0, BUDGET)
#: A careful filter could use the minimum of several encoders instead of a detector.
LOWEST = "the minimum of the encoder and the hardened encoders, no detector"


class Attacker(NamedTuple):
    """What attackers know."""

    views: tuple[View, ...]  # the probes that they attack through
    score: Scorer  # the score that they raise


def attackers(context: StudyContext, judge: FullDetector) -> dict[str, Attacker]:
    """Every level of knowledge by name."""
    score, hardened = context.score, hardened_scores(context.score)
    probes = list(dict.fromkeys([*PROBES, *(probe for probe in judge.probes if probe not in judge.hardened)]))
    known = {NOTHING: (), GRAY: ("gray",), ALL: probes, BEYOND: (*probes, *MORE)}
    views = {name: tuple(View(probe, score.encoder.preprocess) for probe in known[name]) for name in known}
    found = {name: Attacker(through, score) for name, through in views.items()}
    if hardened:
        found[TOO] = Attacker(views[ALL], MeanEnsemble([score, *hardened.values()]))
    found[ITSELF] = Attacker((), _evading(context, judge))
    return found | {DRAWS: Attacker((), _evading(context, judge, ATTACKER_SEEDS))}


def _evading(context: StudyContext, judge: FullDetector, draws: Sequence[int | None] = (None,)) -> DetectorAwareScore:
    return DetectorAwareScore(context.score, judge, hardened_of(judge, context.score), draws)


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × attackers × budgets; the originals; and the rounds of refitting."""
    judge, quick = detector(context, context.score), context.settings.quick
    known = attackers(context, judge)
    pictures, own = context.pictures[: 4 if quick else None], context.best_captions([context.score])
    originals = _rows(context, judge, pictures, own, None, attacker="original", budget=float("nan"))
    rows = [*originals]
    plan = [(name, budget) for budget in BUDGETS for name in known]
    for name, budget in context.with_progress(plan):
        attack = _attack(context, context.settings.brief_steps, budget).replace(views=known[name].views)
        fooled = context.fool(attack, pictures, own, known[name].score)
        rows += _rows(context, judge, fooled, own, originals, attacker=name, budget=budget)
    return pd.DataFrame(rows + _rounds(context, pictures, own, originals))


def _attack(context: StudyContext, steps: int, budget: float) -> AttackPlan:
    return context.default_attack().replace(
        steps=min(context.settings.brief_steps, steps), budgets=Budget("psnr", budget)
    )


def _rounds(context: StudyContext, pictures: Sequence[Picture], own: dict[str, Prompts], originals: Rows) -> Rows:
    """Rows of at most half of the photos, fooled again in every round. Crops of the others make the detectors."""
    pictures = pictures[: max(1, len(context.pictures) // 2)]
    tested = {picture.photo for picture in pictures}
    crops = [crop for crop in context.examples if crop.photo not in tested and crop.has_colour]
    if len({crop.photo for crop in crops}) < 2:
        return []
    captions, attack = context.best_captions([context.score], crops), _attack(context, ROUND_STEPS, ROUND_BUDGET)
    examples = measured(context, context.score, crops, captions)
    rows: Rows = []
    aim: Scorer = context.score
    for number, attacker in enumerate(context.with_progress(ROUNDS)):
        boosted = context.fool(attack, crops, captions, aim)
        examples += measured(context, context.score, crops, captions, boosted, f"round {number}")
        judge = made(examples, context.score)
        aim = _evading(context, judge)
        fooled = context.fool(attack, pictures, own, aim)
        found = _rows(context, judge, fooled, own, originals, attacker=attacker, budget=ROUND_BUDGET)
        alarms = [row["combined"] for row in judged(context, judge, pictures, own)]
        rows += [row | {"alarm on its original": float(alarm)} for row, alarm in zip(found, alarms, strict=True)]
    return rows


def _rows(
    context: StudyContext,
    judge: FullDetector,
    current: Sequence[Picture],
    own: dict[str, Prompts],
    originals: Rows | None,
    **labels: object,
) -> Rows:
    """Rows of pictures, with the gains over the originals, which are in the same order."""
    rows = judged(context, judge, current, own, None, **labels)
    found, hardened = context.sensitivities(current, own), hardened_scores(context.score)
    randomised = [context.sensitivities(current, own, probes=judge.probes, draw=draw) for draw in DETECTOR_SEEDS]
    worst = all if originals else any
    for row, seen, draws, before in zip(rows, found, zip(*randomised, strict=True), originals or rows, strict=False):
        row["randomised"] = worst(judge.judge(each).verdict == "tampered" for each in draws)
        row |= {"detector": judge.name, "lowest": min([row["score"], *(seen.scores[name] for name in hardened)])}
        row |= {f"drop_{name}": value for name, value in seen.drops.items()}
        row |= {f"drift_{name}": value for name, value in seen.drifts.items()}
        row |= {"gain": row["score"] - before["score"], "gain of the minimum": row["lowest"] - before["lowest"]}
    return rows


def undetected(part: pd.DataFrame, method: str) -> Estimate:
    """Mean over photos of the score gain where no alarm is raised, else 0."""
    return mean(part.gain.where(~part[method].astype(bool), 0.0), part.photo)


def report(table: pd.DataFrame) -> StudyReport:
    """What each attacker gains, what is caught, and what is gained unseen."""
    originals = table[table.attacker == "original"]
    every = groups(table[table.budget.notna()], "attacker", "budget")
    summary = [
        {"attacker": name, "budget / dB": f"{budget:g}"}
        | means(part, "score", "gain", "psnr", "flip99")
        | caught(part, "called tampered by", METHODS)
        | {f"undetected gain, {words}": f"{undetected(part, m):+.3f}" for m, words in METHODS.items()}
        | {f"gain of {LOWEST}": f"{mean(part['gain of the minimum'], part.photo):+.3f}"}
        for (name, budget), part in every.items()
    ]
    rounds = {name: part for (name, _), part in every.items() if name in ROUNDS}
    parts = {key: part for key, part in every.items() if key[0] not in rounds}
    knowing = {name: part for (name, budget), part in parts.items() if budget == BUDGET and name != NOTHING}
    plain = parts[NOTHING, BUDGET]
    costs = {name: lead(part, plain, "score") for name, part in knowing.items()}
    alarms = ", ".join(f"{words}: {share(originals[m], originals.photo):.0%}" for m, words in METHODS.items())
    findings = [
        *_worst(parts),
        *([_refitted(rounds)] if rounds else []),
        *(
            f"At {BUDGET:g} dB attackers who {name} reach {change:+.3f} of score against those who {NOTHING} "
            f"({percent(change.value / plain.score.mean(), '+.0f')})."
            for name, change in costs.items()
        ),
        *_what_is_left(originals, knowing),
        f"Judged by the detector {table.detector.iloc[0]!r}; false alarms on these originals: {alarms}.",
    ]
    plot = Figure(figsize=(11, 3.6))
    left, right = plot.subplots(1, 2)
    named = {f"{name}, {budget:g} dB": part for (name, budget), part in parts.items()}
    plots.draw_bars(left, {name: mean(part.gain, part.photo) for name, part in named.items()}, "score gain")
    unseen = {name: undetected(part, "combined") for name, part in named.items()}
    plots.draw_bars(right, unseen, "undetected score gain, combined detector")
    plot.tight_layout()
    return StudyReport(pd.DataFrame(summary), {"score-gain-and-undetected-gain": plot}, findings)


def _worst(parts: dict[tuple[str, float], pd.DataFrame]) -> list[str]:
    """The largest undetected score gain at each budget, and the largest gain of the minimum."""
    sentences = []
    for budget in sorted({budget for _, budget in parts}, reverse=True):
        here = {name: part for (name, at), part in parts.items() if at == budget}
        said = []
        for method, words in METHODS.items():
            unseen = {name: undetected(part, method) for name, part in here.items()}
            worst = max(unseen, key=lambda name: unseen[name].value)
            said.append(f"{words}: {unseen[worst]:+.3f} by attackers who {worst}")
        lowest = max(float(np.mean(part["gain of the minimum"])) for part in here.values())
        sentences.append(
            f"At {budget:g} dB the largest undetected score gains are, by detector, {'; '.join(said)}. "
            f"Of {LOWEST}, nobody gains more than {lowest:+.3f}."
        )
    return sentences


def _refitted(rounds: dict[str, pd.DataFrame]) -> str:
    """The undetected score gain of attackers of a detector of this study, before it was fitted again and after."""
    left = " and ".join(f"{undetected(part, 'combined'):+.3f}" for part in rounds.values())
    shares, alarms = (
        " and ".join(f"{share(part[column], part.photo):.0%}" for part in rounds.values())
        for column in ("combined", "alarm on its original")
    )
    return (
        f"A detector is made from this study's own pictures, and fitted again on those of attackers who know it. They "
        f"have an undetected score gain of {left} before and after that, at {ROUND_BUDGET:g} dB (caught: {shares}; "
        f"false alarms on the originals: {alarms})."
    )


def _what_is_left(originals: pd.DataFrame, knowing: dict[str, pd.DataFrame]) -> list[str]:
    """The sensitivity that still separates best, for each kind of attackers."""
    names = [name for name in originals if name.startswith(("drop_", "drift_")) and originals[name].notna().all()]
    sentences = []
    for attacker, part in knowing.items():
        pair = pairs(originals, part)
        found = {name: area(pair[name], pair[f"{name}_other"]) for name in names}
        best = max(names, key=lambda name: abs(found[name] - 0.5))
        interval = auc(pair[best], pair[f"{best}_other"], pair.photo)
        turned = " (below 0.5: fooled pictures show less of it than their originals)" if interval.value < 0.5 else ""
        sentences.append(
            f"Of all {len(names)} sensitivities, {best.replace('_', ' under ')} still separates best where attackers "
            f"{attacker}: AUC {interval:.2f}{turned}. It was chosen as the best of many; expect less elsewhere."
        )
    return sentences


study = Study(__name__, __doc__, table, report)
