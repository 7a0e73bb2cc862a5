"""Similarity and CLIPScore as pure functions."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

    from foclip.encoders import DualEncoder

#: Weight of CLIPScore in Hessel et al. 2021 (arXiv 2104.08718), equation 1. torchmetrics uses 100.
SCALE = 2.5


def similarity(images: Tensor, texts: Tensor) -> Tensor:
    """Cosine of every picture with every prompt.

    Args:
        images: Unit vectors (B, D).
        texts: Unit vectors (T, D).

    Returns:
        (B, T), in [-1, 1].
    """
    return images @ texts.T


def clip_score(similarity: Tensor, scale: float = SCALE) -> Tensor:
    """CLIPScore w · max(cos, 0) (Hessel et al. 2021, equation 1), elementwise.

    Args:
        similarity: Cosines of any shape, in [-1, 1].
        scale: The weight w.

    Returns:
        Scores of the same shape, in [0, w].

    >>> import torch
    >>> clip_score(torch.tensor([0.4, -0.1]))
    tensor([1., 0.])
    """
    return scale * similarity.clamp(min=0)


def score_picture(encoder: "DualEncoder", picture: "Image.Image", texts: Tensor, scale: float = SCALE) -> list[float]:
    """CLIPScore of one picture with each prompt, through the model's own preprocessing.

    Pictures are encoded one by one, so that a score does not depend, not even
    by rounding, on what else is scored.

    Args:
        encoder: Any encoder.
        picture: An RGB picture.
        texts: Unit vectors (T, D) of the prompts.
        scale: The weight w.

    Returns:
        T scores in [0, w].
    """
    scores: list[float] = clip_score(similarity(encoder.encode_pictures([picture]), texts)[0], scale).tolist()
    return scores
