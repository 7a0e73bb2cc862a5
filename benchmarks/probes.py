"""What each probe tells, alone and beside the others: the table that the detector's probes are chosen by.

    python -m benchmarks.probes --work DIR [--model mini] [--pictures 300]

DIR is where `training.detector` left its fooled pictures. Every candidate probe is measured on them, as they are and
saved again, and on their originals; a logistic regression over a set of probes is fitted on two thirds of the
photographs and predict on the others, at 1 % false alarms, three times. First every probe alone, then the one that
adds most to those before it, one pass through the model each.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from foclip.calibration.fitting import fit_logistic
from foclip.data import images
from foclip.detection import TRANSFORMATIONS, Sensitivity, hardened_scores, measure
from foclip.detection.features import CASCADE, feature_names
from foclip.detection.scenarios import AFTERWARDS, LEAST_RISE
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from foclip.runs.folder import Result, read_results

#: Looks tried besides the single transformations.
TOGETHER = ("shift+jpeg", "shift+webp", "mirror+webp", "rotate+webp")
FPR, FOLDS, MOST = 0.01, 3, 7


def seen(score: CLIPScore, results: Sequence[Result], probes: Sequence[str]) -> list[list[Sensitivity]]:
    """Originals, fooled pictures, and these saved again, each with its prompts."""
    hardened = hardened_scores(score)
    changes = list(AFTERWARDS.values())
    kinds = [
        [images.read(result.source) for result in results],
        [images.read(result.output) for result in results],
        [changes[i % len(changes)](images.read(result.output)) for i, result in enumerate(results)],
    ]
    found: list[list[Sensitivity]] = []
    for pictures in kinds:
        rows: list[Sensitivity] = []
        for first in range(0, len(pictures), 16):
            prompts = [tuple(result.prompts) for result in results[first : first + 16]]
            rows += measure(score, pictures[first : first + 16], prompts, probes, hardened)
        found.append(rows)
    return found


def recall(found: list[list[Sensitivity]], photos: Sequence[str], probes: Sequence[str]) -> float:
    """Share caught at `FPR` of the pictures whose cheat gained something, over photographs left out."""
    caught: list[bool] = []
    names = sorted(set(photos))
    random.Random(0).shuffle(names)
    inputs = feature_names(probes, CASCADE[True])
    for fold in range(FOLDS):
        out = set(names[fold::FOLDS])
        # Those that fit, and those left out.
        clean, fooled, again = ((list[Sensitivity](), list[Sensitivity]()) for _ in found)
        for place, photo in enumerate(photos):
            original, *cheated = (rows[place] for rows in found)
            clean[photo in out].append(original)
            for part, picture in zip((fooled, again), cheated, strict=True):
                if picture.normalised_score - original.normalised_score >= LEAST_RISE:
                    part[photo in out].append(picture)
        model = fit_logistic(clean[0], fooled[0] + again[0], inputs)
        threshold = np.quantile([model.log_odds(s) for s in clean[1]], 1 - FPR)
        caught += [model.log_odds(s) > threshold for s in fooled[1] + again[1]]
    return float(np.mean(caught))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=300)
    choice = parser.parse_args()
    torch.set_num_threads(2)
    score = CLIPScore(load_encoder(choice.model))
    candidates = [*hardened_scores(score), *TRANSFORMATIONS, *TOGETHER]
    results = read_results(choice.work)
    random.Random(0).shuffle(results)
    results = results[: choice.pictures]
    found = seen(score, results, candidates)
    photos = [result.source for result in results]
    print(f"{choice.model}, torch {torch.__version__}, {len(results)} fooled pictures, as they are and saved again")
    alone = {probe: recall(found, photos, [probe]) for probe in candidates}
    print(f"{'one probe':<16}caught at {FPR:.0%} false alarms")
    for probe, share in sorted(alone.items(), key=lambda pair: -pair[1]):
        print(f"{probe:<16}{share:.1%}")
    print(f"\n{'probes together':<16}caught by these and those above")
    chosen: list[str] = []
    while len(chosen) < MOST:
        shares = {probe: recall(found, photos, [*chosen, probe]) for probe in candidates if probe not in chosen}
        chosen.append(max(shares, key=lambda probe: shares[probe]))
        print(f"{chosen[-1]:<16}{shares[chosen[-1]]:.1%}", flush=True)


if __name__ == "__main__":
    main()
