"""The loop in the model's small space against the exact one over all pixels: what do their files score?

Both run the same steps within the same budget, 35 dB, on the demo's photos (or those of --photos) enlarged or reduced
to 0.3, 3 and 12 megapixels; ten artworks. Figures are those of the written files: mean score, how much that of the
small space is higher or lower, in per cent, and the lowest PSNR of both.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import fooled, mean_score, of_size
from benchmarks.quality import BUDGET
from benchmarks.steps import encoder_of
from benchmarks.timing import Section
from foclip.attacks import FoCLIP, make_plan, objective
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.demo import photos
from foclip.models.scores import CLIPScore, MeanEnsemble
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import psnr

#: Pixels of the photos, and steps: the exact loop pays for every pixel at each.
CASES = ((300_000, 60), (3_000_000, 60), (12_000_000, 30))


def table(model: str, device: str, most: int, files: Sequence[Path] = ()) -> Section:
    """One row per photo and size."""
    score = CLIPScore(encoder_of(model, device))
    section = Section(f"Model resolution against the exact loop, with {model}")
    for pixels, steps in [case for case in CASES if case[0] <= most]:
        attack = make_plan(FoCLIP, objective=objective(), steps=steps, budgets=Budget("psnr", BUDGET))
        for path in files or photos():
            picture = images.to_tensor(of_size(images.read(path), pixels))
            # An ensemble of one scorer is that scorer, but it is not attacked at model resolution.
            small, exact = (fooled(attack, loop, [picture], [ARTWORKS])[0] for loop in (score, MeanEnsemble([score])))
            fast, slow = (mean_score(score, file, ARTWORKS) for file in (small, exact))
            section.add(
                megapixels=f"{picture[0].numel() / 1e6:.1f}",
                photo=path.stem,
                steps=steps,
                **{"exact loop": slow, "model resolution": fast, "% higher": 100 * (fast / slow - 1)},
                **{"lowest PSNR": min(psnr(file, picture) or float("inf") for file in (small, exact))},
            )
    return section
