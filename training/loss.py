"""Training losses on unit vectors.  B pictures, T texts, D dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_positive(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy against a uniform distribution over each row's positives.

    ``logits`` (B, T); ``positives`` (B, T) bool.  Rows without a positive do not count.
    """
    counts = positives.sum(1)
    rows = counts > 0
    if not bool(rows.any()):
        return logits.new_zeros(())
    log_p = F.log_softmax(logits[rows], dim=1)
    return -((log_p * positives[rows]).sum(1) / counts[rows]).mean()


def sigmoid(logits: Tensor, positives: Tensor) -> Tensor:
    """Each pair judged alone: its binary cross-entropy, summed over texts, averaged over pictures (SigLIP, Zhai 2023).

    ``logits`` (B, T), bias included; ``positives`` (B, T) bool.
    """
    return F.binary_cross_entropy_with_logits(logits, positives.to(logits), reduction="none").sum(1).mean()


def floor_penalty(similarity: Tensor, positives: Tensor, floor: float) -> Tensor:
    """Squared distance of unmatched cosines' means from ``floor``: all pairs', and each text's.

    CLIP's unrelated pairs score clearly above 0; a floor that differs much between texts would
    only be noise.  ``similarity`` (B, T) cosines, ``positives`` (B, T) bool.
    """
    unmatched = (~positives).float()
    per_text = (similarity * unmatched).sum(0) / unmatched.sum(0).clamp(min=1)
    return (per_text.mean() - floor).square() + 0.1 * (per_text - floor).square().mean()


def distance(vectors: Tensor, targets: Tensor) -> Tensor:
    """Mean of 1 - cosine between rows of two (N, D) sets of unit vectors."""
    return 1 - (vectors * targets).sum(1).mean()


def distil_logits(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of two (B, T) sets of logits, averaged over pictures (Hinton 2015)."""
    return F.kl_div(F.log_softmax(student, 1), F.log_softmax(teacher, 1), reduction="batchmean", log_target=True)


def class_positives(labels: Tensor, n_texts: int) -> Tensor:
    """(B,) index of each row's only positive → (B, n_texts) bool."""
    return torch.zeros(len(labels), n_texts, dtype=torch.bool).scatter_(1, labels[:, None].cpu(), True)
