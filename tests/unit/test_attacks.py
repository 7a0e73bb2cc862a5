"""The attacks that FoCLIP is compared with, and what every attack can do."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import file_score, fooled_by, raw_scores_of
from PIL import Image
from torch import Tensor

from foclip.attacks import (
    ATTACKS,
    CMAES,
    MIFGSM,
    NAMES,
    PGD,
    Adam,
    AttackPlan,
    AttackState,
    AttackTask,
    AutoPGD,
    FoCLIP,
    SinglePrompt,
    make_plan,
    objective,
    run,
)
from foclip.attacks.baselines import checkpoints, halvings
from foclip.attacks.cmaes import _frequencies
from foclip.cache import Cache
from foclip.data.images import to_gray, to_image, to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.resize import round8
from foclip.models.scores import CLIPScore
from foclip.objective import FeatureAlignment, Lowest, OnePrompt
from foclip.perceptual.fidelity import fidelity

#: Every attack, from the picture, within 35 dB.
BUDGETED: list[AttackPlan] = [
    make_plan(PGD, steps=8, budgets="psnr:35", batch_size=2),
    make_plan(AutoPGD, steps=8, budgets="psnr:35", batch_size=2),
    make_plan(Adam, steps=8, budgets="psnr:35", batch_size=2, init="image"),
    make_plan(MIFGSM, steps=8, budgets="psnr:35", batch_size=2),
    make_plan(SinglePrompt, steps=8, budgets="psnr:35", batch_size=2),
    make_plan(CMAES, steps=32, budgets="psnr:35", block=4, batch_size=2),
]
each_attack = pytest.mark.parametrize("attack", BUDGETED, ids=lambda attack: attack.method.name)


@pytest.fixture(scope="module")
def pictures(photo_parts: list[Image.Image]) -> list[Tensor]:
    return [to_tensor(picture.resize((w, h))) for picture, w, h in zip(photo_parts, (96, 80), (80, 110), strict=False)]


def loss(attack: AttackPlan, score: CLIPScore, pixels: Tensor) -> float:
    """The attack's objective of the file."""
    values = raw_scores_of(score, to_image(pixels), ARTWORKS)[None]
    return float(attack.method.objective(values, pixels[None] / 255, pixels[None] / 255))


def cosines(encoder: Encoder, x: Tensor) -> Tensor:
    """(1, 10), of pixels float (3, H, W)."""
    return encoder.embed(x[None]) @ encoder.encode_texts(ARTWORKS).T


def gradient(encoder: Encoder, x: Tensor, term: FeatureAlignment | Lowest) -> Tensor:
    leaf = x.clone().requires_grad_(True)
    value = term(cosines(encoder, round8(leaf)), leaf[None], leaf[None])
    return torch.autograd.grad(value.sum(), leaf)[0]


def paths(attack: AttackPlan, score: CLIPScore, picture: Tensor) -> list[Tensor]:
    """The picture as optimised after each update."""
    seen: list[Tensor] = []
    list(
        run(
            [AttackTask(picture, ARTWORKS)],
            score,
            attack,
            on_step=lambda states: seen.append(states[0].space.pixels.clone()),
        )
    )
    return seen[:-1]


def alone(attack: AttackPlan, score: CLIPScore, picture: Tensor) -> Tensor:
    """The picture, fooled."""
    (fooled,) = run([AttackTask(picture, ARTWORKS)], score, attack)
    return fooled.pixels


def test_every_attack_is_tested_here() -> None:
    assert {attack.method.name for attack in BUDGETED} | {"foclip"} == ATTACKS.keys() == set(NAMES)
    assert all(ATTACKS[attack.method.name] is type(attack.method) for attack in BUDGETED)
    assert all(name == kind.name for name, kind in ATTACKS.items())


