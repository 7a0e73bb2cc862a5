"""The metrics as pure functions: sums over pictures, and means of such sums."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foclip.core.detecting import BatchDetector
from foclip.data import images
from foclip.data.images import Source
from foclip.data.samples import Sample, prepare
from foclip.detection.detector import Detector, shipped
from foclip.detection.probes import Prober
from foclip.errors import UsageError
from foclip.models.batching import TargetCache, read_figures
from foclip.models.encoder import Encoder
from foclip.models.scorer import Scorer as AnyScorer
from foclip.models.scores.clip import SCALE
from foclip.models.scores.clip import CLIPScore as Scorer
from foclip.models.surroundings import undisturbed
from foclip.outcome import Failure, mean

#: B pictures: PIL, pixels or files (`foclip.data.images.Source`), or pixels as one tensor (B, 3, H, W) or array; pixels
#: are uint8, or float in [0, 1] (rounded to 8 bits). One picture alone is a batch of one.
Pictures = Sequence[Source] | Tensor | np.ndarray | Source
#: B captions; one alone is a batch of one.
Captions = Sequence[str] | str
#: Sums over pictures by the names of their means, and the number of pictures, `count`; sums of several batches or
#: processes are added.
Sums = Mapping[str, Any]


def clip_score(
    pictures: Pictures, captions: Captions, encoder: Encoder, scale: float = SCALE, prefix: str = ""
) -> Tensor:
    """Mean CLIPScore w · max(cos, 0) of pictures with their captions (Hessel et al. 2021, arXiv 2104.08718).

    Args:
        pictures: B pictures.
        captions: B captions; one that is longer than the model reads keeps its end-of-text token, with a warning.
        encoder: The encoder.
        scale: The weight w: 2.5 (Hessel et al.), 100 in torchmetrics, which clamps only the mean.
        prefix: What comes before each caption: "A photo depicts" in the paper, nothing in torchmetrics.

    Returns:
        A scalar in [0, w].

    Raises:
        UsageError: Pictures and captions differ in number, or a picture has another shape, type or range.
    """
    return means(clip_score_sums(Prober(Scorer(encoder, scale, prefix)), pictures, captions))["clip_score"]


def pairwise_clip_score(
    pictures: Pictures, captions: Captions, encoder: Encoder, scale: float = SCALE, prefix: str = ""
) -> Tensor:
    """CLIPScores (M, N) of M pictures with each of N captions; otherwise as `clip_score`.

    Each picture and each caption takes one pass, however many the others are.
    """
    scorer, asked = Scorer(encoder, scale, prefix), _texts(captions)
    views = _views(scorer.preprocess.image, _list(pictures))
    targets = scorer.encode_prompts(asked)
    return torch.tensor(read_figures(scorer, views, [targets] * len(views))).view(len(views), len(asked))


def robust_clip_score(
    pictures: Pictures,
    captions: Captions,
    encoder: Encoder,
    detector: Detector | None = None,
    scale: float = SCALE,
) -> dict[str, Tensor]:
    """CLIPScore, the share of pictures called tampered, and the score with what is left of theirs, as `means`.

    Arguments are as for `clip_score`; the detector is one of the encoder, by default the one that comes with it.

    Raises:
        UsageError: As `clip_score`, or the detector belongs to another encoder.
    """
    judge = BatchDetector(detector or shipped(encoder), Scorer(encoder, scale))
    return means(robust_sums(judge, None, pictures, captions))


def clip_score_sums(prober: Prober, pictures: Pictures, captions: Captions) -> Sums:
    """Sum of CLIPScores."""
    views, prompts = _read(prober.preprocess, pictures, captions)
    return {"clip_score": sum(found.score or 0.0 for found in prober.measure(views, prompts, ())), "count": len(views)}


def score_sums(scorer: AnyScorer, targets: TargetCache, pictures: Pictures, captions: Captions | None) -> Sums:
    """Sum of any score; without captions it is asked with its own prompts, or none."""
    info = scorer.info
    if info.prompts == "none" and captions is not None:
        raise UsageError(f"captions: {info.name} takes none; leave them out")
    if info.prompts != "required" and captions is None:
        views = _views(scorer.preprocess.image, _list(pictures))
        prompts = [info.default_prompts] * len(views)
    else:
        views, prompts = _read(scorer.preprocess.image, pictures, () if captions is None else captions)
    found = read_figures(scorer, views, [targets(own) for own in prompts])
    return {"score": sum(map(mean, found)), "count": len(views)}


def robust_sums(judge: BatchDetector, hardened: Prober | None, pictures: Pictures, captions: Captions) -> Sums:
    """Sums over pictures of what `means` gives means of; with what measures the score over a hardened encoder, too."""
    views, prompts = _read(judge.preprocess, pictures, captions)
    sums = {"clip_score": 0.0, "tampered": 0, "robust_clip_score": 0.0, "count": len(views)}
    for found, verdict in judge(views, prompts):
        score, caught = found.score or 0.0, verdict.verdict == "tampered"
        sums["clip_score"] += score
        sums["tampered"] += caught
        sums["robust_clip_score"] += min(found.scores.values(), default=score) if caught else score
    if hardened is not None:
        sums["hardened_score"] = clip_score_sums(hardened, pictures, captions)["clip_score"]
    return sums


@undisturbed()
def means(sums: Sums) -> dict[str, Tensor]:
    """Means over all pictures of what there are sums of; NaN if there are no pictures.

    Returns:
        `clip_score`: as it is; `tampered`: share of pictures called tampered; `robust_clip_score`: with the lowest
        score that a probe found in place of theirs; `hardened_score`: over the hardened encoder, and `gap`, the score
        minus that.
    """
    totals = {name: torch.as_tensor(total, dtype=torch.float64) for name, total in sums.items() if name != "count"}
    found = {name: (total / torch.as_tensor(sums["count"])).float() for name, total in totals.items()}
    if "hardened_score" in found:
        found["gap"] = found["clip_score"] - found["hardened_score"]
    return found


def _read(preprocess: Any, pictures: Pictures, captions: Captions) -> tuple[list[Any], list[tuple[str, ...]]]:
    """What the encoders see of each picture, and its prompts."""
    asked = _texts(captions)
    if isinstance(pictures, Tensor | np.ndarray) and pictures.ndim != 4 and len(asked) != 1:
        raise UsageError(f"pictures: shape {tuple(pictures.shape)} is not (B, 3, H, W)")
    listed = _list(pictures)
    if len(asked) != len(listed):
        raise UsageError(f"captions: give one for each of the {len(listed)} pictures, as a list")
    return _views(preprocess, listed), [(caption,) for caption in asked]


def _list(pictures: Pictures) -> Sequence[Source]:
    alone = isinstance(pictures, str | Path | Image.Image) or getattr(pictures, "ndim", 4) == 3
    return [pictures] if alone else pictures  # type: ignore[list-item, return-value]


def _texts(captions: Captions) -> list[str]:
    texts = [captions] if isinstance(captions, str) else list(captions)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"captions: give a text for each picture, not {type(text).__name__}")
    return texts


def _views(preprocess: Any, pictures: Sequence[Source]) -> list[Any]:
    """What `preprocess` makes of each picture, which is decoded first; a `UsageError` if one cannot be read."""
    samples = [Sample(images.name(picture, number), picture) for number, picture in enumerate(pictures, start=1)]
    views = []
    for found in prepare(samples, preprocess):
        if isinstance(found, Failure):
            raise UsageError(f"pictures: {found.source}: {found.reason}")
        views.append(found[1])
    return views
