"""FLIP with the original kept is the authors' own program, pixel by pixel."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from foclip.perceptual import flip as module
from foclip.perceptual.fidelity import Comparison, Reference, fidelity, means
from foclip.perceptual.flip import REACH, Flip

#: The most by which a pixel may differ.
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def photo(name: str, height: int = 120, width: int = 130) -> Tensor:
    whole = torch.from_numpy(np.array(getattr(data, name)())).permute(2, 0, 1)
    return whole[:, 60 : 60 + height, 150 : 150 + width].contiguous()


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def changed(original: Tensor, most: int) -> Tensor:
    """Every level moved by `most` at most."""
    generator = torch.Generator().manual_seed(most)
    change = torch.randint(-most, most + 1, original.shape, generator=generator)
    return (original.int() + change).clamp(0, 255).to(torch.uint8)


def difference(picture: Tensor, original: Tensor) -> float:
    """The largest difference to the authors' program."""
    found = Flip(original).map(picture)
    assert found.shape == original.shape[1:]
    assert found.dtype == torch.float32
    return float(np.abs(found.numpy() - Comparison(picture, original).map("flip")).max())


@pytest.mark.parametrize("size", [(1, 1), (1, 77), (77, 1), (5, 7), (2, 2), (37, 911), (64, 32), (33, 65)])
def test_every_size_is_that_of_the_program(size: tuple[int, int]) -> None:
    original = noise(*size)
    assert difference(changed(original, 3), original) < TOLERANCE
    if original.numel() < 10_000:
        assert difference(255 - original, original) < TOLERANCE


@pytest.mark.parametrize("level", [0, 128, 255])
def test_plain_pictures_are_those_of_the_program(level: int) -> None:
    plain = torch.full((3, 40, 50), level, dtype=torch.uint8)
    for picture in (changed(plain, 2), changed(plain, 40), noise(40, 50)):
        assert difference(picture, plain) < TOLERANCE


def test_one_plain_colour_for_another_is_that_of_the_program() -> None:
    pairs = [
        ((161, 161, 161), (195, 195, 195)),  # where rounding of the program itself is seen most
        ((198, 252, 217), (204, 255, 211)),
        ((226, 226, 226), (234, 234, 234)),
        ((150, 239, 86), (155, 243, 81)),
        ((0, 255, 0), (0, 0, 255)),
        ((0, 0, 0), (255, 255, 255)),
        ((9, 10, 11), (10, 11, 12)),
    ]
    for before, after in pairs:
        original, picture = (
            torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 24, 40) for colour in (before, after)
        )
        assert difference(picture, original) < TOLERANCE, (before, after)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_photos_are_those_of_the_program(name: str) -> None:
    original = photo(name)
    sparse = torch.where(noise(*original.shape[1:]) == 0, original ^ 1, original)
    for picture in (changed(original, 4), sparse, 255 - original):
        assert difference(picture, original) < TOLERANCE


def test_strips_are_those_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    original = photo("astronaut", 101, 90)
    monkeypatch.setattr(module, "STRIP", 90 * 20)
    assert difference(changed(original, 4), original) < TOLERANCE


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    original = photo("coffee", 150, 160)
    picture = changed(original, 4)
    monkeypatch.setattr(module, "STRIP", 160 * 40)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(Flip(original).map(picture))
        assert torch.get_num_threads() == threads
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_kept_original_gives_the_same_again() -> None:
    original = photo("rocket", 90, 100)
    kept, first, second = Flip(original), changed(original, 4), changed(original, 9)
    found = kept.map(first)
    kept.map(second)
    assert torch.equal(kept.map(first), found)
    assert torch.equal(kept.map(first.permute(1, 2, 0).contiguous().permute(2, 0, 1)), found)
    assert torch.equal(Flip(original).map(first), found)


@pytest.mark.parametrize("strip", [2**18, 100 * 30])
def test_what_is_equal_is_zero_beyond_reach_of_the_rest(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRIP", strip)
    original = photo("chelsea", 110, 100)
    kept, picture = Flip(original), original.clone()
    assert not kept.map(picture).any()
    picture[:, 50, 40] ^= 64
    seen = kept.map(picture)
    near = (slice(50 - REACH, 51 + REACH), slice(40 - REACH, 41 + REACH))
    assert seen[near].all()
    seen[near] = 0
    assert not seen.any()


def test_five_floats_a_pixel_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    original = noise(130, 50)
    monkeypatch.setattr(module, "STRIP", 50 * 30)
    kept = Flip(original)._kept
    assert len(kept) > 3
    assert sum(each.numel() for each in kept) <= 5 * original[0].numel()
    assert all(each.untyped_storage().nbytes() == 4 * each.numel() for each in kept)


def test_a_comparison_uses_what_is_kept() -> None:
    original = photo("astronaut", 60, 80)
    picture, reference = changed(original, 4), Reference(original)
    kept, plain = (
        Comparison(picture, original, each).figures(("flip", "flip99", "psnr", "contrast"))
        for each in (reference, None)
    )
    assert kept == pytest.approx(plain, abs=1e-5)
    kept_map = Comparison(picture, original, reference).map("flip")
    assert np.array_equal(kept_map, Flip(original).map(picture).numpy())
    assert fidelity(picture, original).flip == plain["flip"]


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_means_of_squares_show_about_as_much_of_a_coarse_change(name: str) -> None:
    original = photo(name, 256, 256)
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn(1, 3, 20, 20, generator=generator) * 5
    change = torch.nn.functional.interpolate(coarse, (256, 256), mode="bicubic")[0]
    picture = (original + change).round().clamp(0, 255).to(torch.uint8)
    exact = Flip(original).map(picture).numpy()
    about = Reference(means(original, 2), 2).flip.map(means(picture, 2)).numpy()
    assert about.shape == (128, 128)
    assert np.percentile(about, 99) == pytest.approx(np.percentile(exact, 99), rel=0.03)
    assert about.mean() == pytest.approx(exact.mean(), rel=0.03)