@pytest.mark.slow
@each_attack
def test_improves_within_the_budget_whatever_its_batch_mates(
    score: CLIPScore, pictures: list[Tensor], attack: AttackPlan
) -> None:
    together = fooled_by(attack, score, pictures, ARTWORKS)
    for fooled, original in zip(together, pictures, strict=True):
        assert loss(attack, score, fooled.pixels) < loss(attack, score, original) - 0.01
        assert fidelity(fooled.pixels, original).psnr >= 35.0
        assert fooled.pixels.shape == original.shape
    (lonely,) = fooled_by(attack, score, pictures[1:], ARTWORKS)
    assert torch.equal(together[1].pixels, lonely.pixels)
    assert together[1].scores == lonely.scores


@each_attack
def test_a_tight_budget_holds(score: CLIPScore, pictures: list[Tensor], attack: AttackPlan) -> None:
    tight = attack.replace(steps=6, budgets="psnr:46")
    for fooled, original in zip(fooled_by(tight, score, pictures, ARTWORKS), pictures, strict=True):
        assert fidelity(fooled.pixels, original).psnr >= 46.0


@pytest.mark.slow
@each_attack
def test_resumes_where_it_was_cut_off(
    score: CLIPScore, pictures: list[Tensor], attack: AttackPlan, tmp_path: Path
) -> None:
    task, cache = AttackTask(pictures[0], ARTWORKS), Cache(tmp_path)
    (undisturbed,) = run([task], score, attack)

    def interrupt(states: Sequence[AttackState]) -> None:
        if states[0].step == attack.steps - 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run([task], score, attack, on_step=interrupt, states=cache))
    steps: list[int] = []
    (resumed,) = run([task], score, attack, on_step=lambda states: steps.append(states[0].step), states=cache)
    assert steps[0] == attack.steps - 3
    assert torch.equal(undisturbed.pixels, resumed.pixels)
    assert undisturbed.scores == resumed.scores


