"""Transfer: does a picture fooled on one encoder fool another, or its detector?

Every picture is fooled on each encoder, and on all at once (the mean of their cosines). Every encoder then scores each
result, and its detector judges it. With three encoders or more, each is also attacked through all the others together:
attackers without access to a model can do this. MI-FGSM is included because it was made to transfer.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import MIFGSM, make_plan
from foclip.models.scorer import Scorer
from foclip.models.scores import MeanEnsemble
from foclip.perceptual.budget import Budget
from foclip.studies.harness import BUDGET, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.detectors import METHODS, detector, verdicts
from foclip.studies.harness.statistics import groups, mean, percent, share

ORIGINAL, NO_ATTACK, TOGETHER = "original", "no attack", "all together"


def targets(context: StudyContext) -> dict[str, Scorer]:
    """What is attacked: each encoder, all at once, and for each of three or more all the others at once."""
    scores = [context.score, *context.further]
    found: dict[str, Scorer] = {score.model: score for score in scores}
    if len(scores) > 1:
        found[TOGETHER] = MeanEnsemble(scores)
    if len(scores) > 2:
        for left_out in scores:
            found[f"all but {left_out.model}"] = MeanEnsemble([score for score in scores if score is not left_out])
    return found


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × attacks × attacked × scoring encoders; and the originals."""
    mifgsm = make_plan(MIFGSM, steps=context.settings.steps, budgets=Budget("psnr", BUDGET), seed=context.settings.seed)
    attacks = {"FoCLIP": context.default_attack(), "MI-FGSM": mifgsm}
    plan: list[tuple[str, str]] = [(NO_ATTACK, ORIGINAL)]
    plan += [(attack, target) for target in targets(context) for attack in attacks]
    pictures = context.pictures
    judges = {score.model: detector(context, score) for score in (context.score, *context.further)}
    rows: list[dict[str, Any]] = []
    for attack, target in context.with_progress(plan):
        current = (
            context.fool(attacks[attack], pictures, score=targets(context)[target]) if attack in attacks else pictures
        )
        for score in (context.score, *context.further):
            judge = judges[score.model]
            found = context.rows(current, score=score, attack=attack, attacked=target, scored=score.model)
            seen = verdicts(context, judge, score, current)
            before = context.scores(pictures, score=score).mean(axis=1)
            for row, verdict, value in zip(found, seen, before, strict=True):
                rows.append(row | verdict | {"score_before": value, "detector": judge.name})
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Matrices: attacked × scored, of scores and of verdicts."""
    summary = [
        {
            "attack": attack,
            "attacked": attacked,
            "scored by": scored,
            "pictures": len(part),
            "score": f"{mean(part.score, part.photo):.3f}",
            "rise": f"{mean(part.score - part.score_before, part.photo):+.3f}",
            "drop in gray": f"{mean(part['drop'], part.photo):.1%}",
            **{f"called tampered by {words}": f"{share(part[m], part.photo):.0%}" for m, words in METHODS.items()},
        }
        for (attack, attacked, scored), part in groups(table, "attack", "attacked", "scored").items()
    ]
    figures = {
        "mean-score": _matrix(table, "score", "mean CLIPScore after FoCLIP"),
        "share-caught": _matrix(table, "combined", "share called tampered by the combined detector"),
    }
    return StudyReport(pd.DataFrame(summary), figures, _findings(table))


def _matrix(table: pd.DataFrame, column: str, label: str) -> Figure:
    chosen = table[table.attack.isin([NO_ATTACK, "FoCLIP"])]
    rows, columns = list(dict.fromkeys(chosen.attacked)), list(dict.fromkeys(chosen.scored))
    means = chosen.groupby(["attacked", "scored"])[column].mean()
    values = np.array([[means[row, name] for name in columns] for row in rows], dtype=np.float64)
    return plots.heatmap(values, rows, columns, "scored by", "attacked", label)


def _findings(table: pd.DataFrame) -> list[str]:
    """What crosses from encoder to encoder, and whether attacking several at once pays."""
    encoders = list(dict.fromkeys(table.scored))
    if len(encoders) < 2:
        return [f"Only {encoders[0]} was at hand: name further encoders with --also to see what transfers."]
    table = table.assign(rise=table.score - table.score_before)
    sentences = []
    for attack in ("FoCLIP", "MI-FGSM"):
        part = table[table.attack == attack]
        own = part[part.attacked == part.scored]
        foreign = part[part.attacked.isin(encoders) & (part.attacked != part.scored)]
        crossed, at_home = mean(foreign.rise, foreign.photo), mean(own.rise, own.photo)
        sentences.append(
            f"{attack} raises the score of the encoder it attacks by {at_home:+.3f} and that of another one by "
            f"{crossed:+.3f}: {percent(crossed.value / at_home.value)} of it crosses."
        )
        together = part[part.attacked == TOGETHER]
        sentences.append(
            f"{attack} on all encoders at once raises each by {mean(together.rise, together.photo):+.3f} on average."
        )
        unseen = part[[str(a) == f"all but {s}" for a, s in zip(part.attacked, part.scored, strict=True)]]
        if len(unseen):
            sentences.append(
                f"{attack} on all the others raises the score of an encoder that was not at hand by "
                f"{mean(unseen.rise, unseen.photo):+.3f}."
            )
    fooled = table[table.attack == "FoCLIP"]
    foreign = fooled[fooled.attacked.isin(encoders) & (fooled.attacked != fooled.scored)]
    own, untouched = fooled[fooled.attacked == fooled.scored], table[table.attacked == ORIGINAL]
    for method, words in METHODS.items():
        sentences.append(
            f"Of pictures that FoCLIP fooled on another encoder, {words} catches {percent(foreign[method].mean())}; "
            f"of those fooled on its own, {percent(own[method].mean())}; of originals it calls "
            f"{percent(untouched[method].mean())} tampered."
        )
    return sentences


study = Study(__name__, __doc__, table, report)
