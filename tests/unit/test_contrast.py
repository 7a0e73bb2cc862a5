"""Visible contrast at all scales, and the loss that refinement goes down for it."""

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from conftest import fooled_by
from PIL import Image
from torch import Tensor

from foclip.attacks import AttackTask, FoCLIP, make_plan, run
from foclip.attacks.foclip import objective
from foclip.data import images
from foclip.models.scorer import Scorer
from foclip.perceptual.contrast import ADAPTATION, COLOUR, NEAR, POWER, SENSITIVITY, Contrast, ContrastLoss, pooled
from foclip.perceptual.fidelity import Comparison, Reference, fidelity, means
from foclip.perceptual.flip import linear

#: The gratings' mean, as a part of white.
LIGHT = 0.2
PROMPTS = ("a photo of a cat.", "a painting of a boat.")


def contrast(picture: Tensor, original: Tensor) -> float:
    return pooled(Contrast(original).map(picture).numpy())


def grating(cycles_per_degree: float, amplitude: float, size: int = 256) -> Tensor:
    """Gray with a grating of this Michelson contrast in linear light, sRGB (3, size, size)."""
    phase = torch.arange(size) * (2 * math.pi * cycles_per_degree / NEAR)
    light = LIGHT * (1 + amplitude * torch.sin(phase))
    return _levels(light).expand(3, size, size).clone()


def _levels(light: Tensor) -> Tensor:
    """What sRGB makes of linear light."""
    return 1.055 * light ** (1 / 2.4) - 0.055


def test_the_inverse_of_the_grating_is_linear_light() -> None:
    light = linear(grating(3, 0.5))
    assert (light.max() - light.min()) / (light.max() + light.min()) == pytest.approx(0.5, abs=0.01)


def test_a_grating_at_its_threshold_has_a_contrast_of_about_one() -> None:
    most, at, *_ = SENSITIVITY[0]
    flat, threshold = grating(at, 0), 1 / (most * LIGHT ** (1 - ADAPTATION))
    assert 0.4 < contrast(grating(at, threshold), flat) < 1.2
    coarse, best = (contrast(grating(times * at, 4 * threshold), flat) for times in (0.1, 1))
    assert best > 2 * coarse


def test_it_is_zero_without_and_grows_with_a_change(small_photos: Sequence[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0]).float() / 255
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0)) / 500
    assert contrast(original, original) < 1e-6
    once, twice = (contrast(original + times * noise, original) for times in (1, 2))
    assert twice == pytest.approx(2 * once, rel=0.02)


def test_texture_masks_a_change() -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.full((3, 64, 64), 0.5)
    rough = flat + torch.randn(1, 64, 64, generator=generator) / 8
    noise = torch.randn(1, 64, 64, generator=generator) / 100
    assert contrast(rough + noise, rough) < 0.6 * contrast(flat + noise, flat)


def test_a_change_is_seen_more_on_white_than_in_the_dark_at_the_same_share_of_the_light() -> None:
    generator = torch.Generator().manual_seed(0)
    change = 1 + torch.randn(1, 64, 64, generator=generator) / 20
    dark, bright = (light * torch.ones(3, 64, 64) for light in (0.05, 0.6))
    seen = [contrast(_levels(flat * change), _levels(flat)) for flat in (dark, bright)]
    assert 1.3 < seen[1] / seen[0] < 2


def test_no_texture_hides_another_colour() -> None:
    generator = torch.Generator().manual_seed(0)
    texture, sign = F.interpolate(torch.randn(2, 3, 32, 32, generator=generator), scale_factor=2)
    rough = (0.5 + texture / 6).clamp(0.15, 0.85)
    tinted = rough + torch.tensor([0.12, -0.07, 0.1])[:, None, None] * sign[:1].sign()
    difference = Comparison(*((each * 255).round().to(torch.uint8) for each in (tinted, rough)))
    assert contrast(tinted, rough) > 0.8 * difference.figures(("delta_e",))["delta_e"] / COLOUR


def test_coarse_colour_is_seen_more_than_fine_colour() -> None:
    flat, tint = torch.full((3, 64, 64), 0.5), torch.tensor([0.02, -0.006, 0.0])[:, None, None]
    fine = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0)).sign()
    coarse = F.interpolate(fine[None, :, ::16, ::16], size=(64, 64))[0]
    assert contrast(flat + tint * coarse, flat) > 3 * contrast(flat + tint * fine, flat)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (5, 5), (97, 41)])
