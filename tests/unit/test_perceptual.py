"""Budgets on what is seen, the mask, and the figures: what a written file is promised to keep to."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import fooled_by, scores_of
from PIL import Image
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from foclip.attacks import (
    PGD,
    Adam,
    Attack,
    AttackResult,
    AttackState,
    AttackTask,
    FoCLIP,
    make_plan,
    objective,
    refine,
    run,
    state,
)
from foclip.attacks.constraint import MaskKind
from foclip.cache import Cache
from foclip.data import images
from foclip.errors import UsageError
from foclip.models.scorer import Scorer
from foclip.perceptual import fidelity as module
from foclip.perceptual import loss as loss_module
from foclip.perceptual.budget import BOUNDS, Budget, parse, utilisation
from foclip.perceptual.fidelity import Comparison, fidelity
from foclip.perceptual.loss import PerceptualLoss
from foclip.perceptual.mask import Mask, coarse_mask, is_gray, visibility_mask

PROMPTS = ("a photo of a dog.", "the night watch")
LIMITS = ("psnr:40", "ssim:0.99", "linf:4", "delta_e:0.5", "delta_e99:2", "flip:0.03", "flip99:0.08")


def pictures() -> dict[str, torch.Tensor]:
    """What is hard to keep to a budget on."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 60, 81), dtype=torch.uint8, generator=generator)
    ramp = torch.linspace(0, 255, 140).round().to(torch.uint8).expand(3, 90, 140).contiguous()
    return {
        "noise": noise,
        "gray": torch.full((3, 120, 100), 128, dtype=torch.uint8),
        "black": torch.zeros(3, 97, 150, dtype=torch.uint8),
        "white": torch.full((3, 110, 96), 255, dtype=torch.uint8),
        "ramp": ramp,
        "one pixel wide": noise[:, :, :1].contiguous(),
        "one pixel": noise[:, :1, :1].contiguous(),
        "panorama": noise[:, :12].contiguous(),
    }


def kept(budgets: tuple[Budget, ...], picture: torch.Tensor, original: torch.Tensor) -> bool:
    """Whether every figure is within its limit, compared directly."""
    close = fidelity(picture, original)
    for budget in budgets:
        value = getattr(close, budget.metric)
        more_is_better = budget.metric in ("psnr", "ssim")
        if not (math.isnan(value) or (value >= budget.limit if more_is_better else value <= budget.limit)):
            return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_the_file_keeps_to_its_budget(score: Scorer, limit: str) -> None:
    budgets, originals = (parse(limit),), pictures()
    attack = make_plan(FoCLIP, objective=objective(), steps=5, budgets=budgets, mask="visible")
    for fooled, (name, original) in zip(
        fooled_by(attack, score, list(originals.values()), PROMPTS), originals.items(), strict=True
    ):
        assert kept(budgets, fooled.pixels, original), name


@pytest.mark.parametrize("attack", [FoCLIP, PGD, Adam])
@pytest.mark.parametrize("mask", ["none", "visible"])
def test_every_attack_keeps_to_several_budgets_at_once(score: Scorer, attack: type[Attack], mask: MaskKind) -> None:
    budgets = tuple(map(parse, ("psnr:36", "psnr:38", "flip99:0.1", "ssim:0.97")))
    chosen = make_plan(attack, steps=5, budgets=budgets, mask=mask, init="image")
    originals = [pictures()[name] for name in ("noise", "ramp", "white")]
    for fooled, original in zip(fooled_by(chosen, score, originals, PROMPTS), originals, strict=True):
        assert kept(budgets, fooled.pixels, original)


@pytest.mark.slow
def test_a_budget_is_used_and_not_wasted(score: Scorer, small_photos: list[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0])
    for limit in ("flip99:0.15", "ssim:0.98"):
        attack = make_plan(FoCLIP, objective=objective(), steps=20, budgets=(parse(limit),), mask="visible")
        (fooled,) = fooled_by(attack, score, [original], PROMPTS)
        comparison, whole = Comparison(fooled.pixels, original), (slice(None), slice(None))
        assert 0.8 < utilisation((parse(limit),), comparison, whole) <= 1
        assert max(fooled.scores) > fooled.scores[0] + 0.1


def test_what_cannot_be_done_is_said(score: Scorer) -> None:
    gray = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    (fooled,) = fooled_by(make_plan(FoCLIP, steps=5, budgets=(parse("flip99:0.001"),)), score, [gray], PROMPTS)
    assert torch.equal(fooled.pixels, gray)
    assert fooled.stopped_by == "budget"


