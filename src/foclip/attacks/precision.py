"""Whether a lower precision pays on this device: measured, since no name of a device tells it.

Processors without instructions for bfloat16 are many times slower in it than in float32, others twice as fast.
"""

import time

import torch

from foclip.attacks.base import Attack, Precision
from foclip.attacks.loop import lanes
from foclip.models.legacy import passes_in
from foclip.models.scores import EmbeddingScore

#: How much faster it must be, which is more than what two timings of one thing differ by.
WORTH = 1.05
#: Passes of each precision that are timed, after one that is not.
PASSES = 3


def fastest(attack: Attack, score: EmbeddingScore) -> tuple[Precision, float]:
    """The precision to attack in, and how many times as fast bfloat16 is as float32 here.

    Times a forward and backward pass of the image tower with as many rows as the attack has, compiled (in both
    precisions, which takes minutes) if the attack's are.
    """
    encoder = score.encoder
    inputs = torch.zeros(lanes(attack, score), 3, *encoder.image_size, device=encoder.device, requires_grad=True)

    def seconds(dtype: torch.dtype | None) -> float:
        start = time.perf_counter()
        with torch.inference_mode(False), torch.enable_grad(), passes_in(dtype, attack.compiled):
            (gradient,) = torch.autograd.grad(encoder.tower(inputs)[:, 0].sum(), inputs)
        float(gradient[0, 0, 0, 0])  # waits for the device
        return time.perf_counter() - start

    plain, lower = (min([seconds(dtype) for _ in range(1 + PASSES)][1:]) for dtype in (None, torch.bfloat16))
    return ("bfloat16" if plain / lower >= WORTH else "float32"), plain / lower