def test_an_interrupted_update_is_recorded_once(
    score: CLIPScore, pictures: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = make_plan(CMAES, steps=30, budgets="psnr:35", block=4, batch_size=1)
    task, cache = AttackTask(pictures[0], ARTWORKS), Cache(tmp_path)
    (undisturbed,) = run([task], score, attack)
    update = CMAES.update

    def interrupt(self: CMAES, state: AttackState, gradient: Tensor) -> None:
        if state.step == 25:
            raise KeyboardInterrupt
        update(self, state, gradient)

    with monkeypatch.context() as patch:
        patch.setattr(CMAES, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(run([task], score, attack, states=cache))
    (resumed,) = run([task], score, attack, states=cache)
    assert undisturbed.scores == resumed.scores
    assert torch.equal(undisturbed.pixels, resumed.pixels)


def test_adam_is_adam(mini: Encoder, score: CLIPScore, pictures: list[Tensor]) -> None:
    attack = make_plan(Adam, steps=3, init="image", objective=FeatureAlignment(), batch_size=1)
    x = (pictures[0] / 255).clone()
    leaf = torch.nn.Parameter(x.clone())
    optimiser, clear = torch.optim.Adam([leaf], lr=0.1), torch.ones_like(x, dtype=torch.bool)
    for ours in paths(attack, score, pictures[0]):
        leaf.grad = gradient(mini, leaf.detach(), FeatureAlignment())
        optimiser.step()
        # Adam divides a gradient by its own size: of one that is nearly 0, rounding decides the direction.
        clear &= leaf.grad.abs() > leaf.grad.square().mean().sqrt() / 100
        assert torch.allclose(ours[clear], leaf.detach()[clear], atol=2e-4)
        leaf.data.copy_(ours)  # the same rounding ahead
    assert clear.float().mean() > 0.7


def test_adam_starts_from_noise_and_refuses_a_budget_for_it(score: CLIPScore, pictures: list[Tensor]) -> None:
    (fooled,) = fooled_by(make_plan(Adam, steps=8, batch_size=1), score, pictures[:1], ARTWORKS)
    assert fidelity(fooled.pixels, pictures[0]).psnr < 15
    assert fooled.scores[-1] > fooled.scores[0]
    with pytest.raises(UsageError, match="noise"):
        make_plan(Adam, budgets="psnr:35")


def test_pgd_steps_by_whole_levels(mini: Encoder, score: CLIPScore, pictures: list[Tensor]) -> None:
    picture = pictures[0]
    path = paths(make_plan(PGD, steps=5, epsilon=3, batch_size=1), score, picture)
    first = (path[0] * 255 - picture).round()
    inside = (picture > 0) & (picture < 255)
    expected = -gradient(mini, picture / 255, Lowest()).sign()
    assert torch.equal(first[inside], expected[inside])
    for x in path:
        levels = x * 255
        assert (levels - levels.round()).abs().max() < 1e-3
        assert levels.min() >= -1e-3
        assert levels.max() <= 255 + 1e-3
    assert (path[-1] * 255 - picture).abs().max().round() == 3
    assert fidelity(alone(make_plan(PGD, steps=20, epsilon=3, batch_size=1), score, picture), picture).linf <= 3


def test_autopgd_checkpoints_are_the_papers() -> None:
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(1) == (1,) * len(checkpoints(1))
    assert halvings([], 100) == halvings([0.0] * 22, 100) == []


def test_autopgd_halves_a_step_that_stopped_paying() -> None:
    falling = [-float(step) for step in range(101)]
    assert halvings(falling, 100) == [False] * 8
    assert halvings([0.0] * 101, 100) == [True] * 8  # condition 1: nothing improves
    swings = [-0.01 * step + (step % 2) for step in range(101)]
    assert halvings(swings, 100) == [True] * 8  # condition 1: every other step improves
    # Condition 2: every step but the first of the second period improves, and the best is still that of the first.
    jump = falling[:23] + [100.0 - step for step in range(78)]
    assert halvings(jump, 100)[:2] == [False, True]
    assert not halvings(jump, 100)[2]  # but not twice in a row


def test_autopgd_by_hand(mini: Encoder, score: CLIPScore, pictures: list[Tensor]) -> None:
    """Algorithm 1, with nothing of the framework but its projection, through two halvings."""
    steps, picture = 14, pictures[0][:, :80, :80]  # square: all of it is seen
    attack = make_plan(AutoPGD, steps=steps, budgets="psnr:35", batch_size=1)
    seen: list[tuple[Tensor, float, float]] = []

    def watch(states: Sequence[AttackState]) -> None:
        seen.append((states[0].space.pixels.clone(), states[0].losses[-1], states[0].radius_fraction))

    list(run([AttackTask(picture, ARTWORKS)], score, attack, on_step=watch))
    start = picture / 255
    radius = 10 ** (-35 / 20)
    x, before, eta = start, start, 2 * radius
    losses: list[float] = []
    best: tuple[float, Tensor, Tensor] = (math.inf, start, start)
    count = 0

    def pulled(y: Tensor, reach: float) -> Tensor:
        allowed = reach * math.sqrt(radius**2 - 1 / (255**2 * 12))
        return (start + (y - start) * min(1.0, allowed / float((y - start).square().mean().sqrt()))).clamp(0, 1)

    for step, (theirs, value, reach) in enumerate(seen[:-1]):
        g = gradient(mini, x, FeatureAlignment())
        losses.append(value)
        if value < best[0] and (round8(x) - start).square().mean() <= radius**2:
            best = (value, x, g)
        halved = halvings(losses, steps)
        here = x
        if len(halved) > count:
            count = len(halved)
            if halved[-1]:
                eta, (_, here, g) = eta / 2, best
        z = pulled(here - eta * g / g.square().mean().sqrt(), reach)
        x, before = (z if step == 0 else pulled(here + 0.75 * (z - here) + 0.25 * (here - before), reach)), here
        assert (theirs - x).square().mean().sqrt() < 0.01 * radius
        x = theirs
    assert 0 < eta < radius


@pytest.mark.slow
def test_autopgd_needs_few_steps(score: CLIPScore, pictures: list[Tensor]) -> None:
    """Most of what three times the steps of FoCLIP reach: no step is lost."""
    ours, longer = (
        loss(attack, score, alone(attack, score, pictures[0])) - loss(attack, score, pictures[0])
        for attack in (
            make_plan(AutoPGD, steps=20, budgets="psnr:35", batch_size=1),
            make_plan(FoCLIP, objective=FeatureAlignment(), steps=60, budgets="psnr:35", batch_size=1),
        )
    )
    assert ours < longer * 3 / 4


def test_mifgsm_accumulates_normalised_gradients(mini: Encoder, score: CLIPScore, pictures: list[Tensor]) -> None:
    picture = pictures[0]
    path = paths(make_plan(MIFGSM, steps=4, batch_size=1), score, picture)
    x, velocity = picture / 255, torch.zeros_like(picture / 255)
    for ours in path:
        g = gradient(mini, x, FeatureAlignment())
        velocity = velocity + g / g.abs().sum()
        expected = (x - 4 / 255 * velocity.sign()).clamp(0, 1)
        assert ((ours - expected).abs() > 1e-5).float().mean() < 0.001  # a sign may turn on a rounding error
        x = ours
    assert (path[-1] - picture / 255).abs().max() <= 16 / 255 + 1e-6


@pytest.mark.slow
def test_single_prompt_raises_its_prompt_more_and_the_others_less(score: CLIPScore, pictures: list[Tensor]) -> None:
    def rise(attack: AttackPlan) -> Tensor:
        fooled = alone(attack, score, pictures[0])
        before, after = (raw_scores_of(score, to_image(x), ARTWORKS) for x in (pictures[0], fooled))
        return after - before

    naive, all_of_them = (
        rise(make_plan(SinglePrompt, steps=20, budgets="psnr:35", batch_size=1)),
        rise(make_plan(FoCLIP, steps=20, budgets="psnr:35", batch_size=1)),
    )
    assert naive[0] == naive.max() > all_of_them[0]
    assert naive[1:].mean() < all_of_them[1:].mean()
    assert (
        rise(make_plan(SinglePrompt, objective=OnePrompt(4), steps=20, budgets="psnr:35", batch_size=1))[4] > naive[4]
    )


@pytest.mark.slow
def test_cmaes_repeats_by_seed_and_sees_no_gradient(score: CLIPScore, pictures: list[Tensor]) -> None:
    attack = make_plan(CMAES, steps=30, budgets="psnr:35", block=4, batch_size=1)

    def path(seed: int, picture: Tensor) -> Tensor:
        return torch.stack(paths(attack.replace(seed=seed), score, picture))

    with torch.inference_mode():
        first = path(1, pictures[0])
    assert torch.equal(first, path(1, pictures[0]))
    assert not torch.equal(first, path(2, pictures[0]))
    change = first[0] - pictures[0] / 255
    assert 10 * math.log10(1 / change.square().mean()) == pytest.approx(35, abs=1.5)
    other = pictures[0].flip(2)
    assert not torch.allclose(change, path(1, other)[0] - other / 255, atol=1e-4)  # every picture has its own search


def test_the_cosine_transform_is_orthonormal() -> None:
    for size, count in ((40, 8), (3, 8), (1, 1)):
        rows = _frequencies(size, count, torch.device("cpu"))
        assert rows.shape == (min(size, count), size)
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-6)


def test_cmaes_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(UsageError, match="pip install cma"):
        make_plan(CMAES)


def test_pictures_of_one_pixel(score: CLIPScore) -> None:
    for attack in BUDGETED:
        fooled = alone(attack.replace(steps=3), score, torch.full((3, 1, 1), 90, dtype=torch.uint8))
        assert fooled.shape == (3, 1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: make_plan(PGD, epsilon=0),
        lambda: make_plan(PGD, epsilon=256),
        lambda: make_plan(PGD, step_size=0.0),
        lambda: make_plan(PGD, init="noise"),
        lambda: make_plan(MIFGSM, init="noise"),
        lambda: make_plan(MIFGSM, decay=-1.0),
        lambda: make_plan(Adam, lr=0.0),
        lambda: make_plan(Adam, lr="fast"),
        lambda: make_plan(Adam, init="x"),
        lambda: make_plan(PGD, init="x"),
        lambda: make_plan(CMAES, block=0),
    ],
)
def test_settings_out_of_range(wrong: Callable[[], AttackPlan]) -> None:
    with pytest.raises(UsageError) as caught:
        wrong()
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Gray:
    """BT.601 luma in three equal channels."""

    def __call__(self, picture: Tensor) -> Tensor:
        weights = picture.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (picture * weights).sum(dim=1, keepdim=True).expand_as(picture)


