"""Muon: momentum whose update is orthogonalised before it is applied.

The update of a weight matrix is replaced by the nearest (semi-)orthogonal matrix, found with a
few Newton-Schulz steps (K. Jordan et al., "Muon: an optimizer for hidden layers in neural
networks", 2024), and scaled so that its root mean square is that of AdamW's updates (J. Liu et
al., "Muon is scalable for LLM training", 2025).  At our few epochs it learns more per picture.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximate U Vᵀ of ``matrix`` = U S Vᵀ, (rows, columns), in bfloat16 products."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return torch.as_tensor(x.T if tall else x, dtype=matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonalised updates, for weights of two or more dimensions."""

    def __init__(
        self,
        params: Iterable[nn.Parameter] | list[dict[str, object]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update to every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(state["momentum"], group["momentum"])
                matrix = direction.reshape(weight.shape[0], -1)
                update = orthogonalise(matrix).reshape(weight.shape)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)


def build_optimizers(
    groups: list[tuple[nn.Module, float]], lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon for matrices and filters, AdamW for the rest; one learning-rate factor per module.

    ``groups``: (module, factor).  Each group keeps its peak rate under ``peak``, so that a
    schedule can scale it.
    """
    matrices: list[dict[str, object]] = []
    others: list[dict[str, object]] = []
    for module, factor in groups:
        hidden: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, weight in module.named_parameters():
            if not weight.requires_grad:
                continue
            table = "embedding" in name or "logit_scale" in name
            (hidden if weight.ndim >= 2 and not table else rest).append(weight)
        matrices.append({"params": hidden, "peak": lr * factor})
        others.append({"params": rest, "peak": lr * factor})
    return [
        Muon(matrices, lr, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def set_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
