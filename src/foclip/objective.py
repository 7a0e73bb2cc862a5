r"""What an attack minimises: terms that add and scale.

FoCLIP's objective (arXiv 2511.06947) has three terms, feature alignment, score balance and pixel guard:

.. math:: L = L_\text{align} + \alpha \, L_\text{balance} + \beta \, L_\text{guard}

Here it is written ``FeatureAlignment() + alpha * ScoreBalance("variance") + beta * PixelGuard("range")``.
Every term gives one value per picture, so the gradient of a picture does not depend on the others in its batch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from foclip.errors import UsageError

#: Pictures as one tensor (B, 3, H, W) or, when their sizes differ, as B tensors (3, H_i, W_i).
Pictures = Tensor | Sequence[Tensor]
BalanceKind = Literal["variance", "kl"]
GuardKind = Literal["range", "l2"]
#: RMS error of rounding to 8 bits, 1 / (255 √12): the smallest change a written picture can show.
QUANTUM = 1 / (255 * math.sqrt(12))


def check_kind(name: str, given: str, kinds: Any) -> None:
    """Refuse, with a `UsageError`, what is none of the values of a `Literal`, `kinds`."""
    if given not in get_args(kinds):
        raise UsageError(f"{name}: {given!r} is none of {', '.join(get_args(kinds))}")


class Objective(ABC):
    """A function of pictures to be minimised; `a + b` and `2.0 * a` are objectives too."""

    @abstractmethod
    def __call__(self, scores: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        """One value per picture, (B,); lower is better.

        Args:
            scores: Raw scores (B, T) of each picture with its T prompts, T ≥ 1; cosines, for CLIPScore.
            pixels: The pictures as optimised, float in about [0, 1]; values may lie outside.
            originals: The pictures they started from, float in [0, 1].
        """

    def __add__(self, other: "Objective") -> "Objective":
        return Sum(_weighted(self) + _weighted(other))

    def __mul__(self, weight: float) -> "Objective":
        return Sum(tuple((weight * w, term) for w, term in _weighted(self)))

    __rmul__ = __mul__


def _weighted(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, Sum) else ((1.0, objective),)


@dataclass(frozen=True)
class Sum(Objective):
    """A weighted sum of terms; made by `+` and `*`."""

    terms: tuple[tuple[float, Objective], ...]

    def __str__(self) -> str:
        return " + ".join(f"{weight:g} * {term}" for weight, term in self.terms)

    def __call__(self, scores: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        total = scores.new_zeros(len(scores))
        for weight, term in self.terms:
            if weight:
                total = torch.add(total, term(scores, pixels, originals), alpha=weight)
        return total


@dataclass(frozen=True)
class FeatureAlignment(Objective):
    r"""Feature alignment: the negative mean raw score over the prompts.

    .. math:: L_\text{align} = -\frac{1}{T} \sum_t s_t, \qquad s_t = \cos(E(x), E(p_t)) \text{ for CLIPScore}
    """

    def __call__(self, scores: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        return -scores.mean(dim=1)


@dataclass(frozen=True)
class Lowest(Objective):
    """The negative raw score of the prompt that lags furthest behind (CLIPMasterPrints, arXiv 2307.03798)."""

    def __call__(self, scores: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        return -scores.amin(dim=1)


@dataclass(frozen=True)
class OnePrompt(Objective):
    """The negative raw score of one prompt alone. On the call, a `UsageError` says if there is no such prompt."""

    index: int = 0  #: Its place among the prompts, from 0.

    def __call__(self, scores: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        if not 0 <= self.index < scores.shape[1]:
            raise UsageError(f"index: {self.index} is none of the {scores.shape[1]} prompts, counted from 0")
        return -scores[:, self.index]


@dataclass(frozen=True)
class ScoreBalance(Objective):
    r"""Score balance: no prompt may lag behind.

    ``"variance"`` is the population variance of the scores (0 for one prompt), ``"kl"`` the divergence of the softmax
    over prompts from uniform, with the temperature :math:`\tau` at which the score turns raw scores into probabilities
    (CLIP's ``logit_scale`` of 100 is 0.01):

    .. math:: L_\text{var} = \frac{1}{T} \sum_t (s_t - \bar s)^2, \qquad
        L_\text{KL} = \sum_t q_t \log (T q_t), \quad q = \operatorname{softmax}(s / \tau)

    Raises:
        UsageError: There is no such kind, or the temperature is not above 0.
    """

    kind: BalanceKind = "variance"
    temperature: float = 0.01

    def __post_init__(self) -> None:
        check_kind("balance", self.kind, BalanceKind)
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature: {self.temperature} is no number above 0")

    def __call__(self, scores: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        if self.kind == "variance":
            return scores.var(dim=1, correction=0)
        log_q = torch.log_softmax(scores / self.temperature, dim=1)
        return (log_q.exp() * (log_q + math.log(scores.shape[1]))).sum(dim=1)


@dataclass(frozen=True)
class PixelGuard(Objective):
    r"""Pixel guard: keeps the picture a picture.

    ``"range"`` is the mean excess outside [0, 1], ``"l2"`` the distance to the original per pixel (root mean square):

    .. math:: L_\text{range} = \operatorname{mean}(\operatorname{ReLU}(-x) + \operatorname{ReLU}(x - 1)), \qquad
        L_2 = \sqrt{\operatorname{mean}((x - x_0)^2) + \epsilon^2} - \epsilon

    :math:`\epsilon` = 1 / (255 √12), the error of rounding to 8 bits, makes the gradient at :math:`x = x_0` finite.
    Both are means, so a weight means the same at every picture size. A `UsageError` says if there is no such kind.
    """

    kind: GuardKind = "range"

    def __post_init__(self) -> None:
        check_kind("guard", self.kind, GuardKind)

    def __call__(self, scores: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        if self.kind == "range":
            return torch.stack([torch.as_tensor(_Excess.apply(x)) for x in pixels])
        distances = [(x - x0).square().mean() for x, x0 in zip(pixels, originals, strict=True)]
        return (torch.stack(distances) + QUANTUM**2).sqrt() - QUANTUM


class _Excess(torch.autograd.Function):
    """Mean distance from [0, 1]; as one function, it reads the pixels half as often as its parts would."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        excess = x.clamp(0, 1)
        torch.sub(x, excess, out=excess)
        value = torch.linalg.vector_norm(excess, 1) / excess.numel()
        ctx.save_for_backward(excess.sign_())
        return torch.as_tensor(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (sign,) = ctx.saved_tensors
        return torch.as_tensor(sign * (gradients[0] / sign.numel()))
