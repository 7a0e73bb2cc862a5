import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from foclip.attacks import Checkpoints, FoCLIP, Fooled, Trajectory
from foclip.attacks.foclip import objective
from foclip.encoders import Encoder
from foclip.errors import UsageError
from foclip.fidelity import fidelity
from foclip.images import to_image, to_tensor
from foclip.prompts import ARTWORKS
from foclip.score import clip_score, similarity


@pytest.fixture(scope="module")
def texts(mini: Encoder) -> Tensor:
    return mini.encode_texts(ARTWORKS)


@pytest.fixture(scope="module")
def pictures(small_photos: list[Image.Image]) -> list[Tensor]:
    return [to_tensor(picture) for picture in small_photos]


def run(attack: FoCLIP, encoder: Encoder, pictures: Sequence[Tensor], texts: Tensor | Sequence[Tensor]) -> list[Fooled]:
    return sorted(attack.run(encoder, pictures, texts), key=lambda fooled: fooled.index)


def file_score(encoder: Encoder, pixels: Tensor, texts: Tensor) -> float:
    return float(clip_score(similarity(encoder.encode_pictures([to_image(pixels)]), texts)).mean())


def test_scores_rise_within_the_budget(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    results = run(FoCLIP(objective=objective(), steps=60, min_psnr=35.0), mini, pictures, texts)
    assert [fooled.index for fooled in results] == list(range(len(pictures)))
    for fooled, original in zip(results, pictures, strict=True):
        before, after = (file_score(mini, x, texts) for x in (original, fooled.pixels))
        assert after > max(1.427 * before, before + 0.1)
        assert fidelity(fooled.pixels, original).psnr >= 35.0
        assert fooled.pixels.dtype == torch.uint8
        assert fooled.steps == 60
        assert len(fooled.scores) == 61
        # the loop sees what the file will score
        assert fooled.scores[0] == pytest.approx(before, abs=0.01)
        assert max(fooled.scores) == pytest.approx(after, abs=0.01)


@pytest.mark.parametrize("min_psnr", [20.0, 45.0, 58.0, 80.0])
def test_no_budget_is_ever_violated(mini: Encoder, pictures: list[Tensor], texts: Tensor, min_psnr: float) -> None:
    for fooled in run(FoCLIP(objective=objective(), steps=8, min_psnr=min_psnr), mini, pictures[:2], texts):
        assert fidelity(fooled.pixels, pictures[fooled.index]).psnr >= min_psnr


def test_batch_mates_do_not_matter(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    attack = FoCLIP(objective=objective(), steps=25, min_psnr=35.0)
    together = run(attack, mini, pictures, texts)
    backwards = run(attack, mini, pictures[::-1], texts)[::-1]
    alone = [run(attack, mini, [picture], texts)[0] for picture in pictures]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.pixels, c.pixels)
        assert a.scores == b.scores == c.scores


def test_a_seed_repeats_exactly(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    def noise(seed: int) -> list[Fooled]:
        return run(FoCLIP(objective=objective(), steps=5, init="noise", seed=seed), mini, pictures[:2], texts)

    first, again, other = noise(1), noise(1), noise(2)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].pixels, other[0].pixels)
    assert not torch.equal(first[0].pixels[:, :150, :150], first[1].pixels[:, :150, :150])
    assert fidelity(first[0].pixels, pictures[0]).psnr < 15  # it really started from noise


def test_stops_at_the_target_of_the_file(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    target = file_score(mini, pictures[0], texts) + 0.2
    (fooled,) = run(FoCLIP(objective=objective(), steps=500, target=target), mini, pictures[:1], texts)
    assert fooled.stopped_by == "target"
    assert fooled.steps < 500
    assert file_score(mini, fooled.pixels, texts) >= target
    (done,) = run(FoCLIP(steps=5, target=0.0), mini, pictures[:1], texts)
    assert done.steps == 0
    assert torch.equal(done.pixels, pictures[0])


def test_prompts_of_their_own(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    attack = FoCLIP(objective=objective(), steps=20, min_psnr=35.0)
    mixed = run(attack, mini, pictures[:2], [texts[:1], texts[3:]])
    assert torch.equal(mixed[1].pixels, run(attack, mini, pictures[1:2], texts[3:])[0].pixels)
    assert file_score(mini, mixed[0].pixels, texts[:1]) > file_score(mini, pictures[0], texts[:1])


def test_literal_learning_rate_is_plain_sgd(mini: Encoder, pictures: list[Tensor], texts: Tensor) -> None:
    """One step by hand: x - lr · gradient."""
    attack = FoCLIP(objective=objective(beta=0.0), steps=1, lr=7.0, momentum=0.5, batch_size=1)
    seen: list[Tensor] = []
    list(attack.run(mini, pictures[:1], texts, lambda lanes: seen.append(lanes[0].pixels.clone())))
    x = (pictures[0] / 255).requires_grad_(True)
    cosine = similarity(mini.encode_images(x[None]), texts)
    loss = -cosine.mean() + cosine.var(correction=0)
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.allclose(seen[0], x - 7.0 * gradient, atol=1e-6)


def test_a_resumed_run_ends_where_an_undisturbed_one_does(
    mini: Encoder, pictures: list[Tensor], texts: Tensor, tmp_path: Path
) -> None:
    attack = FoCLIP(objective=objective(), steps=30, min_psnr=35.0)
    undisturbed = run(attack, mini, pictures[:2], texts)

    def interrupt(lanes: Sequence[Trajectory]) -> None:
        if lanes[0].step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(attack.run(mini, pictures[:2], texts, interrupt, Checkpoints(tmp_path)))
    assert len(list(tmp_path.iterdir())) == 2
    steps: list[int] = []
    resumed = sorted(
        attack.run(mini, pictures[:2], texts, lambda lanes: steps.append(lanes[0].step), Checkpoints(tmp_path)),
        key=lambda fooled: fooled.index,
    )
    assert steps[0] == 14
    assert not list(tmp_path.iterdir())
    for a, b in zip(undisturbed, resumed, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert a.scores == b.scores


def test_a_broken_checkpoint_starts_over(mini: Encoder, pictures: list[Tensor], texts: Tensor, tmp_path: Path) -> None:
    attack = FoCLIP(steps=3, min_psnr=35.0)
    keys: list[str] = []
    (first,) = attack.run(mini, pictures[:1], texts, lambda lanes: keys.append(lanes[0].key))
    (tmp_path / f"{keys[0]}.pt").write_bytes(b"cut off")
    (second,) = attack.run(mini, pictures[:1], texts, checkpoints=Checkpoints(tmp_path))
    assert torch.equal(first.pixels, second.pixels)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"momentum": 1.0},
        {"min_psnr": -3.0},
        {"min_psnr": math.nan},
        {"min_psnr": 35.0, "init": "noise"},
        {"batch_size": 0},
    ],
)
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        FoCLIP(**settings)  # type: ignore[arg-type]


def test_weights_out_of_range() -> None:
    for alpha, beta in ((-1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)):
        with pytest.raises(UsageError):
            objective(alpha, beta)
