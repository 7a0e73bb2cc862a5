"""Weights in a lower precision, cast once: autocast casts those of a frozen model again with every pass."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from foclip.encoders.fold import with_tower_of_its_own

#: Modules whose operations autocast runs in the lower precision. Not their subclasses, which may compute with their
#: weights themselves; norms and embeddings stay as they are.
CAST = (nn.Linear, NonDynamicallyQuantizableLinear, nn.Conv2d, nn.MultiheadAttention)


def lowered(model: nn.Module, dtype: torch.dtype) -> Any:
    """The model for passes under autocast to `dtype`; it shares with the model all that is not cast.

    Args:
        model: A dual encoder with an image tower `visual`, frozen.
        dtype: What autocast computes in.
    """
    if not isinstance(getattr(model, "visual", None), nn.Module):
        return model
    lower = with_tower_of_its_own(model)
    for module in lower.visual.modules():
        if type(module) in CAST:
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(weight.to(dtype), requires_grad=False))
    return lower