def test_a_target_is_reached_within_the_budget(score: Scorer, small_photos: list[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0])
    attack = make_plan(
        FoCLIP, objective=objective(), steps=200, budgets=(parse("flip99:0.2"),), mask="visible", target=0.35
    )
    (fooled,) = fooled_by(attack, score, [original], PROMPTS)
    assert fooled.stopped_by == "target"
    assert kept(attack.constraint.budgets, fooled.pixels, original)
    assert fidelity(fooled.pixels, original).flip99 > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flip", "or METRIC:LIMIT, as in"),
        ("unseen", "write invisible or discreet"),
        ("flip:x", "no number"),
        ("psn:35", "none of psnr"),
        ("ssim:1", "not between"),
        ("psnr:nan", "not between"),
        ("flip:-1", "not between"),
    ],
)
def test_a_wrong_budget_is_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("budget: ")


def test_budgets_say_what_they_are() -> None:
    assert str(parse("flip99:0.2")) == str(parse("discreet")) == "flip99:0.2"
    assert str(parse("invisible")) == "contrast:0.425"
    assert set(BOUNDS) == set(module.FIGURES)
    for metric in BOUNDS:  # the better half of every metric takes less of the budget
        low, high = (Budget(metric, 0.5).utilisation(value) for value in (0.4, 0.6))
        assert (low > 1 > high) if metric in ("psnr", "ssim") else (low < 1 < high)


def coordinates(mask: Mask, change: torch.Tensor) -> torch.Tensor:
    """What `push` makes this change of."""
    factors, values = (each.flatten(-2).movedim(-1, 0) for each in (mask.factors, change))
    solved = torch.linalg.solve_triangular(factors, values[..., None], upper=True)
    return torch.as_tensor(solved[..., 0].T.reshape(change.shape))


@pytest.mark.parametrize("name", list(pictures()))
def test_the_mask_is_a_change_of_coordinates(name: str) -> None:
    original = pictures()[name] / 255
    mask = visibility_mask(original)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(original.shape, generator=generator) for _ in range(2))
    if is_gray(original):
        assert torch.equal(*mask.push(a)[:2])
        assert torch.equal(*mask.push(a)[1:])
    else:
        assert torch.allclose(coordinates(mask, mask.push(a)), a, atol=1e-3)
    assert torch.allclose((mask.push(a) * b).sum(), (a * mask.pull(b)).sum(), rtol=1e-3, atol=1e-2)
    assert torch.equal(visibility_mask(original).factors, mask.factors)


def test_the_mask_moves_texture_and_not_walls() -> None:
    generator = torch.Generator().manual_seed(0)
    original = torch.full((3, 80, 80), 0.5)
    original[:, :, 40:] += 0.1 * torch.randn(3, 80, 40, generator=generator)
    strength = visibility_mask(original).factors.square().sum(dim=(0, 1)).sqrt()
    assert strength[20:60, 55:75].mean() > 2 * strength[20:60, 5:25].mean()
    # the smooth side of an edge stays smooth
    assert strength[40, 36] < 1.5 * strength[40, 10]


@pytest.mark.parametrize("size", [(20, 30), (80, 120), (150, 200)])
def test_a_coarse_mask_and_its_texture_are_the_fine_one(size: tuple[int, int], small_photos: list[Image.Image]) -> None:
    original = images.to_tensor(small_photos[0].resize((120, 80))) / 255
    coarse, texture = coarse_mask(original, size)
    assert coarse.factors.shape == (3, 3, *size)
    assert texture.shape == original.shape[1:]
    assert texture.min() > 0
    assert float(texture.mean()) == pytest.approx(1, abs=0.1)
    # how far a pixel goes for a gradient is M Mᵀ of it
    near, far = (m.factors.square().sum(dim=(0, 1)) for m in (coarse, visibility_mask(original)))
    made = torch.nn.functional.interpolate(near[None, None], (80, 120), mode="bilinear")[0, 0] * texture
    assert torch.corrcoef(torch.stack([made, far]).flatten(1))[0, 1] > 0.95
    if size < (80, 120):  # what is finer than a cell is in the texture
        assert texture.std() > 0.1


@pytest.mark.slow
def test_a_masked_picture_is_seen_less(score: Scorer, small_photos: list[Image.Image]) -> None:
    originals = [images.to_tensor(photo) for photo in small_photos[:2]]
    seen = {}
    masks: tuple[MaskKind, ...] = ("none", "visible")
    for mask in masks:
        attack = make_plan(FoCLIP, objective=objective(), steps=20, budgets="psnr:36", mask=mask)
        results = fooled_by(attack, score, originals, PROMPTS)
        seen[mask] = np.mean([1 - fidelity(f.pixels, o).ssim for f, o in zip(results, originals, strict=True)])
    assert seen["visible"] < 0.6 * seen["none"]


