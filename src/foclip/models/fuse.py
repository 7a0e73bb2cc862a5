"""The image tower of a frozen model, made faster: batch norms are fused with convolutions, and weights are cast once.

In evaluation a batch norm multiplies and shifts every channel by constants, which the convolution before it can do as
well (Markuš, "Fusing batch normalization and convolution in runtime", 2018). Which norm follows which convolution is
seen by running the model once, and what comes of it is checked by running it once more. Autocast would cast the weights
again with every pass.
"""

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

#: What outputs of fused models may differ by, relative to the largest one: rounding differs, and nothing else may.
ROUNDING = 1e-4
#: Modules whose operations autocast runs in the lower precision. Not their subclasses, which may compute with their
#: weights themselves; norms and embeddings stay as they are.
CAST = (nn.Linear, NonDynamicallyQuantizableLinear, nn.Conv2d, nn.MultiheadAttention)


def with_own_tower(model: nn.Module) -> Any:
    """The model with an image tower `visual` whose weights can be exchanged; until then they are shared."""
    tower: Any = model.visual
    shared = {id(tensor): tensor for tensor in chain(tower.parameters(), tower.buffers())}
    own = copy.copy(model)
    own._modules = model._modules | {"visual": copy.deepcopy(tower, shared)}
    return own


def fuse_batchnorm(model: nn.Module, example: Tensor) -> nn.Module:
    """The model with the batch norms of its image tower fused; itself where there are none.

    It shares all other weights with the model, which is left as it is: a dual encoder in evaluation mode with an image
    tower `visual` and `encode_image`. It is run with the `example`, float (B, 3, H, W).
    """
    tower = getattr(model, "visual", None)
    if not isinstance(tower, nn.Module) or not any(isinstance(each, nn.BatchNorm2d) for each in tower.modules()):
        return model
    fused = with_own_tower(model)
    with torch.no_grad():
        before = fused.encode_image(example)
        for norm, convolution in _pairs(fused, example):
            joined = fuse_conv_bn_eval(convolution, norm)
            convolution.weight, convolution.bias = joined.weight, joined.bias
            # What the norm does besides, an activation in timm's, it goes on doing.
            rest = [norm.drop, norm.act] if isinstance(norm, BatchNormAct2d) else []
            norm.forward = nn.Sequential(*rest).forward  # type: ignore[method-assign]
        off = (fused.encode_image(example) - before).abs().max() / before.abs().max()
    return fused if off <= ROUNDING else model


def _pairs(model: Any, example: Tensor) -> list[tuple[nn.BatchNorm2d, nn.Conv2d]]:
    """Norms, and the convolution whose output each of them was given."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.BatchNorm2d, nn.Conv2d]] = []

    def seen(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (module, output)  # the output is kept, or another tensor could get its number
        elif id(inputs[0]) in made and module.running_mean is not None:  # else it depends on the batch
            pairs.append((module, made[id(inputs[0])][0]))

    kinds = (nn.Conv2d, nn.BatchNorm2d, BatchNormAct2d)
    handles = [part.register_forward_hook(seen) for part in model.visual.modules() if type(part) in kinds]
    model.encode_image(example)
    for handle in handles:
        handle.remove()
    return pairs


def cast(model: nn.Module, dtype: torch.dtype) -> Any:
    """A frozen model for passes under autocast to `dtype`; it shares with the model all that is not cast."""
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
    """A module whose fused attention is computed in float32: for small pictures its gradient is slower in bfloat16."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **options: Any) -> Any:
        with _Float32Attention():
            return self.module(*args, **options)


class _Float32Attention(TorchFunctionMode):
    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        queries, keys, values, *further = args
        with torch.autocast("cpu", enabled=False):
            return function(queries.float(), keys.float(), values.float(), *further, **(kwargs or {}))
