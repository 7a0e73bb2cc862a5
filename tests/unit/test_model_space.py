"""The loop in the model's small space, against the exact loop and against plain linear algebra."""

import copy
import math
from pathlib import Path

import pytest
import torch
from conftest import file_score, fooled_by
from PIL import Image
from torch import Tensor

from foclip.attacks import AttackTask, FoCLIP, SinglePrompt, make_plan, objective, run
from foclip.attacks.cells import CellSpace
from foclip.attacks.constraint import TOLERANCE
from foclip.attacks.space import ModelSpace
from foclip.data.images import read, to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.errors import UsageError
from foclip.models.preprocess import Preprocess, Resampler
from foclip.models.resize import round8
from foclip.models.scores import CLIPScore, MeanEnsemble
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import fidelity, psnr

#: Height × width, and how the model's 24 × 24 come from it.
SIZES = [
    (24, 24, "shortest"),
    (24, 61, "shortest"),
    (50, 41, "shortest"),
    (190, 45, "squash"),  # columns first
    (90, 400, "squash"),
    (70, 33, "longest"),
    (9, 13, "shortest"),
]


def small_space(height: int, width: int, mode: str) -> tuple[Preprocess, Resampler]:
    preprocessing = Preprocess((24, 24), (0.5,) * 3, (0.5,) * 3, resize_mode=mode)
    return preprocessing, Resampler(preprocessing, height, width)


def adjoint(preprocessing: Preprocess, resampler: Resampler, size: tuple[int, int], u: Tensor) -> Tensor:
    """Rᵀu, by the gradient of the exact loop's preprocessing."""
    x = torch.full((1, 3, *size), 0.5, requires_grad=True)
    return torch.autograd.grad(preprocessing.pixels(x), x, resampler.pad(u)[None])[0][0]


@pytest.mark.parametrize(("height", "width", "mode"), SIZES)
def test_what_the_model_sees_of_a_change_and_its_size(height: int, width: int, mode: str) -> None:
    preprocessing, resampler = small_space(height, width, mode)
    generator = torch.Generator().manual_seed(0)
    u, other = (torch.randn(resampler.shape, generator=generator) for _ in range(2))
    back, other_back = (adjoint(preprocessing, resampler, (height, width), each) for each in (u, other))
    # ⟨v, R Rᵀ u⟩ = ⟨Rᵀ v, Rᵀ u⟩ for any u and v
    assert float((other * resampler.gram(u)).sum()) == pytest.approx(float((other_back * back).sum()), abs=1e-2)
    assert float((u * resampler.gram(u)).sum()) == pytest.approx(float(back.square().sum()), rel=1e-4)


@pytest.mark.parametrize(("height", "width", "mode"), SIZES)
@pytest.mark.parametrize("size", [0.0, 0.05, 2.0])
@pytest.mark.parametrize("textured", [False, True])
def test_a_rendered_picture_is_the_file(height: int, width: int, mode: str, size: float, textured: bool) -> None:
    preprocessing, resampler = small_space(height, width, mode)
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    u = size * torch.randn(resampler.shape, generator=generator)
    texture = 2 * torch.rand(height, width, generator=generator).half() if textured else None
    before = levels.clone()
    painted = resampler.paint(levels, u, texture)
    change = adjoint(preprocessing, resampler, (height, width), u) * (1 if texture is None else texture.float())
    wanted = (levels / 255 + change).clamp(0, 1)
    assert torch.equal(levels, before)
    assert torch.equal(resampler.look(painted.levels), painted.seen)
    assert (painted.levels / 255 - wanted).abs().max() <= 0.5001 / 255 + 1e-5
    assert painted.changed == pytest.approx(float((painted.levels / 255 - levels / 255).square().sum()), rel=1e-4)
    assert painted.moved == pytest.approx(float((wanted - levels / 255).square().sum()), rel=1e-3, abs=1e-9)
    seen = preprocessing.pixels(painted.levels[None] / 255)[0]
    # Halves, which float32 sums may round either way, are one in thousands.
    assert (resampler.pad(round8(painted.seen)) - seen).abs().max() <= 1.001 / 255
    assert float((resampler.pad(round8(painted.seen)) != seen).float().mean()) < 1e-2


