"""Which precision is faster on this device. It is measured, because no device name tells it.

A processor without instructions for bfloat16 is many times slower in it than in float32; another is twice as fast.
"""

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]

#: bfloat16 is chosen if it is at least this many times as fast. Two timings of the same pass differ by less.
FASTER = 1.05
#: Timed passes of each precision, after one that is not counted.
PASSES = 3
#: A pass of more seconds than this is not repeated: one is enough to tell.
SLOW = 10.0


def faster_precision(run: Callable[[torch.dtype | None], Tensor]) -> tuple[Precision, float]:
    """The faster precision for a pass that `run` makes (None: float32), and how many times as fast bfloat16 is."""
    plain, lower = (_seconds(run, dtype) for dtype in (None, torch.bfloat16))
    return ("bfloat16" if plain / lower >= FASTER else "float32"), plain / lower


def _seconds(run: Callable[[torch.dtype | None], Tensor], dtype: torch.dtype | None) -> float:
    """Seconds of the fastest pass."""
    found: list[float] = []
    while len(found) <= PASSES and (not found or found[-1] <= SLOW):
        start = time.perf_counter()
        float(run(dtype).flatten()[0])  # reading a number waits for the device
        found.append(time.perf_counter() - start)
    return min(found[1:] or found)