@dataclass(frozen=True)
class Same:
    def __call__(self, picture: Tensor) -> Tensor:
        return picture


@pytest.mark.slow
def test_a_view_is_optimised_too(score: CLIPScore, pictures: list[Tensor]) -> None:
    def gray_score(pixels: Tensor) -> float:
        return file_score(score, to_tensor(to_gray(to_image(pixels))), ARTWORKS)

    plain = make_plan(FoCLIP, objective=objective(), steps=25, budgets="psnr:33", batch_size=1)
    (naive,) = fooled_by(plain, score, pictures[:1], ARTWORKS)
    (adaptive,) = fooled_by(plain.replace(views=(Gray(),)), score, pictures[:1], ARTWORKS)
    assert gray_score(adaptive.pixels) > gray_score(naive.pixels) + 0.05
    # recorded scores are the picture's own
    assert max(adaptive.scores) == pytest.approx(file_score(score, adaptive.pixels, ARTWORKS), abs=0.02)


def test_views_are_averaged_in_full_batches(
    mini: Encoder, score: CLIPScore, pictures: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = make_plan(PGD, steps=2, batch_size=3)
    losses: list[float] = []
    batches: list[int] = []
    tower = mini.tower

    def counted(inputs: Tensor) -> Tensor:
        batches.append(len(inputs))
        return tower(inputs)

    viewed = attack.replace(views=(Gray(), Same()))
    with monkeypatch.context() as patch:
        patch.setattr(mini, "tower", counted)
        list(
            run(
                [AttackTask(pictures[0], ARTWORKS)],
                score,
                viewed,
                on_step=lambda states: losses.append(states[0].losses[0]),
            )
        )
    assert batches == [3] * 9
    x = pictures[0] / 255
    mean = torch.stack([cosines(mini, y) for y in (x, round8(Gray()(x[None])[0]), x)]).mean(0)
    assert losses[0] == pytest.approx(-float(mean.min()), abs=1e-5)
    (plain,) = fooled_by(attack, score, pictures[:1], ARTWORKS)
    (same,) = fooled_by(attack.replace(views=(Same(),)), score, pictures[:1], ARTWORKS)
    assert same.scores == pytest.approx(plain.scores, abs=1e-3)


def test_views_in_configuration_and_key(score: CLIPScore, pictures: list[Tensor]) -> None:
    def named(attack: AttackPlan) -> str:
        return attack.key(score, AttackTask(pictures[0], ARTWORKS))

    plain, viewed = make_plan(PGD, steps=0), make_plan(PGD, steps=0, views=(Gray(),))
    assert viewed.config()["views"] == ["Gray()"]
    assert viewed.config()["attack"] == "pgd"
    assert (
        len({named(plain), named(viewed), named(make_plan(FoCLIP, steps=0)), named(make_plan(SinglePrompt, steps=0))})
        == 4
    )
    assert named(viewed) == named(make_plan(PGD, steps=0, views=(Gray(),)))
