import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from foclip.attacks import objective
from foclip.errors import UsageError
from foclip.objective import QUANTUM, FeatureAlignment, Lowest, Objective, OnePrompt, PixelGuard, ScoreBalance

TERMS: list[Objective] = [
    FeatureAlignment(),
    Lowest(),
    OnePrompt(),
    ScoreBalance("variance"),
    ScoreBalance("kl"),
    PixelGuard("range"),
    PixelGuard("l2"),
    FeatureAlignment() + 0.5 * ScoreBalance("kl", temperature=0.1) + 2.0 * PixelGuard("l2"),
]


def inputs(batch: int = 3, prompts: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(batch, prompts, generator=generator, dtype=torch.float64) - 0.3
    originals = torch.rand(batch, 3, 4, 5, generator=generator, dtype=torch.float64)
    pixels = originals + 0.4 * torch.randn(originals.shape, generator=generator, dtype=torch.float64)
    return values, pixels, originals


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_gradients_against_finite_differences(term: Objective) -> None:
    values, pixels, originals = inputs()
    values.requires_grad_(True)
    pixels.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda s, x: term(s, x, originals), (values, pixels))


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_one_value_per_picture(term: Objective) -> None:
    values, pixels, originals = inputs()
    together = term(values, pixels, originals)
    alone = torch.cat([term(values[i : i + 1], pixels[i : i + 1], originals[i : i + 1]) for i in range(3)])
    assert together.shape == (3,)
    assert torch.allclose(together, alone, rtol=1e-12)
    sizes = [pixels[0], pixels[1, :, :2], pixels[2, :, :, 1:]]
    assert term(values, sizes, [originals[0], originals[1, :, :2], originals[2, :, :, 1:]]).shape == (3,)


def test_values_by_hand() -> None:
    values = torch.tensor([[0.1, 0.3]], dtype=torch.float64)
    x0 = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)
    x = x0.clone()
    x[0, 0, 0, 0], x[0, 1, 0, 0] = 1.6, -0.6
    assert FeatureAlignment()(values, x, x0).item() == pytest.approx(-0.2)
    assert Lowest()(values, x, x0).item() == pytest.approx(-0.1)
    assert OnePrompt(1)(values, x, x0).item() == pytest.approx(-0.3)
    assert ScoreBalance("variance")(values, x, x0).item() == pytest.approx(0.01)
    q = 1 / (1 + math.exp(-20))
    divergence = q * math.log(2 * q) + (1 - q) * math.log(2 * (1 - q))
    assert ScoreBalance("kl")(values, x, x0).item() == pytest.approx(divergence)
    assert PixelGuard("range")(values, x, x0).item() == pytest.approx(1.2 / 12)
    rms = math.sqrt((1.1**2 + 1.1**2) / 12 + QUANTUM**2) - QUANTUM
    assert PixelGuard("l2")(values, x, x0).item() == pytest.approx(rms)


def test_one_prompt_must_be_there() -> None:
    for index in (-1, 4):
        with pytest.raises(UsageError, match="4 prompts"):
            OnePrompt(index)(*inputs())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ScoreBalance("x"), "balance: 'x' is none of variance, kl"),  # type: ignore[arg-type]
        (lambda: PixelGuard("x"), "guard: 'x' is none of range, l2"),  # type: ignore[arg-type]
        (lambda: objective(balance="x"), "balance: 'x' is none of variance, kl"),  # type: ignore[arg-type]
        (lambda: objective(guard="x"), "guard: 'x' is none of range, l2"),  # type: ignore[arg-type]
    ],
)
def test_a_misspelt_choice_is_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        wrong()


def test_a_temperature_is_above_zero() -> None:
    with pytest.raises(UsageError, match="temperature"):
        ScoreBalance("kl", temperature=0.0)


def test_algebra() -> None:
    values, pixels, originals = inputs()
    parts = [FeatureAlignment(), ScoreBalance("variance"), PixelGuard("range")]
    a, b, c = (part(values, pixels, originals) for part in parts)
    total = 2.0 * (parts[0] + 0.5 * parts[1]) + parts[2] * 3.0
    assert torch.allclose(total(values, pixels, originals), 2 * a + b + 3 * c)
    assert torch.equal((0.0 * parts[0])(values, pixels, originals), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_finite_at_the_edges(term: Objective) -> None:
    x0 = torch.rand(2, 3, 4, 4)
    for values in (torch.tensor([[0.2], [0.9]]), torch.full((2, 5), 0.3), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])):
        for x in (x0, x0 * 1e6, torch.zeros_like(x0)):
            s, leaf = values.clone().requires_grad_(True), x.clone().requires_grad_(True)
            value = term(s, leaf, x0)
            gradients = torch.autograd.grad(value.sum(), (s, leaf), allow_unused=True)
            assert value.isfinite().all()
            assert all(g.isfinite().all() for g in gradients if g is not None)


def test_balance_vanishes_without_spread() -> None:
    _, x, x0 = inputs(2)
    for kind in ("variance", "kl"):
        for values in (torch.tensor([[0.2], [0.9]]), torch.full((2, 7), 0.4)):
            assert ScoreBalance(kind)(values, x, x0).abs().max() < 1e-6
