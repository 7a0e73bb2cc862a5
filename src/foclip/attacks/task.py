"""What is asked of an attack, and what it answers, for one picture."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from foclip.data.prompts import Prompts
from foclip.errors import UsageError


@dataclass(frozen=True, eq=False)
class AttackTask:
    """A picture to fool.

    Attributes:
        picture: uint8 (3, H, W), RGB.
        prompts: Its prompts; none for a score that needs none.
        tag: A number by which the caller finds the task again in the result.

    Raises:
        UsageError: The picture is of another shape or type, or the prompts are no list of strings.
    """

    picture: Tensor
    prompts: Prompts
    tag: int = 0

    def __post_init__(self) -> None:
        shaped = self.picture.ndim == 3 and self.picture.shape[0] == 3 and self.picture.numel()
        if self.picture.dtype != torch.uint8 or not shaped:
            raise UsageError(f"picture: {self.picture.dtype} {tuple(self.picture.shape)} is not uint8 (3, H, W)")
        listed = isinstance(self.prompts, tuple | list) and all(isinstance(prompt, str) for prompt in self.prompts)
        if not listed:
            raise UsageError("prompts: give a list of strings")
        object.__setattr__(self, "prompts", tuple(self.prompts))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.picture.shape[1], self.picture.shape[2]

    @property
    def pixels(self) -> int:
        """Number of pixels of the picture."""
        return self.picture[0].numel()

    def digest(self, *before: object) -> "hashlib._Hash":
        """SHA-256 of what is given and of the picture."""
        digest = hashlib.sha256(repr((*before, tuple(self.picture.shape))).encode())
        digest.update(self.picture.cpu().contiguous().numpy().tobytes())
        return digest


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The result for one picture.

    Attributes:
        task: What was asked.
        pixels: uint8 (3, H, W), the best iterate within every budget.
        scores: Mean figure of the 8-bit iterate over the prompts at steps 0, 1, …
        steps: Updates made.
        stopped_by: "target", "steps" or "plateau"; "budget" where nothing within it is better than the original.
        seconds: Time spent on this picture.
    """

    task: AttackTask
    pixels: Tensor
    scores: list[float]
    steps: int
    stopped_by: str
    seconds: float
