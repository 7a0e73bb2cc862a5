r"""Where a picture was changed: what its score hangs on that nobody sees.

Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365, equation 1) from the picture :math:`x'` saved as
JPEG to the picture :math:`x`, as the model sees both, here for the score :math:`s`:

.. math:: h_i = (x_i - x'_i) \int_0^1 \frac{\partial s}{\partial x_i}\bigl(x' + a (x - x')\bigr) \, da

They add up to :math:`s(x) - s(x')`, so what is drawn is that difference, spread over the pixels that make it. The score
of a clean picture hangs on what JPEG keeps; that of a fooled one on what was added and the eye does not miss. Of the
transformations that move nothing JPEG is the one whose map shows best where a picture was changed.
"""

import matplotlib
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from foclip.data.images import to_gray, to_tensor
from foclip.data.prompts import Prompts
from foclip.detection import transformation
from foclip.models.batching import pass_rows, raw_scores
from foclip.models.scorer import EmbeddingScorer

#: The transformation that takes away what nobody sees.
UNSEEN = "jpeg"
#: Points of the path at which the gradient is taken, the middles of equal parts.
POINTS = 8
#: Blur of the map, standard deviation as a share of the picture's longest side: pixels one by one are noise.
SPREAD = 0.04
#: Percentile of the map that is drawn at full strength.
FULL = 99.5


def heat_map(scorer: EmbeddingScorer, picture: Image.Image, prompts: Prompts) -> Tensor:
    """What of each pixel's score, the mean over the prompts, JPEG takes away.

    Args:
        scorer: The score.
        picture: RGB picture of the encoder's own size, as its preprocessing makes it.
        prompts: The prompts.

    Returns:
        float32 (H, W), in units of the score; it adds up to what JPEG takes from the score, where no figure is 0.
    """
    seen, plain = (to_tensor(p).to(scorer.device) / 255 for p in (picture, transformation(UNSEEN).exact(picture)))
    change, total = seen - plain, torch.zeros_like(seen)
    rows, targets = pass_rows(scorer, POINTS, 2), scorer.encode_prompts(prompts)
    for part in torch.split((torch.arange(POINTS, device=scorer.device) + 0.5) / POINTS, rows):
        path = (plain + part.view(-1, 1, 1, 1) * change).requires_grad_()
        values = raw_scores(scorer, list(torch.split(path, 1)), [targets] * len(path), rows)
        (gradient,) = torch.autograd.grad(torch.cat(values).mean(dim=1).sum(), path)
        total += gradient.sum(dim=0)
    return (scorer.info.scale * change * total / POINTS).sum(dim=0).cpu()


def spread(heat_map: Tensor) -> np.ndarray:
    """The map (H, W) blurred, so that what adds to the score and what takes from it next to it cancel."""
    return np.asarray(gaussian_filter(heat_map.numpy(), SPREAD * max(heat_map.shape)))


def drawn(heat_map: Tensor, picture: Image.Image) -> Image.Image:
    """What raises the score, as heat over the picture in gray; (H, W) of its size."""
    blurred = spread(heat_map).clip(min=0)
    strength = (blurred / max(float(np.percentile(blurred, FULL)), 1e-12)).clip(0, 1)
    colours = matplotlib.colormaps["inferno"](strength)[..., :3] * 255
    opacity = strength[..., None]
    mixed = (1 - opacity) * np.asarray(to_gray(picture)) + opacity * colours
    return Image.fromarray(mixed.round().astype(np.uint8))
