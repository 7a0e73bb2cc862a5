"""The revision of the attacks, which records of figures name (decision 0045)."""

from collections.abc import Callable

import pytest
from conftest import file_score, fooled_by
from zoo import tiles

from foclip.attacks import REVISION, AttackPlan, AutoPGD, FoCLIP, default_plan, make_plan, objective
from foclip.data.images import to_tensor
from foclip.models.scores import CLIPScore
from foclip.perceptual.fidelity import psnr

PLANS: dict[str, Callable[[CLIPScore], AttackPlan]] = {
    "default": lambda score: default_plan(score, steps=6),
    "paper": lambda _: make_plan(FoCLIP, objective=objective(), steps=6, budgets="psnr:35"),
    "apgd": lambda _: make_plan(AutoPGD, steps=4, budgets="psnr:35"),
}
#: Score and PSNR of one picture after these few steps, by revision. Other instruction sets differ by 0.0002 at most.
FIGURES = {1: {"default": (0.4798, 43.307), "paper": (1.0361, 35.067), "apgd": (0.8538, 35.510)}}
ADVICE = (
    "attacks make other pictures than before. If that is meant, raise REVISION in foclip/attacks/__init__.py and "
    "FORMAT in foclip/cache.py, and add the new figures here"
)


@pytest.mark.parametrize("name", PLANS)
def test_attacks_make_the_pictures_of_their_revision(name: str, score: CLIPScore) -> None:
    picture, prompts = to_tensor(tiles(1, 96)[0]), ("a photo of a dog.", "a red car")
    (found,) = fooled_by(PLANS[name](score), score, [picture], prompts)
    wanted_score, wanted_psnr = FIGURES[REVISION][name]
    assert file_score(score, found.pixels, prompts) == pytest.approx(wanted_score, abs=0.001), ADVICE
    assert psnr(found.pixels, picture) == pytest.approx(wanted_psnr, abs=0.01), ADVICE