def test_maps_in_strips_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (3, 150, 70), dtype=torch.uint8, generator=generator) for _ in range(2))
    whole = [Comparison(a, b).map(name) for name in ("flip", "delta_e")]
    monkeypatch.setattr(module, "STRIP", 70 * 20)
    for name, expected in zip(("flip", "delta_e"), whole, strict=True):
        assert np.array_equal(Comparison(a, b).map(name), expected)


def test_maps_are_made_where_pictures_differ(monkeypatch: pytest.MonkeyPatch, photo_parts: list[Image.Image]) -> None:
    original = images.to_tensor(photo_parts[0])
    picture, asked = original.clone(), list[int]()
    picture[:, 70:100, 80:90] = 255 - picture[:, 70:100, 80:90]
    picture[:, 72, 120] ^= 1
    _, height, width = original.shape
    compare = {"flip": module._flip, "delta_e": module._delta_e}
    for name, made in compare.items():
        before, after = (each.permute(1, 2, 0).float().numpy() / np.float32(255) for each in (original, picture))
        whole = made(np.ascontiguousarray(before), np.ascontiguousarray(after))

        def counted(before: Any, after: Any, made: Any = made) -> Any:
            asked.append(before.shape[0] * before.shape[1])
            return made(before, after)

        monkeypatch.setattr(module, f"_{name}", counted)
        assert np.array_equal(Comparison(picture, original).map(name), whole)
        assert not Comparison(original, original).map(name).any()
    assert max(asked) < 0.7 * height * width


def right_ssim(picture: torch.Tensor, original: torch.Tensor) -> float:
    """The mean over windows that lie within the picture, by scikit-image."""
    pair = (each.numpy() for each in (picture, original))
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, values = structural_similarity(*pair, **settings, data_range=255, channel_axis=0, full=True)
    return float(values[:, 5:-5, 5:-5].mean())


def test_ssim_is_a_mean_over_windows_within_the_picture(small_photos: list[Image.Image]) -> None:
    gray = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    framed = torch.zeros_like(gray)
    framed[:, 1:-1, 1:-1] = 128
    assert fidelity(framed, gray).ssim == pytest.approx(0.9601, abs=5e-5)
    original, picture = changed(small_photos[0])
    noise = pictures()["noise"]
    pairs = [(framed, gray), (picture, original), (255 - original, original), (noise, noise.flip(1))]
    pairs += [(noise[:, :11, :11], noise[:, 11:22, :11]), (noise[:, :11], noise[:, 20:31])]
    for a, b in pairs:
        assert fidelity(a, b).ssim == pytest.approx(right_ssim(a, b), abs=5e-6)


def test_psnr_is_torchmetrics_to_the_last_bit(small_photos: list[Image.Image]) -> None:
    for photo in small_photos:
        for part in (slice(None), slice(7, -5), slice(0, 1)):
            both = [each[:, part, part] for each in changed(photo)]
            expected = peak_signal_noise_ratio(*(each.float() for each in both), data_range=255.0)
            assert fidelity(*both).psnr == float(expected)


@pytest.mark.parametrize("rows", [13, 10_000])
def test_ssim_is_scikit_images_on_thirty_pairs(
    monkeypatch: pytest.MonkeyPatch, photo_parts: list[Image.Image], rows: int
) -> None:
    """Noise, blur, negatives and neighbours of photos, whatever the height of a strip."""
    generator = torch.Generator().manual_seed(0)
    for number in range(30):
        photo = images.to_tensor(photo_parts[number % 4])
        height, width = (int(torch.randint(11, 120, (), generator=generator)) for _ in range(2))
        original, noise = photo[:, :height, :width], torch.randn(3, height, width, generator=generator)
        changes = (
            original + 2.0**number * noise if number < 8 else original + 4 * noise,
            255.0 - original,
            photo[:, 10 : 10 + height, 20 : 20 + width],
            torch.nn.functional.avg_pool2d(original[None] / 1.0, 3, 1, 1)[0],
            original * (number / 30),
        )
        picture = changes[number % 5].round().clamp(0, 255).to(torch.uint8)
        monkeypatch.setattr(module, "SSIM_STRIP", rows * width)
        found = Comparison(picture, original).figures(("ssim",))["ssim"]
        assert found == pytest.approx(right_ssim(picture, original), abs=1e-4)


