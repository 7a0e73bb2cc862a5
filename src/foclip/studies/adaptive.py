"""Adaptive attackers: what does cheating still pay one who knows the defence?

The attacker wants a high score for a photo's own caption, as a cheat of a leaderboard or of a data-set filter does. He
knows nothing; or that the picture is seen in gray; or every probe of the detector; or, beyond these, probes that it
does not take, so that what he adds survives small changes of any kind (expectation over transformations, Athalye et
al. 2018, arXiv 1707.07397); or he knows the hardened twins, too, and raises all scores. He asks for a high score under
all that he knows. Or he knows the detector itself, weights and threshold, and minimises its suspicion
(`foclip.detection.adaptive`). What counts is the *undetected rise*: how far the score rose if no alarm is raised, else
0. The worst attacker is the measure of a defence.

Two answers are tried on the one who knows the detector itself. Looks whose amounts (of a shift, a crop, a quality) are
drawn at random: he draws some himself, the detector others, and the worst of five draws counts; a fooled picture is
caught if all five catch it, and an original is a false alarm if one does. And a detector that is refitted on his
pictures, which he then attacks again, round by round, until that no longer helps.

What has no useful gradient (JPEG's rounding) is passed straight through, and the forward pass is the
detector's own transformation, to the last bit (backward pass differentiable approximation:
Athalye et al. 2018, arXiv 1802.00420).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foclip.calibration.examples import PROBES
from foclip.detection import Detector, View, hardened_of, hardened_scores
from foclip.detection.adaptive import DetectorAwareScore
from foclip.models.scores import MeanEnsemble, Prompts, Score
from foclip.studies.harness import BUDGET, Page, Study, StudyContext, plots
from foclip.studies.harness.detectors import METHODS as JUDGES
from foclip.studies.harness.detectors import detector, half, made, measured, verdicts
from foclip.studies.harness.own import own_captions
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate, area, auc, groups, mean, percent, share

NOTHING, GRAY, ALL = "knows nothing", "knows gray", "knows every probe"
BEYOND, TOO = "knows every probe and more", "knows the twins too"
ITSELF, DRAWS = "knows the detector itself", "knows it, and draws probes"
#: The one who knows the detector itself, after it was refitted so many times on his pictures.
REFITTED = "knows the detector refitted {} times"
#: Draws of the attacker and of the detector; who judges.
HIS_DRAWS, ITS_DRAWS = range(4), range(1000, 1005)
METHODS = JUDGES | {"drawn": "the combined detector with probes drawn, the worst of five draws"}
#: Rounds of refitting at most, in a quick run and in full; at which budget, dB; steps of the attack; and how far the
#: undetected rise must fall for another.
ROUNDS, ROUND_BUDGET, ROUND_STEPS, GAINS = (2, 5), 40.0, 60, 0.01
#: What stands beside the detector's looks for one who wants to survive any small change.
MORE = ("mirror", "rotate", "mirror+jpeg", "blur")
#: Fidelity budgets, dB.
QUICK, FULL = (45.0, BUDGET), (50.0, 45.0, 40.0, BUDGET)
#: Steps at most: with up to twelve views in each, more would take days and raise the score by no more than a hundredth.
STEPS = 200
#: What the score itself can be judged by: the lowest of encoder and twins is what a careful filter takes.
LOWEST = "the lowest of encoder and twins, no detector"


@dataclass(frozen=True)
class Attacker:
    """What an attacker knows: probes, and the score that he raises."""

    probes: tuple[str, ...]
    score: Score


def attackers(lab: StudyContext, judge: Detector) -> dict[str, Attacker]:
    """Every level of knowledge by name."""
    probes = tuple(dict.fromkeys([*PROBES, *(probe for probe in judge.probes if probe not in judge.twins)]))
    found = {
        NOTHING: Attacker((), lab.score),
        GRAY: Attacker(("gray",), lab.score),
        ALL: Attacker(probes, lab.score),
        BEYOND: Attacker((*probes, *MORE), lab.score),
    }
    if twins := hardened_scores(lab.score):
        found[TOO] = Attacker(probes, MeanEnsemble([lab.score, *twins.values()]))
    return found | {
        ITSELF: Attacker((), _evading(lab, judge)),
        DRAWS: Attacker((), _evading(lab, judge, HIS_DRAWS)),
    }


def _evading(lab: StudyContext, judge: Detector, draws: Sequence[int | None] = (None,)) -> DetectorAwareScore:
    return DetectorAwareScore(lab.score, judge, hardened_of(judge, lab.score), draws)


def table(lab: StudyContext) -> pd.DataFrame:
    """Rows: pictures × attackers × budgets; the originals; and the rounds of refitting."""
    judge = detector(lab, lab.score)
    known = attackers(lab, judge)
    quick = lab.settings.quick
    plan = [(name, budget) for budget in (QUICK if quick else FULL) for name in known]
    pictures = lab.pictures[: 4 if quick else 8]
    own = own_captions(lab, [lab.score])
    prompts = [own[picture.name] for picture in pictures]
    originals = _rows(lab, pictures, prompts, judge, attacker="original", budget=float("nan"))
    rows = _risen(originals, originals)
    for name, budget in lab.each(plan):
        attack = replace(
            lab.default_attack(),
            steps=min(lab.settings.steps, STEPS),
            min_psnr=budget,
            views=tuple(View(probe, lab.score.encoder.preprocess) for probe in known[name].probes),
        )
        fooled = lab.fool(attack, pictures, prompts, known[name].score)
        rows += _risen(_rows(lab, fooled, prompts, judge, attacker=name, budget=budget), originals)
    return pd.DataFrame(rows + _rounds(lab, pictures, prompts, originals))


def _rounds(
    lab: StudyContext, pictures: Sequence[Picture], prompts: Sequence[Prompts], originals: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of half of the photos at most, fooled anew after every round; detectors are made of crops of the others."""
    pictures = pictures[: max(1, len(lab.pictures) // 2)]
    prompts, tested = prompts[: len(pictures)], {picture.photo for picture in pictures}
    crops = [crop for crop in lab.examples if crop.photo not in tested and crop.has_colour]
    if len({crop.photo for crop in crops}) < 2:
        return []
    own = own_captions(lab, [lab.score], crops)
    captions, held_out = [own[crop.name] for crop in crops], half(crops)
    attack = replace(lab.default_attack(), steps=min(lab.settings.steps, ROUND_STEPS), min_psnr=ROUND_BUDGET)
    examples = measured(lab, crops, captions, held_out)
    rows: list[dict[str, Any]] = []
    unseen: list[float] = []
    aim: Score = lab.score
    for number in lab.each(range(ROUNDS[not lab.settings.quick])):
        examples += measured(lab, crops, captions, held_out, lab.fool(attack, crops, captions, aim), f"round {number}")
        judge = made(examples, lab.score)
        aim = _evading(lab, judge)
        fooled = lab.fool(attack, pictures, prompts, aim)
        name = REFITTED.format(number)
        found = _risen(_rows(lab, fooled, prompts, judge, attacker=name, budget=ROUND_BUDGET), originals)
        alarms = [said["combined"] for said in verdicts(lab, judge, lab.score, pictures, prompts)]
        rows += [row | {"alarm on its original": float(alarm)} for row, alarm in zip(found, alarms, strict=True)]
        unseen.append(float(np.mean([0.0 if row["combined"] else row["rise"] for row in found])))
        if number and unseen[-1] > unseen[-2] - GAINS:
            break
    return rows


def _risen(rows: Sequence[dict[str, Any]], originals: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with how far the scores rose above those of the originals."""
    before = {row["picture"]: row for row in originals}
    return [
        row
        | {
            "rise": row["score"] - before[row["picture"]]["score"],
            "rise of the lowest": row["lowest"] - before[row["picture"]]["lowest"],
        }
        for row in rows
    ]


def _rows(
    lab: StudyContext,
    looked_at: Sequence[Picture],
    prompts: Sequence[Prompts],
    judge: Detector,
    attacker: str,
    budget: float,
) -> list[dict[str, Any]]:
    rows = lab.rows(looked_at, prompts, attacker=attacker, budget=budget)
    found, twins = lab.sensitivities(looked_at, prompts), hardened_scores(lab.score)
    said = verdicts(lab, judge, lab.score, looked_at, prompts)
    drawn = [lab.sensitivities(looked_at, prompts, probes=judge.probes, draw=draw) for draw in ITS_DRAWS]
    alarms = [[judge.judge(seen).verdict == "tampered" for seen in each] for each in zip(*drawn, strict=True)]
    for verdict, each in zip(said, alarms, strict=True):
        verdict["drawn"] = any(each) if attacker == "original" else all(each)
    for row, verdict, seen in zip(rows, said, found, strict=True):
        through = [seen.scores[twin] for twin in twins]
        row |= verdict | {"detector": judge.name, "lowest": min(row["score"], *through)}
        row |= {f"drop_{name}": value for name, value in seen.drops.items()}
        row |= {f"drift_{name}": value for name, value in seen.drifts.items()}
    return rows


def undetected(part: pd.DataFrame, method: str) -> Estimate:
    """MeanEnsemble over photos of the rise where no alarm is raised, else 0."""
    return mean(part.rise.where(~part[method].astype(bool), 0.0), part.photo)


def page(table: pd.DataFrame) -> Page:
    """What each attacker gains, what is caught, and what is gained unseen."""
    originals = table[table.attacker == "original"]
    every = groups(table[table.budget.notna()], "attacker", "budget")
    summary = [_row(part, name, f"{budget:g}") for (name, budget), part in every.items()]
    rounds = {name: part for (name, _), part in every.items() if name.startswith(REFITTED.partition("{")[0])}
    parts = {key: part for key, part in every.items() if key[0] not in rounds}
    budgets = sorted({budget for _, budget in parts}, reverse=True)
    findings = [*_worst(parts, budgets), *_refitted(rounds), *_costs(parts), *_what_is_left(originals, parts)]
    alarms = ", ".join(f"{words}: {share(originals[m], originals.photo):.0%}" for m, words in METHODS.items())
    findings.append(f"Judged by the detector {table.detector.iloc[0]!r}; false alarms on these originals: {alarms}.")
    plot = Figure(figsize=(11, 3.6))
    left, right = plot.subplots(1, 2)
    rises = {f"{name}, {budget:g} dB": mean(part.rise, part.photo) for (name, budget), part in parts.items()}
    plots.draw_bars(left, rises, "rise of the score")
    unseen = {f"{name}, {budget:g} dB": undetected(part, "combined") for (name, budget), part in parts.items()}
    plots.draw_bars(right, unseen, "undetected rise, combined detector")
    plot.tight_layout()
    return Page(pd.DataFrame(summary), {"rise-and-undetected-rise": plot}, findings)


def _row(part: pd.DataFrame, name: str, budget: str) -> dict[str, object]:
    return {
        "attacker": name,
        "budget / dB": budget,
        "pictures": len(part),
        "score": f"{mean(part.score, part.photo):.3f}",
        "rise": f"{mean(part.rise, part.photo):+.3f}",
        "PSNR / dB": f"{mean(part.psnr, part.photo):.1f}",
        "FLIP, worst": f"{mean(part.flip99, part.photo):.3f}",
        **{f"called tampered by {words}": f"{share(part[m], part.photo):.0%}" for m, words in METHODS.items()},
        **{f"undetected rise, {words}": f"{undetected(part, m):+.3f}" for m, words in METHODS.items()},
        f"rise of {LOWEST}": f"{mean(part['rise of the lowest'], part.photo):+.3f}",
    }


def _worst(parts: dict[tuple[str, float], pd.DataFrame], budgets: Sequence[float]) -> list[str]:
    """Per budget the attacker who gains most unseen, and what he gains of the lowest score."""
    sentences = []
    for budget in budgets:
        here = {name: part for (name, at), part in parts.items() if at == budget}
        said = []
        for method, words in METHODS.items():
            unseen = {name: undetected(part, method) for name, part in here.items()}
            worst = max(unseen, key=lambda name: unseen[name].value)
            said.append(f"{words}: {unseen[worst]:+.3f} by the one who {worst}")
        lowest = max(float(np.mean(part["rise of the lowest"])) for part in here.values())
        sentences.append(
            f"At {budget:g} dB the worst attacker gains unseen, judged by {'; '.join(said)}. "
            f"Of {LOWEST}, no attacker gains more than {lowest:+.3f}."
        )
    return sentences


def _refitted(rounds: dict[str, pd.DataFrame]) -> list[str]:
    """What is left to the one who knows the detector itself, round by round."""
    if not rounds:
        return []
    left = ", ".join(f"{undetected(part, 'combined'):+.3f}" for part in rounds.values())
    caught = ", ".join(f"{share(part.combined, part.photo):.0%}" for part in rounds.values())
    alarms = ", ".join(f"{share(part['alarm on its original'], part.photo):.0%}" for part in rounds.values())
    return [
        f"A detector made of this study's own pictures leaves the one who {ITSELF} an undetected rise of, at "
        f"{ROUND_BUDGET:g} dB and refitted on his pictures 0, 1, 2 … times, {left} (caught: {caught}; false alarms on "
        f"the originals: {alarms})."
    ]


def _costs(parts: dict[tuple[str, float], pd.DataFrame]) -> list[str]:
    """Score given up at the same budget by knowing more."""
    plain, sentences = parts[NOTHING, BUDGET], []
    for (name, budget), part in parts.items():
        if budget == BUDGET and name != NOTHING:
            pair = plain.merge(part, on=["picture", "photo"], suffixes=("", "_knows"))
            change = mean(pair.score_knows - pair.score, pair.photo)
            sentences.append(
                f"At {BUDGET:g} dB the attacker who {name} gets {change:+.3f} of score against one who {NOTHING} "
                f"({percent(change.value / plain.score.mean(), '+.0f')})."
            )
    return sentences


def _what_is_left(originals: pd.DataFrame, parts: dict[tuple[str, float], pd.DataFrame]) -> list[str]:
    """The sensitivity that still separates best, per attacker."""
    names = [name for name in originals if name.startswith(("drop_", "drift_")) and originals[name].notna().all()]
    sentences = []
    for (attacker, budget), part in parts.items():
        if budget != BUDGET or attacker == NOTHING:
            continue
        pair = originals.merge(part, on=["picture", "photo"], suffixes=("", "_fooled"))
        found = {name: area(pair[name], pair[f"{name}_fooled"]) for name in names}
        best = max(names, key=lambda name: abs(found[name] - 0.5))
        interval = auc(pair[best], pair[f"{best}_fooled"], pair.photo)
        sentences.append(
            f"Of all {len(names)} sensitivities, {best.replace('_', ' under ')} still tells most about the attacker "
            f"who {attacker}: AUC {interval:.2f}. It was picked as the best of many, so expect less of it elsewhere."
        )
    return sentences


study = Study(__name__, __doc__, table, page)