def test_any_size(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    original, noise = torch.rand(2, 3, height, width, generator=generator)
    found = Contrast(original).map((original + noise / 50).clamp(0, 1))
    assert found.shape == (height, width)
    assert torch.isfinite(found).all()
    assert found.max() > 0


def test_the_figure_is_that_of_the_map_and_of_a_part_of_it(small_photos: Sequence[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0])
    picture = original.clone()
    picture[:, :40, :40] += 3 * (picture[:, :40, :40] < 250).to(torch.uint8)
    comparison = Comparison(picture, original)
    whole, part, elsewhere = (
        comparison.figures(("contrast",), each)["contrast"]
        for each in ((slice(None), slice(None)), (slice(0, 40), slice(0, 40)), (slice(80, None), slice(80, None)))
    )
    assert fidelity(picture, original).contrast == whole
    assert part > whole > 10 * elsewhere
    total = Contrast(original.float() / 255).total(picture.float() / 255)
    assert float(total) ** (1 / POWER) == pytest.approx(whole, rel=0.05)


def test_cells_have_about_the_contrast_of_their_pixels(small_photos: Sequence[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0]).float() / 255
    height, width = original.shape[1] // 4 * 4, original.shape[2] // 4 * 4
    original = original[:, :height, :width]
    coarse = torch.randn(3, height // 16, width // 16, generator=torch.Generator().manual_seed(0)) / 50
    picture = original + F.interpolate(coarse[None], (height, width), mode="bicubic")[0]
    cells = [F.avg_pool2d(each, 4) for each in (original, picture)]
    whole, by_cells = contrast(picture, original), float(Contrast(cells[0], 4).total(cells[1])) ** (1 / POWER)
    assert by_cells == pytest.approx(whole, rel=0.4)


def test_means_of_squares_have_about_the_contrast_of_a_coarse_change(small_photos: Sequence[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0].resize((512, 512), Image.Resampling.BICUBIC))
    coarse = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 5
    change = F.interpolate(coarse, (512, 512), mode="bicubic")[0]
    picture = (original + change).round().clamp(0, 255).to(torch.uint8)
    exact = Comparison(picture, original).figures(("contrast",))["contrast"]
    reference = Reference(means(original, 4), 4)
    about = Comparison(means(picture, 4), reference.original, reference).figures(("contrast",))["contrast"]
    assert about == pytest.approx(exact, rel=0.05)


def test_the_gradient_of_the_loss_is_its_slope(small_photos: Sequence[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0]).double() / 255
    generator = torch.Generator().manual_seed(0)
    noise, way = (torch.randn(original.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    loss, picture = ContrastLoss(original), original + noise / 100
    slope = float((loss.gradient(picture, {}) * way).sum())
    value = [float(loss.value(picture + step * way)) for step in (-1e-6, 1e-6)]
    assert (value[1] - value[0]) / 2e-6 == pytest.approx(slope, rel=1e-3)


def test_a_gray_picture_stays_gray(score: Scorer, small_photos: Sequence[Image.Image]) -> None:
    gray = images.to_tensor(small_photos[0].convert("L").convert("RGB"))
    plan = make_plan(FoCLIP, objective=objective(), steps=6, budgets="invisible", mask="visible")
    (fooled,) = fooled_by(plan, score, [gray], PROMPTS)
    assert not torch.equal(fooled.pixels, gray)
    assert torch.equal(fooled.pixels[0], fooled.pixels[1])
    assert torch.equal(fooled.pixels[1], fooled.pixels[2])
    assert fidelity(fooled.pixels, gray).contrast <= 0.425


def test_one_look_is_enough_before_refinement_but_for_the_first_step(
    score: Scorer, small_photos: Sequence[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    plan = make_plan(FoCLIP, objective=objective(), steps=15, budgets="invisible", mask="visible")
    look = Contrast.map

    def counted(self: Contrast, picture: Tensor) -> Tensor:
        looks[-1] += 1
        return look(self, picture)

    monkeypatch.setattr(Contrast, "map", counted)
    task = AttackTask(images.to_tensor(small_photos[0]), PROMPTS)
    looks.append(0)
    (fooled,) = run([task], score, plan, on_step=lambda states: looks.append(0))
    assert looks[1] > 1  # the first step goes too far, and is pulled back
    assert looks[2:5] == [0, 0, 1]  # after 4 steps, where 10 of 15 refine
    assert fidelity(fooled.pixels, task.picture).contrast <= 0.425


@pytest.mark.slow
def test_refining_by_contrast_gives_more_score_within_the_budget(
    score: Scorer, small_photos: Sequence[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    originals = [images.to_tensor(photo) for photo in small_photos[:2]]
    plan = make_plan(FoCLIP, objective=objective(), steps=45, budgets="invisible", mask="visible")
    refined = fooled_by(plan, score, originals, PROMPTS)
    monkeypatch.setattr("foclip.attacks.refine.CONTRAST_STEPS", (0, 0))
    for after, before in zip(refined, fooled_by(plan, score, originals, PROMPTS), strict=True):
        assert fidelity(after.pixels, after.task.picture).contrast <= 0.425
        assert after.scores[-1] > 1.1 * before.scores[-1]
