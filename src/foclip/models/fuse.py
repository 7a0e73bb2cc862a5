"""Batch norms made part of the convolutions before them: one operation less per layer, forward and backward.

In evaluation a batch norm multiplies and shifts every channel by constants, which the weights and the bias of the
convolution can do as well (Markuš, "Fusing batch normalization and convolution in runtime", 2018). Which norm follows
which convolution is seen by running the model once, and what comes of it is checked by running it once more.
"""

import copy
from itertools import chain
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: What outputs may differ by, relative to the largest one: rounding differs, and nothing else may.
ROUNDING = 1e-4


def fuse_batchnorm(model: nn.Module, example: Tensor) -> nn.Module:
    """The model with the batch norms of its image tower fused; itself where there are none.

    It shares all other weights with the model, which is left as it is.

    Args:
        model: A dual encoder in evaluation mode with an image tower `visual` and `encode_image`.
        example: Inputs of its image tower to run it with, float (B, 3, H, W).
    """
    tower = getattr(model, "visual", None)
    if not isinstance(tower, nn.Module) or not any(isinstance(each, nn.BatchNorm2d) for each in tower.modules()):
        return model
    fused = with_own_tower(model)
    run = fused.encode_image
    with torch.inference_mode(False), torch.no_grad():  # weights that a gradient can pass
        before = run(example)
        for norm, convolution in _pairs(fused, example):
            _fuse(convolution, norm)
        off = (run(example) - before).abs().max() / before.abs().max()
    return fused if off <= ROUNDING else model


def with_own_tower(model: nn.Module) -> Any:
    """The model with an image tower `visual` whose weights can be exchanged; until then they are shared."""
    tower: Any = model.visual
    shared = {id(tensor): tensor for tensor in chain(tower.parameters(), tower.buffers())}
    own = copy.copy(model)
    own._modules = model._modules | {"visual": copy.deepcopy(tower, shared)}
    return own


def _pairs(model: Any, example: Tensor) -> list[tuple[nn.BatchNorm2d, nn.Conv2d]]:
    """Norms, and the convolution whose output each of them was given."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.BatchNorm2d, nn.Conv2d]] = []

    def after(module: nn.Conv2d, _: Any, output: Tensor) -> None:
        made[id(output)] = (module, output)  # the output is kept, or another tensor could get its number

    def before(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made and module.running_mean is not None:  # else it depends on the batch
            pairs.append((module, made[id(inputs[0])][0]))

    handles = []
    for module in model.visual.modules():
        if type(module) is nn.Conv2d:
            handles.append(module.register_forward_hook(after))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d):
            handles.append(module.register_forward_pre_hook(before))
    model.encode_image(example)
    for handle in handles:
        handle.remove()
    return pairs


def _fuse(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    joined = fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = joined.weight, joined.bias
    # What the norm does besides, an activation in timm's, it goes on doing.
    rest = [norm.drop, norm.act] if isinstance(norm, BatchNormAct2d) else []
    norm.forward = nn.Sequential(*rest).forward  # type: ignore[method-assign]
