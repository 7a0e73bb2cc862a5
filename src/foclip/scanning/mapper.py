"""The mapper: items to rows. Each row has a score and a verdict, or an error that says why not.

Passes through the model have a fixed size, so a row depends neither on its chunk nor on the number of workers.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from foclip.core.detecting import BatchDetector
from foclip.data import images
from foclip.data.prompts import Prompts
from foclip.data.sources import load_bytes, text
from foclip.detection.detector import Detector, Method, shipped_or_none
from foclip.detection.probes import Prober, require_embedding
from foclip.detection.universal import universal
from foclip.errors import ImageError, PromptTruncationWarning, UsageError
from foclip.machine import cores
from foclip.models.batching import TargetCache, read_figures
from foclip.models.scorer import Inputs, Scorer
from foclip.outcome import mean
from foclip.runs.workers import LocalWorkers, WorkerDied
from foclip.scanning.output import Chunk, Row
from foclip.scanning.peers import row_features

#: Captions per pass of the text tower.
TEXT_ROWS = 8
#: Captions whose targets are kept.
REMEMBERED = 20_000
#: DataComp's metadata have the cosines of OpenAI's models under these names.
COSINES = {"ViT-B-32": "clip_b32_similarity_score", "ViT-L-14": "clip_l14_similarity_score"}

_WORD = pa.dictionary(pa.int8(), pa.string())
#: What a row says of where it comes from, of its verdict (the fields of `Detection`), and of its file.
_SOURCE = [(name, pa.string()) for name in ("key", "source", "uid", "caption")]
_FIGURES = [(name, pa.float32()) for name in ("score", "gray_score", "probe_score", "drop", "drift", "p_value")]
_WORDS = [(name, _WORD) for name in ("verdict", "decided_by", "probe")]
_VERDICT = [*_FIGURES, ("tampered", pa.bool_()), *_WORDS, ("zero_shot_caption", pa.string())]
#: What a row of a scan without a detector has besides.
_PEERS = [("q_value", pa.float32()), ("features", pa.list_(pa.float32()))]
_FILE = [("error", pa.string()), ("width", pa.int32()), ("height", pa.int32()), ("sha256", pa.string())]


class Mapper:
    """Scores and judges the pictures of chunks.

    A score is asked for each picture's caption, or for its default prompts if it has any. Without a detector there are
    scores, and with `peers` the features of which `foclip.scanning.peers` makes verdicts; `method`, `fpr` and `seed`
    are as for `foclip.core.detecting.BatchDetector`.

    Raises:
        UsageError: The detector belongs to another encoder, or cannot keep to `fpr`.
    """

    def __init__(
        self,
        scorer: Scorer,
        detector: Detector | None = None,
        method: Method = "combined",
        fpr: float | None = None,
        seed: int | None = None,
        peers: bool = False,
    ) -> None:
        self.scorer, self.detector, self.method, self.fpr, self.seed = scorer, detector, method, fpr, seed
        self.peers = peers and detector is None
        architecture, _, tag = scorer.model.partition("/")
        datacomps = tag == "openai" and scorer.info.name == "clipscore"
        self._cosine = COSINES.get(architecture.removesuffix("-quickgelu")) if datacomps else None
        self._targets = TargetCache(scorer, REMEMBERED)
        self._batch_detector: BatchDetector | None = None
        self._preprocess: Callable[[Image.Image], Inputs] = scorer.preprocess.image
        if detector is not None:
            self._batch_detector = BatchDetector(detector, scorer, method, fpr, seed=seed, targets=self._targets)
            self._preprocess = self._batch_detector.preprocess
            return
        if self.peers:
            self._prober = Prober(scorer, seed=seed, targets=self._targets)
            self._preprocess, seed = self._prober.preprocess, None
        given = {"method": method if method != "combined" else None, "fpr": fpr, "seed": seed}
        for name in (name for name, value in given.items() if value is not None):
            raise UsageError(f"{name}: this is for a detector, and there is none for {scorer.info.name}")

    @property
    def schema(self) -> pa.Schema:
        """Columns of the output. Only the paper's rule always probes in gray, so only it has a `gray_score`."""
        verdict = [each for each in _VERDICT if each[0] != "gray_score" or self.method == "rule"]
        cosine = [(self._cosine, pa.float32())] if self._cosine else []
        return pa.schema([*_SOURCE, *verdict, *_FILE, *cosine, *(_PEERS if self.peers else [])])

    def __call__(self, chunk: Chunk) -> list[Row]:
        """The rows of a chunk; a `SourceError` if its source is gone."""
        return self.finish(self.decode(chunk))

    def decode(self, chunk: Chunk) -> tuple[list[Row], list[Any]]:
        """Rows of a chunk, and of those without an error what the model, or each of several, sees: uint8 (3, h, w).

        This takes no model. Pictures are arrays: torch would open a file for each tensor that goes to another process.
        """
        rows, pictures = [], []
        for item in map(load_bytes, chunk.items):
            caption = None if item.caption is None else item.caption.encode(errors="backslashreplace").decode()
            row: Row = {"key": item.key, "uid": item.uid, "caption": caption, "error": item.error}
            rows.append(row)
            if item.error:
                continue
            row["sha256"] = hashlib.sha256(item.content).hexdigest()
            try:
                picture = images.decode(item.content, "")
                row["width"], row["height"] = picture.size
                pictures.append(_each(torch.Tensor.numpy, self._preprocess(picture)))
            except ImageError as error:
                row["error"] = text(error, 200).removeprefix(".: ")
        return rows, pictures

    def finish(self, decoded: tuple[list[Row], list[Any]]) -> list[Row]:
        """The rows of a decoded chunk, with scores and verdicts."""
        everything, pictures = decoded[0], [_each(torch.from_numpy, array) for array in decoded[1]]
        rows, info = [row for row in everything if not row["error"]], self.scorer.info
        prompts: list[Prompts] = [
            info.default_prompts
            or (tuple(row["caption"].split("\n")) if row["caption"] and info.prompts != "none" else ())
            for row in rows
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptTruncationWarning)  # millions of captions are longer
            self._encode_captions(prompts)
            if self.peers:
                probes = universal().probes
                for row, each in zip(rows, self._prober.measure(pictures, prompts, probes, captions=True), strict=True):
                    row |= {"score": each.score, "zero_shot_caption": None if each.score else each.zero_shot_caption}
                    row["features"] = row_features(each)
            elif self._batch_detector is None:
                self._score(rows, pictures, prompts)
            else:
                found = self._batch_detector.detections([row["key"] for row in rows], pictures, prompts)
                for row, detection in zip(rows, found, strict=True):
                    row |= {name: getattr(detection, name) for name, _ in _VERDICT}
                    row["tampered"] = None if detection.verdict == "undecidable" else detection.tampered
        if self._cosine:
            for row in rows:
                row[self._cosine] = None if row["score"] is None else row["score"] / info.scale
        return everything

    def _encode_captions(self, prompts: Sequence[Prompts]) -> None:
        """Encode captions that are not remembered, in passes of a fixed number of them."""
        for asked in dict.fromkeys(prompts):
            if asked in self._targets:
                self._targets(asked)  # now it is not the next to be forgotten
        several = [asked for asked in dict.fromkeys(prompts) if asked and asked != self.scorer.info.default_prompts]
        captions = dict.fromkeys(caption for asked in several if asked not in self._targets for caption in asked)
        unknown = [caption for caption in captions if (caption,) not in self._targets]
        for first in range(0, len(unknown), TEXT_ROWS):
            some = unknown[first : first + TEXT_ROWS]
            with torch.no_grad():
                targets = self.scorer.encode_prompts((*some, *[""] * (TEXT_ROWS - len(some))))
            for place, caption in enumerate(some):
                self._targets.keep((caption,), _each(itemgetter(slice(place, place + 1)), targets))
        for asked in (asked for asked in several if asked not in self._targets):
            self._targets.keep(asked, _joined([self._targets((caption,)) for caption in asked]))

    def _score(self, rows: Sequence[Row], pictures: Sequence[Inputs], prompts: Sequence[Prompts]) -> None:
        none_needed = self.scorer.info.prompts == "none"
        places = [place for place, asked in enumerate(prompts) if asked or none_needed]
        targets = [self._targets(prompts[place]) for place in places]
        for row in rows:
            row["score"] = None
        for place, own in zip(places, read_figures(self.scorer, [pictures[p] for p in places], targets), strict=True):
            rows[place]["score"] = mean(own)


