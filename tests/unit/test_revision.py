"""The revision of the attacks, which committed figures of fooled pictures name (decision 0045)."""

import pytest
from conftest import file_score, fooled_by
from zoo import tiles

from foclip.attacks import (
    default_plan,
)
from foclip.data.images import to_tensor
from foclip.models.scores import CLIPScore
from foclip.perceptual.fidelity import fidelity

PLANS = {
    "default": lambda score: default_plan(score, steps=12),
}
#: Mean score of the written file, PSNR and contrast, after a few seeded steps with `mini`.
FIGURES = {}


@pytest.mark.parametrize("name", PLANS)
def test_attacks_make_the_pictures_of_their_revision(name: str, score: CLIPScore) -> None:
    picture = to_tensor(tiles(1, 96)[0])
    (found,) = fooled_by(PLANS[name](score), score, [picture], ("a photo of a dog.", "a red car"))
    close = fidelity(found.pixels, picture)
    print(name, file_score(score, found.pixels, ("a photo of a dog.", "a red car")), close.psnr, close.contrast)