def moved(most: int, mode: str = "shortest") -> tuple[CellSpace, Tensor, Tensor]:
    """A picture in cells, its original, and the file where it began."""
    preprocessing, resampler = small_space(60, 90, mode)
    generator = torch.Generator().manual_seed(2)
    picture = torch.randint(60, 200, (3, 60, 90), dtype=torch.uint8, generator=generator)
    before = ModelSpace(picture, resampler, preprocessing.region(60, 90), None)
    before.use_mask()
    before.move(torch.randn(resampler.shape, generator=generator), 0.2)
    file = before.render()
    return CellSpace(picture, file, before, most), picture, file


@pytest.mark.parametrize("most", [10_000, 1_000])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_the_gradient_of_cells_is_that_of_their_pixels(most: int, mode: str) -> None:
    space, *_ = moved(most, mode)
    assert (space.cell == 1) == (most == 10_000)
    gradient = torch.randn(space.original.shape, generator=torch.Generator().manual_seed(3))
    preprocessing, resampler = small_space(60, 90, mode)
    rows, columns = resampler.box
    every = adjoint(preprocessing, resampler, (60, 90), gradient)[:, rows, columns]
    _, down, across = space.coarse_original().shape
    wanted = torch.nn.functional.adaptive_avg_pool2d(every, (down, across)) * space.cell**2
    assert torch.allclose(space.coarse_gradient(gradient), wanted, atol=1e-5)
    assert torch.allclose(
        space.coarse_picture().mean(), space.render()[:, rows, columns].float().mean() / 255, atol=1e-3
    )


def test_a_picture_moves_in_cells_from_its_file_on() -> None:
    space, picture, file = moved(10_000)
    assert torch.equal(space.render(), file)
    before, change = space.change(), file.float() - picture
    space.scale(1.5)
    assert space.change() == pytest.approx(1.5 * before, rel=0.05)
    assert (space.render() - (picture + 1.5 * change).clamp(0, 255)).abs().max() <= 0.51
    rows, columns = space.box
    step = torch.full(space.coarse_original().shape, 2 / 255)
    step[:, :10] = -1
    space.move(step, 1.0)
    seen = space.preview()
    assert torch.equal(seen, space.preview())
    assert torch.equal(seen, space.render())
    wanted = (picture + 1.5 * change)[:, rows, columns] + step * 255
    assert (seen[:, rows, columns] - wanted.clamp(0, 255)).abs().max() <= 0.51
    # What was clamped is gone: the way back starts at black.
    space.move(step.abs(), 1.0)
    assert (space.render()[:, :10, columns] == 255).all()


def test_a_picture_in_cells_goes_on_where_it_was() -> None:
    space, picture, _ = moved(1_000)
    space.scale(1.15)
    space.render()
    space.move(torch.randn(space.coarse_original().shape, generator=torch.Generator().manual_seed(4)), 0.02)
    again = CellSpace(picture, picture, space, 1_000)
    again.restore(copy.deepcopy(space.saved()))
    assert torch.equal(again.render(), space.render())
    again.restore(space.saved())  # after it was rendered
    assert torch.equal(again.render(), space.render())
    assert torch.equal(again.pixels, space.pixels)


