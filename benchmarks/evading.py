"""What attackers gain who know the universal statistic: ``python -m benchmarks.evading mini --work DIR``.

They have its weights, and clean pictures of their own for scatter and alarm: those of the half of the photographs that
fits (`training.universal`). Pictures of the other half are fooled for their own caption at 40 dB; the reference that
judges is of that half, too: 100 pictures, bound 2 %. Prints, for attackers who know nothing, the statistic, or who even
draw amounts of probes themselves: the mean rise, and how many are caught with the usual amounts, with all of some drawn
ones, and without prompts. DIR is that of `training.universal`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import save
from benchmarks.universal import BOUND, CLEAN, Pictures
from foclip.attacks import AttackTask, FoCLIP, make_plan, objective, run
from foclip.data import images
from foclip.detection import Prober
from foclip.detection.adaptive import Evading
from foclip.detection.features import drift, heading
from foclip.detection.probes import NO_MATCH
from foclip.detection.universal import CLIP, MIRRORED, Scatter, Universal, universal
from foclip.models import load_encoder
from foclip.models.batching import figures
from foclip.models.scorer import Scorer, Targets
from foclip.models.scores import CLIPScore
from training.universal import FOOLED, Row, features, measured, photographs, seen

#: Steps of an attack, dB, and seeds: those of the attackers, besides the usual amounts, and those of the judge.
STEPS, PSNR, DRAWN, SEEDS = 40, 40, (101, 102), (1, 2, 3, 4, 5)


class StatisticAwareScore(Evading):
    """A score minus a penalty while the log-odds of the universal statistic lie above those of most clean pictures."""

    def __init__(self, scorer: CLIPScore, statistic: Universal, clean: Sequence[Row], seeds: Sequence[int | None]):
        table = features([seen(row, "own") for row in clean], statistic.inputs)
        self.statistic, self.scatter = statistic, Scatter.of(table)
        self.limit = float(np.quantile(statistic.log_odds(self.scatter.standardise(table)), 1 - BOUND))
        super().__init__(scorer, statistic.probes, (), (statistic, self.scatter, self.limit), seeds)

    def suspicion(self, vectors: Tensor, others: Sequence[Tensor], targets: Targets) -> Tensor:
        scores = figures(self.scorer, self.scorer.compare(vectors, targets[0])).mean(dim=-1)
        lost = (scores[0] - scores[1:]) / self.info.floor * NO_MATCH
        found = heading(lost, drift(vectors[0], vectors[1:]))
        centre, spread, weight, below = (
            found.new_tensor(each)
            for each in (self.scatter.centre, self.scatter.spread, self.statistic.weight, self.statistic.below)
        )
        value = ((found - centre) / spread).clamp(-CLIP, CLIP)
        parts, constant = torch.where(value > 0, weight, below) * value, self.statistic.intercept - self.limit
        if (mirror := self.statistic.mirror) is None:
            return parts.sum() + constant
        rest = parts.sum() - parts[mirror]
        as_it_is = rest + weight[mirror] * value[mirror]
        return torch.maximum(as_it_is, rest.clamp(max=MIRRORED) + below[mirror] * value[mirror].clamp(max=0)) + constant


def main() -> None:
    """Print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=8)
    choice = parser.parse_args()
    score, weights = CLIPScore(load_encoder(choice.model)), universal()
    fitting, judging = (measured(score, part, choice.data, choice.work) for part in ("fit", "judge"))
    pictures = Pictures(judging, fitting)
    chosen = np.random.default_rng(0).choice(pictures.others, CLEAN, replace=False).tolist()
    reference = {prompts: pictures.reference(weights, chosen, prompts) for prompts in ("own", "none")}
    files, captions = photographs(choice.data, "judge")
    victims = list(pictures.originals)[: min(choice.photos, FOOLED["judge"])]
    plan = make_plan(
        FoCLIP, objective=objective(temperature=score.info.temperature), steps=STEPS, budgets=f"psnr:{PSNR}"
    )
    mine = [row for row in fitting if not row.scenario and row.number >= 0]
    attackers: dict[str, Scorer] = {
        "know nothing": score,
        "know the statistic": StatisticAwareScore(score, weights.with_prompts, mine, [None]),
        "know it, and draw amounts": StatisticAwareScore(score, weights.with_prompts, mine, [None, *DRAWN]),
    }
    table: list[dict[str, Any]] = []
    print(f"{choice.model}: {len(victims)} photographs, {PSNR} dB, {STEPS} steps; share caught")
    print(f"{'attackers':<28}{'rise':>8}{'usual':>12}{'drawn, each':>12}{'all drawn':>12}{'no prompts':>12}")
    for name, aim in attackers.items():
        tasks = [AttackTask(images.to_tensor(images.read(files[n])), (captions[n],), n) for n in victims]
        fooled = {result.task.tag: images.to_image(result.pixels) for result in run(tasks, aim, plan)}
        own = [(captions[n],) for n in victims]
        caught: dict[int | None, list[bool]] = {}
        for seed in (None, *SEEDS):
            prober = Prober(score, seed=seed)
            views = [prober.preprocess(fooled[n]) for n in victims]
            told = prober.measure(views, own, weights.probes, captions=True)
            caught[seed] = [reference["own"].ranked(each).p_value <= BOUND for each in told]
            if seed is None:
                before = [pictures.originals[n].own.score or 0.0 for n in victims]
                rise = np.mean([(each.score or 0.0) - was for each, was in zip(told, before, strict=True)])
                bare = [reference["none"].ranked(each.without_prompts()).p_value <= BOUND for each in told]
        drawn = np.array([caught[seed] for seed in SEEDS])
        shares = {"usual": np.mean(caught[None]), "drawn, each": drawn.mean(), "all drawn": drawn.all(axis=0).mean()}
        table.append({"attackers": name, "rise": rise} | shares | {"no prompts": np.mean(bare)})
        told_shares = "".join(f"{each:>12.0%}" for each in (*shares.values(), np.mean(bare)))
        print(f"{name:<28}{rise:>8.2f}{told_shares}", flush=True)
    about = {"photographs": len(victims), "dB": PSNR, "steps": STEPS, "clean": CLEAN, "bound": BOUND}
    title = "Attackers who know the universal statistic"
    print(save("evading", title, {"rows": table}, models=[choice.model], detectors=["universal"], settings=about))


if __name__ == "__main__":
    main()