def _joined(targets: Sequence[Any]) -> Any:
    """The targets of several captions of one picture, tensors or tuples of tensors, as those of a set."""
    return tuple(map(torch.cat, zip(*targets, strict=True))) if isinstance(targets[0], tuple) else torch.cat([*targets])


def _each(change: Callable[[Any], Any], inputs: Any) -> Any:
    """`change` of a tensor, or of each of a tuple of tensors."""
    return tuple(map(change, inputs)) if isinstance(inputs, tuple) else change(inputs)


def detector_of(scorer: Scorer, detector: Detector | Path | str | None = None) -> tuple[Detector | None, str | None]:
    """The detector of a scan, given or by its file, or else the one that comes with the score's encoder.

    If there is none, None and the reason, in one line.

    Raises:
        UsageError: The file is no detector.
    """
    if detector is not None:
        return detector if isinstance(detector, Detector) else Detector.load(Path(detector)), None
    try:
        encoder = require_embedding(scorer).encoder
    except UsageError as error:
        return None, f"scores only, no verdicts: {error}"
    if (found := shipped_or_none(encoder)) is not None:
        return found, None
    return None, (
        f"no detector comes with {encoder.name}: the rows are their own reference, without a promise; --scores-only "
        f"leaves verdicts out, and foclip calibrate --model {encoder.name} --clean DIR --out detector.json makes one"
    )


