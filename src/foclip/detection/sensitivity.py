r"""Sensitivities: how far score and embedding of a picture move under a transformation.

FoCLIP (arXiv 2511.06947) finds that fooled pictures lose most of their score in
grayscale (63.2 %, originals 8.5 %). Other small changes ("squeezers", Xu et al.
2018, arXiv 1704.01155) are here too; each is a function from picture to picture. All are
applied to what the model sees, the picture after its resize: a blur of half a pixel then
means the same for a thumbnail and for a 50-megapixel photo.

For a picture with mean CLIPScore :math:`s` over its prompts, :math:`s'` once
transformed, and embeddings :math:`E, E'`:

.. math:: \text{drop} = \frac{s - s'}{\max(s, s', s_0)}, \qquad \text{drift} = 1 - \cos(E, E')

Where the score matters (:math:`s \ge s_0`, and transforming does not raise it) the drop
is the paper's ratio. Below :math:`s_0` = 0.25, a cosine of 0.1, a score says "no match" in
any CLIP, and its relative changes are noise: there the drop is the absolute
change in units of :math:`s_0`. It lies in [-1, 1].
"""

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from foclip.attacks.base import LARGE_MODEL
from foclip.encoders import Encoder
from foclip.images import to_gray
from foclip.score import clip_score, similarity

#: Mean CLIPScore (w = 2.5) below which a picture matches none of its prompts: s₀.
NO_MATCH = 0.25
#: Rows (pictures, and pictures transformed) per pass through the image tower.
BATCH_SIZE = 32
#: A picture in which the model sees channels differ by at most this many 8-bit levels is gray already.
GRAY_LEVELS = 2

#: A picture to another one of the same size, 8-bit RGB both.
Transformation = Callable[[Image.Image], Image.Image]


def red_as_luma(picture: Image.Image) -> Image.Image:
    """The red channel replaced by BT.601 luma."""
    return _with_luma(picture, 0)


def green_as_luma(picture: Image.Image) -> Image.Image:
    """The green channel replaced by BT.601 luma."""
    return _with_luma(picture, 1)


def blue_as_luma(picture: Image.Image) -> Image.Image:
    """The blue channel replaced by BT.601 luma."""
    return _with_luma(picture, 2)


def _with_luma(picture: Image.Image, channel: int) -> Image.Image:
    bands = list(picture.split())
    bands[channel] = picture.convert("L")
    return Image.merge("RGB", bands)


