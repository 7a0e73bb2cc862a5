"""Cross: does a picture that was fooled for one score fool the others, and does an ensemble help?

Whoever filters or rewards with several scores hopes that nobody fools all of them. Photographs are fooled for each
score that the encoder can give, for the same score over each further encoder, and for all at once. Every score then
reads every result; so does their ensemble, the mean of all in standard deviations among clean photographs. Attackers
who know the ensemble raise this mean.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foclip.models.scorer import EmbeddingScorer, ScoreInfo
from foclip.models.scores.ensemble import Ensemble
from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.several import Asked, asked, figures, prompts_of, split
from foclip.studies.harness.statistics import Floats, groups, mean

#: What is attacked, and what reads, besides single scores.
TOGETHER, NOTHING = "all together", "nothing"


class StandardEnsemble(Ensemble):
    """The mean of several scores, each in standard deviations above its mean among clean photographs.

    Each member is asked with prompts of its own.
    """

    name = "ensemble"
    one_scale = False

    def __init__(self, members: Sequence[Asked]) -> None:
        super().__init__([member.scorer for member in members])  # type: ignore[misc]
        self._members = members
        self.info = ScoreInfo(self.name, floor=0.1, temperature=0.1, lowest=-np.inf, highest=np.inf)
        units = [[member.mean, member.deviation] for member in members]
        scales = torch.tensor([scorer.info.scale for scorer in self.scorers])
        self._mean, self._deviation = (torch.tensor(units) / scales[:, None]).to(self.device).T[..., None, None]

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {self._mean.flatten().tolist()} {self._deviation.flatten().tolist()}"

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Any, ...]:
        return tuple(scorer.encode_prompts(prompts_of(scorer)) for scorer in self.scorers)

    def in_precision(self, dtype: torch.dtype | None, compiled: bool = False) -> "StandardEnsemble":
        scorers = [scorer.in_precision(dtype, compiled) for scorer in self.scorers]
        members = zip(self._members, scorers, strict=True)
        return StandardEnsemble([replace(member, scorer=scorer) for member, scorer in members])

    def combine(self, raw: Tensor) -> Tensor:
        return torch.as_tensor(((raw - self._mean) / self._deviation).mean(dim=0))


def members(context: StudyContext, clean: Sequence[Picture]) -> tuple[dict[str, Asked], list[str]]:
    """The scores by name, those over further encoders too; and what was left out."""
    found, missing = asked(context, clean)
    for scorer in context.further:
        called = f"{scorer.info.name} over {scorer.model}"
        found[called] = Asked(scorer, prompts_of(scorer), figures(context, clean, scorer))
    return found, missing


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: what was fooled × what reads × pictures, in standard deviations; and the originals."""
    pictures, clean = split(context)
    scores, missing = members(context, clean)
    parts = {name: by for name, by in scores.items() if isinstance(by.scorer, EmbeddingScorer)}
    attacked = {name: by.scorer for name, by in scores.items()} | {TOGETHER: StandardEnsemble([*parts.values()])}
    originals = read(context, scores, parts, pictures)
    rows = []
    for fooled_for in context.with_progress([NOTHING, *attacked]):
        current = pictures
        if fooled_for != NOTHING:
            score = attacked[fooled_for]
            wanted = [prompts_of(score)] * len(pictures)
            current = context.fool(context.default_attack(score), pictures, wanted, score)
        for scored_by, values in read(context, scores, parts, current).items():
            same = {"fooled_for": fooled_for, "scored_by": scored_by}
            for picture, before, after in zip(current, originals[scored_by], values, strict=True):
                row = {"picture": picture.name, "photo": picture.photo, "level": after, "rise": after - before}
                rows.append(same | row | picture.figures)
    return pd.DataFrame(rows).assign(left_out=", ".join(missing))


def read(
    context: StudyContext, scores: dict[str, Asked], parts: dict[str, Asked], pictures: Sequence[Picture]
) -> dict[str, Floats]:
    """Every score of each picture, in standard deviations, and the mean of the ensemble's parts."""
    found = {name: by.units(by.figures(context, pictures)) for name, by in scores.items()}
    return found | {TOGETHER: np.mean([found[name] for name in parts], axis=0)}


def report(table: pd.DataFrame) -> StudyReport:
    """The matrix of rises: what was fooled × what reads."""
    fooled = table[table.fooled_for != NOTHING]
    summary = []
    for name, part in groups(fooled, "fooled_for").items():
        cells = {by: f"{mean(own.rise, own.photo):+.1f}" for by, own in groups(part, "scored_by").items()}
        summary.append({"fooled for": name} | cells)
    rises = fooled.groupby(["fooled_for", "scored_by"], sort=False).rise.mean().unstack(sort=False)
    label = "rise / standard deviations"
    return StudyReport(
        pd.DataFrame(summary), {"rise": plots.heatmap(rises, "scored by", "fooled for", label)}, _findings(fooled)
    )


def _findings(fooled: pd.DataFrame) -> list[str]:
    single = fooled[fooled.fooled_for != TOGETHER]
    own, other = single[single.fooled_for == single.scored_by], single[single.fooled_for != single.scored_by]
    other, ensemble = other[other.scored_by != TOGETHER], single[single.scored_by == TOGETHER]
    together = fooled[fooled.fooled_for == TOGETHER]
    its, each = together[together.scored_by == TOGETHER], together[together.scored_by != TOGETHER]
    worst = each.groupby("scored_by", sort=False).rise.mean()
    sentences = [f"Pictures fooled for one score raise it by {mean(own.rise, own.photo):.1f} standard deviations."]
    if len(other):
        sentences.append(f"Another score rises by {mean(other.rise, other.photo):+.1f} then.")
    sentences += [
        f"The ensemble of all rises by {mean(ensemble.rise, ensemble.photo):+.1f} if one of them was attacked, and by "
        f"{mean(its.rise, its.photo):+.1f} if all were.",
        f"Attacked together, {worst.idxmin()} rises least, by {worst.min():+.1f}, and {worst.idxmax()} most, by "
        f"{worst.max():+.1f}.",
    ]
    if left_out := fooled.left_out.iloc[0]:
        sentences.append(f"Left out, since they need a model of their own (`foclip scores`): {left_out}.")
    return sentences


study = Study(__name__, __doc__, table, report)
