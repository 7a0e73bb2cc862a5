"""What several benchmarks use: scores of pictures, attacks on lists of pictures, intervals, and tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import binomtest, bootstrap
from torch import Tensor

from foclip.attacks import AttackPlan, AttackTask, run
from foclip.data import images
from foclip.data.prompts import Prompts
from foclip.models.batching import read_figures
from foclip.models.scorer import Scorer
from foclip.outcome import mean
from foclip.studies.harness.statistics import Estimate


def fooled(attack: AttackPlan, score: Scorer, pictures: Sequence[Tensor], prompts: Sequence[Prompts]) -> list[Tensor]:
    """Pictures (uint8) as an attack leaves them, each fooled for its own prompts, in the order given."""
    tasks = [
        AttackTask(picture, own, place) for place, (picture, own) in enumerate(zip(pictures, prompts, strict=True))
    ]
    found = {result.task.tag: result.pixels for result in run(tasks, score, attack)}
    return [found[place] for place in range(len(pictures))]


def mean_score(score: Scorer, picture: Image.Image | Tensor, prompts: Prompts) -> float:
    """Mean score of a picture over prompts, as `foclip score` gives it for the file."""
    image = images.to_image(picture) if isinstance(picture, Tensor) else picture
    return mean(read_figures(score, [score.preprocess.image(image)], [score.encode_prompts(prompts)])[0])


def of_size(photo: Image.Image, pixels: int | None) -> Image.Image:
    """The photo resized to a number of pixels, or as it is."""
    scale = (pixels / (photo.width * photo.height)) ** 0.5 if pixels else 1
    return photo.resize((round(scale * photo.width), round(scale * photo.height)), Image.Resampling.LANCZOS)


def interval(values: Sequence[float] | np.ndarray) -> Estimate:
    """Mean and 95 % bootstrap interval, which has no ends if all values are the same."""
    data = np.asarray(values, dtype=float)
    if not len(data) or np.ptp(data) == 0:
        return Estimate(float(data.mean()) if len(data) else np.nan, np.nan, np.nan, len(data))
    found = bootstrap((data,), np.mean, n_resamples=2000, rng=np.random.default_rng(0), method="percentile")
    low, high = found.confidence_interval
    return Estimate(float(data.mean()), float(low), float(high), len(data))


def exact(flags: np.ndarray) -> Estimate:
    """A share and its exact 95 % interval."""
    found = binomtest(int(flags.sum()), len(flags)).proportion_ci()
    return Estimate(float(flags.mean()), float(found.low), float(found.high), len(flags))


def balanced(caught: np.ndarray, alarms: np.ndarray) -> Estimate:
    """Balanced accuracy and its bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = [
        (rng.choice(caught, len(caught)).mean() + 1 - rng.choice(alarms, len(alarms)).mean()) / 2 for _ in range(2000)
    ]
    low, high = map(float, np.quantile(draws, (0.025, 0.975)))
    return Estimate(float(caught.mean() + 1 - alarms.mean()) / 2, low, high, len(caught) + len(alarms))


class Table(list[dict[str, Any]]):
    """Rows of a record's table (`benchmarks.record`). Each is printed as it comes, since the next may take minutes."""

    def add(self, row: dict[str, Any]) -> None:
        """Keep and print one row."""
        self.append(row)
        print("   " + "  ".join(f"{column}: {_text(value)}" for column, value in row.items()), flush=True)


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float | Estimate) else str(value)