@pytest.mark.slow
@pytest.mark.parametrize("min_psnr", [30.0, 35.0, 45.0])
def test_the_file_scores_what_the_exact_loop_s_does(score: CLIPScore, photo_files: list[Path], min_psnr: float) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=15, budgets=Budget("psnr", min_psnr))
    photos = [read(path) for path in photo_files[:2]]
    pictures = [to_tensor(photo.resize((photo.width // 2, photo.height // 2))) for photo in photos]
    fast = fooled_by(attack, score, pictures, ARTWORKS)
    exact = fooled_by(attack, MeanEnsemble([score]), pictures, ARTWORKS)  # several models see no one small picture
    for fooled, reference, picture in zip(fast, exact, pictures, strict=True):
        reached = file_score(score, fooled.pixels, ARTWORKS)
        assert reached >= 0.99 * file_score(score, reference.pixels, ARTWORKS)
        assert max(fooled.scores) == pytest.approx(reached, abs=0.01)
        rows, columns = score.preprocess.region(*picture.shape[1:])
        assert (psnr(fooled.pixels[:, rows, columns], picture[:, rows, columns]) or math.inf) >= min_psnr
        assert (psnr(fooled.pixels, picture) or math.inf) >= min_psnr


@pytest.mark.slow
def test_the_mask_is_the_exact_loop_s(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    pictures = [to_tensor(photo.resize((260, 200))) for photo in small_photos[:2]]
    attack = make_plan(FoCLIP, objective=objective(), steps=16, budgets="psnr:36", mask="visible")
    fast = fooled_by(attack, score, pictures, ARTWORKS)
    exact = fooled_by(attack, MeanEnsemble([score]), pictures, ARTWORKS)
    for fooled, reference, picture in zip(fast, exact, pictures, strict=True):
        assert file_score(score, fooled.pixels, ARTWORKS) >= 0.95 * file_score(score, reference.pixels, ARTWORKS)
        lost = [1 - fidelity(each.pixels, picture).ssim for each in (fooled, reference)]
        assert lost[0] <= 1.1 * lost[1]
        rows, columns = score.preprocess.region(*picture.shape[1:])
        assert (psnr(fooled.pixels[:, rows, columns], picture[:, rows, columns]) or math.inf) >= 36


@pytest.mark.parametrize("level", [0, 3, 128, 255])
@pytest.mark.parametrize("min_psnr", [22.0, 50.0, 70.0])
def test_no_budget_is_violated_where_clamping_matters(score: CLIPScore, level: int, min_psnr: float) -> None:
    picture = torch.full((3, 210, 260), level, dtype=torch.uint8)
    picture[:, 60:90] = 255 - level
    (fooled,) = run(
        [AttackTask(picture, ARTWORKS)],
        score,
        make_plan(FoCLIP, steps=4, budgets=Budget("psnr", min_psnr), batch_size=1),
    )
    rows, columns = score.preprocess.region(210, 260)
    # None is an equal picture, which is all that 8 bits may leave of so little
    assert (psnr(fooled.pixels[:, rows, columns], picture[:, rows, columns]) or math.inf) >= min_psnr
    assert (psnr(fooled.pixels, picture) or math.inf) >= min_psnr


def test_without_a_budget(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    picture = to_tensor(small_photos[0].resize((500, 400)))
    (fooled,) = run([AttackTask(picture, ARTWORKS)], score, make_plan(FoCLIP, steps=15, batch_size=1))
    assert file_score(score, fooled.pixels, ARTWORKS) > file_score(score, picture, ARTWORKS) + 0.3


def test_a_target_is_that_of_the_file(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    picture = to_tensor(small_photos[1].resize((600, 500)))
    attack = make_plan(
        FoCLIP, steps=200, budgets="psnr:33", target=file_score(score, picture, ARTWORKS) + 0.2, batch_size=1
    )
    (fooled,) = run([AttackTask(picture, ARTWORKS)], score, attack)
    assert fooled.stopped_by == "target"
    assert fooled.steps < 60
    target = attack.stopping.target or math.inf
    assert file_score(score, fooled.pixels, ARTWORKS) >= target - TOLERANCE * score.info.scale


def test_a_plateau_ends_it_only_when_asked(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    flat = AttackTask(torch.zeros((3, 120, 120), dtype=torch.uint8), ARTWORKS)
    attack = make_plan(SinglePrompt, steps=12, batch_size=1, lr=1e-9)  # a step that moves nothing
    (patient,) = run([flat], score, attack)
    assert (patient.steps, patient.stopped_by) == (12, "steps")
    (impatient,) = run([flat], score, make_plan(SinglePrompt, steps=12, batch_size=1, lr=1e-9, patience=3))
    assert impatient.stopped_by == "plateau"
    assert impatient.steps == 4
    with pytest.raises(UsageError, match="patience: "):
        make_plan(FoCLIP, patience=0)


@pytest.mark.slow
def test_results_do_not_depend_on_the_batches_at_once(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    attack = make_plan(FoCLIP, steps=5, budgets="psnr:35", batch_size=2)
    tasks = [
        AttackTask(to_tensor(photo), ARTWORKS[: 2 + number % 2], number) for number, photo in enumerate(small_photos)
    ]
    one, two = (
        sorted(run(tasks, score, attack, workers=count), key=lambda fooled: int(fooled.task.tag)) for count in (1, 2)
    )
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert a.scores == b.scores
