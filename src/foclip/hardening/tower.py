"""What hardening needs of an encoder, and the image tower that is trained.

The tower stays in evaluation mode: batch normalisation keeps the original's running statistics (its scale and shift are
trained), dropout and stochastic depth are off. So the inner attack fools the very network that attackers will fool
later, and an embedding does not depend on the other pictures or parts of a batch.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from foclip.errors import EncoderError
from foclip.models.precision import Precision, faster_precision

#: Pictures in a pass that is timed.
TIMED = 8


@runtime_checkable
class HardenableEncoder(Protocol):
    """A `foclip.models.Encoder` whose image tower can be trained, and which can be written with the trained tower."""

    def image_tower(self) -> nn.Module:
        """The frozen image tower: normalised pictures (B, 3, H, W) to unit vectors (B, D). A deep copy can be trained.

        Raises:
            EncoderError: It has none that can be trained.
        """

    def exporter(self) -> Callable[[nn.Module, Path, bool], None]:
        """What writes the encoder with such a tower, so that `foclip.models.load` loads it as `local-dir:FOLDER`.

        It takes the tower, an existing folder, and whether to write float16 weights.

        Raises:
            EncoderError: The encoder cannot be written.
        """


def trainable(encoder: Any, checkpointing: bool = False) -> nn.Module:
    """A copy of the image tower of a `HardenableEncoder` with gradients; an `EncoderError` if it gives none.

    With `checkpointing` activations are recomputed in the backward pass, which saves memory and takes more time.
    """
    tower: Any = copy.deepcopy(encoder.image_tower()).float().eval().requires_grad_(True)
    if checkpointing and hasattr(tower, "set_grad_checkpointing"):
        tower.set_grad_checkpointing()
    parameters = list(tower.parameters())
    try:
        value = tower(_inputs(encoder, 2))
        gradients = torch.autograd.grad(value[:, 0].sum(), parameters, allow_unused=True)
    except RuntimeError as error:
        fault = f"its image tower gives no gradient ({' '.join(str(error).split())[:160]})"
        raise EncoderError(f"{encoder.name}: cannot be hardened, {fault}") from error
    for parameter, gradient in zip(parameters, gradients, strict=True):
        # A parameter that does not influence the embedding (a caption token of CoCa, for example) is not trained.
        parameter.requires_grad_(gradient is not None)
    return cast(nn.Module, tower)


def precision_for(tower: nn.Module, encoder: Any) -> Precision:
    """The precision in which training passes are faster on this device."""
    inputs, parameters = _inputs(encoder, TIMED), [p for p in tower.parameters() if p.requires_grad]

    def run(dtype: torch.dtype | None) -> Tensor:
        with torch.autocast(encoder.device.type, dtype, enabled=dtype is not None):
            value = tower(inputs)
        return torch.autograd.grad(value[:, 0].sum(), parameters)[0]

    return faster_precision(run)[0]


def _inputs(encoder: Any, count: int) -> Tensor:
    pixels = torch.rand(count, 3, *encoder.preprocess.size, device=encoder.device)
    return torch.as_tensor(encoder.preprocess.normalize(pixels))