def jpeg(picture: Image.Image) -> Image.Image:
    """Saved as JPEG of quality 90 and read again."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90)
    return Image.open(buffer).convert("RGB")


def bit_depth(picture: Image.Image) -> Image.Image:
    """The upper 4 of 8 bits."""
    return ImageOps.posterize(picture, 4)


def blur(picture: Image.Image) -> Image.Image:
    """Gaussian blur with a standard deviation of half a pixel."""
    return picture.filter(ImageFilter.GaussianBlur(0.5))


def rescale(picture: Image.Image) -> Image.Image:
    """Half the size and back, bilinear."""
    width, height = picture.size
    half = picture.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.BILINEAR)
    return half.resize(picture.size, Image.Resampling.BILINEAR)


#: Every transformation by name.
TRANSFORMATIONS: Mapping[str, Transformation] = {
    "gray": to_gray,
    "red": red_as_luma,
    "green": green_as_luma,
    "blue": blue_as_luma,
    "jpeg": jpeg,
    "bits": bit_depth,
    "blur": blur,
    "rescale": rescale,
}


def drop(score: Tensor, transformed: Tensor) -> Tensor:
    """Relative loss of score, elementwise, in [-1, 1]; see the module's equation.

    Args:
        score: Mean CLIPScore (w = 2.5) of pictures, any shape.
        transformed: That of the transformed pictures, same shape.

    >>> drop(torch.tensor([1.0, 0.01, 0.0]), torch.tensor([0.4, 0.0, 0.0]))
    tensor([0.6000, 0.0400, 0.0000])
    """
    return (score - transformed) / torch.maximum(score, transformed).clamp(min=NO_MATCH)


def drift(embedding: Tensor, transformed: Tensor) -> Tensor:
    """1 - cosine between unit vectors (…, D) and those of the transformed pictures: (…,), in [0, 2]."""
    return (1 - (embedding * transformed).sum(dim=-1)).clamp(min=0)


@dataclass(frozen=True)
class Sensitivity:
    """What was measured of one picture.

    Attributes:
        gray_already: The picture, as the model sees it, has no colour to lose (`GRAY_LEVELS`).
        drifts: Drift per transformation.
        score: Mean CLIPScore (w = 2.5) over the prompts; None without prompts.
        scores: Mean CLIPScore of the transformed picture, per transformation; empty without prompts.
        drops: Drop per transformation; empty without prompts.
    """

    gray_already: bool
    drifts: dict[str, float]
    score: float | None
    scores: dict[str, float]
    drops: dict[str, float]


def measure(
    encoder: Encoder,
    pictures: Sequence[Image.Image],
    texts: Tensor | Sequence[Tensor] | None = None,
    transformations: Sequence[str] = ("gray",),
) -> list[Sensitivity]:
    """Sensitivities of pictures; a picture and its transformed versions share a batch.

    Every pass through the tower has the same number of rows, so a picture's
    figures do not depend on the other pictures.

    Args:
        encoder: Any encoder.
        pictures: RGB pictures of any sizes.
        texts: Unit vectors (T, D) of prompts for all pictures, one such tensor
            per picture, or None.
        transformations: Names in `TRANSFORMATIONS`.
    """
    if not pictures:
        return []
    with ThreadPoolExecutor(max_workers=max(2, torch.get_num_threads())) as pool:
        levels = np.stack(list(pool.map(lambda picture: _prepare(encoder, picture, transformations), pictures)))
    rows = torch.from_numpy(levels).flatten(0, 1).permute(0, 3, 1, 2)
    red, green, blue = rows[:: levels.shape[1]].unbind(dim=1)
    spread = red.maximum(green).maximum(blue) - red.minimum(green).minimum(blue)
    gray_already = (spread <= GRAY_LEVELS).flatten(1).all(dim=1).tolist()
    embeddings = _embed(encoder, rows).view(*levels.shape[:2], -1)
    drifts = drift(embeddings[:, :1], embeddings[:, 1:]).tolist()
    names = list(transformations)
    if texts is None:
        pairs = zip(gray_already, drifts, strict=True)
        return [Sensitivity(gray, dict(zip(names, moved, strict=True)), None, {}, {}) for gray, moved in pairs]
    if isinstance(texts, Tensor):
        scores = clip_score(similarity(embeddings, texts.cpu())).mean(dim=-1)
    else:
        each = zip(embeddings, texts, strict=True)
        scores = torch.stack([clip_score(similarity(own, text.cpu())).mean(dim=-1) for own, text in each])
    drops = drop(scores[:, :1], scores[:, 1:]).tolist()
    return [
        Sensitivity(
            gray,
            dict(zip(names, moved, strict=True)),
            score[0],
            dict(zip(names, score[1:], strict=True)),
            dict(zip(names, lost, strict=True)),
        )
        for gray, moved, score, lost in zip(gray_already, drifts, scores.tolist(), drops, strict=True)
    ]


def _prepare(encoder: Encoder, picture: Image.Image, transformations: Sequence[str]) -> np.ndarray:
    """uint8 (1 + V, *image_size, 3): the picture, resized, and its V transformed versions."""
    resized = encoder.resize_image(picture)
    versions = [TRANSFORMATIONS[name](resized) for name in transformations]
    return np.stack([np.asarray(version) for version in (resized, *versions)])


@torch.inference_mode()
def _embed(encoder: Encoder, levels: Tensor) -> Tensor:
    """Unit vectors of resized pictures (N, 3, *image_size), in passes of one number of rows."""
    batch_size = _batch_size(encoder)
    passes = -(-len(levels) // batch_size)
    padded = F.pad(levels, (0, 0, 0, 0, 0, 0, 0, passes * batch_size - len(levels)))
    embeddings = [
        encoder.encode_inputs(encoder.inputs_from_resized(rows.to(encoder.device)))
        for rows in torch.split(padded, batch_size)
    ]
    return torch.cat(embeddings)[: len(levels)].cpu()


def _batch_size(encoder: Encoder) -> int:
    """A large model on a CPU gains nothing from a batch, and would pay for padding it."""
    return 2 if encoder.device.type == "cpu" and encoder.parameters > LARGE_MODEL else BATCH_SIZE


def feature_names(transformations: Sequence[str], with_prompts: bool) -> list[str]:
    """Names of what can be told from a `Sensitivity`: drifts, and with prompts the drops.

    The score itself is left out on purpose: a picture that matches its caption well is no suspect.
    """
    names = [f"drift_{name}" for name in transformations]
    return [*names, *(f"drop_{name}" for name in transformations)] if with_prompts else names


def features(sensitivity: Sensitivity, names: Sequence[str]) -> list[float]:
    """The figures called `drift_NAME` and `drop_NAME`."""
    known = {f"drift_{name}": value for name, value in sensitivity.drifts.items()}
    known |= {f"drop_{name}": value for name, value in sensitivity.drops.items()}
    return [known[name] for name in names]
