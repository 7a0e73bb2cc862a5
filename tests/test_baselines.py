"""The attacks that FoCLIP is compared with, and what every attack can do."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from foclip.attacks import ATTACKS, CMAES, MIFGSM, PGD, Adam, Attack, Checkpoints, FoCLIP, SinglePrompt, Trajectory
from foclip.attacks.cmaes import _frequencies
from foclip.attacks.foclip import objective
from foclip.encoders import Encoder
from foclip.encoders.preprocessing import round8
from foclip.errors import UsageError
from foclip.fidelity import fidelity
from foclip.images import to_image, to_tensor
from foclip.objective import Alignment, Lowest, OnePrompt
from foclip.prompts import ARTWORKS
from foclip.score import clip_score, similarity

#: Every attack, from the picture, within 35 dB.
BUDGETED: list[Attack] = [
    PGD(steps=12, min_psnr=35.0, batch_size=2),
    Adam(steps=12, min_psnr=35.0, batch_size=2, init="image"),
    MIFGSM(steps=12, min_psnr=35.0, batch_size=2),
    SinglePrompt(steps=12, min_psnr=35.0, batch_size=2),
    CMAES(steps=45, min_psnr=35.0, block=4, batch_size=2),
]
each_attack = pytest.mark.parametrize("attack", BUDGETED, ids=lambda attack: attack.name)


@pytest.fixture(scope="module")
def texts(mini: Encoder) -> Tensor:
    return mini.encode_texts(ARTWORKS)


@pytest.fixture(scope="module")
def pictures(small_photos: list[Image.Image]) -> list[Tensor]:
    return [to_tensor(picture.resize((w, h))) for picture, w, h in zip(small_photos, (96, 80), (80, 110), strict=False)]


def loss(attack: Attack, encoder: Encoder, pixels: Tensor, texts: Tensor) -> float:
    """The attack's objective of the file."""
    cosines = similarity(encoder.encode_pictures([to_image(pixels)]), texts)
    return float(attack.objective(cosines, pixels[None] / 255, pixels[None] / 255))


def gradient(encoder: Encoder, x: Tensor, texts: Tensor, term: Alignment | Lowest) -> Tensor:
    leaf = x.clone().requires_grad_(True)
    value = term(similarity(encoder.encode_images(round8(leaf)[None]), texts), leaf[None], leaf[None])
    return torch.autograd.grad(value.sum(), leaf)[0]


def paths(attack: Attack, encoder: Encoder, picture: Tensor, texts: Tensor) -> list[Tensor]:
    """The picture as optimised after each update."""
    seen: list[Tensor] = []
    list(attack.run(encoder, [picture], texts, lambda lanes: seen.append(lanes[0].pixels.clone())))
    return seen[:-1]


def test_every_attack_is_tested_here() -> None:
    assert {attack.name for attack in BUDGETED} | {"foclip"} == ATTACKS.keys()
    assert all(ATTACKS[attack.name] is type(attack) for attack in BUDGETED)


@each_attack
def test_improves_within_the_budget_whatever_its_batch_mates(
    mini: Encoder, pictures: list[Tensor], texts: Tensor, attack: Attack
) -> None:
    together = sorted(attack.run(mini, pictures, texts), key=lambda fooled: fooled.index)
    for fooled, original in zip(together, pictures, strict=True):
        assert loss(attack, mini, fooled.pixels, texts) < loss(attack, mini, original, texts) - 0.01
        assert fidelity(fooled.pixels, original).psnr >= 35.0
        assert fooled.pixels.shape == original.shape
    (alone,) = attack.run(mini, pictures[1:], texts)
    assert torch.equal(together[1].pixels, alone.pixels)
    assert together[1].scores == alone.scores


@each_attack
def test_a_tight_budget_holds(mini: Encoder, pictures: list[Tensor], texts: Tensor, attack: Attack) -> None:
    for fooled in replace(attack, steps=6, min_psnr=46.0).run(mini, pictures, texts):
        assert fidelity(fooled.pixels, pictures[fooled.index]).psnr >= 46.0


