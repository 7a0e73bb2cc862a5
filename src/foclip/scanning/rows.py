"""What the engines share: the rows of a chunk of items, each judged once, or with the reason why not.

A chunk is decoded (`decoded`, which needs no model) and judged (`Judge`). Passes through the towers have a fixed number
of rows, so a row depends neither on its chunk nor on who else is at work.
"""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foclip.core.detecting import BatchDetector
from foclip.data import images
from foclip.data.sources import Columns, Item, Shard, fetched, items, text
from foclip.detection import Detector, Method
from foclip.errors import ImageError, PromptTruncationWarning
from foclip.models.scores import EmbeddingScore, Prompts

#: Pictures in a chunk, and bytes of their files at most, unless one alone has more.
CHUNK, CHUNK_BYTES = 32, 32 * 2**20
#: Captions per pass of the text tower.
TEXT_ROWS = 8
#: Captions whose vectors are kept.
REMEMBERED = 20_000

#: A row of the output, by the names of its columns.
Row = dict[str, Any]


def chunks(
    shard: Shard, columns: Columns, size: int = CHUNK, wanted: Callable[[int], bool] | None = None
) -> Iterator[list[Item]]:
    """The items of a shard, some at a time.

    Args:
        shard: The shard.
        columns: Names of columns.
        size: Items in a chunk.
        wanted: Which places in the shard are asked for; None for all.

    Raises:
        SourceError: The source is gone.
    """
    chunk: list[Item] = []
    held = 0
    for place, item in enumerate(items(shard, columns)):
        if wanted is not None and not wanted(place):
            continue
        chunk.append(item)
        held += len(item.content)
        if len(chunk) == size or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


@dataclass
class Decoded:
    """A chunk whose pictures are decoded and resized.

    Attributes:
        rows: One per item, unfinished where it has no error.
        levels: uint8 (N, *image_size, 3), what the model sees of those N.
    """

    rows: list[Row]
    levels: list[np.ndarray] = field(default_factory=list)


def decoded(chunk: Sequence[Item], resize: Callable[[Image.Image], Image.Image]) -> Decoded:
    """Decode the pictures of a chunk as `images.decode` does, and resize them as the model does.

    Raises:
        SourceError: The source is gone.
    """
    result = Decoded([])
    for item in map(fetched, chunk):
        row: Row = {"key": item.key, "uid": item.uid, "caption": None, "error": item.error}
        row["caption"] = None if item.caption is None else item.caption.encode(errors="backslashreplace").decode()
        result.rows.append(row)
        if item.error:
            continue
        row["sha256"] = hashlib.sha256(item.content).hexdigest()
        try:
            picture = images.decode(item.content, "")
            row["width"], row["height"] = picture.size
            result.levels.append(np.asarray(resize(picture)))
        except ImageError as error:
            row["error"] = text(error, 200).removeprefix(".: ")
    return result


class Judge:
    """Scores and verdicts of decoded chunks.

    Args:
        score: The score; one with prompts of its own is asked with them, any other one with each picture's caption.
        detector: The detector.
        by: Which of its statistics decides.
        fpr: Bound on false alarms; None for the detector's own.
        draw: With which number the probes' amounts are drawn (`foclip.detect`); None for the usual ones.

    Raises:
        UsageError: The detector belongs to another encoder, or cannot promise `fpr`.
    """

    def __init__(
        self,
        score: EmbeddingScore,
        detector: Detector,
        by: Method = "combined",
        fpr: float | None = None,
        draw: int | None = None,
    ) -> None:
        self.score, self.detector, self.by, self.fpr, self.draw = score, detector, by, fpr, draw
        self._captions = _Captions(score)
        self._judge = BatchDetector(detector, score, by, fpr, seed=draw, targets=self._captions)

    def __call__(self, chunk: Decoded) -> list[Row]:
        """The rows of a chunk, finished."""
        if not chunk.levels:
            return chunk.rows
        rows = [row for row in chunk.rows if not row["error"]]
        own = self.score.info.default_prompts
        prompts: list[Prompts] = [own or ((row["caption"],) if row["caption"] else ()) for row in rows]
        views = [self._judge.preprocess(Image.fromarray(levels)) for levels in chunk.levels]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptTruncationWarning)  # millions of captions are longer
            self._captions.add(prompts)
            for row, found in zip(
                rows, self._judge.detections([row["key"] for row in rows], views, prompts), strict=True
            ):
                row |= {
                    name: getattr(found, name)
                    for name in ("score", "gray_score", "drop", "drift", "p_value", "decided_by")
                }
                row["tampered"] = None if found.verdict == "undecidable" else found.tampered
        return chunk.rows


class _Captions:
    """What pictures are compared with, by their prompts: made in passes of a fixed number of captions, and kept."""

    def __init__(self, score: EmbeddingScore) -> None:
        self.score = score
        self.kept: OrderedDict[Prompts, Tensor] = OrderedDict()

    def add(self, prompts: Sequence[Prompts]) -> None:
        """Embed the captions among `prompts` that are not kept yet."""
        for asked in dict.fromkeys(prompts):
            if asked in self.kept:
                self.kept.move_to_end(asked)
        unknown = [asked[0] for asked in dict.fromkeys(prompts) if len(asked) == 1 and asked not in self.kept]
        for first in range(0, len(unknown), TEXT_ROWS):
            some = unknown[first : first + TEXT_ROWS]
            with torch.inference_mode():
                targets = self.score.targets((*some, *[""] * (TEXT_ROWS - len(some))))
            for caption, target in zip(some, targets, strict=False):
                self.kept[(caption,)] = target[None]
        while len(self.kept) > REMEMBERED:
            self.kept.popitem(last=False)

    def __call__(self, prompts: Prompts) -> Tensor:
        """The targets of one picture's prompts, T along the first axis."""
        if prompts not in self.kept:
            self.kept[prompts] = self.score.targets(prompts)
        return self.kept[prompts]
