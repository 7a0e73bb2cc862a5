"""The loop in the model's small space against the exact one over all pixels: what do their files score?

Both run the same steps within the same budget, 35 dB, on the demo's photos (or those of --photos) enlarged or reduced
to 0.3, 3 and 12 megapixels; ten artworks. Figures are those of the written files: mean score, how much that of the
small space is higher or lower, in per cent, and the lowest PSNR of both.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.quality import BUDGET, of_size
from benchmarks.steps import encoder_of
from benchmarks.timing import Section
from foclip.attacks import AttackTask, FoCLIP, objective, run
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.demo import photos
from foclip.models.scores import CLIPScore, MeanEnsemble, Score
from foclip.outcome import mean
from foclip.perceptual.fidelity import psnr

#: Pixels of the photos, and steps: the exact loop pays for every pixel at each.
CASES = ((300_000, 60), (3_000_000, 60), (12_000_000, 30))


def table(model: str, device: str, most: int, files: Sequence[Path] = ()) -> Section:
    """One row per photo and size."""
    score = CLIPScore(encoder_of(model, device))
    section = Section("Small space against exact loop", f"{__doc__ or ''}\nModel: {model}.")
    for pixels, steps in [case for case in CASES if case[0] <= most]:
        attack = FoCLIP(objective=objective(), steps=steps, min_psnr=BUDGET)
        for path in files or photos():
            picture = images.to_tensor(of_size(images.read(path), pixels))
            small, exact = (_file(attack, loop, picture) for loop in (score, MeanEnsemble([score])))
            fast, slow = (mean(score.read(images.to_image(file), ARTWORKS)) for file in (small, exact))
            section.add(
                megapixels=f"{picture[0].numel() / 1e6:.1f}",
                photo=path.stem,
                steps=steps,
                **{"exact loop": slow, "small space": fast, "% higher": 100 * (fast / slow - 1)},
                **{"lowest PSNR": min(psnr(file, picture) or float("inf") for file in (small, exact))},
            )
    return section


def _file(attack: FoCLIP, score: Score, picture: Tensor) -> Tensor:
    """The written picture; a mean over one score is that score, but is not attacked in the small space."""
    (fooled,) = run(attack, score, [AttackTask(picture, ARTWORKS)])
    return fooled.pixels