def mapped(
    chunks: Iterable[Chunk], mapper: Mapper, workers: int | None = None, processes: bool = True
) -> Iterator[tuple[Chunk, list[Row]]]:
    """The rows of chunks, in order, computed on the cores of this machine; a bounded number is read ahead.

    On a CPU, forked processes with one thread each do all of it: a small model gains more from another picture than
    from another thread, weights are shared, and rounding does not depend on the number of workers. With a GPU, or
    where the system cannot fork, workers only decode, and this process computes.
    """
    local = LocalWorkers(workers or cores(), processes)
    whole = local.fork and mapper.scorer.device.type == "cpu"
    function: Any = mapper if whole else mapper.decode
    finish: Any = list if whole else mapper.finish
    for chunk, result in local.map(function, chunks):
        yield chunk, _carefully(function, finish, chunk) if isinstance(result, WorkerDied) else finish(result)


def _carefully(function: Any, finish: Any, chunk: Chunk) -> list[Row]:
    """The rows of a chunk that may have killed its process: it is tried alone, then in halves, down to one item."""
    ((_, result),) = LocalWorkers(1).map(function, [chunk])
    if not isinstance(result, WorkerDied):
        return list(finish(result))
    if len(chunk.items) == 1:
        (item,) = chunk.items
        error = "the process that decoded it died (a fault of the decoder, or no memory left)"
        return [{"key": item.key, "uid": item.uid, "caption": item.caption, "error": error}]
    half = len(chunk.items) // 2
    halves = replace(chunk, items=chunk.items[:half]), replace(chunk, items=chunk.items[half:])
    return [row for each in halves for row in _carefully(function, finish, each)]
