"""What a hardening run does: every number that its weights depend on."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from foclip.errors import UsageError

#: Parameters of an image tower up to which a high learning rate is the default, and up to which a middle one.
SMALL_TOWER, MIDDLE_TOWER = 20_000_000, 60_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a run; two runs with equal ones on equal pictures give equal weights.

    Attributes:
        min_psnr: The largest change that training perturbs pictures by, in dB at the model's input size.
        least: Each picture's own radius is drawn between this share of the largest and the largest.
        steps: Updates of the weights.
        batch_size: Pictures per update, over all processes and parts.
        accumulate: Parts that a process cuts its share of a batch into, one after the other, to save memory.
        lr: Peak learning rate of AdamW; None chooses by the size of the tower.
        ascent: Steps of the inner maximisation.
        aimed: Share of the pictures that are pushed towards a text; the others away from where they belong.
        seed: Seeds the order of the pictures, their crops, and the random starts.
        precision: "auto" measures once, at the start, whether bfloat16 is faster here.
        checkpointing: Recompute activations in the backward pass instead of keeping them.
        keep: Least mean cosine of twin and original on clean held-out pictures; below it nothing is written.
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
        """Largest Euclidean change of a picture of so many values in [0, 1]."""
        return 10 ** (-self.min_psnr / 20) * math.sqrt(values)

    def rate(self, parameters: int) -> float:
        """Peak learning rate for an image tower of so many parameters.

        Large towers were trained long and are easily spoiled: FARE (arXiv 2402.12336) takes 1e-5
        for ViT-L/14. The small ones of this package need, and bear, a hundred times that.
        """
        if self.lr is not None:
            return self.lr
        return 1e-3 if parameters <= SMALL_TOWER else 1e-4 if parameters <= MIDDLE_TOWER else 1e-5

    def config(self) -> dict[str, Any]:
        """Every setting as plain JSON values."""
        return asdict(self)
