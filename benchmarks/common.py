"""What several benchmarks use: scores of pictures, attacks on lists of pictures, and intervals."""

from collections.abc import Sequence

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


def interval(values: Sequence[float] | np.ndarray) -> str:
    """Mean and 95 % bootstrap interval, in percent."""
    data = np.asarray(values, dtype=float)
    if not len(data) or np.ptp(data) == 0:
        return f"{100 * data.mean():.1f} %" if len(data) else "none"
    found = bootstrap((data,), np.mean, n_resamples=2000, rng=np.random.default_rng(0), method="percentile")
    low, high = found.confidence_interval
    return f"{100 * data.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def exact(flags: np.ndarray) -> str:
    """A share and its exact 95 % interval, in percent."""
    found = binomtest(int(flags.sum()), len(flags)).proportion_ci()
    return f"{100 * flags.mean():5.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def balanced(caught: np.ndarray, alarms: np.ndarray) -> str:
    """Balanced accuracy and its bootstrap interval, in percent."""
    rng = np.random.default_rng(0)
    draws = [
        (rng.choice(caught, len(caught)).mean() + 1 - rng.choice(alarms, len(alarms)).mean()) / 2 for _ in range(2000)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{50 * (caught.mean() + 1 - alarms.mean()):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
