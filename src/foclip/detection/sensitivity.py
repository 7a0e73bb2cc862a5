r"""Sensitivities: how far score and embedding of a picture move under a transformation.

FoCLIP (arXiv 2511.06947) finds that fooled pictures lose most of their score in
grayscale (63.2 %, originals 8.5 %).

For a picture with mean figure :math:`s` over its prompts, :math:`s'` once
transformed, and embeddings :math:`E, E'`:

.. math:: \text{drop} = \frac{s - s'}{\max(s, s', s_0)}, \qquad \text{drift} = 1 - \cos(E, E')

Where the score matters (:math:`s \ge s_0`, and transforming does not raise it) the drop
is the paper's ratio. Below :math:`s_0`, the score's `no_match` (0.25 for CLIPScore: a cosine of 0.1), it says
"no match", and its relative changes are noise: there the drop is the absolute
change in units of :math:`s_0`. It lies in [-1, 1].
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foclip.detection.transformations import TRANSFORMATIONS
from foclip.scores import EncoderScore, Prompts

#: Name of the look through a hardened twin.
TWIN = "twin"
#: Rows (pictures, and pictures transformed) per pass through the image tower.
ROWS = 32
#: A picture in which the model sees channels differ by at most this many 8-bit levels is gray already.
GRAY_LEVELS = 2


def drop(score: Tensor, transformed: Tensor, no_match: float) -> Tensor:
    """Relative loss of score, elementwise, in [-1, 1]; see the module's equation.

    Args:
        score: Mean figure of pictures, any shape.
        transformed: That of the transformed pictures, same shape.
        no_match: The score's figure for "no match".

    >>> drop(torch.tensor([1.0, 0.01, 0.0]), torch.tensor([0.4, 0.0, 0.0]), 0.25)
    tensor([0.6000, 0.0400, 0.0000])
    """
    return (score - transformed) / torch.maximum(score, transformed).clamp(min=no_match)


def drift(embedding: Tensor, transformed: Tensor) -> Tensor:
    """1 - cosine between unit vectors (…, D) and those of the transformed pictures: (…,), in [0, 2]."""
    return (1 - (embedding * transformed).sum(dim=-1)).clamp(min=0)


@dataclass(frozen=True)
class Sensitivity:
    """What was measured of one picture.

    Attributes:
        gray_already: The picture, as the model sees it, has no colour to lose (`GRAY_LEVELS`).
        drifts: Drift per transformation, and to the twin's embedding.
        score: Mean figure over the prompts; None without prompts.
        scores: Mean figure of the transformed picture, per transformation; empty without prompts.
        drops: Drop per transformation; empty without prompts.
    """

    gray_already: bool
    drifts: dict[str, float]
    score: float | None
    scores: dict[str, float]
    drops: dict[str, float]


def measure(
    score: EncoderScore,
    pictures: Sequence[Image.Image],
    prompts: Sequence[Prompts],
    transformations: Sequence[str] = ("gray",),
    twin: EncoderScore | None = None,
) -> list[Sensitivity]:
    """Sensitivities of pictures; a picture and its transformed versions share a batch.

    Every pass through the tower has the same number of rows, so a picture's
    figures do not depend on the other pictures.

    Args:
        score: Any score over an encoder.
        pictures: RGB pictures of any sizes.
        prompts: The prompts of each; an empty tuple for none.
        transformations: Names in `TRANSFORMATIONS`.
        twin: The same score over the encoder's hardened twin; its view of the picture is one more look, `TWIN`.
    """
    if not pictures:
        return []
    rows = _rows(score, pictures, transformations)
    red, green, blue = rows[:: 1 + len(transformations)].unbind(dim=1)
    spread = red.maximum(green).maximum(blue) - red.minimum(green).minimum(blue)
    gray_already = (spread <= GRAY_LEVELS).flatten(1).all(dim=1).tolist()
    # A large model on a CPU gains nothing from a batch, and would pay for padding it.
    encoded = score.encoder.encode_resized(rows, score.rows(ROWS, 2)).cpu()
    embeddings, looks = encoded.view(len(pictures), 1 + len(transformations), -1), list(transformations)
    if twin:  # the twin's embedding of the picture stands where that of a transformed picture would
        seen = twin.encoder.encode_resized(_rows(twin, pictures, ()), twin.rows(ROWS, 2)).cpu()
        embeddings, looks = torch.cat([embeddings, seen[:, None]], dim=1), [*looks, TWIN]
    drifts = drift(embeddings[:, :1], embeddings[:, 1:]).tolist()
    found = []
    for gray, moved, own, asked in zip(gray_already, drifts, embeddings, prompts, strict=True):
        drifted = dict(zip(looks, moved, strict=True))
        if not asked:
            found.append(Sensitivity(gray, drifted, None, {}, {}))
            continue
        means = score.figures(score.compare(own, score.remembered(asked).cpu())).mean(dim=-1)
        lost = drop(means[:1], means[1:], score.no_match).tolist()
        first, *others = means.tolist()
        scores, drops = (dict(zip(looks, values, strict=True)) for values in (others, lost))
        found.append(Sensitivity(gray, drifted, first, scores, drops))
    return found


def _rows(score: EncoderScore, pictures: Sequence[Image.Image], transformations: Sequence[str]) -> Tensor:
    """uint8 (B · (1 + V), 3, *image_size): each picture, resized, with its V transformed versions behind it."""
    with ThreadPoolExecutor(max_workers=max(2, torch.get_num_threads())) as pool:
        versions = np.stack(list(pool.map(lambda picture: _versions(score, picture, transformations), pictures)))
    return torch.from_numpy(versions).flatten(0, 1).permute(0, 3, 1, 2)


def _versions(score: EncoderScore, picture: Image.Image, transformations: Sequence[str]) -> np.ndarray:
    """uint8 (1 + V, *image_size, 3): the picture, resized, and its V transformed versions."""
    resized = score.encoder.resize(picture)
    versions = [TRANSFORMATIONS[name].exact(resized) for name in transformations]
    return np.stack([np.asarray(version) for version in (resized, *versions)])


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
