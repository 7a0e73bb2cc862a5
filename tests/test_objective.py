import math

import pytest
import torch
from torch import Tensor

from foclip.errors import UsageError
from foclip.objective import QUANTUM, Alignment, Balance, Lowest, Objective, OnePrompt, PixelGuard

TERMS: list[Objective] = [
    Alignment(),
    Lowest(),
    OnePrompt(),
    Balance("variance"),
    Balance("kl"),
    PixelGuard("range"),
    PixelGuard("l2"),
    Alignment() + 0.5 * Balance("kl", temperature=0.1) + 2.0 * PixelGuard("l2"),
]


def inputs(batch: int = 3, prompts: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    similarity = torch.rand(batch, prompts, generator=generator, dtype=torch.float64) - 0.3
    originals = torch.rand(batch, 3, 4, 5, generator=generator, dtype=torch.float64)
    pixels = originals + 0.4 * torch.randn(originals.shape, generator=generator, dtype=torch.float64)
    return similarity, pixels, originals


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_gradients_against_finite_differences(term: Objective) -> None:
    similarity, pixels, originals = inputs()
    similarity.requires_grad_(True)
    pixels.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda s, x: term(s, x, originals), (similarity, pixels))


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_one_value_per_picture(term: Objective) -> None:
    similarity, pixels, originals = inputs()
    together = term(similarity, pixels, originals)
    alone = torch.cat([term(similarity[i : i + 1], pixels[i : i + 1], originals[i : i + 1]) for i in range(3)])
    assert together.shape == (3,)
    assert torch.allclose(together, alone, rtol=1e-12)
    sizes = [pixels[0], pixels[1, :, :2], pixels[2, :, :, 1:]]
    assert term(similarity, sizes, [originals[0], originals[1, :, :2], originals[2, :, :, 1:]]).shape == (3,)


def test_values_by_hand() -> None:
    similarity = torch.tensor([[0.1, 0.3]], dtype=torch.float64)
    x0 = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)
    x = x0.clone()
    x[0, 0, 0, 0], x[0, 1, 0, 0] = 1.6, -0.6
    assert Alignment()(similarity, x, x0).item() == pytest.approx(-0.2)
    assert Lowest()(similarity, x, x0).item() == pytest.approx(-0.1)
    assert OnePrompt(1)(similarity, x, x0).item() == pytest.approx(-0.3)
    assert Balance("variance")(similarity, x, x0).item() == pytest.approx(0.01)
    q = 1 / (1 + math.exp(-20))
    divergence = q * math.log(2 * q) + (1 - q) * math.log(2 * (1 - q))
    assert Balance("kl")(similarity, x, x0).item() == pytest.approx(divergence)
    assert PixelGuard("range")(similarity, x, x0).item() == pytest.approx(1.2 / 12)
    rms = math.sqrt((1.1**2 + 1.1**2) / 12 + QUANTUM**2) - QUANTUM
    assert PixelGuard("l2")(similarity, x, x0).item() == pytest.approx(rms)


def test_one_prompt_must_be_there() -> None:
    for index in (-1, 4):
        with pytest.raises(UsageError, match="4 prompts"):
            OnePrompt(index)(*inputs())


def test_algebra() -> None:
    similarity, pixels, originals = inputs()
    parts = [Alignment(), Balance("variance"), PixelGuard("range")]
    a, b, c = (part(similarity, pixels, originals) for part in parts)
    total = 2.0 * (parts[0] + 0.5 * parts[1]) + parts[2] * 3.0
    assert torch.allclose(total(similarity, pixels, originals), 2 * a + b + 3 * c)
    assert torch.equal((0.0 * parts[0])(similarity, pixels, originals), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_finite_at_the_edges(term: Objective) -> None:
    x0 = torch.rand(2, 3, 4, 4)
    for similarity in (torch.tensor([[0.2], [0.9]]), torch.full((2, 5), 0.3), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])):
        for x in (x0, x0 * 1e6, torch.zeros_like(x0)):
            s, leaf = similarity.clone().requires_grad_(True), x.clone().requires_grad_(True)
            value = term(s, leaf, x0)
            gradients = torch.autograd.grad(value.sum(), (s, leaf), allow_unused=True)
            assert value.isfinite().all()
            assert all(g.isfinite().all() for g in gradients if g is not None)


def test_balance_vanishes_without_spread() -> None:
    _, x, x0 = inputs(2)
    for kind in ("variance", "kl"):
        for similarity in (torch.tensor([[0.2], [0.9]]), torch.full((2, 7), 0.4)):
            assert Balance(kind)(similarity, x, x0).abs().max() < 1e-6