@pytest.mark.parametrize("size", [(11, 11), (11, 500), (500, 11), (12, 13)])
def test_ssim_of_odd_shapes_and_of_opposites(size: tuple[int, int]) -> None:
    noise = torch.randint(256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    board = (255 * (torch.arange(size[0])[:, None] + torch.arange(size[1])) % 510).to(torch.uint8).expand(3, *size)
    for picture, original in ((noise[0], noise[1]), (board, 255 - board), (board * 0, board * 0 + 255)):
        assert fidelity(picture, original).ssim == pytest.approx(right_ssim(picture, original), abs=1e-5)


def test_ssim_does_not_depend_on_strips(monkeypatch: pytest.MonkeyPatch, photo_parts: list[Image.Image]) -> None:
    original, picture = changed(photo_parts[0])
    whole = Comparison(picture, original).figures(("ssim",))["ssim"]
    for rows in (1, 7, 50):
        monkeypatch.setattr(module, "SSIM_STRIP", rows * original.shape[2])
        assert Comparison(picture, original).figures(("ssim",))["ssim"] == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
def test_what_no_window_lies_in_has_no_ssim(size: tuple[int, int]) -> None:
    assert math.isnan(fidelity(*torch.zeros(2, 3, *size, dtype=torch.uint8)).ssim)


def test_equal_pictures_have_nothing_to_see() -> None:
    close = fidelity(pictures()["noise"], pictures()["noise"])
    assert (close.psnr, close.ssim, close.linf) == (math.inf, 1.0, 0)
    assert close.delta_e == close.delta_e99 == close.flip == close.flip99 == 0
    assert close.flip <= close.flip99


def test_a_smear_is_in_the_percentile_before_it_is_in_the_mean() -> None:
    wall = torch.full((3, 100, 100), 150, dtype=torch.uint8)
    smeared = wall.clone()
    smeared[0, 40:55, 40:55] += 20
    close = fidelity(smeared, wall)
    assert close.flip99 > 5 * close.flip
    assert close.delta_e99 > 5 * close.delta_e


def test_noise_has_no_budget() -> None:
    with pytest.raises(UsageError, match="budget"):
        make_plan(FoCLIP, init="noise", budgets=(parse("flip:0.1"),))
    with pytest.raises(UsageError, match="mask"):
        make_plan(FoCLIP, init="noise", mask="visible")


def changed(photo: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    """A photo and a change of it by some four levels, uint8."""
    original = images.to_tensor(photo)
    noise = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)) * 4
    change = torch.nn.functional.interpolate(noise, original.shape[1:], mode="bicubic")[0]
    return original, (original + change).round().clamp(0, 255).to(torch.uint8)


def test_perceptual_loss_is_what_fidelity_measures(small_photos: list[Image.Image]) -> None:
    original, picture = changed(small_photos[0])
    close, (lost, seen, worst) = fidelity(picture, original), PerceptualLoss(original / 255).terms(picture / 255)
    flip = Comparison(picture, original).map("flip")
    assert float(lost) == pytest.approx(1 - close.ssim, rel=0.4)  # to second order alone
    assert float(seen) == pytest.approx(close.flip, rel=0.01)
    assert float(worst) == pytest.approx(np.mean(flip.astype(float) ** 4), rel=0.02)


def test_of_small_changes_the_structure_lost_is_that_of_ssim(small_photos: list[Image.Image]) -> None:
    original, picture = (each / 255 for each in changed(small_photos[0]))
    picture = original + (picture - original) / 10
    pair = (each[None].double() for each in (picture, original))
    expected = 1 - float(torch.as_tensor(structural_similarity_index_measure(*pair, data_range=1.0)))
    assert float(PerceptualLoss(original).terms(picture)[0]) == pytest.approx(expected, rel=0.05)


def test_the_perceptual_gradient_leads_downhill(small_photos: list[Image.Image]) -> None:
    original, picture = (each / 255 for each in changed(small_photos[0]))
    loss = PerceptualLoss(original)
    gradient = loss.gradient(picture, {})
    weights, exponents = torch.tensor([loss_module.WEIGHTS, loss_module.EXPONENTS])
    step = 3e-5 / float(gradient.abs().mean())
    value = [float((loss.terms(picture + way * step * gradient) ** exponents * weights).sum()) for way in (-1, 1)]
    assert (value[1] - value[0]) / (2 * step) == pytest.approx(float(gradient.square().sum()), rel=0.05)


