"""Passes of fixed size between streams of pictures and a scorer's model.

Libraries pick other kernels for another batch size, and those round differently. A figure must not depend on what
else is in its batch, so every pass has the same number of rows and is padded with black. Everything that reads or
raises scores goes through the functions of this module.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from foclip.data.prompts import Prompts
from foclip.models.scorer import EmbeddingScorer, Inputs, Scorer, Targets

#: Above this many parameters a CPU gains little from a batch.
LARGE_MODEL = 50_000_000
#: Rows of a pass that reads pictures. One picture alone is a pass too, so more would cost it much.
READ_ROWS = 8


def pass_rows(scorer: Scorer, many: int, few: int) -> int:
    """`many` rows for a pass, or `few` if it is a large model on a CPU, which gains nothing from a batch."""
    return few if scorer.device.type == "cpu" and scorer.parameter_count > LARGE_MODEL else many


def figures(scorer: Scorer, raw: Tensor) -> Tensor:
    """The figures of raw scores of any shape: scale · max(raw score, 0)."""
    return scorer.info.scale * raw.clamp(min=0)


class TargetCache:
    """Prompts to targets, each set of prompts encoded once as long as it is remembered.

    A cache belongs to one stream of pictures. It is not shared between threads.

    Args:
        scorer: The scorer.
        size: Prompt sets that are remembered; the one that was asked for longest ago is forgotten first.
    """

    def __init__(self, scorer: Scorer, size: int = 1024) -> None:
        self._scorer, self._size = scorer, size
        self._kept: OrderedDict[Prompts, Targets] = OrderedDict()

    def __call__(self, prompts: Prompts) -> Targets:
        """The targets of prompts."""
        if prompts in self._kept:
            self._kept.move_to_end(prompts)
        else:
            # What a caller's inference mode made could not take part in an attack later.
            with torch.inference_mode(False), torch.no_grad():
                self.keep(prompts, self._scorer.encode_prompts(prompts))
        return self._kept[prompts]

    def __contains__(self, prompts: Prompts) -> bool:
        return prompts in self._kept

    def keep(self, prompts: Prompts, targets: Targets) -> None:
        """Remember targets that were made elsewhere, in a pass with others, say."""
        self._kept[prompts] = targets
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)


def raw_scores(scorer: Scorer, inputs: Sequence[Inputs], targets: Sequence[Targets], rows: int) -> list[Tensor]:
    """Raw scores of pictures in one pass, differentiable with respect to the inputs.

    Args:
        scorer: The scorer.
        inputs: What `scorer.preprocess.pixels` made of B pictures, each (1, 3, h, w).
        targets: The targets of each.
        rows: Rows of the pass, at least B.

    Returns:
        B tensors (1, T_i).
    """
    batch = _map(torch.cat, inputs)
    if hasattr(scorer, "embed"):  # one pass for all, whatever their prompts
        embedded = _rows(scorer.embed(_padded(batch, rows)), len(inputs))
        each = (_slice(embedded, place) for place in range(len(inputs)))
        return [scorer.compare(one, own) for one, own in zip(each, targets, strict=True)]  # type: ignore[attr-defined]
    found: list[Any] = [None] * len(inputs)
    for own, places in _groups(targets):
        raw = scorer(_padded(_map(torch.cat, [inputs[place] for place in places]), rows), own)
        for row, place in enumerate(places):
            found[place] = raw[row : row + 1]
    return found


@torch.inference_mode()
def read_scores(scorer: Scorer, images: Sequence[Inputs], targets: Sequence[Targets]) -> list[Tensor]:
    """Raw scores (T_i,) of pictures as files hold them; not even by rounding do they depend on each other.

    Args:
        scorer: The scorer.
        images: What `scorer.preprocess.image` made of N pictures, each uint8 (3, h, w).
        targets: The targets of each.
    """
    rows = pass_rows(scorer, READ_ROWS, 1)
    found: list[Tensor] = []
    for first in range(0, len(images), rows):
        some = [_map(lambda parts: parts[0][None].to(scorer.device), [image]) for image in images[first : first + rows]]
        found += [raw[0] for raw in raw_scores(scorer, some, targets[first : first + rows], rows)]
    return found


def read_figures(scorer: Scorer, images: Sequence[Inputs], targets: Sequence[Targets]) -> list[list[float]]:
    """The figures of pictures as files hold them, one per prompt; arguments as for `read_scores`."""
    return [figures(scorer, raw).tolist() for raw in read_scores(scorer, images, targets)]


@torch.inference_mode()
def embeddings(scorer: EmbeddingScorer, images: Tensor, rows: int) -> Tensor:
    """Unit vectors (N, D) of pictures as files hold them, in passes of `rows` rows.

    Args:
        scorer: A scorer with an embedding.
        images: What `scorer.preprocess.image` made of N pictures, uint8 (N, 3, h, w).
        rows: Rows of each pass.
    """
    passes = torch.split(images, rows)
    return torch.cat([scorer.embed(_padded(part.to(scorer.device), rows))[: len(part)] for part in passes])


def _map(change: Any, inputs: Sequence[Inputs]) -> Any:
    """`change` of a list of tensors; of a list of tuples, the tuple of `change` of each model's tensors."""
    if isinstance(inputs[0], tuple):
        return tuple(change(list(parts)) for parts in zip(*inputs, strict=True))
    return change(list(inputs))


def _padded(batch: Any, rows: int) -> Any:
    """The batch, or each of a tuple of batches, with black pictures up to `rows`."""
    if isinstance(batch, tuple):
        return tuple(_padded(part, rows) for part in batch)
    if len(batch) == rows:
        return batch
    return torch.cat([batch, batch.new_zeros(rows - len(batch), *batch.shape[1:])])


def _rows(batch: Any, count: int) -> Any:
    return tuple(part[:count] for part in batch) if isinstance(batch, tuple) else batch[:count]


def _slice(batch: Any, place: int) -> Any:
    return tuple(_slice(part, place) for part in batch) if isinstance(batch, tuple) else batch[place : place + 1]


def _groups(targets: Sequence[Targets]) -> Iterator[tuple[Targets, list[int]]]:
    """Targets that are one object, each with its places."""
    places: dict[int, list[int]] = {}
    for place, own in enumerate(targets):
        places.setdefault(id(own), []).append(place)
    return ((targets[some[0]], some) for some in places.values())
