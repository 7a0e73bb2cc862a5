"""How close a fooled picture stays to its original: PSNR, SSIM, largest change."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

#: SSIM looks through an 11×11 window (Wang et al. 2004); smaller pictures have none.
SSIM_WINDOW = 11


@dataclass(frozen=True)
class Fidelity:
    """Fidelity of one 8-bit picture to another.

    Attributes:
        psnr: Peak signal-to-noise ratio in dB over all channels; infinite for equal pictures.
        ssim: Structural similarity in [-1, 1] (Wang et al. 2004); NaN below 11 × 11 pixels.
        linf: Largest change of a channel, in 8-bit levels (0..255).
    """

    psnr: float
    ssim: float
    linf: int


def psnr(picture: Tensor, original: Tensor) -> float | None:
    """PSNR in dB of two uint8 pictures (3, H, W) of one size; None where they are equal."""
    if torch.equal(picture, original):
        return None
    return float(peak_signal_noise_ratio(picture.float()[None], original.float()[None], data_range=255.0))


def fidelity(picture: Tensor, original: Tensor) -> Fidelity:
    """Compare two uint8 pictures (3, H, W) of one size."""
    linf = int((picture.int() - original.int()).abs().max())
    a, b = picture.float()[None], original.float()[None]
    decibels = psnr(picture, original)
    ssim = math.nan
    if min(picture.shape[-2:]) >= SSIM_WINDOW:
        ssim = float(torch.as_tensor(structural_similarity_index_measure(a, b, data_range=255.0)))
    return Fidelity(math.inf if decibels is None else decibels, ssim, linf)
