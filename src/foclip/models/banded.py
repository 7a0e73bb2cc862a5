"""Products with banded matrices, which resampling and blurring are: a row has few weights, all near its centre.

A matrix is cut into blocks of rows, and a block is multiplied with just the cells it uses. That costs a small part of
the full product.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Cells of the smaller side per block.
BLOCK = 16


@dataclass(frozen=True)
class Block:
    """Consecutive output cells as weighted sums of the input cells start..stop."""

    weights: Tensor  # (output cells, stop - start)
    start: int
    stop: int


def multiply(values: Tensor, blocks: tuple[Block, ...], dim: int) -> Tensor:
    """The product of a banded matrix with every line of `values` along `dim` (-1 or -2)."""
    shape = list(values.shape)
    shape[dim] = sum(len(block.weights) for block in blocks)
    result = values.new_empty(shape)
    first = 0
    if dim == -1:
        values, lines = values.reshape(-1, values.shape[-1]), result.view(-1, shape[-1])
        for block in blocks:
            last = first + len(block.weights)
            torch.mm(values[:, block.start : block.stop], block.weights.T, out=lines[:, first:last])
            first = last
    else:
        for block in blocks:
            last = first + len(block.weights)
            torch.matmul(block.weights, values[..., block.start : block.stop, :], out=result[..., first:last, :])
            first = last
    return result


def blocks(matrix: np.ndarray, device: torch.device) -> tuple[Block, ...]:
    """A banded matrix cut into blocks of rows with the columns they use."""
    found = []
    for rows in np.array_split(matrix, max(1, round(min(matrix.shape) / BLOCK))):
        used = np.flatnonzero(rows.any(axis=0))
        start, stop = int(used[0]), int(used[-1]) + 1
        weights = torch.from_numpy(np.ascontiguousarray(rows[:, start:stop], dtype=np.float32)).to(device)
        found.append(Block(weights, start, stop))
    return tuple(found)
