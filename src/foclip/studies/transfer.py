"""Transfer: does a picture fooled on one encoder fool another, or its detector?

Every picture is fooled on each encoder, and on all at once (the mean of their cosines). Every encoder then scores each
result, and its detector judges it. With three encoders or more, each is also attacked through all the others together:
attackers without access to a model can do this. MI-FGSM is included because it was made to transfer.
"""

import pandas as pd

from foclip.attacks import MIFGSM
from foclip.models.scorer import Scorer
from foclip.models.scores import MeanEnsemble
from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness.detectors import METHODS, caught, detector, judged
from foclip.studies.harness.statistics import groups, mean, means, percent

ORIGINAL, NO_ATTACK, TOGETHER = "original", "no attack", "all together"


def targets(context: StudyContext) -> dict[str, Scorer]:
    """What is attacked: each encoder, all at once, and for each of three or more all the others at once."""
    scores = [context.score, *context.further]
    found: dict[str, Scorer] = {score.model: score for score in scores}
    if len(scores) > 1:
        found[TOGETHER] = MeanEnsemble(scores)
    for left_out in scores if len(scores) > 2 else ():
        found[f"all but {left_out.model}"] = MeanEnsemble([score for score in scores if score is not left_out])
    return found


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × attacks × attacked × scoring encoders; and the originals."""
    attacks = {"FoCLIP": context.default_attack(), "MI-FGSM": context.attack(MIFGSM)}
    aims, pictures = targets(context), context.pictures
    plan = [(NO_ATTACK, ORIGINAL), *((attack, target) for target in aims for attack in attacks)]
    judges = {score: detector(context, score) for score in (context.score, *context.further)}
    rows = []
    for attack, target in context.with_progress(plan):
        current = context.fool(attacks[attack], pictures, score=aims[target]) if attack in attacks else pictures
        for score, judge in judges.items():
            found = judged(context, judge, current, score=score, attack=attack, attacked=target, scored=score.model)
            before = context.scores(pictures, score=score).mean(axis=1)
            for row, value in zip(found, before, strict=True):
                rows.append(row | {"score_before": value, "detector": judge.name})
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Matrices: attacked × scored, of scores and of verdicts."""
    table = table.assign(rise=table.score - table.score_before)
    summary = [
        {"attack": attack, "attacked": attacked, "scored by": scored}
        | means(part, "score", "rise", "drop")
        | caught(part, "called tampered by")
        for (attack, attacked, scored), part in groups(table, "attack", "attacked", "scored").items()
    ]
    cells = table[table.attack.isin([NO_ATTACK, "FoCLIP"])].groupby(["attacked", "scored"], sort=False)
    scores, shares = (cells[column].mean().unstack(sort=False) for column in ("score", "combined"))
    label = "share called tampered by the combined detector"
    figures = {
        "mean-score": plots.heatmap(scores, "scored by", "attacked", "mean CLIPScore after FoCLIP"),
        "share-caught": plots.heatmap(shares, "scored by", "attacked", label),
    }
    return StudyReport(pd.DataFrame(summary), figures, _findings(table))


def _findings(table: pd.DataFrame) -> list[str]:
    """What crosses from encoder to encoder, and whether attacking several at once pays."""
    encoders = table.scored.unique()
    if len(encoders) < 2:
        return [f"Only {encoders[0]} was at hand: name further encoders with --also to see what transfers."]
    sentences, scored = [], {}
    for attack in ("FoCLIP", "MI-FGSM"):
        part = table[table.attack == attack]
        alone = part[part.attacked.isin(encoders)]
        own, foreign = scored[attack] = alone[alone.attacked == alone.scored], alone[alone.attacked != alone.scored]
        crossed, at_home = mean(foreign.rise, foreign.photo), mean(own.rise, own.photo)
        together = part[part.attacked == TOGETHER]
        sentences += [
            f"{attack} raises the score of the encoder it attacks by {at_home:+.3f} and that of another one by "
            f"{crossed:+.3f}: {percent(crossed.value / at_home.value)} of it crosses.",
            f"{attack} on all encoders at once raises each by {mean(together.rise, together.photo):+.3f} on average.",
        ]
        unseen = part[part.attacked == "all but " + part.scored]
        if len(unseen):
            sentences.append(
                f"{attack} on all the others raises the score of an encoder that was not at hand by "
                f"{mean(unseen.rise, unseen.photo):+.3f}."
            )
    (own, foreign), untouched = scored["FoCLIP"], table[table.attacked == ORIGINAL]
    sentences += [
        f"Of pictures that FoCLIP fooled on another encoder, {words} catches {percent(foreign[method].mean())}; of "
        f"those fooled on its own, {percent(own[method].mean())}; of originals it calls "
        f"{percent(untouched[method].mean())} tampered."
        for method, words in METHODS.items()
    ]
    return sentences


study = Study(__name__, __doc__, table, report)