def test_cells_lose_as_much_as_their_pixels_to_a_smooth_change(small_photos: list[Image.Image]) -> None:
    original, picture = (each / 255 for each in changed(small_photos[0]))
    half = (original.shape[1] // 2, original.shape[2] // 2)
    cells = [torch.nn.functional.adaptive_avg_pool2d(each, half) for each in (original, picture)]
    whole, coarse = PerceptualLoss(original), PerceptualLoss(cells[0], cell=2)
    assert torch.allclose(whole.terms(picture), coarse.terms(cells[1]), rtol=0.4)
    gradients = whole.gradient(picture, {}), coarse.gradient(cells[1], {})
    mean = torch.nn.functional.adaptive_avg_pool2d(gradients[0], half)
    assert torch.cosine_similarity(mean.flatten(), gradients[1].flatten(), dim=0) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("cells", [refine.MOST_CELLS, 50_000])
def test_a_refined_picture_scores_more_within_the_same_budgets(
    score: Scorer, small_photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(refine, "MOST_CELLS", cells)
    originals = [images.to_tensor(photo) for photo in small_photos[:1]]
    budgets = tuple(map(parse, ("flip99:0.2", "flip:0.045", "ssim:0.99")))
    attack = make_plan(FoCLIP, objective=objective(), steps=40, budgets=budgets, mask="visible")
    refined = fooled_by(attack, score, originals, PROMPTS)
    monkeypatch.setattr(refine, "MOST_STEPS", (0, 0))
    masked = fooled_by(attack, score, originals, PROMPTS)
    for fooled, before, original in zip(refined, masked, originals, strict=True):
        assert kept(budgets, fooled.pixels, original)
        reached = [np.mean(scores_of(score, images.to_image(each.pixels), PROMPTS)) for each in (fooled, before)]
        assert reached[0] > 1.03 * reached[1]


@pytest.mark.parametrize(("budget", "cell"), [("flip99:0.1", 2), ("invisible", 4)])
def test_coarse_looks_admit_nothing(
    score: Scorer, small_photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch, budget: str, cell: int
) -> None:
    looks, all_looks = list[int](), list[int]()
    used, record = AttackState._used, AttackState.record

    def look(self: AttackState, cell: int) -> float:
        looks.append(cell)
        all_looks.append(cell)
        return used(self, cell) * (1 if cell == 1 else 0.9)  # coarse ones are too low

    def kept_after_exact_looks(self: AttackState, *args: Any) -> None:
        assert not (looks and self.enforced) or looks[-1] == 1
        record(self, *args)
        looks.clear()

    monkeypatch.setattr(state, "LARGER", 0)
    monkeypatch.setattr(AttackState, "_used", look)
    monkeypatch.setattr(AttackState, "record", kept_after_exact_looks)
    original = images.to_tensor(small_photos[0])
    attack = make_plan(FoCLIP, objective=objective(), steps=8, budgets=budget, mask="visible")
    (fooled,) = run([AttackTask(original, PROMPTS)], score, attack)
    assert kept((parse(budget),), fooled.pixels, original)
    assert not torch.equal(fooled.pixels, original)
    assert set(all_looks) == {1, cell}


#: The last five are of refinement.
TWENTY = make_plan(FoCLIP, objective=objective(), steps=20, budgets=(parse("flip99:0.2"),), mask="visible")


@pytest.fixture(scope="module")
def undisturbed(score: Scorer, small_photos: list[Image.Image]) -> AttackResult:
    """A run of `TWENTY` steps that nothing interrupted."""
    (result,) = run([AttackTask(images.to_tensor(small_photos[0]), PROMPTS)], score, TWENTY)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("stop", [14, 15, 16, 18])
def test_refinement_goes_on_where_it_was_interrupted(
    undisturbed: AttackResult, score: Scorer, tmp_path: Path, stop: int
) -> None:
    task, cache, attack = undisturbed.task, Cache(tmp_path / "store"), TWENTY

    def interrupt(states: Sequence[AttackState]) -> None:
        if states[0].step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run([task], score, attack, on_step=interrupt, states=cache))
    (resumed,) = run([task], score, attack, states=cache)
    assert torch.equal(undisturbed.pixels, resumed.pixels)
    assert undisturbed.scores == resumed.scores


def test_pictures_with_mask_and_measured_budgets_are_refined() -> None:
    def planned(**settings: Any) -> int:
        return refine.planned_steps(make_plan(FoCLIP, **settings))

    assert planned(budgets="flip99:0.2", mask="visible") == refine.MOST_STEPS[0]
    assert planned(budgets="contrast:0.5", mask="visible") == refine.CONTRAST_STEPS[0]
    assert planned(budgets="contrast:0.5", mask="visible", steps=30) == 20
    assert planned(budgets="flip99:0.2", mask="visible", steps=20) == 5
    assert planned(budgets="flip99:0.2") == 0
    assert planned(budgets="psnr:36", mask="visible") == 0