@each_attack
def test_resumes_where_it_was_cut_off(
    mini: Encoder, pictures: list[Tensor], texts: Tensor, attack: Attack, tmp_path: Path
) -> None:
    (undisturbed,) = attack.run(mini, pictures[:1], texts)

    def interrupt(lanes: Sequence[Trajectory]) -> None:
        if lanes[0].step == attack.steps - 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(attack.run(mini, pictures[:1], texts, interrupt, Checkpoints(tmp_path)))
    steps: list[int] = []
    saved = Checkpoints(tmp_path)
    (resumed,) = attack.run(mini, pictures[:1], texts, lambda lanes: steps.append(lanes[0].step), saved)
    assert steps[0] == attack.steps - 3
    assert torch.equal(undisturbed.pixels, resumed.pixels)
    assert undisturbed.scores == resumed.scores


def test_an_interrupted_update_is_recorded_once(
    mini: Encoder, pictures: list[Tensor], texts: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = CMAES(steps=30, min_psnr=35.0, block=4, batch_size=1)
    (undisturbed,) = attack.run(mini, pictures[:1], texts)
    update = CMAES.update

    def interrupt(self: CMAES, trajectory: Trajectory, gradient: Tensor) -> None:
        if trajectory.step == 25:
            raise KeyboardInterrupt
        update(self, trajectory, gradient)

    with monkeypatch.context() as patch:
        patch.setattr(CMAES, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(attack.run(mini, pictures[:1], texts, checkpoints=Checkpoints(tmp_path)))
    (resumed,) = attack.run(mini, pictures[:1], texts, checkpoints=Checkpoints(tmp_path))
    assert undisturbed.scores == resumed.scores
    assert torch.equal(undisturbed.pixels, resumed.pixels)


def test_adam_is_adam(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    attack = Adam(steps=3, init="image", objective=Alignment(), batch_size=1)
    x = (pictures[0] / 255).clone()
    leaf = torch.nn.Parameter(x.clone())
    optimiser = torch.optim.Adam([leaf], lr=0.1)
    for ours in paths(attack, mini, pictures[0], texts):
        leaf.grad = gradient(mini, leaf.detach(), texts, Alignment())
        optimiser.step()
        assert torch.allclose(ours, leaf.detach(), atol=2e-4)
        leaf.data.copy_(ours)  # the same rounding ahead


def test_adam_starts_from_noise_and_refuses_a_budget_for_it(
    mini: Encoder, pictures: list[Tensor], texts: Tensor
) -> None:
    (fooled,) = Adam(steps=8, batch_size=1).run(mini, pictures[:1], texts)
    assert fidelity(fooled.pixels, pictures[0]).psnr < 15
    assert fooled.scores[-1] > fooled.scores[0]
    with pytest.raises(UsageError, match="noise"):
        Adam(min_psnr=35.0)


def test_pgd_steps_by_whole_levels(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    picture = pictures[0]
    path = paths(PGD(steps=5, epsilon=3, batch_size=1), mini, picture, texts)
    first = (path[0] * 255 - picture).round()
    inside = (picture > 0) & (picture < 255)
    expected = -gradient(mini, picture / 255, texts, Lowest()).sign()
    assert torch.equal(first[inside], expected[inside])
    for x in path:
        levels = x * 255
        assert (levels - levels.round()).abs().max() < 1e-3
        assert levels.min() >= -1e-3
        assert levels.max() <= 255 + 1e-3
    assert (path[-1] * 255 - picture).abs().max().round() == 3
    (fooled,) = PGD(steps=20, epsilon=3, batch_size=1).run(mini, [picture], texts)
    assert fidelity(fooled.pixels, picture).linf <= 3


def test_mifgsm_accumulates_normalised_gradients(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    picture = pictures[0]
    path = paths(MIFGSM(steps=4, batch_size=1), mini, picture, texts)
    x, velocity = picture / 255, torch.zeros_like(picture / 255)
    for ours in path:
        g = gradient(mini, x, texts, Alignment())
        velocity = velocity + g / g.abs().sum()
        expected = (x - 4 / 255 * velocity.sign()).clamp(0, 1)
        assert ((ours - expected).abs() > 1e-5).float().mean() < 0.001  # a sign may turn on a rounding error
        x = ours
    assert (path[-1] - picture / 255).abs().max() <= 16 / 255 + 1e-6


def test_single_prompt_raises_the_first_one_most(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    def rise(attack: Attack) -> Tensor:
        (fooled,) = attack.run(mini, pictures[:1], texts)
        before, after = (mini.encode_pictures([to_image(x)]) @ texts.T for x in (pictures[0], fooled.pixels))
        return (after - before)[0]

    naive, all_of_them = (
        rise(SinglePrompt(steps=20, min_psnr=35.0, batch_size=1)),
        rise(FoCLIP(steps=20, min_psnr=35.0, batch_size=1)),
    )
    assert naive[0] > all_of_them[0]
    assert naive[1:].mean() < all_of_them[1:].mean()
    assert rise(SinglePrompt(objective=OnePrompt(4), steps=20, min_psnr=35.0, batch_size=1))[4] > naive[4]


def test_cmaes_repeats_by_seed_and_sees_no_gradient(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    attack = CMAES(steps=30, min_psnr=35.0, block=4, batch_size=1)

    def path(seed: int, picture: Tensor) -> Tensor:
        return torch.stack(paths(replace(attack, seed=seed), mini, picture, texts))

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
    with pytest.raises(UsageError, match=r"pip install 'foclip\[cma\]'"):
        CMAES()


def test_pictures_of_one_pixel(mini: Encoder, texts: Tensor) -> None:
    for attack in BUDGETED:
        (fooled,) = replace(attack, steps=3).run(mini, [torch.full((3, 1, 1), 90, dtype=torch.uint8)], texts)
        assert fooled.pixels.shape == (3, 1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PGD(epsilon=0),
        lambda: PGD(epsilon=256),
        lambda: PGD(step_size=0.0),
        lambda: PGD(init="noise"),
        lambda: MIFGSM(init="noise"),
        lambda: MIFGSM(decay=-1.0),
        lambda: Adam(lr=0.0),
        lambda: CMAES(block=0),
    ],
)
def test_settings_out_of_range(wrong: Callable[[], Attack]) -> None:
    with pytest.raises(UsageError):
        wrong()


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


def test_a_view_is_optimised_too(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    def gray_score(pixels: Tensor) -> float:
        gray = to_image(pixels).convert("L").convert("RGB")
        return float(clip_score(similarity(mini.encode_pictures([gray]), texts)).mean())

    plain = FoCLIP(objective=objective(), steps=25, min_psnr=33.0, batch_size=1)
    (naive,) = plain.run(mini, pictures[:1], texts)
    (adaptive,) = replace(plain, views=(Gray(),)).run(mini, pictures[:1], texts)
    assert gray_score(adaptive.pixels) > gray_score(naive.pixels) + 0.05
    score = float(clip_score(similarity(mini.encode_pictures([to_image(adaptive.pixels)]), texts)).mean())
    assert max(adaptive.scores) == pytest.approx(score, abs=0.02)  # recorded scores are the picture's own


def test_views_are_averaged_in_full_batches(
    mini: Encoder, pictures: list[Tensor], texts: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = PGD(steps=2, batch_size=3)
    losses: list[float] = []
    batches: list[int] = []
    encode = mini.encode_inputs

    def counted(inputs: Tensor) -> Tensor:
        batches.append(len(inputs))
        return encode(inputs)

    monkeypatch.setattr(mini, "encode_inputs", counted)
    viewed = replace(attack, views=(Gray(), Same()))
    list(viewed.run(mini, pictures[:1], texts, lambda lanes: losses.append(lanes[0].losses[0])))
    assert batches == [3] * 9
    x = pictures[0][None] / 255
    cosines = torch.stack([similarity(mini.encode_images(y), texts) for y in (x, round8(Gray()(x)), x)]).mean(0)
    assert losses[0] == pytest.approx(-float(cosines.min()), abs=1e-5)
    (plain,) = attack.run(mini, pictures[:1], texts)
    (same,) = replace(attack, views=(Same(),)).run(mini, pictures[:1], texts)
    assert same.scores == pytest.approx(plain.scores, abs=1e-3)


def test_views_in_configuration_and_key(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    def key(attack: Attack) -> str:
        keys: list[str] = []
        list(attack.run(mini, pictures[:1], texts, lambda lanes: keys.append(lanes[0].key)))
        return keys[0]

    plain, viewed = PGD(steps=0), PGD(steps=0, views=(Gray(),))
    assert viewed.config()["views"] == ["Gray()"]
    assert viewed.config()["attack"] == "pgd"
    assert len({key(plain), key(viewed), key(FoCLIP(steps=0)), key(SinglePrompt(steps=0))}) == 4
    assert key(viewed) == key(PGD(steps=0, views=(Gray(),)))
