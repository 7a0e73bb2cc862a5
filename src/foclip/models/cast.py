"""Weights in a lower precision, cast once: autocast casts those of a frozen model again with every pass.

One operation stays in float32 on a CPU: the gradient of fused attention takes longer in bfloat16 there, for the few and
short sequences of small pictures.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.overrides import TorchFunctionMode

from foclip.models.fuse import with_own_tower

#: Modules whose operations autocast runs in the lower precision. Not their subclasses, which may compute with their
#: weights themselves; norms and embeddings stay as they are.
CAST = (nn.Linear, NonDynamicallyQuantizableLinear, nn.Conv2d, nn.MultiheadAttention)


def cast(model: nn.Module, dtype: torch.dtype) -> Any:
    """The model for passes under autocast to `dtype`; it shares with the model all that is not cast.

    Args:
        model: A dual encoder with an image tower `visual`, frozen.
        dtype: What autocast computes in.
    """
    if not isinstance(getattr(model, "visual", None), nn.Module):
        return model
    other = with_own_tower(model)
    for module in other.visual.modules():
        if type(module) in CAST:
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(weight.to(dtype), requires_grad=False))
    if next(other.visual.parameters()).device.type == "cpu":
        for module in list(other.visual.modules()):
            for name, child in module.named_children():
                if getattr(child, "fused_attn", False):  # what timm calls modules that use fused attention
                    setattr(module, name, _Attention(child))
    return other


class _Attention(nn.Module):
    """A module whose fused attention is computed in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **options: Any) -> Any:
        with _Float32Attention():
            return self.module(*args, **options)


class _Float32Attention(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if function is not F.scaled_dot_product_attention:
            return function(*args, **options)
        queries, keys, values, *further = args
        with torch.autocast("cpu", enabled=False):
            return function(queries.float(), keys.float(), values.float(), *further, **options)
