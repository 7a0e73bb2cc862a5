"""The settings of a hardening run."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from foclip.errors import UsageError

#: Largest number of parameters of a tower that gets a high default learning rate, and of one that gets a middle one.
SMALL_TOWER, MIDDLE_TOWER = 20_000_000, 60_000_000


@dataclass(frozen=True, kw_only=True)
class HardenSettings:
    """Settings of a run. Two runs with equal settings on equal pictures give equal weights.

    Attributes:
        min_psnr: Budget of the perturbations in training, in dB at the model's input size.
        least: The radius of each picture is drawn between this share of the largest radius and the largest.
        steps: Training steps.
        batch_size: Pictures per step, over all processes and parts.
        accumulate: Number of parts that a process divides its share of a batch into, to save memory.
        lr: Peak learning rate of AdamW; None to choose it by the size of the tower (`rate`).
        ascent: Steps of the inner attack (projected gradient ascent).
        aimed: Share of the pictures that are pushed towards a text. The others are pushed away from their embedding.
        seed: Seed of the order of the pictures, their crops, and the random starts.
        precision: "auto" measures at the start which precision is faster on this device.
        checkpointing: Recompute activations in the backward pass instead of keeping them.
        keep: Least mean cosine with the original on clean held-out pictures. Below it nothing is written.
        half: Write float16 weights.

    Raises:
        UsageError: A value is out of its range.
    """

    min_psnr: float = 38.0
    least: float = 0.5
    steps: int = 1000
    batch_size: int = 64
    accumulate: int = 1
    lr: float | None = None
    ascent: int = 1
    aimed: float = 0.5
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpointing: bool = False
    keep: float = 0.9
    half: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.min_psnr < math.inf:
            raise UsageError(f"min_psnr: {self.min_psnr:g}; give a budget in dB above 0")
        for name in ("steps", "batch_size", "accumulate", "ascent"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: {getattr(self, name)}; give at least 1")
        for name in ("least", "aimed"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}: {getattr(self, name):g}; give a share from 0 to 1")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UsageError(f"lr: {self.lr:g}; give a number above 0")
        if not -1 <= self.keep <= 1:
            raise UsageError(f"keep: {self.keep:g}; give a cosine from -1 to 1")

    def radius(self, values: int) -> float:
        """Largest Euclidean norm of the change of a picture with this many values in [0, 1]."""
        return 10 ** (-self.min_psnr / 20) * math.sqrt(values)

    def rate(self, parameters: int) -> float:
        """Peak learning rate for an image tower with this many parameters.

        FARE (arXiv 2402.12336) uses 1e-5 for ViT-L/14; a higher rate spoils such a tower. The small towers of this
        package need a rate a hundred times as high.
        """
        if self.lr is not None:
            return self.lr
        return 1e-3 if parameters <= SMALL_TOWER else 1e-4 if parameters <= MIDDLE_TOWER else 1e-5

    def config(self) -> dict[str, Any]:
        """Every setting as plain JSON values."""
        return asdict(self)
