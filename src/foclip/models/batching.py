"""Passes of fixed size between streams of pictures and a scorer's model: whatever reads or raises scores goes through.

Libraries pick other kernels for another batch size, and those round differently. A figure must not depend on what
else is in its batch, so every pass has the same number of rows and is padded with black.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from foclip.data.prompts import Prompts
from foclip.models.scorer import EmbeddingScorer, Inputs, Scorer, Targets
from foclip.models.surroundings import undisturbed

#: Above this many parameters a CPU gains little from a batch.
LARGE_MODEL = 50_000_000
#: Caches change one at a time. They have no lock of their own, since they are copied and sent to other processes.
_KEEPING = Lock()
#: What scorers made of the sets of prompts that were asked for last, so many and of at most so many prompts each: one
#: call after another with the same prompts encodes them once.
_LATEST: WeakKeyDictionary[Scorer, OrderedDict[Prompts, Targets]] = WeakKeyDictionary()
LATEST, MOST_PROMPTS = 16, 256
#: Rows of a pass that reads pictures. One picture alone is a pass too, so more would cost it much.
READ_ROWS = 8


def pass_rows(scorer: Scorer, many: int, few: int) -> int:
    """`many` rows for a pass, or `few` if it is a large model on a CPU, which gains nothing from a batch."""
    return few if scorer.device.type == "cpu" and scorer.parameter_count > LARGE_MODEL else many


def figures(scorer: Scorer, raw: Tensor) -> Tensor:
    """The figures of raw scores of any shape: scale · max(raw score, 0), or what stands for 0 in `ScoreInfo.lowest`."""
    return scorer.info.scale * raw.clamp(min=scorer.info.lowest)


class TargetCache:
    """Prompts to targets, each set of prompts encoded once as long as it is remembered.

    The set that was asked for longest ago is forgotten first; `size` sets are remembered. A few small ones are
    remembered for the scorer's next cache.
    """

    def __init__(self, scorer: Scorer, size: int = 1024) -> None:
        self._scorer, self._size = scorer, size
        self._kept: OrderedDict[Prompts, Targets] = OrderedDict()
        try:
            self._latest = _LATEST.setdefault(scorer, OrderedDict())
        except TypeError:  # an outside scorer that has no hash
            self._latest = OrderedDict()

    def __call__(self, prompts: Prompts) -> Targets:
        with _KEEPING:
            found = self._kept.get(prompts, self._latest.get(prompts))
        if found is None:
            with undisturbed(), torch.no_grad():
                found = self._scorer.encode_prompts(prompts)
        if len(prompts) <= MOST_PROMPTS:
            self._remember(self._latest, LATEST, prompts, found)
        self.keep(prompts, found)
        return found

    def __contains__(self, prompts: Prompts) -> bool:
        return prompts in self._kept

    def keep(self, prompts: Prompts, targets: Targets) -> None:
        """Remember targets that were made elsewhere, in a pass with others, say."""
        self._remember(self._kept, self._size, prompts, targets)

    @staticmethod
    def _remember(kept: OrderedDict[Prompts, Targets], size: int, prompts: Prompts, targets: Targets) -> None:
        with _KEEPING:
            kept[prompts] = targets
            kept.move_to_end(prompts)
            while len(kept) > size:
                kept.popitem(last=False)


@undisturbed()
def raw_scores(scorer: Scorer, inputs: Sequence[Inputs], targets: Sequence[Targets], rows: int) -> list[Tensor]:
    """Raw scores of B pictures in one pass of `rows` ≥ B, B tensors (1, T_i), differentiable.

    `inputs` are what `scorer.preprocess.pixels` made of each, (1, 3, h, w); each has its `targets`.
    """
    if hasattr(scorer, "embed"):  # one pass for all, whatever their prompts
        embedding: Any = scorer
        embedded = embedding.embed(_padded(_joined(inputs), rows))
        return [embedding.compare(_row(embedded, place), own) for place, own in enumerate(targets)]
    places = defaultdict[int, list[int]](list)
    for place, own in enumerate(targets):
        places[id(own)].append(place)  # one pass for those whose targets are one object
    found = dict[int, Tensor]()
    for some in places.values():
        raw = scorer(_padded(_joined([inputs[place] for place in some]), rows), targets[some[0]])
        found |= {place: raw[row : row + 1] for row, place in enumerate(some)}
    return [found[place] for place in range(len(inputs))]


@undisturbed()
@torch.inference_mode()
def read_scores(scorer: Scorer, images: Sequence[Inputs], targets: Sequence[Targets]) -> list[Tensor]:
    """Raw scores (T_i,) of preprocessed pictures, uint8 (3, h, w); not even by rounding do they affect each other."""
    rows = pass_rows(scorer, READ_ROWS, 1)
    found: list[Tensor] = []
    for first in range(0, len(images), rows):
        some = [_mapped(lambda part: part[None].to(scorer.device), image) for image in images[first : first + rows]]
        found += [raw[0] for raw in raw_scores(scorer, some, targets[first : first + rows], rows)]
    return found


def read_figures(scorer: Scorer, images: Sequence[Inputs], targets: Sequence[Targets]) -> list[list[float]]:
    """The figures of pictures as files hold them, one per prompt; arguments as for `read_scores`."""
    return [figures(scorer, raw).tolist() for raw in read_scores(scorer, images, targets)]


@undisturbed()
@torch.inference_mode()
def read_alike(
    scorers: Sequence[Scorer], images: Sequence[Inputs], targets: Sequence[Sequence[Targets]]
) -> list[list[list[float]]]:
    """The figures by several scores over one encoder, or by one, in the same passes: by score, picture and prompt.

    `targets` are those of each score, in the order of the pictures.
    """
    if len(scorers) == 1:
        return [read_figures(scorers[0], images, targets[0])]
    several: Any = scorers
    rows, first = pass_rows(several[0], READ_ROWS, 1), several[0]
    passes = (images[start : start + rows] for start in range(0, len(images), rows))
    joined = (_joined([_mapped(lambda part: part[None].to(first.device), image) for image in some]) for some in passes)
    embedded = torch.cat([first.embed(_padded(batch, rows)) for batch in joined])
    return [
        [figures(each, each.compare(embedded[at : at + 1], asked))[0].tolist() for at, asked in enumerate(own)]
        for each, own in zip(several, targets, strict=True)
    ]


@undisturbed()
@torch.inference_mode()
def embeddings(scorer: EmbeddingScorer, images: Tensor, rows: int) -> Tensor:
    """Unit vectors (N, D) of preprocessed pictures, uint8 (N, 3, h, w), in passes of `rows` rows."""
    passes = torch.split(images, rows)
    return torch.cat([scorer.embed(_padded(part.to(scorer.device), rows))[: len(part)] for part in passes])


def _mapped(change: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """`change` of a batch, or of each of a tuple of batches."""
    return tuple(_mapped(change, part) for part in batch) if isinstance(batch, tuple) else change(batch)


def _joined(inputs: Sequence[Inputs]) -> Any:
    """Pictures as one batch, or as the tuple of each model's batch."""
    if isinstance(inputs[0], tuple):
        return tuple(map(_joined, zip(*inputs, strict=True)))
    return torch.cat(list(inputs))  # type: ignore[arg-type]


def _padded(batch: Any, rows: int) -> Any:
    """The batch, or each of a tuple of batches, with black pictures up to `rows`."""

    def padded(part: Tensor) -> Tensor:
        missing = rows - len(part)
        return torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part

    return _mapped(padded, batch)


def _row(batch: Any, place: int) -> Any:
    return _mapped(lambda part: part[place : place + 1], batch)
