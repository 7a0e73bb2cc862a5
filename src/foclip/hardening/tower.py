"""The image tower that is trained, and the frozen one it must agree with.

The tower stays in evaluation mode throughout: batch normalisation keeps the
original's running statistics (its scale and shift are trained), dropout and
stochastic depth are off. So the network that the inner maximisation attacks is the
very one that will be attacked later, a picture's embedding does not depend on
the others in its batch, and parts of a batch add up to the batch.
"""

import copy
import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foclip.errors import EncoderError
from foclip.models import Encoder

#: bfloat16 must be this much faster to be chosen: below it, its rounding is not worth it.
FASTER = 1.2
#: Pictures in a pass that is timed.
TIMED = 8


class Tower(nn.Module):
    """Normalised pictures (B, 3, H, W) to unit vectors (B, D), by the image tower of an open_clip model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual: nn.Module = model.visual
        self._whole = [model]  # in a list, so that the text tower's parameters are not this module's

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.normalize(self._whole[0].encode_image(inputs).float(), dim=-1)


def trainable(encoder: Encoder, checkpointing: bool = False) -> Tower:
    """A copy of the encoder's image tower, to be trained.

    Args:
        encoder: The original; it stays as it is.
        checkpointing: Recompute activations in the backward pass.

    Raises:
        EncoderError: It has no image tower of its own, is quantised or scripted, or gives no gradient.
    """
    model: Any = getattr(encoder, "model", None)
    visual = getattr(model, "visual", None)
    if not isinstance(visual, nn.Module) or not hasattr(model, "encode_image"):
        raise EncoderError(f"{encoder.name}: cannot be hardened, it has no image tower of its own (`model.visual`)")
    if isinstance(model, torch.jit.ScriptModule) or isinstance(visual, torch.jit.ScriptModule):
        raise EncoderError(f"{encoder.name}: cannot be hardened, its image tower is compiled (TorchScript)")
    parameters = list(visual.parameters())
    if _quantised(visual) or not parameters or any(not p.is_floating_point() for p in parameters):
        raise EncoderError(
            f"{encoder.name}: cannot be hardened, its image tower is quantised; use the original weights"
        )
    tower = Tower(copy.deepcopy(model).float()).eval().requires_grad_(True)
    set_checkpointing: Any = getattr(tower.visual, "set_grad_checkpointing", None)
    if checkpointing and set_checkpointing is not None:
        set_checkpointing(True)
    try:
        value = tower(encoder.preprocess(torch.rand(2, 3, *encoder.image_size, device=encoder.device)))
        gradients = torch.autograd.grad(value[:, 0].sum(), list(tower.visual.parameters()), allow_unused=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise EncoderError(
            f"{encoder.name}: cannot be hardened, its image tower gives no gradient ({reason})"
        ) from error
    for parameter, gradient in zip(tower.visual.parameters(), gradients, strict=True):
        # What plays no part in the embedding (a CoCa's caption tokens, say) is left as it is.
        parameter.requires_grad_(gradient is not None)
    return tower


def _quantised(visual: nn.Module) -> bool:
    dtypes = {tensor.dtype for tensor in visual.state_dict().values() if isinstance(tensor, Tensor)}
    small = {torch.int8, torch.uint8, torch.qint8, torch.quint8}
    return bool(dtypes & small) or any("quantized" in type(module).__module__ for module in visual.modules())


def faster_precision(tower: Tower, encoder: Encoder) -> Literal["float32", "bfloat16"]:
    """What forward and backward passes are faster in on this device.

    Without instructions for it, bfloat16 is many times slower on a CPU, so this is measured and not assumed.
    """
    inputs = encoder.preprocess(torch.rand(TIMED, 3, *encoder.image_size, device=encoder.device))
    seconds = {}
    for enabled in (False, True):
        rounds = []
        for _ in range(3):
            started = time.perf_counter()
            with torch.autocast(encoder.device.type, torch.bfloat16, enabled=enabled):
                value = tower(inputs)
            torch.autograd.grad(value[:, 0].sum(), [p for p in tower.parameters() if p.requires_grad])
            if encoder.device.type == "cuda":
                torch.cuda.synchronize(encoder.device)
            rounds.append(time.perf_counter() - started)
            if rounds[-1] > 10:  # slow either way: one round tells
                break
        seconds[enabled] = min(rounds)
    return "bfloat16" if seconds[True] * FASTER < seconds[False] else "float32"
